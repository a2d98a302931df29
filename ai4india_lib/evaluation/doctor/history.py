"""What the figures of a run show by themselves: leaps, a start that is no start, a loss that cannot be.

`sure_signs` needs nothing but a history, so that a run can be warned on its way.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import fmean, median

from ...training.history import History
from .findings import LIKELY, POSSIBLE, SURE, Finding

EARLY = 0.25  # of a run: a leap there is one of the start
CHANGED = 0.4  # nats: at the start a loss differs from ln V by less


def sure_signs(history: History, vocab_size: int) -> list[Finding]:
    """What is wrong with a run for sure, by its figures so far."""
    found = (*_impossible(history), *_start(history, vocab_size), *leaps(history, vocab_size))
    return [finding for finding in found if finding.sure >= LIKELY]


class Watch:
    """For `train(…, on_evaluation=Watch(vocab_size))`: says once what is wrong for sure, while the run goes on."""

    def __init__(self, vocab_size: int, say: Callable[[str], None] = print):
        self.vocab_size, self.say = vocab_size, say
        self.said: set[str] = set()

    def __call__(self, history: History) -> None:
        for finding in sure_signs(history, self.vocab_size):
            if finding.name not in self.said:
                self.said.add(finding.name)
                self.say(f"the doctor warns: {finding.name}? {finding.saw}. Look first at {finding.look}")


def history_signs(history: History, vocab_size: int) -> Iterator[Finding]:
    """All signs of a whole history but `leaps`, for which more may be known than the history says."""
    if lost := [step for step, loss in enumerate(history.train_loss) if not math.isfinite(loss)]:
        saw = f"the training loss is {history.train_loss[lost[0]]} from step {lost[0] + 1} on"
        yield Finding("damaged weights", saw, LIKELY)
        yield Finding("learning rate too high", saw, LIKELY - 0.05)
        return
    yield from _impossible(history)
    yield from _start(history, vocab_size)
    yield from _apart(history, vocab_size)


def _impossible(history: History) -> Iterator[Finding]:
    """Below the floor nothing is a prediction."""
    floor, best = history.floor_loss, min(history.eval_loss, default=None)
    if floor and best is not None and best < 0.97 * floor:
        saw = f"a test loss of {best:.2f}, while {floor:.2f} is the lowest that any model can reach on this text"
        yield Finding("loss below what is possible", saw, LIKELY)


def _start(history: History, vocab_size: int) -> Iterator[Finding]:
    """The first loss of fresh weights is that of even chances, ln V; that of trained ones is below it."""
    uniform, train = math.log(vocab_size), history.train_loss
    if not train:
        return
    first = train[0]
    look = history.eval_loss[0] if history.eval_step[:1] == [0] else None
    if look is None or abs(look - uniform) < 0.1 * uniform:  # weights that were fresh
        even = uniform if look is None else look
        factors = [float(n) for n in range(2, 65)] + ([] if look is None else [1 / n for n in range(2, 65)])
        for factor in factors:
            if abs(first / factor - even) < 0.03 * even and _stays(history, factor):
                saw = f"the first training loss is {first:.2f}, {_as_factor(factor)} the {even:.2f} of even chances"
                yield Finding("loss averaged wrongly", saw, SURE)
                return
    worse = first if look is None else min(first, look)
    if worse > uniform + 2 * CHANGED:
        saw = f"the first loss is {worse:.2f}, above ln V = {uniform:.2f}, as if each token were expected elsewhere"
        yield Finding("tokenizer of another model", saw, LIKELY)
        yield Finding("first weights too large", saw, LIKELY - 0.05)


def _stays(history: History, factor: float) -> bool:
    """Is the training loss about so many times the test loss at each early look, too?"""
    ratios = []
    for step, loss in zip(history.eval_step, history.eval_loss, strict=True):
        near = history.train_loss[max(0, step - 3) : step + 3]
        if near:
            ratios.append(fmean(near) / loss / factor)
    return not ratios or 0.8 < median(ratios[:4]) < 1.25


def _as_factor(factor: float) -> str:
    return f"{factor:.0f} times" if factor >= 1 else f"1/{1 / factor:.0f} of"


def leaps(history: History, vocab_size: int) -> Iterator[Finding]:
    """The loss of a run does not rise far above where it began."""
    train, rates = history.train_loss, history.learning_rate
    if len(train) < 5 or not all(map(math.isfinite, train)):
        return
    start = train[0]
    top = max(range(1, len(train)), key=lambda step: fmean(train[max(0, step - 1) : step + 2]))
    leapt = fmean(train[top - 1 : top + 2])  # of three steps: one alone may have read an odd text
    risen = bool(rates) and rates[0] < 0.9 * max(rates[: max(2, len(rates) // 2)])
    noise = median(abs(a - b) for a, b in pairwise(train[len(train) // 2 :]))
    above = 0.15 if rates and not risen else CHANGED  # a small leap, where nothing was done against it
    if leapt < max(start, math.log(vocab_size)) + above + 4 * noise:
        return
    saw = f"at step {top + 1} the training loss leaps to {train[top]:.2f}; it began at {start:.2f}"
    early = top < EARLY * max(len(train), history.total_steps)
    if early and rates and not risen:
        saw += f", and the first step already had the full learning rate, {rates[0]:g}"
        yield Finding("no warm-up", saw, 0.85)
        yield Finding("learning rate too high", saw, LIKELY)
    elif early and not rates:
        yield Finding("no warm-up", saw, 0.6)
        yield Finding("learning rate too high", saw, 0.6)
    else:
        yield Finding("learning rate too high", saw, 0.85)


def _apart(history: History, vocab_size: int) -> Iterator[Finding]:
    """Training falls and the test does not: from the start, or later."""
    if len(history.train_loss) < 20 or len(history.eval_loss) < 3:
        return
    end = fmean(history.train_loss[-10:])
    best, last = min(history.eval_loss), history.eval_loss[-1]
    uniform = math.log(vocab_size)
    if best > uniform - 0.3 * (uniform - end) and end < 0.5 * uniform:
        saw = f"the training loss fell to {end:.2f}, while the test loss never came below {best:.2f}"
        yield Finding("targets not shifted", saw, LIKELY)
        yield Finding("training text repeated", saw, POSSIBLE)
    elif last > best + 0.15 * best and last > end + 0.5:
        saw = f"the test loss rose from {best:.2f} to {last:.2f}, while the training loss fell to {end:.2f}"
        yield Finding("overfitting", saw, 0.3)
