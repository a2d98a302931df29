"""One step of a packed decoder: how its new tokens are turned, where their keys and values go, what they look at.

What all blocks share in a step is made ready once, in the form that is fastest for its shape. Letters in shape comments
as in `packed.py`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.cache import KVCache
from ..model.decoder import DecoderLanguageModel, rope

FEW = 16  # up to so many new tokens a row, attention is written out; from there on the fused kernel is faster


class Rotary:
    """Rotary positions in the two forms that steps need: as matrices for few tokens, as angles for many."""

    def __init__(self, model: DecoderLanguageModel):
        self.cos, self.sin, self.dtype = model.cos, model.sin, model.embedding.weight.dtype
        angles = torch.cat((self.cos, self.cos, self.sin, -self.sin), dim=1)
        self.entries = angles.to(self.dtype)  # (context_size, 2 · head_dim): those of a matrix that are not 0
        size, half = model.config.head_dim, model.config.head_dim // 2
        one, two = torch.arange(half, device=model.device), torch.arange(half, size, device=model.device)
        # where they stand in a matrix (head_dim, head_dim) that is multiplied from the right
        self.index = torch.cat((one * size + one, two * size + two, one * size + two, two * size + one))
        self._size = size

    def matrices(self, positions: slice | Tensor) -> Tensor:
        """The turn at each position as a matrix: (positions, head_dim, head_dim)."""
        entries = self.entries[positions]  # (positions, 2 · head_dim)
        flat = entries.new_zeros(len(entries), self._size**2).index_copy_(1, self.index, entries)
        return flat.view(-1, self._size, self._size)


class _Step:
    """What all blocks share in one step: the keys and values that its tokens may look at, old and new.

    A step has one of four shapes, and each has a class below. `prepare` makes ready what else it needs. `turn` gives
    x (rows, heads, head_dim) their rotary positions, mostly by a matrix for each row. `attend` stores a block's new
    keys and values and lets each query gather: (rows, heads · head_dim).
    """

    hidden: Tensor | None = None  # the mask where some tokens may not look at some others

    def __init__(self, rotary: Rotary, cache: KVCache, batch: int, time: int):
        self.cache, self.batch, self.time, self.seen = cache, batch, time, cache.longest + time
        self.keys, self.values = (  # of each block: (batch · kv_heads, seen, head_dim)
            stored[:, :, :, : self.seen].flatten(1, 2).unbind(0) for stored in (cache.keys, cache.values)
        )
        self.groups = batch * cache.keys.shape[2]  # batch · kv_heads
        self.prepare(rotary, cache)

    def turn(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.matrices)

    def mask(self, positions: Tensor) -> Tensor:
        """0 where a query (row) may look at a key (column), else −inf: (batch or 1, 1, time, seen)."""
        allowed = torch.arange(self.seen, device=positions.device) <= positions[..., None]
        hidden = torch.zeros(allowed.shape, dtype=self.cache.keys.dtype, device=positions.device)
        return hidden.masked_fill_(~allowed, -torch.inf).view(-1, 1, self.time, self.seen)

    def gather(self, block: int, q: Tensor) -> Tensor:
        """Attention written out, for q in the order batch, kv_heads, group, time, head_dim; so is the result, in shape
        (batch · kv_heads, group · time, head_dim)."""
        q = q.reshape(self.groups, -1, q.shape[-1])
        scores = torch.bmm(q, self.keys[block].mT)  # (batch · kv_heads, group · time, seen)
        if self.hidden is not None:
            scores.view(self.batch, -1, self.time, self.seen).add_(self.hidden)
        return torch.bmm(scores.softmax(-1), self.values[block])


class _NextTokens(_Step):
    """One new token a row, all at the same position: one matrix turns them all, and each may look at everything."""

    def prepare(self, rotary: Rotary, cache: KVCache) -> None:
        self.matrix = rotary.matrices(slice(cache.longest, self.seen))[0]
        self.new_keys, self.new_values = (  # where those of each block go: (batch, kv_heads, head_dim)
            stored.select(3, cache.longest).unbind(0) for stored in (cache.keys, cache.values)
        )

    def turn(self, x: Tensor) -> Tensor:
        return torch.mm(x.reshape(-1, x.shape[-1]), self.matrix).view(x.shape)

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.new_keys[block].copy_(k)
        self.new_values[block].copy_(v)
        return self.gather(block, q).view(self.batch, -1)


class _NextTokensOfRagged(_Step):
    """One new token a row, each at its own position: a matrix turns each, and each looks at its own row's tokens."""

    def prepare(self, rotary: Rotary, cache: KVCache) -> None:
        self.positions = cache.positions(1)  # (batch, 1)
        self.matrices, self.hidden = rotary.matrices(self.positions.flatten()), self.mask(self.positions)

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.cache.update(block, k[:, :, None], v[:, :, None], self.positions)  # (batch, kv_heads, time = 1, head_dim)
        return self.gather(block, q).view(self.batch, -1)


