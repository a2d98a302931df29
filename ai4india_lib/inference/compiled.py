"""One step of writing as a single compiled function: what is left to save when products are as fast as they get.

A `FastDecoder` runs some twenty operations a block. Each is called from Python, writes its result to memory, and the
next reads it back; for one text that takes longer than the products themselves. `torch.compile` (Ansel et al., 2024)
turns the same block code into a few loops of C++, and lays the weights out for the processor at hand.

It needs a C++ compiler, and time: some seconds to a minute and a half for each kind of step, the first time it comes.
So it is for those who write much: `compiled=True` in `generate_steps`, `DynamicBatcher` and `speculative_steps`.
"""

import copy
import inspect
import warnings
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..basics.device import may_lack_threads
from ..model.cache import KVCache
from ..model.decoder import DecoderLanguageModel, check_room, rope
from .packed import FastDecoder, Int8Matrix, Matrix, direction
from .packed_steps import FEW

READ_AT_ONCE = 128  # tokens of a prompt: from there on the fused attention of longer steps is faster


def can_compile() -> bool:
    """Can `compiled=True` be used here: is torch as it must be, and does it find a C++ compiler?"""
    return obstacle() is None


def obstacle() -> str | None:
    """What stands in the way of compiled writing, and what helps; None where nothing does."""
    if "isolate_recompiles" not in inspect.signature(torch.compile).parameters:
        return f"needs torch 2.13 or later, this is {torch.__version__}: update torch"
    if may_lack_threads():
        return "needs all its threads: unset OMP_THREAD_LIMIT and OMP_DYNAMIC, and set OMP_NUM_THREADS"
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        found = bool(get_cpp_compiler())
    except Exception:  # InvalidCxxCompiler, or what its search meets on some machine
        found = False
    return None if found else "needs a C++ compiler, and none was found: install g++ or clang"


def go_on_uncompiled(reason: str) -> None:
    """Say in one sentence why nothing is compiled."""
    warnings.warn(f"compiled writing {reason}; going on uncompiled", stacklevel=4)


class _Product(nn.Module):
    """A weight matrix, kept (out, in): the order in which a compiled loop reads it for one row."""

    def __init__(self, matrix: Matrix | Int8Matrix):
        super().__init__()
        int8 = isinstance(matrix, Int8Matrix)  # kept (out, in) anyway
        self.weight = nn.Parameter(matrix.weight if int8 else matrix.weight.t().contiguous(), requires_grad=False)
        self.scale = nn.Parameter(matrix.scale.float(), requires_grad=False) if int8 else None  # (out,)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        single = x.shape[0] == 1  # then as a loop that is fused with its neighbours
        product = (x[:, None] * weight).sum(-1) if single else F.linear(x, weight)
        return product if self.scale is None else product * self.scale.to(x.dtype)

    def add_to(self, stream: Tensor, x: Tensor) -> Tensor:
        return stream + self(x)


