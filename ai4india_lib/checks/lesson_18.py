"""Feedback for the exercises of lesson 18, scaling: laws, days, the best size, repeated text, Huber's loss, a ring."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..training.scaling_law import ScalingLaw, huber
from . import (
    NotYet,
    call,
    exercise,
    expect_close,
    expect_number,
    expect_several,
    expect_tensor,
    random_tensor,
    recognise,
    results,
    same,
)


def _numbers(mistakes: list[tuple[Callable, str]], *arguments) -> Iterator[tuple[float, str]]:
    for wrong, hint in results(mistakes, *arguments):
        yield float(wrong), hint


def _held(got: float, wanted: float, mistakes: list[tuple[Callable, str]], arguments: tuple, seen: str, hint: str):
    """One number that is right, or `NotYet` with the hint of the mistake that gives it."""
    if not same(got, wanted, tolerance=1e-6):
        recognise(got, wanted, _numbers(mistakes, *arguments), seen=seen, tolerance=1e-6)
        raise NotYet(f"{seen} {hint}")


# Warm-up: the law


def _law(e: float, a: float, alpha: float, b: float, beta: float, n: float, d: float) -> float:
    return ScalingLaw(e, a, alpha, b, beta).loss(n, d)


WRONG_LAWS: list[tuple[Callable, str]] = [
    (lambda e, a, alpha, b, beta, n, d: _law(0, a, alpha, b, beta, n, d),
     "E is forgotten: what does an endless model lose on an endless text?"),
    (lambda e, a, alpha, b, beta, n, d: e + a * n**alpha + b * d**beta,
     "Yours grows with the model. A larger N should make its part smaller."),
    (lambda e, a, alpha, b, beta, n, d: e + (a / n) ** alpha + (b / d) ** beta,
     "You raise A / N to the power alpha. The power belongs to N alone."),
    (lambda e, a, alpha, b, beta, n, d: _law(e, a, alpha, b, beta, d, n), "N and D have changed places."),
    (lambda e, a, alpha, b, beta, n, d: _law(e, a, beta, b, alpha, n, d),
     "alpha and beta have changed places: alpha belongs to the model."),
    (lambda e, a, alpha, b, beta, n, d: _law(e, b, alpha, a, beta, n, d), "A and B have changed places."),
    (lambda e, a, alpha, b, beta, n, d: e + a / n**alpha, "The part of the text is missing: B / D to the power beta."),
    (lambda e, a, alpha, b, beta, n, d: e + b / d**beta, "The part of the model is missing: A / N to the power alpha."),
    (lambda e, a, alpha, b, beta, n, d: e + a / n**alpha * b / d**beta,
     "You multiply the two parts. They add up: each would be there if the other were gone."),
    (lambda e, a, alpha, b, beta, n, d: e + a / (n * alpha) + b / (d * beta),
     "You multiply by alpha and beta. They are powers: **."),
    (lambda e, a, alpha, b, beta, n, d: e + a / n**-alpha + b / d**-beta,
     "You divide by a negative power: that multiplies."),
]  # fmt: skip


@exercise("18.loss_by_law")
def check_loss_by_law(answer: object) -> str:
    for values in ((1.75, 20.0, 0.7, 300.0, 0.6, 4160, 65536), (1.69, 406.4, 0.34, 410.7, 0.28, 7e10, 1.4e12)):
        got = expect_number(call(answer, *values))
        seen = f"For N = {values[5]:,.0f} and D = {values[6]:,.0f} you give {got:.5g}."
        _held(got, _law(*values), WRONG_LAWS, values, seen, "Work out the three parts one by one: E, then A / N^alpha.")
    return "The second set is that of Hoffmann and others (2022), for a model like Chinchilla: in nats per token."


# Warm-up: days


def _days(parameters: float, tokens: float, gpus: int, flops: float, used: float) -> float:
    return 6 * parameters * tokens / (gpus * flops * used) / 86400


WRONG_DAYS: list[tuple[Callable, str]] = [
    (lambda n, d, g, f, u: 86400 * _days(n, d, g, f, u), "That is seconds. How many has a day?"),
    (lambda n, d, g, f, u: 24 * _days(n, d, g, f, u), "That is hours."),
    (lambda n, d, g, f, u: g * _days(n, d, g, f, u), "That is the days of one GPU. They work at the same time."),
    (lambda n, d, g, f, u: _days(n, d, g, f, 1.0), "No GPU does all that it could. Where is `used`?"),
    (lambda n, d, g, f, u: u * u * _days(n, d, g, f, u),
     "You multiply by `used`. Who uses less of a GPU needs more days."),
    (lambda n, d, g, f, u: _days(n, d, g, f, u) / 3,
     "You count 2 operations for each parameter and token: that is reading alone. The way back costs twice as much."),
    (lambda n, d, g, f, u: _days(n, d, g, f, u) / 6, "How many operations does a parameter cost for each token?"),
    (lambda n, d, g, f, u: 2 / 3 * _days(n, d, g, f, u),
     "You count 4 operations for each parameter and token. Forward 2, and back how many?"),
    (lambda n, d, g, f, u: _days(n, d, g, f, u) / n, "The parameters are forgotten."),
    (lambda n, d, g, f, u: _days(n, d, g, f, u) / d, "The tokens are forgotten."),
]  # fmt: skip


@exercise("18.days")
def check_days(answer: object) -> str:
    for values in ((8.03e9, 15e12, 16384, 989e12, 0.4), (1e9, 20e9, 8, 312e12, 0.5)):
        got = expect_number(call(answer, *values))
        seen = f"For {values[0]:,.0f} parameters, {values[1]:,.0f} tokens and {values[2]:,} GPUs you give {got:.4g}."
        _held(got, _days(*values), WRONG_DAYS, values, seen, "First all operations, then those of a second.")
    return "`python -m ai4india_lib plan` adds attention, sending, electricity and rupees to this."


# Core: the best size


def _best(law: ScalingLaw, operations: float) -> tuple[float, float]:
    return law.best_size(operations)


def _near(got: float, wanted: float) -> bool:
    return math.isfinite(got) and abs(got - wanted) <= 0.02 * wanted


@exercise("18.best_size")
def check_best_size(answer: object) -> str:
    laws = (ScalingLaw(1.75, 20.0, 0.6, 300.0, 0.6), ScalingLaw(1.69, 406.4, 0.34, 410.7, 0.28))
    for law, operations in ((laws[0], 3e9), (laws[1], 5.76e23)):
        got = expect_several(call(answer, law, operations), ("the parameters", "the tokens"))
        n, d = (expect_number(value) for value in got)
        wanted, tokens = law.best_size(operations)
        seen = f"For {operations:.3g} operations you give {n:.4g} parameters and {d:.4g} tokens."
        if _near(n, wanted) and _near(d, tokens):
            continue
        if _near(n, tokens) and _near(d, wanted):
            raise NotYet(f"{seen} The tokens come first in yours: parameters, then tokens.")
        if not n > 0 or not d > 0:
            raise NotYet(f"{seen} Both must be above 0.")
        cost = 6 * n * d
        if not _near(cost, operations):
            what = "N · D, without the 6" if _near(n * d, operations) else f"{cost:.3g}"
            raise NotYet(f"{seen} They cost 6 · N · D = {cost:.3g} operations: you spend {what}, not {operations:.3g}.")
        if _near(d, 20 * n):
            raise NotYet(f"{seen} Twenty tokens a parameter is a rule for other runs. This law has its own optimum.")
        more = law.loss(n, d)
        best = law.loss(wanted, tokens)
        toward = "Try a larger model." if wanted > n else "Try a smaller model."
        raise NotYet(
            f"{seen} The budget is kept, but the loss is {more:.4f}, and {best:.4f} can be had. {toward} "
            "Do you look at enough sizes, on a scale of logarithms?"
        )
    return "The second budget is that of Chinchilla, which had 70 billion parameters: the published law says less."


# Core: repeated text


def _repeated(unique: float, epochs: float, worth: float) -> float:
    return unique + unique * worth * (1 - math.exp(-(epochs - 1) / worth))


WRONG_REPEATS: list[tuple[Callable, str]] = [
    (lambda u, e, w: u * e, "You count a repeated word like a new one. How much less is it worth?"),
    (lambda u, e, w: u, "You count the text once. The second reading still teaches something."),
    (lambda u, e, w: u + u * w * (1 - math.exp(-e / w)),
     "You take all readings as repetitions. The first one is none: R is one less."),
    (lambda u, e, w: u * w * (1 - math.exp(-e / w)), "Even the first reading fades in yours. It counts in full."),
    (lambda u, e, w: u * w * (1 - math.exp(-(e - 1) / w)), "The first reading is missing: add the text itself."),
    (lambda u, e, w: u + u * (1 - math.exp(-(e - 1) / w)), "The factor R* before the bracket is missing."),
    (lambda u, e, w: u + u * w * math.exp(-(e - 1) / w),
     "Yours falls with each reading. What is in the bracket of the formula?"),
    (lambda u, e, w: u + u * w * (1 - math.exp(-(e - 1))), "The exponent is R divided by R*."),
]  # fmt: skip


@exercise("18.worth_of_repeats")
def check_worth_of_repeats(answer: object) -> str:
    for values in ((65536, 4, 15.4), (1e6, 16, 15.4), (1000, 1, 5.0)):
        got = expect_number(call(answer, *values))
        seen = f"For {values[0]:,.0f} words read {values[1]} times, with R* = {values[2]}, you give {got:,.6g}."
        if values[1] == 1 and not same(got, values[0], tolerance=1e-6):
            raise NotYet(f"{seen} What is read once is worth what it is.")
        _held(got, _repeated(*values), WRONG_REPEATS, values, seen, "R is how many readings more than one.")
    return "So at most 1 + R* times the text, however long you go on."


# Stretch: Huber's loss


WRONG_HUBERS: list[tuple[Callable, str]] = [
    (lambda p, y, d: huber(p - y, d), "You compare the losses. Compare their logarithms."),
    (lambda p, y, d: (p.log() - y.log()).square() / 2, "Far runs count by their square: where does `delta` come in?"),
    (lambda p, y, d: d * ((p.log() - y.log()).abs() - d / 2),
     "Near runs count by their distance in yours. Within delta it is half the square."),
    (lambda p, y, d: 2 * huber(p.log() - y.log(), d), "Yours is twice as large: half of the square, within delta."),
    (lambda p, y, d: huber(p.log() - y.log(), d) / d, "Yours is divided by delta (torch calls that smooth L1)."),
    (lambda p, y, d: d * (p.log() - y.log()).abs(),
     "The two pieces should meet at delta. What is missing beside the distance?"),
    (lambda p, y, d: huber(p.log2() - y.log2(), d), "These are logarithms to base 2. Here they are natural ones."),
]  # fmt: skip


@exercise("18.huber_of_logs")
def check_huber_of_logs(answer: object) -> str:
    for delta, spread in ((1e-3, 0.003), (0.05, 0.05)):
        losses = 2 + random_tensor(12, seed=18).abs()
        predicted = losses * (spread * random_tensor(12, seed=19)).exp()
        wanted = huber(predicted.log() - losses.log(), delta)
        got = call(answer, predicted, losses, delta)
        if isinstance(got, Tensor) and got.numel() == 1:
            raise NotYet("You give one number. Asked is the loss of each run: leave the sum out.")
        got = expect_tensor(got.float() if isinstance(got, Tensor) and got.is_floating_point() else got, wanted)
        seen = f"For 12 runs and delta = {delta}:"
        hint = "Take one run within delta and one beyond it, and work both out by hand."
        mistakes = results(WRONG_HUBERS, predicted, losses, delta)
        expect_close(got, wanted, hint, mistakes=mistakes, seen=seen, tolerance=1e-3)
    return "One strange run cannot pull a law towards itself as it would with squares."


# Stretch: all-reduce in a ring


@exercise("18.ring_all_reduce")
def check_ring_all_reduce(answer: object) -> str:
    for workers, size in ((2, 4), (3, 12), (4, 20)):
        vectors = [random_tensor(size, seed=18 + worker) for worker in range(workers)]
        got = expect_several(call(answer, [v.clone() for v in vectors]), ("the vectors", "what each worker sent"))
        total = torch.stack(vectors).sum(0)
        seen = f"With {workers} workers and {size} numbers each:"
        result = got[0]
        if isinstance(result, Tensor) and result.dim() == 2:
            result = list(result)
        if not isinstance(result, list | tuple) or len(result) != workers:
            raise NotYet(f"{seen} expected a list of {workers} vectors, one for each worker.")
        for worker, vector in enumerate(result):
            if not isinstance(vector, Tensor) or vector.shape != total.shape:
                raise NotYet(f"{seen} worker {worker} should end with a vector of {size} numbers.")
            if same(vector, vectors[worker]):
                raise NotYet(f"{seen} worker {worker} still has its own numbers: nothing was added.")
            if same(vector, total / workers):
                raise NotYet(f"{seen} that is the mean. Asked is the sum.")
            if not same(vector, total):
                right = int(torch.isclose(vector.float(), total, atol=1e-4).sum())
                raise NotYet(
                    f"{seen} worker {worker} has {right} of {size} sums. In the second half of the way the finished "
                    "chunks go round: who has a finished one, and which?"
                )
        sent, wanted = expect_number(got[1], seen=seen), 2 * (workers - 1) * size // workers
        if sent != wanted:
            hint = "Each sends one chunk a step." if workers > 2 else "Count for one worker, not for all."
            if sent == workers * wanted:
                hint = "That is what all send together. Asked is one worker's part."
            elif sent == wanted // 2:
                hint = "That is the first half of the way. The finished chunks are sent, too."
            elif sent == (workers - 1) * size:
                hint = "That is sending whole vectors to each other. Send a chunk a step, to the next worker."
            raise NotYet(f"{seen} the sums are right, but you say that a worker sent {sent:g} numbers. {hint}")
    return "Twice the vector, nearly, however many workers there are: that is why rings were chosen."
