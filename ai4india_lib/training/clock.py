"""Runs by the clock: how many steps fit into the minutes that a run was given.

The first steps are timed. Then the number of steps is fixed, so that the learning rate has fallen to zero when the time
is over; looks at the test text and checkpoints are counted in. At half of them it is fixed anew, once and for all: by
then more is known about the machine, and as the rate has not begun to fall, it was that of either number so far. A
resumed run keeps the number that it had.
"""

import math
import time
from dataclasses import dataclass
from statistics import median

import torch

from .history import History
from .hyperparameters import Hyperparameters

SHORT = 200  # steps of a short run: the rate rises as in one, at most, as nobody knows yet how many there will be
UNTIMED = 2  # the first steps are slower than the others
BLOCKS = 8  # so many times are enough for a median,
MEASURED = 0.03  # if they are this part of the time together;
AT_MOST = 0.15  # after this part of the time two must do,
LATEST = 0.5  # after this one whatever is known
HALF = 0.5  # of the steps: then their number is fixed anew
AIM = 0.98  # of the time: machines grow warm and slow
LOOKING, SAVING = 0.04, 0.02  # parts of the time for looks at the test text, and for checkpoints, at most
EARLY = 0.01  # part of the time for each early look, at most
LOOKS = 25  # in a run, at most: more would say little, and `patience` counts them
LAST_LOOK = 0.1  # part of the time for the last look, at most


@dataclass
class Costs:
    """What else takes time, in seconds: a look at the test text, reading one batch of it, and writing a checkpoint."""

    look: float = 0.0
    test_batch: float = 0.0
    checkpoint: float = 0.0


def first_pace(h: Hyperparameters, most_steps: int) -> dict:
    """What a run by the clock knows before its first step: for how many steps the learning rate rises, for one. That
    must not depend on their number, which is not known while it rises."""
    return {"minutes": h.minutes, "warmup_steps": round(h.warmup_fraction * min(most_steps, SHORT))}


def is_time_to_look(history: History, h: Hyperparameters) -> bool:
    """At multiples of `eval_every`, at the end, and early, so that the curve soon has points (see `early_looks`)."""
    steps, every = history.steps, history.pace.get("eval_every", h.eval_every)
    early = history.pace.get("early_looks", True) and steps in early_looks(every)
    return steps % every == 0 or steps == history.total_steps or early


def early_looks(eval_every: int) -> list[int]:
    """Steps 10, 20, 50, 100, 200, 500 … as long as they come before the first usual look."""
    early = (first * 10**power for power in range(1, len(str(eval_every))) for first in (1, 2, 5))
    return [step for step in early if step < eval_every]


def is_time_to_save(history: History, h: Hyperparameters) -> bool:
    """At multiples of `checkpoint_every`; the end has a checkpoint of its own."""
    every = history.pace.get("checkpoint_every", h.checkpoint_every)
    return history.steps % every == 0 and history.steps < history.total_steps


class Clock:
    """Times the first steps of a run that has `seconds` from `started` on, and says how many it can take.

    >>> clock.step_done()  # after each step
    >>> if clock.knows(history): steps, pace = clock.fix(history, ...)
    """

    def __init__(self, seconds: float, started: float, device: torch.device):
        self.seconds, self.started, self.device = seconds, started, device
        self.steps = 0
        self.times: list[float] = []  # seconds per step, of each block of steps
        self.timed, self.counted = 0.0, 0  # seconds of all blocks, and their steps
        self._mark: float | None = None  # when the block in hand began
        self._count = 0  # its steps

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def step_done(self) -> None:
        """A step is done. On a GPU steps only wait in line: a block of them is timed, and its end is waited for."""
        self.steps += 1
        self._count += 1
        if self.steps < UNTIMED:
            return
        if self._mark is None:
            self._wait()
            self._mark, self._count = time.perf_counter(), 0
            return
        if time.perf_counter() - self._mark >= min(0.25, self.seconds / 100):
            self._wait()
            now = time.perf_counter()
            self.times.append((now - self._mark) / self._count)
            self.timed += now - self._mark
            self.counted += self._count
            self._mark, self._count = now, 0

    def pause(self) -> None:
        """Something else than steps comes now: the block in hand is dropped, and the next step begins a new one."""
        self._mark = None

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def knows(self, history: History) -> bool:
        """Is it time to fix the number of steps, or to fix it anew?"""
        if not history.is_open:
            return history.steps >= history.pace["again_at"]
        if len(self.times) >= BLOCKS and self.timed >= MEASURED * self.seconds:
            return True
        gone = self.elapsed() / self.seconds if self.seconds > 0 else 1.0
        return gone >= LATEST or (gone >= AT_MOST and len(self.times) >= 2)

    def fix(
        self, history: History, most_steps: int, h: Hyperparameters, costs: Costs, test_batches: float
    ) -> tuple[int, dict[str, float | None]]:
        """(the number of steps of the whole run, its pace) after those done so far; it takes `most_steps` at most.

        The pace says how often the run looks at the test text and writes a checkpoint: as `h` says, or more rarely, so
        that steps get most of the time; and how many batches the last look reads (None: all). It keeps what it has of
        that. `again_at` is the step at which the number is to be fixed anew, before the rate falls (None: never).
        """
        done, known, step = history.steps, history.pace, self._step_seconds(history)
        left = AIM * self.seconds - self.elapsed() - 2 * costs.checkpoint  # now, and at the end
        whole, longest = test_batches * costs.test_batch, LAST_LOOK * self.seconds
        left = max(0.0, left - min(whole, longest))
        eval_every = max(h.eval_every, math.ceil(left / step / LOOKS), math.ceil(costs.look / (LOOKING * step)))
        eval_every = known.get("eval_every", eval_every)
        checkpoint_every = max(h.checkpoint_every, math.ceil(costs.checkpoint / (SAVING * step)))
        checkpoint_every = known.get("checkpoint_every", checkpoint_every)
        early = known.get("early_looks", costs.look <= EARLY * self.seconds)
        soon = sum(done < at < done + left / step for at in early_looks(eval_every)) if early else 0
        left = max(0.0, left - (soon + 1) * costs.look)  # one at the end
        total = done + int(left / (step + costs.look / eval_every + costs.checkpoint / checkpoint_every))
        total = min(most_steps, total)
        again_at = int(min(HALF, 1 - h.decay_fraction) * total)
        pace = {
            "step_seconds": step,
            "again_at": again_at if history.is_open and again_at > done else None,
            "eval_every": eval_every,
            "early_looks": early,
            "checkpoint_every": checkpoint_every,
            "last_batches": None if whole <= longest else max(1, int(longest / costs.test_batch)),
        }
        return total, pace

    def _step_seconds(self, history: History) -> float:
        """Seconds per step: of few blocks the median, as an odd one must not count; of many the mean."""
        if not history.is_open and self.counted:
            return self.timed / self.counted
        return median(self.times) if self.times else self.elapsed() / max(self.steps, 1)
