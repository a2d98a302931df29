"""One step of writing as a single compiled function: what is left to save when products are as fast as they get.

A `FastDecoder` runs some twenty operations a block. Each is called from Python, writes its result to memory, and the
next reads it back; for one text that takes longer than the products themselves. `torch.compile` (Ansel et al., 2024)
turns the same block code into a few loops of C++, and lays the weights out for the processor at hand.

It needs a C++ compiler, and time: some seconds to a minute and a half for each kind of step, the first time it comes.
So it is for those who write much: `compiled=True` in `generate_steps`, `DynamicBatcher` and `speculative_steps`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .decoding import FEW, FastDecoder, Matrix, direction
from .device import may_lack_threads
from .model import rope

if TYPE_CHECKING:
    from .cache import KVCache


def can_compile() -> bool:
    """Can `compiled=True` be used here: is torch as it must be, and does it find a C++ compiler?"""
    from torch._inductor.cpp_builder import get_cpp_compiler

    if _obstacle():
        return False
    try:
        return bool(get_cpp_compiler())
    except RuntimeError:  # InvalidCxxCompiler is one
        return False


def _obstacle() -> str | None:
    """What stands in the way of compiled writing, a missing compiler apart."""
    if "isolate_recompiles" not in inspect.signature(torch.compile).parameters:
        return f"needs torch 2.13 or later, this is {torch.__version__}: update torch"
    if may_lack_threads():
        return "needs all its threads: unset OMP_THREAD_LIMIT and OMP_DYNAMIC, and set OMP_NUM_THREADS"
    return None


class CompiledStep:
    """Called like the `FastDecoder` it was made from, for few tokens: one a row, or some of a single text.

    There are three kinds of steps: one token of one text; one of each of several texts, however many; several of one
    text. Each is compiled when it first comes, for any number of rows or tokens and any length of the texts.

    Raises RuntimeError where there is no C++ compiler, where torch is too old, and where threads may be missing.
    """

    def __init__(self, decoder: FastDecoder):
        if obstacle := _obstacle():
            raise RuntimeError(f"compiled writing {obstacle}, or leave `compiled` out")
        self._decoder, self._step = decoder, _Step(decoder)
        self._kinds: dict[tuple[bool, bool], Callable] = {}  # (many rows, many tokens) → the compiled step

    @staticmethod
    def takes(ids: Tensor, cache: KVCache) -> bool:
        """Is this a step for which there is a compiled form?"""
        rows, time = ids.shape
        few = time == 1 or (rows == 1 and time <= FEW)
        return few and cache.longest > 1  # torch compiles sizes of 0 and 1 apart

    def prepare(self, rows: int, tokens: int) -> Callable:
        """Compile what is needed for so many rows of so many tokens, if it is not there yet."""
        kind = (rows > 1, tokens > 1)
        if kind not in self._kinds:
            self._kinds[kind] = self._compile(*kind)
        return self._kinds[kind]

    @torch.inference_mode()
    def __call__(self, ids: Tensor, cache: KVCache, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, time, vocab_size); the cache takes up the tokens `ids` (batch, time)."""
        rows, time = ids.shape
        keys, values = (stored[:, :, :, : cache.longest] for stored in (cache.keys, cache.values))
        run = self.prepare(rows, time)
        logits, *new = run(ids.contiguous(), cache.lengths, keys, values)
        for stored, fresh in zip((cache.keys, cache.values), new, strict=True):  # (blocks, batch, kv_heads, time, size)
            if cache.ragged:
                stored[:, torch.arange(rows, device=ids.device), :, cache.lengths] = fresh[:, :, :, 0].transpose(0, 1)
            else:
                stored[:, :, :, cache.longest : cache.longest + time] = fresh
        cache.advance(time if lengths is None else lengths)
        return logits

    @torch.inference_mode()
    def _compile(self, many_rows: bool, many_tokens: bool) -> Callable:
        """Compile for an example, with the sizes left open that may change.

        In the example those sizes all differ: two that were equal would be taken for one and the same. What torch would
        check before each call, which costs as much as a block, is then left out: weights, dtype and device stay, and
        tensors of another layout than expected raise an AssertionError in the compiled code.
        """
        rows, time, seen = 13 if many_rows else 1, 5 if many_tokens else 1, 89
        cache = self._decoder.new_cache(rows + 4, seen + 12)
        ids, lengths = torch.ones(rows, time, dtype=torch.long, device=cache.keys.device), cache.lengths[:rows]
        keys, values = (stored[:, :rows, :, :seen] for stored in (cache.keys, cache.values))
        open_sizes = [(keys, 3), (values, 3)]
        open_sizes += [(ids, 0), (lengths, 0), (keys, 1), (values, 1)] if many_rows else []
        open_sizes += [(ids, 1)] if many_tokens else []
        for tensor, dimension in open_sizes:
            torch._dynamo.mark_dynamic(tensor, dimension)
        unchecked = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
        run = torch.compile(self._step, fullgraph=True, dynamic=False, isolate_recompiles=True, options=unchecked)
        packed = many_rows or many_tokens  # products with several rows: weights in an order made for them
        try:
            with torch._inductor.config.patch(freezing=packed, max_autotune=packed):
                run(ids, lengths, keys, values)
        except torch._inductor.exc.InductorError as error:
            if not isinstance(error.inner_exception, torch._inductor.exc.InvalidCxxCompiler):
                raise
            told = "compiled writing needs a C++ compiler, and none was found"
            raise RuntimeError(f"{told}: install g++ or clang, or leave `compiled` out") from error
        return run


