"""ai4india_lib: the library behind the lessons. Data flows down this list; a module uses only those above it.

    device           where to compute, in which precision
    download         fetch and verify files
    corpus           unpack archives, stream lines
    tokenizer        text ↔ ids, safe for Indian scripts
    loader           batches, resumable
    batches          lines → packed (inputs, targets) batches
    cache            what a model remembers of the tokens it has read
    model            ids → logits
    decoding         the model packed for writing: same numbers, fewer and larger operations
    lora             small trainable corrections beside frozen matrices
    folders          where models lie
    hugging_face     our names ↔ those of transformers
    adapters         LoRA ↔ a folder in PEFT's format
    checkpoint       model + tokenizer ↔ a Hugging Face folder
    hyperparameters  the settings of a run
    history          what happened in a run
    optimizers       learning rate over time, AdamW, Muon
    loss             how surprised a model is
    distillation     learning from a larger model instead of from the text
    training         batches + model → trained model + history
    untrained        first weights that copy; tokens that no text held
    conversations    messages → ids, and which of them to learn
    finetuning       model + conversations → a model that answers
    sampling         logits → the next token
    timing           time to the first token, and speed
    generation       prompt → text
    batching         many prompts at once, each with its own settings
    ngrams           counting as a language model: the baseline
    evaluation       bits per byte, minimal pairs, questions about stories, calibration
    comparison       how sure a figure is, and whether one model is better than another
    memorisation     does a text stand in the training text, word for word?
    preferences      of two texts the better one: DPO
    rewards          what a model writes for a task, marked by a program
    reinforcement    marked texts: the better ones become likelier: GRPO
    speculative      several tokens per pass of a model, same distribution
    profiling        where time goes
    benchmarking     how fast text is written
    checks           feedback for the exercises of the lessons
    plots            the course's pictures

Every public name can be imported from here.
"""

from . import plots
from .adapters import load_adapter, save_adapter
from .batches import (
    PackedTextDataset,
    TextStatistics,
    WholeDocumentDataset,
    count_text,
    download_and_prepare_data,
)
from .batching import DynamicBatcher, QueueFull, Request
from .cache import KVCache
from .checkpoint import load_model, save_model
from .checks import check
from .comparison import Comparison, Interval, bootstrap_interval, cohen_kappa, compare, sign_test
from .conversations import (
    ConversationDataset,
    check_messages,
    encode_conversation,
    encode_examples,
    question_messages,
)
from .corpus import CorpusError, TextLines, extract, json_lines, read_about, train_and_test_lines
from .decoding import FastDecoder, fast_decoder
from .device import pick_device, pick_precision
from .distillation import distillation_loss
from .download import DownloadError, download
from .evaluation import (
    Calibration,
    Pair,
    Question,
    accuracy_by_kind,
    answer_questions,
    bits_per_byte,
    calibrate,
    calibration,
    document_bits,
    judge_pairs,
    minimal_pair_accuracy,
    normalise_answer,
    question_accuracy,
    question_prompt,
    read_pairs,
    read_questions,
    score_answers,
    sentence_log_probabilities,
    token_log_probabilities,
)
from .finetuning import finetune, training_memory
from .generation import generate, generate_steps, generate_text, prefill, stream_reply, stream_text
from .history import History
from .hyperparameters import Hyperparameters, get_hyperparameters
from .loader import TextLoader
from .lora import LORA_TARGETS, add_lora, has_lora, merge_lora
from .loss import compute_loss_and_perplexity, next_token_loss
from .memorisation import TrainingText
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
from .ngrams import NgramModel
from .optimizers import learning_rate_at, make_optimizers
from .preferences import (
    PREFERENCE_TUNING,
    Preference,
    PreferenceHistory,
    completion_batch,
    completion_log_probabilities,
    dpo_loss,
    encode_preferences,
    score_preferences,
    sequence_log_probabilities,
    tune_on_preferences,
)
from .reinforcement import (
    REINFORCEMENT,
    Group,
    RewardHistory,
    frozen_copy,
    group_advantages,
    grpo_loss,
    kl_estimate,
    kl_to_reference,
    tune_on_rewards,
)
from .rewards import Attempt, Reward, Task, answer_reward, mark, mention_reward, write_attempts
from .sampling import Sampling, choose_rows, filter_logits
from .speculative import (
    ModelDraft,
    NgramDraft,
    Speculation,
    accept,
    speculative_generate,
    speculative_steps,
)
from .timing import Timing
from .tokenizer import (
    INDIC_SPLIT,
    encode_documents,
    encode_lines,
    encode_prompt,
    load_tokenizer,
    pieces_per_word,
    save_tokenizer,
    stop_ids,
    train_tokenizer,
)
from .training import make_model, train
from .untrained import begin_by_copying, give_places, untrained_tokens

__version__ = "0.1.0"
