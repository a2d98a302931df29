"""The shape of a model: the one description from which all its parts are built."""

import math
from dataclasses import dataclass

from ..basics.arguments import above, at_least, check_types


@dataclass(frozen=True)
class DecoderConfig:
    """Everything that fixes the shape of a model. Fields left at `None` are filled in from the others."""

    vocab_size: int
    emb_dim: int = 128  # width of the residual stream
    num_heads: int = 4  # query heads
    num_blocks: int = 4
    pad_idx: int | None = None  # id of the padding token: its embedding stays untrained
    num_kv_heads: int | None = None  # key/value heads, shared by groups of query heads; None: as many as num_heads
    head_dim: int | None = None  # None: emb_dim // num_heads
    mlp_dim: int | None = None  # None: 8/3 · emb_dim, so that SwiGLU's three matrices weigh as much as the usual two
    context_size: int = 256  # the longest sequence the model is made for, in tokens
    rope_theta: float = 10_000.0  # base of the rotary wavelengths
    rope_scaling: dict | None = None  # Llama 3's stretching of long wavelengths; None: plain rotary positions
    norm_eps: float = 1e-6
    qk_norm: bool = True  # RMSNorm on each query and key head: lets the learning rate be higher
    tie_embeddings: bool = True  # one table for reading and for writing tokens

    def __post_init__(self):
        check_types(self)
        sizes = "vocab_size emb_dim num_heads num_blocks num_kv_heads head_dim mlp_dim context_size"
        at_least(1, **{name: getattr(self, name) for name in sizes.split()})
        above(0, rope_theta=self.rope_theta, norm_eps=self.norm_eps)
        if self.head_dim is None:
            if self.emb_dim % self.num_heads:
                near = math.ceil(self.emb_dim / self.num_heads) * self.num_heads
                failed = f"emb_dim={self.emb_dim} is not divisible by num_heads={self.num_heads}"
                raise ValueError(f"{failed}: try emb_dim={near}")
            object.__setattr__(self, "head_dim", self.emb_dim // self.num_heads)
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} is odd: rotary positions turn pairs, so make it even")
        if self.num_kv_heads is None:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        if self.num_heads % self.num_kv_heads:
            failed = f"num_heads={self.num_heads} is not divisible by num_kv_heads={self.num_kv_heads}"
            raise ValueError(f"{failed}: each key/value head serves an equal group of query heads")
        if self.mlp_dim is None:
            object.__setattr__(self, "mlp_dim", math.ceil(8 / 3 * self.emb_dim / 32) * 32)
        if self.pad_idx is not None and not 0 <= self.pad_idx < self.vocab_size:
            raise ValueError(f"pad_idx={self.pad_idx} is not an id of a vocabulary of {self.vocab_size}")
        needed = {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "rope_type"}
        if self.rope_scaling is not None and not needed <= set(self.rope_scaling):
            raise ValueError(f"rope_scaling lacks {sorted(needed - set(self.rope_scaling))}; None: plain positions")
