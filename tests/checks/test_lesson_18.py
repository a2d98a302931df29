"""Lesson 18's feedback: right answers pass, and each usual mistake gets its own sentence."""

import math

import pytest
import torch

DAY = 86400


def law(e, a, alpha, b, beta, n, d):
    return e + a / n**alpha + b / d**beta


def test_right_law(accepted):
    accepted("18.loss_by_law", law)
    accepted("18.loss_by_law", lambda *given: torch.tensor(law(*given), dtype=torch.float64))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda e, a, alpha, b, beta, n, d: a / n**alpha + b / d**beta, "E is forgotten"),
        (lambda e, a, alpha, b, beta, n, d: e + a * n**alpha + b * d**beta, "grows with the model"),
        (lambda e, a, alpha, b, beta, n, d: e + (a / n) ** alpha + (b / d) ** beta, "belongs to N alone"),
        (lambda e, a, alpha, b, beta, n, d: law(e, a, alpha, b, beta, d, n), "N and D have changed places"),
        (lambda e, a, alpha, b, beta, n, d: law(e, b, alpha, a, beta, n, d), "A and B have changed places"),
        (lambda e, a, alpha, b, beta, n, d: e + a / n**beta + b / d**alpha, "alpha and beta|alpha belongs"),
        (lambda e, a, alpha, b, beta, n, d: e + a / n**alpha, "part of the text is missing"),
        (lambda e, a, alpha, b, beta, n, d: e + b / d**beta, "part of the model is missing"),
        (lambda e, a, alpha, b, beta, n, d: e + a / n**alpha * b / d**beta, "They add up"),
        (lambda e, a, alpha, b, beta, n, d: e + a / (n * alpha) + b / (d * beta), "They are powers"),
        (lambda *given: 2 * law(*given), "the three parts one by one"),
        (lambda *given: [1, 2], "Expected one Python number"),
    ],
)
def test_wrong_law(refused, answer, words):
    refused("18.loss_by_law", answer, words)


def days(n, d, gpus, flops, used):
    return 6 * n * d / (gpus * flops * used) / DAY


def test_right_days(accepted):
    accepted("18.days", days)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda *given: DAY * days(*given), "That is seconds"),
        (lambda *given: 24 * days(*given), "That is hours"),
        (lambda n, d, g, f, u: days(n, d, 1, f, u), "days of one GPU"),
        (lambda n, d, g, f, u: days(n, d, g, f, 1), "Where is `used`"),
        (lambda n, d, g, f, u: days(n, d, g, f, 1) * u, "needs more days"),
        (lambda *given: days(*given) / 3, "reading alone"),
        (lambda *given: days(*given) / 6, "How many operations"),
        (lambda *given: days(*given) * 2 / 3, "and back how many"),
        (lambda n, d, g, f, u: days(1, d, g, f, u), "parameters are forgotten"),
        (lambda n, d, g, f, u: days(n, 1, g, f, u), "tokens are forgotten"),
        (lambda *given: days(*given) + 1, "First all operations"),
    ],
)
def test_wrong_days(refused, answer, words):
    refused("18.days", answer, words)


def search(law, operations, sizes=4000):
    n = torch.logspace(1, 14, sizes, dtype=torch.float64)
    best = law.loss(n, operations / (6 * n)).argmin()
    return n[best], operations / (6 * n[best])


def test_right_best_size(accepted):
    accepted("18.best_size", lambda law, operations: law.best_size(operations))
    accepted("18.best_size", search)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda law, c: law.best_size(c)[::-1], "The tokens come first in yours"),
        (lambda law, c: law.best_size(c, per_parameter=1), "N · D, without the 6"),
        (lambda law, c: ((c / 120) ** 0.5, 20 * (c / 120) ** 0.5), "This law has its own optimum"),
        (lambda law, c: (law.best_size(c)[0] * 2, law.best_size(c)[1] / 2), "Try a smaller model"),
        (lambda law, c: (law.best_size(c)[0] / 2, law.best_size(c)[1] * 2), "Try a larger model"),
        (lambda law, c: law.best_size(2 * c), "operations: you spend"),
        (lambda law, c: (0, c), "Both must be above 0"),
        (lambda law, c: law.best_size(c)[0], "Return two things: the parameters and the tokens"),
    ],
)
def test_wrong_best_size(refused, answer, words):
    refused("18.best_size", answer, words)


def worth(unique, epochs, r):
    return unique * (1 + r * (1 - math.exp(-(epochs - 1) / r)))


