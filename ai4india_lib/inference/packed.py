"""A trained model, packed for writing: the same numbers in a layout that one token a step can read fast.

Training and prefill push hundreds of tokens through each matrix, so their time goes into arithmetic. Writing pushes one
token a row, and then two other things cost: the calls themselves (some thirty small operations in every block, each of
which waits for Python), and reading every weight once per step. `FastDecoder` is derived from a model when writing
starts and does the same sums in fewer operations:

- query, key and value matrices stand side by side and are one product; so do gate and up;
- the gains of the norms are multiplied into the matrix behind them: (x · gain) @ W = x @ (gain · W);
- matrices are stored (in, out), the order in which a product with a single row reads them;
- the turning by rotary angles is one small product for all heads of queries and keys.

`DecoderLanguageModel` stays the one description of the architecture; what is here can be thrown away and made anew.
Letters in shape comments as in `model.py`; rows = batch · time, and group = heads / kv_heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..basics.device import may_lack_threads
from ..model.cache import KVCache
from ..model.config import DecoderConfig
from ..model.decoder import DecoderBlock, DecoderLanguageModel, rope

SOME, LARGE = 2, 150_000  # rows and numbers in a matrix from which another order of the weights is faster
FEW = 16  # up to so many new tokens a row, attention is written out; from there on the fused kernel is faster


class Matrix:
    """A weight matrix (in, out), stored so that a product with few rows reads it in order.

    For a large one and some rows, oneDNN's own order is the fastest (on a CPU; made at the first such product).
    """

    def __init__(self, weight: Tensor):
        self.weight = weight.contiguous()
        on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
        can_reorder = on_cpu and torch.backends.mkldnn.is_available() and not may_lack_threads()
        self.has_kernel = can_reorder and weight.numel() >= LARGE
        self.reordered = None

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) < SOME or not self.has_kernel:
            return torch.mm(x, self.weight)  # (rows, in) -> (rows, out)
        if self.reordered is None:
            self.reordered = torch.ops.mkldnn._reorder_linear_weight(self.weight.t().contiguous(), len(x))
        return torch.ops.mkldnn._linear_pointwise(x, self.reordered, None, "none", [], "")

    def add_to(self, stream: Tensor, x: Tensor) -> Tensor:
        """stream += x @ weight, in place."""
        if len(x) < SOME or not self.has_kernel:
            return stream.addmm_(x, self.weight)
        return stream.add_(self(x))


class Int8Matrix:
    """A weight matrix in a quarter of the bytes: whole numbers −127 … 127, and one scale for each column of (in, out).

    Products with few rows, bound by reading the weights, multiply these with bfloat16 activations; on other devices and
    with many rows the matrix is written out first. Rounding moves a weight by up to 1/254 of its column's largest.
    """

    def __init__(self, weight: Tensor):
        columns = weight.t()  # (out, in), the order that the kernel asks for
        self.scale = (columns.abs().amax(1).float() / 127).clamp_min(1e-12).bfloat16()  # (out,)
        self.weight = (columns / self.scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8).contiguous()
        self.has_kernel = weight.device.type == "cpu" and weight.shape[0] % 16 == 0 and weight.shape[1] % 16 == 0

    def __call__(self, x: Tensor) -> Tensor:
        if self.has_kernel and len(x) <= FEW:
            return torch._weight_int8pack_mm(x.bfloat16(), self.weight, self.scale).to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)

    def add_to(self, stream: Tensor, x: Tensor) -> Tensor:
        return stream.add_(self(x))


class FastDecoder:
    """Called like the model it was made from: `decoder(ids, cache, lengths=...)` gives the same logits.

    The two share one kind of cache, so either may go on where the other stopped. It is a copy: when the model is
    trained further, a decoder made before does not know. Raises ValueError for a model whose linear layers are no
    longer plain ones, such as one with LoRA beside its matrices.

    `int8=True` keeps the matrices in a quarter of the bytes. The logits are then near the model's, not equal.

    >>> decoder = FastDecoder(model)
    >>> cache = decoder.new_cache(batch_size=1, max_length=64)
    >>> decoder(torch.tensor([[1, 40, 50]]), cache).shape
    torch.Size([1, 3, 4096])
    """

    @torch.no_grad()
    def __init__(self, model: DecoderLanguageModel, *, int8: bool = False):
        if not is_plain(model):
            raise ValueError("this model has more than plain matrices (LoRA?): merge them first, or use the model")
        config, self.int8 = model.config, int8
        self.config, kind = config, Int8Matrix if int8 else Matrix
        self.embedding = model.embedding.weight.detach()
        self.device, self.dtype = self.embedding.device, self.embedding.dtype
        self.cos, self.sin = model.cos, model.sin
        self.blocks = [PackedBlock(block, config, kind) for block in model.blocks]
        self.stream_floor = torch.tensor(math.sqrt(config.emb_dim * config.norm_eps), device=self.device)
        self.output = kind(_with_gain(model.head, model.norm.gain))
        angles = torch.cat((self.cos, self.cos, self.sin, -self.sin), dim=1)
        self.angles = angles.to(self.dtype)  # (context_size, 2 · head_dim)
        size, half = config.head_dim, config.head_dim // 2
        one, two = torch.arange(half, device=self.device), torch.arange(half, size, device=self.device)
        # where a turn's cosines and sines stand in a matrix (head_dim, head_dim) that is multiplied from the right
        self.places = torch.cat((one * size + one, two * size + two, one * size + two, two * size + one))

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache that fits this model's shape, device and dtype."""
        return KVCache(self.config, batch_size, max_length, device=self.device, dtype=self.dtype)

    @torch.inference_mode()
    def __call__(self, ids: Tensor, cache: KVCache, *, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, time, vocab_size) of the tokens `ids` (batch, time) that follow those in the cache.

        `lengths` and errors as in the model's `forward`.
        """
        return self.head(self.hidden(ids, cache, lengths=lengths))

    @torch.inference_mode()
    def head(self, hidden: Tensor) -> Tensor:
        """(..., emb_dim) -> logits (..., vocab_size)."""
        return self.output(hidden.flatten(0, -2)).view(*hidden.shape[:-1], -1)

    @torch.inference_mode()
    def hidden(self, ids: Tensor, cache: KVCache, *, lengths: Tensor | None = None) -> Tensor:
        """What comes before the vocabulary: (batch, time, emb_dim), normalised, the last gain left to `head`."""
        step = _Step(self, ids, cache)
        x = F.embedding(ids.flatten(), self.embedding)  # (rows, emb_dim)
        for index, block in enumerate(self.blocks):
            mixed = step.attend(index, *block.queries_keys_values(direction(x, self.stream_floor), step))
            x = block.output.add_to(x, mixed)
            x = block.down.add_to(x, block.gated(direction(x, self.stream_floor)))
        cache.advance(ids.shape[1] if lengths is None else lengths)
        return direction(x, self.stream_floor).view(*ids.shape, -1)


class PackedBlock:
    """One block's matrices, with the norms' gains inside."""

    def __init__(self, block: DecoderBlock, config: DecoderConfig, kind: type[Matrix] | type[Int8Matrix]):
        attention, mlp = block.attention, block.mlp
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        floor = math.sqrt(config.head_dim * config.norm_eps)
        self.head_floor = block.mlp.up.weight.new_tensor(floor, dtype=torch.float32)
        scale = config.head_dim**-0.5  # of the scores; put into the queries
        query, key, value = (_with_gain(m, block.attention_norm.gain) for m in _qkv(attention))
        self.gains = None  # of queries and keys: (heads + kv_heads, head_dim)
        if config.qk_norm:  # a normalised query forgets a factor put in before, so the factor goes into its gain
            gains = [attention.query_norm.gain * scale] * self.num_heads
            self.gains = torch.stack(gains + [attention.key_norm.gain] * self.num_kv_heads) * math.sqrt(self.head_dim)
        else:
            query = query * scale
        self.qkv = kind(torch.cat((query, key, value), dim=1))
        self.output = kind(attention.output.weight.t())
        self.gate_up = kind(torch.cat([_with_gain(m, block.mlp_norm.gain) for m in (mlp.gate, mlp.up)], dim=1))
        self.down = kind(mlp.down.weight.t())

    def queries_keys_values(self, x: Tensor, step: _Step) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, heads, head_dim) scaled and turned, and twice (rows, kv_heads, head_dim)."""
        both = self.num_heads + self.num_kv_heads
        parts = self.qkv(x).view(len(x), both + self.num_kv_heads, self.head_dim)
        qk, v = parts.split((both, self.num_kv_heads), dim=1)
        if self.gains is not None:
            qk = (direction(qk, self.head_floor) * self.gains).to(qk.dtype)
        q, k = step.turn(qk).split((self.num_heads, self.num_kv_heads), dim=1)
        return q, k, v

    def gated(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=1)  # each (rows, mlp_dim)
        return F.silu(gate).mul_(up)