class _SeveralTokens(_Step):
    """Several new tokens a row: later ones are hidden from those before."""

    def prepare(self, rotary: Rotary, cache: KVCache) -> None:
        self.positions = cache.positions(self.time)  # (time,), or (batch, time) where rows differ
        self.hidden = self.mask(self.positions)

    def gather_few(self, block: int, q: Tensor) -> Tensor:
        """`gather` for q (rows, heads, head_dim): all heads that share keys go into one product."""
        batch, time, kv_heads, size = self.batch, self.time, self.groups // self.batch, q.shape[-1]
        q = q.view(batch, time, kv_heads, -1, size).permute(0, 2, 3, 1, 4)  # (batch, kv_heads, group, time, head_dim)
        mixed = self.gather(block, q).view(batch, -1, time, size)  # (batch, heads, time, head_dim)
        return mixed.transpose(1, 2).reshape(batch * time, -1)


class _FewTokensOfOneText(_SeveralTokens):
    """Such as a draft's proposals: a matrix turns each, and their keys and values lie side by side in the cache."""

    def prepare(self, rotary: Rotary, cache: KVCache) -> None:
        super().prepare(rotary, cache)
        new = slice(cache.longest, self.seen)
        self.matrices = rotary.matrices(new)
        self.new_keys, self.new_values = (  # where those of each block go: (time, kv_heads, head_dim)
            stored[:, 0, :, new].transpose(1, 2).unbind(0) for stored in (cache.keys, cache.values)
        )

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.new_keys[block].copy_(k)
        self.new_values[block].copy_(v)
        return self.gather_few(block, q)


class _ManyTokens(_SeveralTokens):
    """A part of a prompt, or tokens of several texts: turned by their angles, and with the fused kernel if many."""

    def prepare(self, rotary: Rotary, cache: KVCache) -> None:
        super().prepare(rotary, cache)
        self.cos, self.sin = (table[self.positions].to(rotary.dtype) for table in (rotary.cos, rotary.sin))
        if cache.ragged:
            self.cos, self.sin = self.cos[:, None], self.sin[:, None]  # (batch, 1, time, head_dim/2), else no batch

    def turn(self, x: Tensor) -> Tensor:
        turned = rope(x.unflatten(0, (self.batch, self.time)).transpose(1, 2), self.cos, self.sin)
        return turned.transpose(1, 2).flatten(0, 1)

    def attend(self, block: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        new_keys, new_values = (x.unflatten(0, (self.batch, self.time)).transpose(1, 2) for x in (k, v))
        self.cache.update(block, new_keys, new_values, self.positions)  # (batch, kv_heads, time, head_dim)
        if self.time <= FEW:
            return self.gather_few(block, q)
        q = q.view(self.batch, self.time, -1, q.shape[-1]).transpose(1, 2)  # (batch, heads, time, head_dim)
        keys, values = (seen[block].unflatten(0, (self.batch, -1)) for seen in (self.keys, self.values))
        grouped = keys.shape[1] != q.shape[1]
        mixed = F.scaled_dot_product_attention(q, keys, values, self.hidden, scale=1.0, enable_gqa=grouped)
        return mixed.transpose(1, 2).flatten(0, 1).flatten(1)


def make_step(rotary: Rotary, cache: KVCache, batch: int, time: int) -> _Step:
    """The step in which each row of the cache reads `time` more tokens, in its shape."""
    if time == 1:
        shape = _NextTokensOfRagged if cache.ragged else _NextTokens
    else:
        shape = _FewTokensOfOneText if batch == 1 and time <= FEW else _ManyTokens
    return shape(rotary, cache, batch, time)
