"""ids → logits: a decoder-only transformer, to be read from top to bottom.

One class serves training, cached generation, batching and fine-tuning. With `qk_norm=False` it computes what
`LlamaForCausalLM` of `transformers` computes, with `qk_norm=True` what `Qwen3ForCausalLM` does.

Papers: the transformer (Vaswani et al., 2017), pre-norm (Xiong et al., 2020), RMSNorm (Zhang & Sennrich, 2019), rotary
positions (Su et al., 2021), grouped-query attention (Ainslie et al., 2023), SwiGLU (Shazeer, 2020), tied embeddings
(Press & Wolf, 2017), query/key norm (Henry et al., 2020; per head as in Qwen3, 2025).

Letters in shape comments: batch, time (new tokens), seen (tokens a query may look at), heads, kv_heads, head_dim.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..basics.memory import check_memory
from . import by_hand
from .cache import Int8KVCache, KVCache
from .config import DecoderConfig

SMALLER = "choose a smaller vocab_size, emb_dim, num_blocks or context_size"


class RMSNorm(nn.Module):
    """Scale each vector to unit root-mean-square, then by a learned gain.

    Unlike LayerNorm it neither subtracts the mean nor adds a bias (Zhang & Sennrich, 2019, eq. 4).

    Shapes: (..., dim) -> (..., dim). Computed in float32 whatever the input's dtype: the mean of squares
    of a long bfloat16 vector loses digits.
    """

    def __init__(self, dim: int, eps: float = 1e-6):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps)  # (..., 1)
        return (x.float() * scale).to(x.dtype) * self.gain


RMSNorm.forward = by_hand.normalising(RMSNorm.forward)  # training on a CPU: the same, with fewer passes over memory


def rope_frequencies(config: DecoderConfig) -> Tensor:
    """Angle per position step for each pair of a head's numbers, (head_dim / 2,), in radians (Su et al., 2021, §3.2.2).

    With `rope_scaling` of type "llama3" slow turns are made `factor` times slower, fast ones are kept, and those
    between are blended (Llama 3, 2024, as in `transformers`' `rope_type="llama3"`).
    """
    pair = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
    frequencies = 1.0 / config.rope_theta ** (pair / config.head_dim)
    if config.rope_scaling is None:
        return frequencies
    scaling = config.rope_scaling
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)  # within the original context
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    keep = ((turns - low) / (high - low)).clamp(0, 1)  # 0: stretch this wavelength, 1: keep it
    return keep * frequencies + (1 - keep) * frequencies / scaling["factor"]


def rope_tables(config: DecoderConfig) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, each (context_size, head_dim / 2)."""
    angles = torch.outer(torch.arange(config.context_size, dtype=torch.float32), rope_frequencies(config))
    return angles.cos(), angles.sin()


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + head_dim/2]) by its position's angle (half-rotation layout, as in `transformers`).

    Shapes: x (batch, heads, time, head_dim); cos, sin (time, head_dim/2) or (batch, 1, time, head_dim/2).
    """
    if by_hand.pays(x):  # training on a CPU: the same, with fewer passes over memory
        return by_hand.Turn.apply(x, cos, sin)
    first, second = x.chunk(2, dim=-1)  # each (batch, heads, time, head_dim/2)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@dataclass
class Place:
    """Where the tokens of one forward pass stand: their angles, what each may look at, and where a cache takes them."""

    cos: Tensor  # (time, head_dim/2), or (batch, 1, time, head_dim/2) where rows differ
    sin: Tensor
    is_causal: bool  # plain triangle from the first token on
    mask: Tensor | None = None  # True where a query (row) may look at a key (column)
    cache: KVCache | None = None
    positions: Tensor | None = None  # (time,), or (batch, time) where rows differ
    block: int = 0  # the number of the block that is computed: each has its own part of the cache


class MultiHeadAttention(nn.Module):
    """Each token gathers from the tokens before it, in `num_heads` ways at once (Vaswani et al., 2017, §3.2).

    Groups of `num_heads / num_kv_heads` query heads share one key/value head.
    Shapes: (batch, time, emb_dim) -> (batch, time, emb_dim).
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.query = nn.Linear(config.emb_dim, self.num_heads * self.head_dim, bias=False)
        self.key = nn.Linear(config.emb_dim, self.num_kv_heads * self.head_dim, bias=False)
        self.value = nn.Linear(config.emb_dim, self.num_kv_heads * self.head_dim, bias=False)
        self.output = nn.Linear(self.num_heads * self.head_dim, config.emb_dim, bias=False)
        self.query_norm = RMSNorm(self.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(self.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, place: Place) -> Tensor:
        batch, time, _ = x.shape
        q = self.query(x).view(batch, time, self.num_heads, self.head_dim).transpose(1, 2)
        k = self.key(x).view(batch, time, self.num_kv_heads, self.head_dim).transpose(1, 2)
        v = self.value(x).view(batch, time, self.num_kv_heads, self.head_dim).transpose(1, 2)
        q = rope(self.query_norm(q), place.cos, place.sin)  # (batch, heads, time, head_dim)
        k = rope(self.key_norm(k), place.cos, place.sin)  # (batch, kv_heads, time, head_dim)
        if place.cache is not None:
            k, v = place.cache.update(place.block, k, v, place.positions)  # (batch, kv_heads, seen, head_dim)
        grouped = self.num_kv_heads != self.num_heads
        mixed = F.scaled_dot_product_attention(q, k, v, place.mask, is_causal=place.is_causal, enable_gqa=grouped)
        return self.output(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """SwiGLU: one matrix says what to write, another how much of it to let through (Shazeer, 2020, eq. 5).

    Shapes: (..., emb_dim) -> (..., emb_dim).
    """

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.mlp_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.mlp_dim, bias=False)
        self.down = nn.Linear(config.mlp_dim, config.emb_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class DecoderBlock(nn.Module):
    """Attention, then MLP; each reads a normalised copy of the stream and adds its result to it (pre-norm)."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.attention_norm = RMSNorm(config.emb_dim, config.norm_eps)
        self.attention = MultiHeadAttention(config)
        self.mlp_norm = RMSNorm(config.emb_dim, config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, place: Place) -> Tensor:
        x = x + self.attention(self.attention_norm(x), place)  # (batch, time, emb_dim)
        return x + self.mlp(self.mlp_norm(x))


def check_room(ids: Tensor, cache: KVCache | None, config: DecoderConfig) -> None:
    """Raises ValueError if `ids` (batch, time), which follow those in the cache, are more than it, or `context_size`,
    has room for, or if they are no such tensor."""
    if not isinstance(ids, Tensor):
        raise ValueError(f"ids must be a tensor (batch, time), not {type(ids).__name__}: torch.tensor([[1, 40]])")
    if ids.dtype not in (torch.long, torch.int):
        raise ValueError(f"ids are of {ids.dtype}: ids are whole numbers, torch.long")
    if ids.dim() != 2:
        raise ValueError(f"ids has shape {tuple(ids.shape)}: expected (batch, time); for one text use ids[None]")
    if not ids.numel():
        raise ValueError(f"ids has shape {tuple(ids.shape)}: there is nothing to read, not even a begin token")
    time = ids.shape[1]
    seen = time if cache is None else cache.longest + time
    if seen > config.context_size:
        advice = "cut the text into shorter pieces, or train a model with a larger context_size"
        raise ValueError(f"{seen} tokens are more than context_size={config.context_size}: {advice}")
    if cache is not None and seen > cache.max_length:
        held = f"the cache holds {cache.max_length} tokens a row, {cache.longest} are used, {time} more do not fit"
        raise ValueError(f"{held}: make it with max_length={seen} or more, or roll it back")


class DecoderLanguageModel(nn.Module):
    """Predict, at each position of a sequence of token ids, the next one.

    The first five arguments and `more` are the fields of `DecoderConfig`:

    >>> model = DecoderLanguageModel(vocab_size=4096, emb_dim=128, num_heads=4, num_blocks=4, pad_idx=0, num_kv_heads=2)
    >>> model(torch.tensor([[5, 6, 7]])).shape
    torch.Size([1, 3, 4096])
    """

    def __init__(self, vocab_size: int, emb_dim: int, num_heads: int, num_blocks: int, pad_idx: int | None, **more):
        super().__init__()
        self.config = config = DecoderConfig(vocab_size, emb_dim, num_heads, num_blocks, pad_idx, **more)
        if torch.get_default_device().type != "meta":
            check_memory(config.memory(), f"a model of {config.num_parameters():,} parameters", SMALLER)
        self.embedding = nn.Embedding(config.vocab_size, config.emb_dim, padding_idx=config.pad_idx)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.num_blocks))
        self.norm = RMSNorm(config.emb_dim, config.norm_eps)
        self.head = nn.Linear(config.emb_dim, config.vocab_size, bias=False)
        self._initialise()
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        cos, sin = rope_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @classmethod
    def from_config(cls, config: DecoderConfig) -> Self:
        return cls(**vars(config))

    def _initialise(self) -> None:
        """Normal weights of deviation 0.02; smaller where blocks add to the stream, so that it does not grow with depth
        (GPT-2: Radford et al., 2019, §2.3). The first loss is then close to log(vocab_size)."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                adds_to_stream = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * self.config.num_blocks) if adds_to_stream else 0.02)
        if self.config.pad_idx is not None:
            nn.init.zeros_(self.embedding.weight[self.config.pad_idx].detach())

    def _apply(self, fn, recurse=True):
        """What .to(), .half(), .cuda() … call. The angles stay float32: rounded once, .float() would not heal them."""
        super()._apply(fn, recurse)
        if self.cos.dtype != torch.float32:
            self.cos, self.sin = (table.to(self.device) for table in rope_tables(self.config))
        return self

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def num_parameters(self) -> int:
        """How many numbers training may change; a tied table counts once."""
        return sum(p.numel() for p in self.parameters())

    def new_cache(self, batch_size: int, max_length: int, *, int8: bool = False) -> KVCache:
        """An empty cache that fits this model's shape, device and dtype; with `int8` one of a quarter of the bytes."""
        if int8:
            return Int8KVCache(self.config, batch_size, max_length, device=self.device)
        return KVCache(self.config, batch_size, max_length, device=self.device, dtype=self.embedding.weight.dtype)

    def _place(self, time: int, cache: KVCache | None) -> Place:
        """Where the next `time` tokens of each row stand."""
        dtype = self.embedding.weight.dtype
        if cache is None:
            return Place(self.cos[:time].to(dtype), self.sin[:time].to(dtype), is_causal=True)
        seen, positions = cache.longest + time, cache.positions(time)  # (time,), or (batch, time) where rows differ
        if cache.ragged:
            cos, sin = (table[positions][:, None].to(dtype) for table in (self.cos, self.sin))
            mask = torch.arange(seen, device=positions.device) <= positions[:, None, :, None]  # (batch, 1, time, seen)
        else:
            cos, sin = (table[cache.longest : seen].to(dtype) for table in (self.cos, self.sin))
            mask = None  # the first tokens: a plain triangle; the newest token alone: it sees all
            if 1 < time < seen:
                mask = torch.arange(seen, device=positions.device) <= positions[:, None]  # (time, seen)
        return Place(cos, sin, is_causal=seen == time, mask=mask, cache=cache, positions=positions)

    def hidden(self, ids: Tensor, cache: KVCache | None = None, *, lengths: Tensor | None = None) -> Tensor:
        """What `forward` computes before the vocabulary comes in: (batch, time, emb_dim), normalised."""
        check_room(ids, cache, self.config)
        if lengths is not None and cache is None:
            raise ValueError("lengths says what a cache should keep: give a cache, or leave lengths out")
        place = self._place(ids.shape[1], cache)
        try:
            x = self.embedding(ids)  # (batch, time, emb_dim)
        except IndexError:  # a CPU tells; a GPU stops with an error of its own
            few, many = (int(i) for i in ids.aminmax())
            asked = f"ids go from {few} to {many}, the model knows 0 to {self.config.vocab_size - 1}"
            raise ValueError(f"{asked}: were they encoded with another tokenizer?") from None
        for number, block in enumerate(self.blocks):
            x = block(x, replace(place, block=number))
        if cache is not None:
            cache.advance(ids.shape[1] if lengths is None else lengths)
        return self.norm(x)

    def forward(
        self,
        ids: Tensor,
        cache: KVCache | None = None,
        *,
        lengths: Tensor | None = None,
        where: Tensor | None = None,
        logits: bool = True,
    ) -> Tensor:
        """Logits of the next token at each position: (batch, time) ids -> (batch, time, vocab_size).

        With a `cache`, `ids` are the tokens that follow those already read, and the cache takes them up. `lengths`
        (batch,) is for rows of different lengths, padded at their right end: how many of the `time` tokens of each row
        count. Logits behind a row's end mean nothing.

        With `where` (batch, time), True at some positions, only theirs are computed: (positions, vocab_size). Much is
        saved where little is to be learned, since the vocabulary is the widest matrix of a small model. With `logits`
        False the result is what the head would read, (…, emb_dim).

        Raises ValueError for more tokens than `context_size` or than the cache has room for.
        """
        hidden = self.hidden(ids, cache, lengths=lengths)
        hidden = hidden if where is None else hidden[where]
        return self.head(hidden) if logits else hidden