class _Step:
    """What all blocks need to know in one step: where the new tokens stand, what they see, where keys and values go."""

    def __init__(self, decoder: FastDecoder, ids: Tensor, cache: KVCache):
        self.seen = seen_after(ids, cache, decoder.config)
        self.batch, self.time = ids.shape
        self.cache, self.config = cache, decoder.config
        self.simple = self.time == 1 and not cache.ragged  # one new token a row, and all at the same position
        self.positions = None if self.simple else cache.positions(self.time)  # (time,), or (batch, time) if ragged
        self.mask = None if self.simple else self._mask(decoder)
        self.keys = cache.keys[:, :, :, : self.seen].flatten(1, 2).unbind(0)  # each (batch · kv_heads, seen, head_dim)
        self.values = cache.values[:, :, :, : self.seen].flatten(1, 2).unbind(0)
        self.few = self.batch == 1 and self.time <= FEW  # of one text: such as proposals to be checked
        if self.simple or self.few:  # where the new ones go: each (rows, kv_heads, head_dim)
            self.new_keys, self.new_values = (self._places(x).unbind(0) for x in (cache.keys, cache.values))
        self._prepare_turn(decoder)

    def _places(self, stored: Tensor) -> Tensor:
        """A view of where the new tokens' keys or values go: (blocks, rows, kv_heads, head_dim)."""
        if self.simple:
            return stored.select(3, self.cache.longest)
        return stored[:, 0, :, self.cache.longest : self.seen].transpose(1, 2)

    def _mask(self, decoder: FastDecoder) -> Tensor:
        """0 where a query (row) may look at a key (column), else −inf: (batch or 1, 1, time, seen)."""
        allowed = torch.arange(self.seen, device=decoder.device) <= self.positions[..., None]
        hidden = torch.zeros(allowed.shape, dtype=decoder.dtype, device=decoder.device)
        return hidden.masked_fill_(~allowed, -torch.inf).view(-1, 1, self.time, self.seen)

    def _prepare_turn(self, decoder: FastDecoder) -> None:
        """Few tokens: a matrix for each position, (1 or rows, head_dim, head_dim). Many: their angles."""
        self.matrices, size = None, self.config.head_dim
        if self.time == 1 or self.few:
            ragged = self.cache.ragged
            at = self.positions.flatten() if ragged else slice(self.cache.longest, self.seen)
            angles = decoder.angles[at]  # (1 or rows, 2 · head_dim)
            flat = angles.new_zeros(len(angles), size * size).index_copy_(1, decoder.places, angles)
            self.matrices = flat.view(-1, size, size)
            if self.simple:
                self.matrices = self.matrices[0]
        else:
            self.cos, self.sin = (table[self.positions].to(decoder.dtype) for table in (decoder.cos, decoder.sin))
            if self.cache.ragged:
                self.cos, self.sin = self.cos[:, None], self.sin[:, None]  # (batch, 1, time, head_dim/2)

    def turn(self, x: Tensor) -> Tensor:
        """Rotary positions for x (rows, heads, head_dim)."""
        if self.matrices is None:
            turned = rope(x.unflatten(0, (self.batch, self.time)).transpose(1, 2), self.cos, self.sin)
            return turned.transpose(1, 2).flatten(0, 1)
        if self.simple:
            return torch.mm(x.reshape(-1, x.shape[-1]), self.matrices).view(x.shape)
        return torch.bmm(x, self.matrices)

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store the new keys and values of a block, then let each query gather: (rows, heads · head_dim)."""
        batch, time, kv_heads, size = self.batch, self.time, self.config.num_kv_heads, self.config.head_dim
        if self.simple or self.few:
            self.new_keys[block].copy_(k)
            self.new_values[block].copy_(v)
        else:
            k, v = (x.reshape(batch, time, kv_heads, size).transpose(1, 2) for x in (k, v))
            self.cache.update(block, k, v, self.positions)  # (batch, kv_heads, time, head_dim)
        if time > FEW:
            return self._attend_to_many(block, q)
        if time == 1:
            q = q.reshape(batch * kv_heads, -1, size)  # (batch · kv_heads, group, head_dim)
        else:
            q = q.view(batch, time, kv_heads, -1, size).permute(0, 2, 3, 1, 4).reshape(batch * kv_heads, -1, size)
        scores = torch.bmm(q, self.keys[block].mT)  # (batch · kv_heads, group · time, seen)
        if self.mask is not None:
            scores.view(batch, -1, time, self.seen).add_(self.mask)
        mixed = torch.bmm(scores.softmax(-1), self.values[block])  # (batch · kv_heads, group · time, head_dim)
        if time == 1:
            return mixed.view(batch, -1)
        return mixed.view(batch, -1, time, size).transpose(1, 2).reshape(batch * time, -1)

    def _attend_to_many(self, block: int, q: Tensor) -> Tensor:
        q = q.view(self.batch, self.time, -1, q.shape[-1]).transpose(1, 2)  # (batch, heads, time, head_dim)
        keys, values = (seen[block].unflatten(0, (self.batch, -1)) for seen in (self.keys, self.values))
        grouped = keys.shape[1] != q.shape[1]
        mixed = F.scaled_dot_product_attention(q, keys, values, self.mask, scale=1.0, enable_gqa=grouped)
        return mixed.transpose(1, 2).flatten(0, 1).flatten(1)


def seen_after(ids: Tensor, cache: KVCache, config: DecoderConfig) -> int:
    """How many tokens the longest row will have, once `ids` (batch, time) are read. Raises ValueError if too many."""
    if ids.dim() != 2:
        raise ValueError(f"ids has shape {tuple(ids.shape)}: expected (batch, time); for one text use ids[None]")
    seen = cache.longest + ids.shape[1]
    if seen > config.context_size:
        told = f"{seen} tokens are more than context_size={config.context_size}"
        raise ValueError(f"{told}: cut the text into shorter pieces, or train a model with a larger context_size")
    cache.check_room(ids.shape[1])
    return seen


def is_plain(model: DecoderLanguageModel) -> bool:
    """Is each of the model's linear layers nothing but its matrix? Not so with LoRA, or with hooks."""
    expected = 7 * len(model.blocks) + 1
    plain = [m for m in model.modules() if type(m) is nn.Linear and not (m._forward_hooks or m._forward_pre_hooks)]
    return len(plain) == expected


def _qkv(attention) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    return attention.query, attention.key, attention.value


def _with_gain(linear: nn.Linear, gain: Tensor) -> Tensor:
    """The matrix (in, out) that takes a vector of length one: gain and √in inside, computed in float32."""
    return (linear.weight.t().float() * (gain.float() * math.sqrt(len(gain)))[:, None]).to(linear.weight.dtype)


def direction(x: Tensor, floor: Tensor) -> Tensor:
    """x / √(|x|² + floor²): RMSNorm without its gain and without the factor √dim, which the next matrix holds."""
    if torch.compiler.is_compiling():  # plain arithmetic is what a compiler can put into one loop with its neighbours
        squares = x.float().square().sum(-1, keepdim=True)
        return x * torch.rsqrt(squares + floor.square()).to(x.dtype)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)  # (..., 1)
    return x / torch.hypot(length, floor).to(x.dtype)