class _StepFunction(nn.Module):
    """A decoder's step as a function of tensors, which writes the new keys and values into those it is given."""

    def __init__(self, decoder: FastDecoder):
        super().__init__()
        self.embedding = nn.Parameter(decoder.embedding, requires_grad=False)
        self.cos, self.sin = (table.to(decoder.dtype) for table in (decoder.rotary.cos, decoder.rotary.sin))
        self.floor, self.output, self.blocks = decoder.stream_floor, _Product(decoder.output), []
        self.products = nn.ModuleList()  # the blocks' matrices, where torch.compile looks for what stays as it is
        for block in map(copy.copy, decoder.blocks):
            for name in ("qkv", "output", "gate_up", "down"):
                self.products.append(_Product(getattr(block, name)))
                setattr(block, name, self.products[-1])
            self.blocks.append(block)

    def forward(self, ids: Tensor, lengths: Tensor, numbers: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Logits (batch, time, vocab_size) of `ids` (batch, time); the rest as in `hidden`."""
        return self.output(self.hidden(ids, lengths, numbers, keys, values).flatten(0, 1)).unflatten(0, ids.shape)

    def hidden(self, ids: Tensor, lengths: Tensor, numbers: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What comes before the vocabulary: (batch, time, emb_dim), normalised, the last gain left to the output.

        `keys` and `values` (blocks, batch, kv_heads, max_length, head_dim) take up the new ones. Of each row `lengths`
        (batch,) are filled; none has more than there are `numbers` 0, 1, 2 …
        """
        (batch, time), device = ids.shape, ids.device
        steps = torch.arange(time, device=device)
        positions = lengths[:, None] + steps  # (batch, time)
        cos, sin = (table[positions.flatten()][:, None] for table in (self.cos, self.sin))  # (rows, 1, head_dim/2)
        turn = partial(rope, cos=cos, sin=sin)
        before = (numbers < lengths[:, None])[:, None].expand(-1, time, -1)  # (batch, time, seen)
        allowed = torch.cat((before, (steps <= steps[:, None]).expand(batch, -1, -1)), -1)
        x, new_keys, new_values = F.embedding(ids.flatten(), self.embedding), [], []  # (rows, emb_dim)
        for number, block in enumerate(self.blocks):
            q, k, v = block.queries_keys_values(direction(x, self.floor), turn)
            k, v = (new.unflatten(0, (batch, time)) for new in (k, v))  # (batch, time, kv_heads, head_dim)
            new_keys.append(k)
            new_values.append(v)
            seen = (stored[number, :, :, : len(numbers)] for stored in (keys, values))
            mixed = self._attend(q, tuple(seen), (k.transpose(1, 2), v.transpose(1, 2)), allowed)
            x = block.output.add_to(x, mixed)
            x = block.down.add_to(x, block.gated(direction(x, self.floor)))
        each = torch.arange(batch, device=device)[:, None]
        for stored, new in ((keys, new_keys), (values, new_values)):  # not before: torch would copy what changes early
            stored[:, each, :, positions] = torch.stack(new).permute(1, 2, 0, 3, 4)
        return direction(x, self.floor).unflatten(0, (batch, time))

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


class Kind(NamedTuple):
    """What a compiled step is made for, by the example that it is compiled with.

    A size above 1 is left open: the step then takes any number of texts, or of tokens, above 1. Sizes of 1 are fixed.
    """

    rows: int  # texts
    tokens: int  # new ones of each text
    logits: bool = True  # else what comes before the vocabulary, for reading a prompt


NEXT = Kind(rows=1, tokens=1)  # the next token of one text
NEXT_OF_EACH = Kind(rows=13, tokens=1)  # the next token of each of several texts
VERIFY = Kind(rows=1, tokens=5)  # a few tokens of one text, such as proposals to be verified
READ = Kind(rows=1, tokens=61, logits=False)  # a piece of a prompt

# In an example all open sizes differ: two that were equal would be taken for one and the same.
UNUSED_ROWS, CACHE_LENGTH, TOKENS_BEFORE = 4, 167, 89  # of the cache, beside the rows and tokens above


def kind_of(ids: Tensor, cache: KVCache, *, logits: bool) -> Kind | None:
    """The kind of compiled step that reads `ids` (batch, time) fastest; None where a step that isn't compiled does."""
    if ids.dim() != 2 or cache.max_length == 1:  # a cache of one token is too small to be an open size
        return None
    rows, time = ids.shape
    if time == 1 and logits:
        return NEXT if rows == 1 else NEXT_OF_EACH
    if rows == 1 and 1 < time <= (FEW if logits else READ_AT_ONCE):
        return VERIFY if logits else READ
    return None


class CompiledDecoder(FastDecoder):
    """A `FastDecoder` whose steps of the four kinds above are compiled, each kind when it first comes.

    For machines where `obstacle()` sees none. Should compiling fail all the same, it says so in one sentence and goes
    on as a `FastDecoder`.
    """

    def __init__(self, model: DecoderLanguageModel, *, int8: bool = False):
        super().__init__(model, int8=int8)
        self._step, self._compiled, self._failed = _StepFunction(self), {}, False
        self._numbers = torch.arange(self.config.context_size + 1, device=self.device)

    def __call__(self, ids: Tensor, cache: KVCache, *, lengths: Tensor | None = None) -> Tensor:
        if (kind := kind_of(ids, cache, logits=True)) and self._ready(kind, ids, cache):
            return self._run(kind, ids, cache, lengths)
        return super().__call__(ids, cache, lengths=lengths)

    def hidden(self, ids: Tensor, cache: KVCache, *, lengths: Tensor | None = None) -> Tensor:
        if (kind := kind_of(ids, cache, logits=False)) and self._ready(kind, ids, cache):
            return self._run(kind, ids, cache, lengths)
        return super().hidden(ids, cache, lengths=lengths)

    def prepare_for(self, rows: int) -> None:
        """Compile now what is needed to read single prompts, and to write one text or up to so many rows."""
        for kind in (NEXT, NEXT_OF_EACH, READ) if rows > 1 else (NEXT, READ):
            self._is_compiled(kind)

    def _ready(self, kind: Kind, ids: Tensor, cache: KVCache) -> bool:
        """Is the kind compiled, or can it be now? What cannot be read is refused before."""
        check_room(ids, cache, self.config)
        return self._is_compiled(kind)

    def _is_compiled(self, kind: Kind) -> bool:
        """Compile the kind, unless that is done. False where it fails: then nothing more is tried."""
        if kind not in self._compiled and not self._failed:
            try:
                self._compile(kind)
            except Exception as error:  # whatever torch, or the compiler that it calls, may throw
                cause = getattr(error, "inner_exception", error)
                lines = str(cause).strip().splitlines() or ["no reason given"]
                go_on_uncompiled(f"failed ({type(cause).__name__}: {lines[0][:150]})")
                self._failed = True
        return kind in self._compiled

    @torch.inference_mode()
    def _run(self, kind: Kind, ids: Tensor, cache: KVCache, lengths: Tensor | None) -> Tensor:
        """What the step gives, (batch, time, vocab_size or emb_dim); the cache takes up `ids` (batch, time)."""
        numbers = self._numbers[: max(cache.longest, 2)]  # torch compiles sizes of 0 and 1 apart
        result = self._compiled[kind](ids.contiguous(), cache.lengths, numbers, cache.keys, cache.values)
        cache.advance(ids.shape[1] if lengths is None else lengths)
        return result

    @torch.inference_mode()
    def _compile(self, kind: Kind) -> None:
        """Compile for the kind's example, with the sizes left open that may change.

        What torch would check before each call, which costs as much as a block, is left out: weights, dtype and device
        stay, and tensors of another layout than expected raise an AssertionError in the compiled code.
        """
        cache = self.new_cache(kind.rows + UNUSED_ROWS, CACHE_LENGTH).rows(0, [0] * kind.rows)
        shape = kind.rows, min(kind.tokens, self.config.context_size)
        ids, numbers = self._numbers.new_ones(shape), self._numbers.new_ones(TOKENS_BEFORE)
        open_sizes = [(numbers, 0), (cache.keys, 3), (cache.values, 3)]
        if kind.rows > 1:
            open_sizes += [(ids, 0), (cache.lengths, 0), (cache.keys, 1), (cache.values, 1)]
        if kind.tokens > 1:
            open_sizes += [(ids, 1)]
        for tensor, dimension in open_sizes:
            torch._dynamo.mark_dynamic(tensor, dimension)
        unchecked = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
        step = self._step if kind.logits else self._step.hidden
        run = torch.compile(step, fullgraph=True, dynamic=False, isolate_recompiles=True, options=unchecked)
        several = kind.rows * kind.tokens > 1  # products with several rows: weights in an order made for them
        tuned = several and kind.logits  # kernels tried out; for the products of a prompt that gains nothing
        tables_of_kernels = redirect_stderr(StringIO())  # which torch prints, with warnings about itself
        with torch._inductor.config.patch(freezing=several, max_autotune=tuned), tables_of_kernels:
            run(ids, cache.lengths, numbers, cache.keys, cache.values)
        self._compiled[kind] = run