def test_right_repeats(accepted):
    accepted("18.worth_of_repeats", worth)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda u, e, r: u * e, "repeated word like a new one"),
        (lambda u, e, r: u, "second reading still teaches"),
        (lambda u, e, r: u + u * r * (1 - math.exp(-e / r)), "The first one is none|read once"),
        (lambda u, e, r: u * r * (1 - math.exp(-e / r)), "counts in full"),
        (lambda u, e, r: worth(u, e, r) - u, "first reading is missing"),
        (lambda u, e, r: u + u * (1 - math.exp(-(e - 1) / r)), "factor R"),
        (lambda u, e, r: u + u * r * math.exp(-(e - 1) / r), "falls with each reading"),
        (lambda u, e, r: u + u * r * (1 - math.exp(-(e - 1))), "divided by R"),
        (lambda u, e, r: worth(u, e, r) + 1000 * (e == 1), "is worth what it is"),
        (lambda u, e, r: worth(u, e, r) * 1.1, "R is how many readings more than one"),
    ],
)
def test_wrong_repeats(refused, answer, words):
    refused("18.worth_of_repeats", answer, words)


def huber(p, y, delta, log=torch.log):
    r = (log(p) - log(y)).abs()
    return torch.where(r < delta, r * r / 2, delta * r - delta**2 / 2)


def test_right_huber(accepted):
    accepted("18.huber_of_logs", huber)
    accepted(
        "18.huber_of_logs", lambda p, y, d: torch.nn.functional.huber_loss(p.log(), y.log(), reduction="none", delta=d)
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p, y, d: huber(p.exp(), y.exp(), d), "Compare their logarithms"),
        (lambda p, y, d: (p / y).log() ** 2 / 2, "where does `delta` come in"),
        (lambda p, y, d: d * ((p / y).log().abs() - d / 2), "Near runs count by their distance"),
        (lambda p, y, d: 2 * huber(p, y, d), "twice as large"),
        (lambda p, y, d: huber(p, y, d) / d, "smooth L1"),
        (lambda p, y, d: d * (p / y).log().abs(), "meet at delta"),
        (lambda p, y, d: huber(p, y, d, torch.log2), "base 2"),
        (lambda p, y, d: huber(p, y, d).sum(), "leave the sum out"),
        (lambda p, y, d: huber(p, y, d).tolist(), "Expected a tensor"),
        (lambda p, y, d: huber(p, y, d) + 1, "too large|one run within delta"),
    ],
)
def test_wrong_huber(refused, answer, words):
    refused("18.huber_of_logs", answer, words)


def ring(vectors, finish=True):
    n = len(vectors)
    chunks = [list(v.clone().chunk(n)) for v in vectors]
    sent = 0
    for lap in range(2 if finish else 1):
        for step in range(n - 1):
            moving = [(w, (w - step + lap) % n) for w in range(n)]
            copies = [chunks[w][c].clone() for w, c in moving]
            for (w, c), chunk in zip(moving, copies, strict=True):
                to = (w + 1) % n
                chunks[to][c] = chunks[to][c] + chunk if lap == 0 else chunk
            sent += len(copies[0])
    return [torch.cat(c) for c in chunks], sent


def test_right_ring(accepted):
    accepted("18.ring_all_reduce", ring)
    accepted("18.ring_all_reduce", lambda vectors: (torch.stack(ring(vectors)[0]), ring(vectors)[1]))


def total(vectors):
    return [sum(vectors)] * len(vectors)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda vectors: (vectors, 0), "nothing was added"),
        (lambda vectors: ([v / len(vectors) for v in total(vectors)], 0), "that is the mean"),
        (lambda vectors: ring(vectors, finish=False), "finished chunks go round"),
        (lambda vectors: (sum(vectors), 0), "a list of"),
        (lambda vectors: (total(vectors), ring(vectors)[1] * len(vectors)), "what all send together"),
        (lambda vectors: (total(vectors), ring(vectors)[1] // 2), "first half of the way"),
        (lambda vectors: (total(vectors), (len(vectors) - 1) * len(vectors[0])), "whole vectors|Count for one worker"),
        (lambda vectors: (total(vectors), 1), "you say that a worker sent 1 numbers"),
        (lambda vectors: ([v[:1] for v in vectors], 1), "should end with a vector"),
        (lambda vectors: total(vectors), "Return two things|a list of|one number"),
    ],
)
def test_wrong_ring(refused, answer, words):
    refused("18.ring_all_reduce", answer, words)