class _Product(nn.Module):
    """A weight matrix, kept (out, in): the order in which a compiled loop reads it for one row."""

    def __init__(self, matrix: Matrix):
        super().__init__()
        self.weight = nn.Parameter(matrix.weight.t().contiguous(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1:  # a loop that is fused with its neighbours
            return (x[:, None] * self.weight).sum(-1)
        return F.linear(x, self.weight)

    def add_to(self, stream: Tensor, x: Tensor) -> Tensor:
        return stream + self(x)


class _Turn:
    """Rotary positions for x (rows, heads, head_dim), as `PackedBlock` asks for them."""

    def __init__(self, cos: Tensor, sin: Tensor):
        self.cos, self.sin = cos[:, None], sin[:, None]  # (rows, 1, head_dim / 2)

    def turn(self, x: Tensor) -> Tensor:
        return rope(x, self.cos, self.sin)


class _Step(nn.Module):
    """A decoder's step as a function of tensors: it returns new keys and values, and leaves storing them to others."""

    def __init__(self, decoder: FastDecoder):
        super().__init__()
        self.config = decoder.config
        self.embedding = nn.Parameter(decoder.embedding, requires_grad=False)
        self.cos, self.sin = decoder.cos.to(decoder.dtype), decoder.sin.to(decoder.dtype)
        self.floor, self.output, self.blocks = decoder.stream_floor, _Product(decoder.output), []
        self.products = nn.ModuleList()  # the blocks' matrices, where torch.compile looks for what stays as it is
        for block in map(copy.copy, decoder.blocks):
            for name in ("qkv", "output", "gate_up", "down"):
                self.products.append(_Product(getattr(block, name)))
                setattr(block, name, self.products[-1])
            self.blocks.append(block)

    def forward(self, ids: Tensor, lengths: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (batch, time, vocab_size), and the new keys and values (blocks, batch, kv_heads, time, head_dim).

        The old `keys` and `values` are (blocks, batch, kv_heads, seen, head_dim); `lengths` (batch,) of each row count.
        """
        (batch, time), seen, device = ids.shape, keys.shape[3], ids.device
        steps = torch.arange(time, device=device)
        positions = (lengths[:, None] + steps).flatten()  # (rows,)
        turn = _Turn(self.cos[positions], self.sin[positions])
        before = torch.arange(seen, device=device) < lengths[:, None]  # (batch, seen)
        allowed = torch.cat((before[:, None].expand(-1, time, -1), (steps <= steps[:, None]).expand(batch, -1, -1)), -1)
        x, new_keys, new_values = F.embedding(ids.flatten(), self.embedding), [], []  # (rows, emb_dim)
        for index, block in enumerate(self.blocks):
            q, k, v = block.queries_keys_values(direction(x, self.floor), turn)
            k, v = (new.unflatten(0, (batch, time)).transpose(1, 2) for new in (k, v))  # (batch, kv_heads, time, size)
            new_keys.append(k)
            new_values.append(v)
            mixed = self._attend(q, (keys[index], values[index]), (k, v), allowed)
            x = block.output.add_to(x, mixed)
            x = block.down.add_to(x, block.gated(direction(x, self.floor)))
        logits = self.output(direction(x, self.floor)).view(batch, time, -1)
        return logits, torch.stack(new_keys), torch.stack(new_values)

    def _attend(self, q: Tensor, old, new, allowed: Tensor) -> Tensor:
        """Queries (rows, heads, head_dim) gather from old and new tokens: (rows, heads · head_dim).

        `old`, `new`: keys and values (batch, kv_heads, seen or time, head_dim); `allowed` (batch, time, seen + time).
        """
        (batch, kv_heads, time, size), seen = new[0].shape, old[0].shape[2]
        q = q.view(batch, time, kv_heads, -1, size).permute(0, 2, 3, 1, 4).reshape(batch * kv_heads, -1, size)
        (old_k, old_v), (new_k, new_v) = ((x.reshape(batch * kv_heads, -1, size) for x in both) for both in (old, new))
        scores = torch.cat((torch.bmm(q, old_k.mT), torch.bmm(q, new_k.mT)), -1)  # (batch · kv_heads, group · time, …)
        scores = scores.view(batch, -1, time, seen + time).masked_fill(~allowed[:, None], -torch.inf)
        weights = scores.softmax(-1).view(batch * kv_heads, -1, seen + time)
        mixed = torch.bmm(weights[..., :seen], old_v) + torch.bmm(weights[..., seen:], new_v)
        return mixed.view(batch, -1, time, size).transpose(1, 2).reshape(batch * time, -1)
