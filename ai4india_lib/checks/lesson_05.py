"""Feedback for the exercises of lesson 05, learning by gradient: a measured slope, cross-entropy, the walk back."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import NotYet, call, describe, exercise, expect_number, expect_tensor, random_tensor, recognise, results, same

WRONG_SLOPES: list[tuple[Callable, str]] = [
    (lambda f, x, h: (f(x + h) - f(x)) / h, "You measure on the right side only. What does the left side say?"),
    (lambda f, x, h: (f(x) - f(x - h)) / h, "You measure on the left side only. What does the right side say?"),
    (lambda f, x, h: (f(x + h) - f(x - h)) / h,
     "It is twice the right one. How far apart are the two places where you measure?"),
    (lambda f, x, h: f(x + h) - f(x - h) / (2 * h), "Only the second value is divided: are brackets missing?"),
    (lambda f, x, h: (f(x + h) - f(x - h)) / 2 * h,
     "Python works from left to right: `/ 2 * h` multiplies by h. Where do brackets belong?"),
    (lambda f, x, h: f(x + h) - f(x - h), "That is how much f changes. A slope is the change for each unit of x."),
    (lambda f, x, h: (f(x - h) - f(x + h)) / (2 * h), "The sign is turned round: later minus earlier, in both places."),
    (lambda f, x, h: (f(x + 1e-4) - f(x - 1e-4)) / 2e-4, "The step is always the same: does the argument h count?"),
    (lambda f, x, h: f(x), "That is f itself, not how it changes."),
]  # fmt: skip


@exercise("05.slope")
def check_slope(answer: object) -> str:
    for f, shown, x, h in (
        (lambda x: x**3 - 2 * x, "x³ − 2x", 2.0, 0.5),
        (lambda x: math.exp(x) + x, "eˣ + x", 0.5, 0.25),
        (lambda x: x**3 - x**2, "x³ − x²", -1.5, 0.1),
    ):
        seen = f"For f(x) = {shown} at x = {x} with h = {h} your slope is not right."
        got = expect_number(call(answer, f, x, h), seen=seen)
        wanted = (f(x + h) - f(x - h)) / (2 * h)
        recognise(got, wanted, results(WRONG_SLOPES, f, x, h), seen=seen)
        if not same(got, wanted):
            raise NotYet(f"{seen} It is {got:.4g}. Draw the two points: how far apart are they, in x and in f?")
    if not same(call(answer, lambda x: x**2, 3.0), 6.0, tolerance=1e-3):
        raise NotYet("Without an h, x² at 3 should have a slope near 6. Keep the default h=1e-4 of the first line.")
    return "This is how a backward pass is checked, whoever wrote it."


def _cross_entropy(scores: Tensor, targets: Tensor, dim: int = 1) -> Tensor:
    return -scores.log_softmax(dim)[torch.arange(len(targets)), targets].mean()


WRONG_ENTROPIES: list[tuple[Callable[[Tensor, Tensor], Tensor], str]] = [
    (lambda s, t: _cross_entropy(s, t) * len(t), "That is the sum over all guesses. The mean is asked for."),
    (lambda s, t: -_cross_entropy(s, t), "The sign is turned round: log p is below 0, and a loss is not."),
    (lambda s, t: _cross_entropy(s, t) / math.log(2), "That is in bits. Which logarithm gives nats?"),
    (lambda s, t: _cross_entropy(s, t, dim=0),
     "Your probabilities sum to 1 over the guesses. They should, over the words of each guess."),
    (lambda s, t: -s.log_softmax(1)[:, t].mean(),
     "`[:, targets]` takes all targets in every row. Each guess has one right word: give a row and a column for each."),
    (lambda s, t: -s.log_softmax(1).mean(), "You take the mean over all words. Only the right ones count."),
    (lambda s, t: -s.softmax(1)[torch.arange(len(t)), t].mean().log(),
     "You average the probabilities, then take the logarithm. Each guess has its own surprise: the logarithm first."),
    (lambda s, t: -s.softmax(1)[torch.arange(len(t)), t].mean(), "A logarithm is missing."),
    (lambda s, t: s.softmax(1)[torch.arange(len(t)), t].mean(), "A mean of probabilities: a logarithm is missing."),
    (lambda s, t: -s[torch.arange(len(t)), t].mean(), "That is the score of the right words. The others count too."),
    (lambda s, t: -(s - s.amax(1, keepdim=True))[torch.arange(len(t)), t].mean(),
     "The part with the sum of all powers is missing."),
]  # fmt: skip


@exercise("05.cross_entropy")
def check_cross_entropy(answer: object) -> str:
    for guesses, words in ((2, 3), (4, 5), (6, 6)):
        scores = 2 * random_tensor(guesses, words, seed=guesses)
        targets = torch.arange(guesses) * 2 % words
        seen = f"For {guesses} guesses among {words} words the loss is not right."
        wanted = _cross_entropy(scores, targets)
        got = expect_tensor(call(answer, scores, targets), wanted, what="the loss")
        recognise(got, wanted, results(WRONG_ENTROPIES, scores, targets), seen=seen)
        if not same(got, wanted):
            raise NotYet(
                f"{seen} It is {got.item():.4g}. Work one guess by hand: e to each score, the sum, the logarithm."
            )
    for scores, shown, hint in (
        ([[1000.0, 1001.0, 1002.0]], "scores around 1,000",
         "e to the power of 1,000 fits into no float. What may be taken from all scores of a guess?"),
        ([[0.0, -1000.0, 1.0]], "a right word whose score is 1,000 below the others",
         "Its p is 0 as a float, and log 0 is −∞. Can the logarithm be taken before p is computed?"),
        ([[900.0, 901.0, 899.0], [-900.0, -901.0, -899.0]], "one guess around 900 and one around −900",
         "Is the largest score that of the whole table? Each guess needs its own."),
    ):  # fmt: skip
        hard, targets = torch.tensor(scores), torch.ones(len(scores), dtype=torch.long)
        got, wanted = call(answer, hard, targets), _cross_entropy(hard, targets)
        if not same(got, wanted):
            value = got.item() if isinstance(got, Tensor) and got.numel() == 1 else got
            raise NotYet(f"Small scores are right, but with {shown} the loss is {value:.4g}. {hint}")
    return "This is what `next_token_loss` computes, and what every run of this course pushes down."


class _Number:
    """A number of a formula. Reading its parents far too often means that each way is walked by itself."""

    def __init__(self, name: str, parents: tuple = ()):
        self.name, self._parents, self.reads = name, list(parents), 0

    def __repr__(self) -> str:
        return self.name

    @property
    def parents(self) -> list:
        self.reads += 1
        if self.reads > 1000:
            raise NotYet(
                f"The parents of {self.name} are asked for again and again: you walk each way by itself, and there are "
                "2⁴⁰ ways. A number hands its slope on once, when all of its own has arrived."
            )
        return self._parents


def _chain() -> _Number:
    """Ravi's bill: (w · 3 + b − 34)² at w = 10, b = 0."""
    w, b = _Number("w"), _Number("b")
    bill = _Number("w · 3 + b", [(w, 3.0), (b, 1.0)])
    return _Number("the loss", [(_Number("the error", [(bill, 1.0)]), -8.0)])


