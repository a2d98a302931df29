"""ai4india_lib, the library behind the lessons: eight rooms, and four doors that open them.

basics      where to compute, how files are written
text        text → batches of token ids (lessons 01 to 05)
model       ids → logits: the decoder, its cache and its adapters (06 to 08)
formats     a model ↔ a folder that other programs open (08, 19)
training    batches + a model → a trained model and its history (09, 18)
inference   a prompt → text, one at a time or many at once (10 to 13)
evaluation  how good is a model, how sure is that figure, and what goes on inside? (04, 09, 16, 17)
tuning      a trained model → one that answers, as people prefer (14, 15)
doors       plots (the course's pictures), checks (feedback of exercises), commands (python -m ai4india_lib), benchmarks

A room uses only those above it. Every public name of the lessons can be imported from here.
"""

import os
from typing import TYPE_CHECKING

from .basics.imports import import_when_used

# Threads that wait for each other's part of a product look again and again, by default for so long that a step takes
# three times as long beside one busy program. OpenMP reads this when torch is loaded; a user's own wish stands.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "2000"  # looks: a tenth of a millisecond

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from . import plots
    from .basics import pick_device, pick_precision
    from .checks import check
    from .evaluation import (
        Look, Pair, Patch, TrainingText, accuracy_by_kind, answer_chats, answer_questions, bits_per_byte,
        bootstrap_interval, calibration, cohen_kappa, compare, control_labels, document_bits, examine, fit_probe,
        judge_pairs, look_chance, look_shares, normalise_answer, question_accuracy, read_chats, read_pairs,
        read_questions, score_answers, score_chats, seen_in, sentence_log_probabilities, sign_test, stream_logits,
        tokens_at, trace, trace_heads, watch,
    )
    from .formats import load_adapter, load_model, save_adapter, save_model
    from .inference import (
        DynamicBatcher, FastDecoder, ModelDraft, NgramDraft, QueueFull, Request, Sampling, Speculation, Timing, accept,
        filter_logits, generate, generate_steps, generate_text, prefill, speculative_generate, speculative_steps,
        stream_reply, stream_text,
    )
    from .model import (
        MLP, DecoderBlock, DecoderConfig, DecoderLanguageModel, KVCache, MultiHeadAttention, RMSNorm, add_lora,
        begin_by_copying, begin_by_counting, give_places, merge_lora, rope, rope_tables, untrained_tokens,
    )
    from .text import (
        INDIC_SPLIT, CorpusError, DownloadError, NgramModel, PackedTextDataset, TextLines, TextLoader,
        WholeDocumentDataset, count_text, download, download_and_prepare_data, encode_conversation, encode_documents,
        encode_lines, encode_prompt, extract, json_lines, load_tokenizer, pieces_per_word, read_about, save_tokenizer,
        stop_ids, train_and_test_lines, train_tokenizer,
    )
    from .training import (
        History, Hyperparameters, ScalingLaw, bootstrap_laws, compute_loss_and_perplexity, distillation_loss, fit_law,
        get_hyperparameters, learning_rate_at, make_model, make_optimizers, next_token_loss, train,
    )
    from .tuning import (
        PREFERENCE_TUNING, REINFORCEMENT, Attempt, ConversationDataset, Group, Reward, Task, completion_batch, dpo_loss,
        encode_examples, encode_preferences, finetune, group_advantages, grpo_loss, kl_estimate, kl_to_reference, mark,
        score_preferences, sequence_log_probabilities, training_memory, tune_on_preferences, tune_on_rewards,
        write_attempts,
    )
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)

__version__ = "0.1.0"
