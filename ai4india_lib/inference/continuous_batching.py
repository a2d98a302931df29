"""Many prompts at once: requests join and leave the running batch between two steps.

A batch that waits until all its texts have ended wastes the slots of those that end early. Here a slot is given to the
next request as soon as it is free (continuous batching, "iteration-level scheduling": Yu et al., Orca, 2022, §3.1), and
a long prompt is read in chunks beside the running texts, so that they don't stall (chunked prefill: Agrawal et al.,
Sarathi-Serve, 2024, §4).

>>> batcher = DynamicBatcher(model, slots=16)
>>> request = batcher.submit(encode_prompt(tokenizer, "एक दिन"), max_new_tokens=60, stop_ids=[tokenizer.eos_token_id])
>>> for token in request: ...  # each token as it comes; or batcher.run(), and then request.tokens
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..basics.arguments import at_least
from ..model.decoder import DecoderLanguageModel
from .fast import pick_decoder
from .generation import prefill
from .requests import checked_count, checked_prompt, checked_stops
from .sampling import Sampling, choose_rows, continued, random_numbers

PASS, PADDING = 1024, 1.25  # tokens of prompts read in one pass, and how many more they may be with padding


class QueueFull(RuntimeError):
    """So many requests wait already that this one was refused; it may be submitted again later."""


class Request:
    """One text to be written: what was asked for, and what has come of it. Made by `DynamicBatcher.submit`.

    `tokens` are the new ids so far. `ended` is None as long as it waits or is written, then "stop" (its last token is
    one of `stop_ids`), "length" or "cancelled". Iterating yields each token as it comes, from the first to the end.
    """

    def __init__(self, batcher: DynamicBatcher, prompt, max_new_tokens: int, sampling: Sampling, stop_ids: set[int]):
        self.prompt, self.max_new_tokens, self.sampling, self.stop_ids = prompt, max_new_tokens, sampling, stop_ids
        self.tokens: list[int] = []
        self.ended: str | None = None
        self._batcher = batcher
        self._number = next(batcher._numbers)  # in the order in which they came
        self._read = 0  # how many tokens of prompt and text the cache holds
        self._text = list(prompt)
        self._random = random_numbers(sampling.seed)

    @property
    def done(self) -> bool:
        return self.ended is not None

    def cancel(self) -> None:
        """Write no further: the tokens so far stay, the slot is free at the next step. Does nothing if it has ended."""
        with self._batcher._changed:
            if not self.done:
                self.ended = "cancelled"
                if self in self._batcher._queue:
                    self._batcher._queue.remove(self)
                self._batcher._changed.notify_all()

    def __iter__(self) -> Iterator[int]:
        return _Tokens(self)

    def _take(self, read: int, count: int, token: int | None) -> None:
        """What a step computed: how much the cache holds now, and token number `count`, if one was written.

        The same again changes nothing, so an interrupted delivery can be made anew. What was cancelled takes no more.
        """
        self._read = read
        if token is None or self.ended == "cancelled":
            return
        self._text[len(self.prompt) + count :] = [token]
        self.tokens[count:] = [token]
        if token in self.stop_ids:
            self.ended = "stop"
        elif count + 1 == self.max_new_tokens:
            self.ended = "length"

    def _rewind(self) -> None:
        """Draw the next random number again if it was drawn for a token that never came."""
        self._random = continued(self._random, len(self.tokens) if self.sampling.temperature > 0 else 0)


class _Tokens(Iterator):
    """The tokens of a request, each as it comes; an interruption between two of them loses none."""

    def __init__(self, request: Request):
        self._request, self._given = request, 0

    def __next__(self) -> int:
        request = self._request
        while True:
            done = request.done  # looked at first: what is done has all its tokens
            if self._given < len(request.tokens):
                break
            if done:
                raise StopIteration
            request._batcher._step_or_wait()
        return (request.tokens[self._given], self._count())[0]  # both at once: no interruption comes in between

    def _count(self) -> None:
        self._given += 1


def _passes(chunks: dict[int, list[int]], read: dict[int, int]) -> list[list[int]]:
    """Which rows to read together, of those with a chunk: neighbours of which as much has been read before, with chunks
    of nearly one length, so that little is padded."""
    passes: list[list[int]] = []
    for row in sorted(chunks):
        rows = passes[-1] if passes else []
        counts = [len(chunks[other]) for other in (*rows, row)]
        alike = rows and row == rows[-1] + 1 and read[row] == read[rows[0]]
        if alike and max(counts) * len(counts) <= min(PASS, PADDING * sum(counts)):
            rows.append(row)
        else:
            passes.append([row])
    return passes


class DynamicBatcher:
    """Writes many texts at once, each with its own length, settings and seed, for as long as requests come.

    `slots` texts are written at a time, of at most `max_length` tokens each (prompt and new ones; None: the model's
    context). Memory for their keys and values is taken at the start. Others wait in a queue of at most `queue_size`
    and get a slot in the order in which they came. Prompts are read `prefill_chunk` tokens at a time. While texts are
    written, a step reads further chunks only if they are together no more than that, so that no prompt holds up a
    running text for long; while none is, a step reads a chunk of each prompt. `int8` and `compiled` as in
    `generate_steps`. The model's weights are read when the batcher is made; what is compiled, is compiled then.

    A request's tokens are those that `generate` gives for its prompt alone, with the same settings and seed. The logits
    behind them may differ in their last bits, as sums of a larger batch are added in another order: in float32 two
    tokens would have to be equally good to six digits for that to show; in bfloat16, to two.

    Threads: `submit`, `cancel` and iterating over a request are safe from any thread; one step is done at a time. No
    thread needs to run the batcher: whoever waits for a token does the next step for all. A server may instead let one
    thread call `step` again and again, and read `tokens` from others.

    A step happens whole or not at all: after an error or an interruption (the stop button, Ctrl-C), `run`, `step` and
    iterating go on where the last whole step ended, with the same texts.
    """

    def __init__(
        self,
        model: DecoderLanguageModel,
        *,
        slots: int = 16,
        max_length: int | None = None,
        prefill_chunk: int = 128,
        queue_size: int = 1024,
        int8: bool = False,
        compiled: bool = False,
    ):
        at_least(1, slots=slots, max_length=max_length, prefill_chunk=prefill_chunk)
        at_least(0, queue_size=queue_size)
        context = model.config.context_size
        max_length = context if max_length is None else max_length
        if max_length > context:
            raise ValueError(f"max_length={max_length} is more than the model's context_size={context}")
        self.model, self.slots, self.max_length = model, slots, max_length
        self.prefill_chunk, self.queue_size, self.steps = prefill_chunk, queue_size, 0
        self._decoder = pick_decoder(model, int8=int8, compiled=compiled)
        if compiled:
            self._decoder.prepare_for(slots)
        self._cache = model.new_cache(slots, max_length)
        self._active: list[Request] = []  # those that have a slot: number n has row n of the cache
        self._numbers = itertools.count()
        self._queue: deque[Request] = deque()
        self._computed: list[tuple] | None = None  # what a step has found out, as long as it is not delivered
        self._drawing = False  # random numbers have been drawn for tokens that are not there yet
        self._turn = threading.RLock()  # held during a step
        self._changed = threading.Condition()  # held while queue, tokens and ends are changed

    @property
    def waiting(self) -> int:
        """How many requests have no slot yet."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """How many requests are being read or written."""
        return sum(not request.done for request in self._active)

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    def submit(
        self, ids: Iterable[int], *, max_new_tokens: int, sampling: Sampling | None = None, stop_ids: Iterable[int] = ()
    ) -> Request:
        """Ask for at most `max_new_tokens` new tokens after the prompt `ids`; a text also ends after a stop id.

        Raises ValueError for a request that can never fit or is wrong in itself, and `QueueFull` if too many wait.
        """
        prompt, max_new_tokens = checked_prompt(self.model, ids), checked_count(max_new_tokens)
        if len(prompt) + max_new_tokens > self.max_length:
            advice = "shorten the prompt, ask for fewer, or make the batcher with a larger max_length"
            asked = f"a prompt of {len(prompt)} tokens and {max_new_tokens} new ones"
            raise ValueError(f"{asked} never fit in {self.max_length}: {advice}")
        request = Request(self, prompt, max_new_tokens, sampling or Sampling(), checked_stops(stop_ids))
        with self._changed:
            if max_new_tokens == 0:
                request.ended = "length"
            elif len(self._queue) >= self.queue_size + self.slots - self.running:
                advice = "try again when some have ended, or make the batcher with a larger queue_size"
                taken = f"all {self.slots} slots and the {self.queue_size} places of the queue are taken"
                raise QueueFull(f"{taken}: {advice}")
            else:
                self._queue.append(request)
        return request

    @torch.inference_mode()
    def step(self) -> list[tuple[Request, int]]:
        """Give free slots to those who wait, read on in their prompts, write one token of every other text.

        Returns the new tokens with their requests; an empty list if all slots and the queue are empty, or if prompts
        are still being read. If a step before was interrupted while it gave out what it had computed, it is that
        step's tokens that are given out and returned.
        """
        with self._turn:
            if self._computed is None:
                self._compute()
            return self._deliver()

    def _compute(self) -> None:
        """Find out what the step changes, and change nothing but `_computed`: in one assignment, at the end."""
        with self._changed:
            self._assign_slots()
        if self._drawing:  # and then came an interruption
            for request in self._active:
                request._rewind()
        decoded, next_logits = self._decode()
        read, finished, first_logits = self._prefill()
        writing, tokens = decoded + finished, []
        if writing:
            self._drawing = True
            columns = zip(*((request.sampling, request._text, request._random) for request in writing), strict=True)
            tokens = choose_rows(torch.cat(next_logits + first_logits), *columns)
        chosen = dict(zip(writing, tokens, strict=True))
        read = {request: request._read + 1 for request in decoded} | read
        self._computed = [(request, n, len(request.tokens), chosen.get(request)) for request, n in read.items()]
        self._drawing = False

    def _deliver(self) -> list[tuple[Request, int]]:
        """Give out what was computed: the new tokens with their requests, but for those that were cancelled since."""
        with self._changed:
            for request, *found in self._computed:
                request._take(*found)
            new = [(request, token) for request, _, count, token in self._computed if request.tokens[count:] == [token]]
            self._computed, self.steps = None, self.steps + 1
            self._changed.notify_all()
        return new

    def run(self) -> None:
        """Step until all requests have ended."""
        while not self.idle:
            self.step()

    def _assign_slots(self) -> None:
        """Give the slots of those who have ended to those who wait, and close the gaps that are left.

        All is worked out first: until `_active` is replaced nobody has another slot, and who has one leaves the queue.
        """
        while self._queue and (self._queue[0].done or self._queue[0] in self._active):  # after an interruption
            self._queue.popleft()
        active = list(self._active)
        free = self.slots - sum(not request.done for request in active)
        new = deque(itertools.islice(self._queue, free))
        taken = len(new)
        for row in reversed(range(len(active))):
            if active[row].done:
                if new:
                    active[row] = new.popleft()
                    continue
                last = active.pop()
                if row < len(active):
                    self._cache.copy_row(len(active), row, last._read)
                    active[row] = last
        self._active = active + sorted(new, key=lambda request: len(request.prompt))  # like beside like, for `_passes`
        for _ in range(taken):
            self._queue.popleft()

    def _decode(self) -> tuple[list[Request], list[Tensor]]:
        """One more token for each text that is being written: the requests, and their logits (rows, vocab_size).

        A row whose prompt is still being read takes part with a token that doesn't count, and that the next chunk of
        its prompt overwrites: cheaper than moving rows.
        """
        rows = [row for row, request in enumerate(self._active) if request.tokens]
        if not rows:
            return [], []
        used, decoded = self._active[: rows[-1] + 1], [self._active[row] for row in rows]
        part = self._cache.rows(0, [request._read for request in used])
        newest = torch.tensor([request._text[-1:] for request in used], device=part.keys.device)  # (rows, 1)
        logits = self._decoder(newest, part)[:, -1]  # (rows, vocab_size)
        return decoded, [logits if len(rows) == len(used) else logits[rows]]

    def _prefill(self) -> tuple[dict[Request, int], list[Request], list[Tensor]]:
        """Read chunks of prompts: how much of each has been read then, the requests whose prompt has been read to its
        end, and the logits after those.

        Each prompt is read in the same chunks, whoever else is there.
        """
        texts_wait = any(request.tokens and not request.done for request in self._active)  # for this step's end
        chunks = self._next_chunks(self.prefill_chunk if texts_wait else None)
        before = {row: self._active[row]._read for row in chunks}
        read, finished, logits = {}, [], []
        for rows in [[row] for row in chunks] if texts_wait else _passes(chunks, before):
            part = self._cache.rows(rows[0], [before[row] for row in rows])
            after = prefill(self._decoder, part, [chunks[row] for row in rows], self.prefill_chunk)
            for row, of_row in zip(rows, after.split(1), strict=True):  # (1, vocab_size)
                request = self._active[row]
                read[request] = before[row] + len(chunks[row])
                if read[request] == len(request.prompt):
                    finished.append(request)
                    logits.append(of_row)
        return read, finished, logits

    def _next_chunks(self, most: int | None) -> dict[int, list[int]]:
        """What to read in this step, by rows: first come, first read, together no more than `most` tokens."""
        chunks: dict[int, list[int]] = {}
        reading = [(request._number, row, request) for row, request in enumerate(self._active) if not request.tokens]
        for _, row, request in sorted(reading):
            chunk = request.prompt[request._read : request._read + self.prefill_chunk]
            if most is not None:
                if len(chunk) > most:
                    break
                most -= len(chunk)
            chunks[row] = chunk
        return chunks

    def _step_or_wait(self) -> None:
        """Do a step, or wait for the end of the one that another thread is doing."""
        before, mine = self.steps, False
        try:
            if mine := self._turn.acquire(blocking=False):
                self.step()
        finally:
            if mine:
                self._turn.release()
        if not mine:
            with self._changed:
                self._changed.wait_for(lambda: self.steps != before, timeout=0.1)