def _meeting() -> _Number:
    """x · x + x at x = 3."""
    x = _Number("x")
    return _Number("x · x + x", [(_Number("x · x", [(x, 3.0), (x, 3.0)]), 1.0), (x, 1.0)])


def _shared() -> _Number:
    """a = 2 x is used by b = a · a at a = 4, and by the result, b + a, before all of its slope has arrived."""
    a = _Number("a", [(_Number("x"), 2.0)])
    return _Number("a + a · a", [(a, 1.0), (_Number("a · a", [(a, 4.0), (a, 4.0)]), 1.0)])


def _doubled() -> _Number:
    """x + x, forty times over."""
    number = _Number("x")
    for times in range(1, 41):
        number = _Number(f"x · 2^{times}", [(number, 1.0), (number, 1.0)])
    return number


def _order(result: _Number) -> list[_Number]:
    """All numbers behind a result, each before its parents."""
    order: list[_Number] = []

    def visit(number: _Number) -> None:
        if number not in order:
            for parent, _ in number._parents:
                visit(parent)
            order.append(number)

    visit(result)
    return order[::-1]


def _slopes(result: _Number, hand_on: Callable[[float, float, float], float] = lambda old, s, own: old + s * own):
    """number → slope; `hand_on(slope so far, slope of the arrow, slope of the number)` can hold a mistake."""
    found = dict.fromkeys(_order(result), 0.0) | {result: 1.0}
    for number in found:
        for parent, slope in number._parents:
            found[parent] = hand_on(found[parent], slope, found[number])
    return found


