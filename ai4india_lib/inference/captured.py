"""One step of writing as a CUDA graph: on a GPU, what is left to save is the launching of many small kernels.

A packed step launches some 25 kernels a block, and for few texts each takes less time than its launch from Python. A
graph (`torch.cuda.CUDAGraph`) records them once and then starts them all in one call. It needs no compiler.

A recorded step always does the same work in the same places. So it looks at a whole stretch of the cache, of which a
mask hides what is not there yet, as in a batch whose rows have different lengths; and there is one for each number of
rows, each stretch, and each cache.
"""

import copy
import warnings
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..model.cache import KVCache
from ..model.decoder import DecoderLanguageModel, check_room
from .packed import FastDecoder

STRETCH = 64  # tokens: a recorded step looks at so many, or twice as many, or four times …
KEPT = 64  # recordings; the one that was not used for longest goes first
WORTH = 3  # a step is recorded when it comes for the third time: that takes as long as some steps


def record_graph(step: Callable[[], Tensor], pool) -> tuple[Callable[[], None], Tensor]:
    """Record `step` on the present GPU: a function that repeats it, and the tensor that then holds its result."""
    before = torch.cuda.Stream()
    before.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(before):  # what libraries make ready at a first call cannot be recorded
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(before)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        result = step()
    return graph.replay, result


class _Recording(NamedTuple):
    """A step that was recorded: where it reads ids (rows, 1) and lengths (rows,), and writes logits (rows, 1, …)."""

    ids: Tensor
    lengths: Tensor
    replay: Callable[[], None]
    logits: Tensor
    memory: tuple[Tensor, Tensor]  # the cache's keys and values: while they are held, nothing else can lie there


class CapturedDecoder(FastDecoder):
    """A `FastDecoder` on a GPU whose steps of one new token a row are recorded, and then replayed.

    Should recording fail, it says so in one sentence and goes on as a `FastDecoder`.
    """

    record = staticmethod(record_graph)

    def __init__(self, model: DecoderLanguageModel, *, int8: bool = False):
        super().__init__(model, int8=int8)
        self._recordings: OrderedDict[tuple, _Recording] = OrderedDict()
        self._asked: Counter[tuple] = Counter()  # how often a step of this kind came
        self._lent: list[tuple[weakref.ref, KVCache]] = []  # who has it, and a cache over the same memory
        self._failed = False
        self._pool = torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None

    def stretch(self, tokens: int) -> int:
        """How many tokens a recorded step looks at where so many are there."""
        stretch = STRETCH
        while stretch < tokens:
            stretch *= 2
        return min(stretch, self.config.context_size)

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache; in memory that recordings know, where a cache of this size was let go."""
        room = max(self.stretch(max_length), max_length)
        for number, (owner, cache) in enumerate(self._lent):
            if owner() is None and cache.keys.shape[1:4:2] == (batch_size, room):
                del self._lent[number]
                break
        else:
            with torch.inference_mode(False):  # memory that may be written in either mode, now and later
                cache = super().new_cache(batch_size, room)
        cache.keys.zero_()
        cache.values.zero_()
        given = copy.copy(cache)
        given.max_length = max_length
        self._lent = [*self._lent, (weakref.ref(given), cache)][-KEPT:]
        return given

    def __call__(self, ids: Tensor, cache: KVCache, *, lengths: Tensor | None = None) -> Tensor:
        check_room(ids, cache, self.config)
        stretch = min(self.stretch(cache.longest + 1), cache.keys.shape[3])
        if ids.shape[1] != 1 or not (recording := self._recording(ids, cache, stretch)):
            return super().__call__(ids, cache, lengths=lengths)
        with torch.inference_mode():
            recording.ids.copy_(ids)
            recording.lengths.copy_(cache.lengths)
            recording.replay()
            cache.advance(1 if lengths is None else lengths)
            return recording.logits.clone()  # the next step writes there

    def _recording(self, ids: Tensor, cache: KVCache, stretch: int) -> _Recording | None:
        """The recording for this cache and number of rows, if it is worth one; None, too, where none can be made."""
        name = (len(ids), stretch, cache.keys.data_ptr(), cache.values.data_ptr(), cache.keys.stride())
        self._asked[name] += 1
        if name not in self._recordings and not self._failed and self._asked[name] >= WORTH:
            try:
                self._recordings[name] = self._made(ids, cache, stretch)
            except Exception as error:  # of the driver, of a library that cannot be recorded, or for want of memory
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
                warnings.warn(f"steps cannot be recorded as a CUDA graph ({reason}): they go on singly", stacklevel=4)
                self._failed = True
                self._recordings.clear()
        if name in self._recordings:
            self._recordings.move_to_end(name)
            while len(self._recordings) > KEPT:
                self._recordings.popitem(last=False)
        return self._recordings.get(name)

    @torch.inference_mode()
    def _made(self, ids: Tensor, cache: KVCache, stretch: int) -> _Recording:
        """While it is recorded the step runs some times: it writes each time where it will write at last."""
        fixed = copy.copy(cache)
        fixed.lengths, fixed.longest, fixed.ragged, fixed.max_length = cache.lengths.clone(), stretch - 1, True, stretch
        ids = ids.clone()
        step = super().__call__  # of a copy each time, since a step counts what it has read
        replay, logits = self.record(lambda: step(ids, copy.copy(fixed)), self._pool)
        return _Recording(ids, fixed.lengths, replay, logits, (cache.keys, cache.values))
