"""The shape of a model: the one description from which all its parts are built."""

import math
from dataclasses import dataclass

from ..basics.arguments import above, at_least, check_types

LONGEST_CONTEXT = 2**24
"""Positions are counted in float32, which is exact up to here. The longest published so far: 10 million."""


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
        if self.context_size > LONGEST_CONTEXT:
            raise ValueError(f"context_size={self.context_size} is above {LONGEST_CONTEXT}: float32 counts no further")
        self._check_scaling()

    def _check_scaling(self) -> None:
        """Raises ValueError unless `rope_scaling` is None, or all that Llama 3's needs, in numbers that can be."""
        if self.rope_scaling is None:
            return
        numbers = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        if lacks := sorted({*numbers, "rope_type"} - set(self.rope_scaling)):
            raise ValueError(f"rope_scaling lacks {lacks}; None: plain positions")
        above(0, **{f"rope_scaling's {name}": self.rope_scaling[name] for name in numbers})
        if not self.rope_scaling["low_freq_factor"] < self.rope_scaling["high_freq_factor"]:
            raise ValueError("rope_scaling's low_freq_factor must be below its high_freq_factor")

    def num_parameters(self) -> int:
        """How many numbers a model of this shape learns, counted without building one; a tied table counts once."""
        table = self.vocab_size * self.emb_dim
        attention = 2 * self.emb_dim * self.head_dim * (self.num_heads + self.num_kv_heads)
        norms = 2 * self.emb_dim + (2 * self.head_dim if self.qk_norm else 0)
        block = attention + 3 * self.emb_dim * self.mlp_dim + norms
        return table * (1 if self.tie_embeddings else 2) + self.num_blocks * block + self.emb_dim

    def memory(self, bytes_per_weight: float = 4) -> float:
        """Bytes that a model of this shape takes: its weights, and its tables of angles, for which three are needed
        while they are made."""
        return bytes_per_weight * self.num_parameters() + 3 * 4 * self.context_size * (self.head_dim // 2)
