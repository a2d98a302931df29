"""ai4india_lib: the library behind the lessons. Data flows down this list; a module uses only those above it.

    device           where to compute, in which precision
    download         fetch and verify files
    corpus           unpack archives, stream lines
    tokenizer        text ↔ ids, safe for Indian scripts
    batches          lines → packed (inputs, targets) batches
    cache            what a model remembers of the tokens it has read
    model            ids → logits
    checkpoint       model + tokenizer ↔ a Hugging Face folder
    hyperparameters  the settings of a run
    history          what happened in a run
    optimizers       learning rate over time, AdamW, Muon
    training         batches + model → trained model + history
    generation       prompt → text
    checks           feedback for the exercises of the lessons
    plots            the course's pictures

Every public name can be imported from here.
"""

from . import plots
from .batches import (
    PackedTextDataset,
    TextLoader,
    TextStatistics,
    WholeDocumentDataset,
    count_text,
    download_and_prepare_data,
)
from .cache import KVCache
from .checkpoint import load_model, save_model
from .checks import check
from .corpus import CorpusError, TextLines, extract, json_lines, read_about, train_and_test_lines
from .device import pick_device, pick_precision
from .download import DownloadError, download
from .generation import Sampling, filter_logits, generate, generate_steps, generate_text, prefill, stream_text
from .history import History
from .hyperparameters import Hyperparameters, get_hyperparameters
from .model import (
    MLP,
    DecoderBlock,
    DecoderConfig,
    DecoderLanguageModel,
    MultiHeadAttention,
    RMSNorm,
    rope,
    rope_tables,
)
from .optimizers import learning_rate_at, make_optimizers
from .tokenizer import (
    INDIC_SPLIT,
    encode_documents,
    encode_lines,
    encode_prompt,
    load_tokenizer,
    pieces_per_word,
    save_tokenizer,
    train_tokenizer,
)
from .training import compute_loss_and_perplexity, make_model, next_token_loss, train

__version__ = "0.1.0"
