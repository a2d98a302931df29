"""Ids → logits: the decoder and its parts, its cache, its adapters, its first weights.

Built in lessons 06 to 08: `decoder` from attention (06), norms and MLP (07) to the whole (08), where `config` says its
shape. `cache` comes in lesson 11, `first_weights` in 09, `lora` and `new_tokens` in 14.
"""

from typing import TYPE_CHECKING

from ..basics.imports import import_when_used

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from .cache import KVCache
    from .config import DecoderConfig
    from .decoder import (
        MLP, DecoderBlock, DecoderLanguageModel, MultiHeadAttention, Place, RMSNorm, rope, rope_frequencies,
        rope_tables,
    )
    from .first_weights import begin_by_copying, begin_by_counting
    from .lora import LORA_TARGETS, add_lora, has_lora, merge_lora
    from .new_tokens import beside_untrained, give_places, untrained_tokens
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)