def _too_early(result: _Number, again: bool) -> dict[_Number, float]:
    """Hands on what has arrived so far, at the first visit only or `again` at each."""
    found, todo, done = dict.fromkeys(_order(result), 0.0) | {result: 1.0}, [result], set()
    while todo:
        number = todo.pop(0)
        if again or number not in done:
            done.add(number)
            for parent, slope in number._parents:
                found[parent] += slope * found[number]
                todo.append(parent)
    return found


WRONG_WALKS: list[tuple[Callable[[_Number], dict], str]] = [
    (lambda r: _slopes(r, lambda old, s, own: s * own),
     "It is used more than once, and only the last way counts. Where ways meet, slopes are added."),
    (lambda r: _too_early(r, again=False),
     "A number hands its slope on before all of it has arrived. In which order should they be visited?"),
    (lambda r: _too_early(r, again=True),
     "A number hands on what it has handed on before, again. Should it wait until all has arrived?"),
    (lambda r: _slopes(r, lambda old, s, own: old + s),
     "The slopes of the later numbers do not count. Along a way slopes are multiplied, from the result on."),
    (lambda r: _slopes(r, lambda old, s, own: old + s + own), "Along a way slopes are multiplied, not added."),
    (lambda r: {n: -v for n, v in _slopes(r).items()}, "All signs are turned round."),
]  # fmt: skip


@exercise("05.slopes")
def check_slopes(answer: object) -> str:
    for make in (_chain, _meeting, _shared, _doubled):
        result = make()
        got = call(answer, result)
        if not isinstance(got, dict):
            raise NotYet(f"Return a dict, from number to slope. Got {describe(got)}.")
        wanted = _slopes(result)
        if strange := [key for key in got if key not in wanted]:
            raise NotYet(f"A key of your dict is {describe(strange[0])}; the keys should be the numbers themselves.")
        if missing := [number for number in wanted if number not in got]:
            hint = " How much does the result move, when it moves itself?" if missing[0] is result else ""
            raise NotYet(f"For the formula of {result}, your dict lacks {missing[0]}.{hint}")
        for number, value in got.items():
            expect_number(value, seen=f"The slope of {number}:")
        for number in wanted:
            if not same(float(got[number]), wanted[number]):
                seen = f"In the formula of {result}, the slope of {number} is {got[number]:.4g}."
                mistakes = results(WRONG_WALKS, result) if make is not _doubled else ()
                recognise([float(got[n]) for n in wanted], list(wanted.values()),
                          (([wrong[n] for n in wanted], hint) for wrong, hint in mistakes), seen=seen)  # fmt: skip
                raise NotYet(f"{seen} It should be {_as_a_way(number, result)}. Walk that way by hand.")
    return "You have written the heart of PyTorch: `loss.backward()` does this walk."


def _as_a_way(number: _Number, result: _Number) -> str:
    return "1, since it is the result" if number is result else "the sum, over all ways to it, of the slopes multiplied"
