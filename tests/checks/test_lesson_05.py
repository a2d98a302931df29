"""Lesson 05's feedback: right answers pass, and each usual mistake gets its own sentence."""

import math

import pytest
import torch


@pytest.mark.parametrize(
    "answer",
    [
        lambda f, x, h=1e-4: (f(x + h) - f(x - h)) / (2 * h),
        lambda f, x, h=1e-4: (f(x + h) - f(x)) / (2 * h) + (f(x) - f(x - h)) / (2 * h),
        lambda f, x, h=1e-4: torch.tensor((f(x + h) - f(x - h)) / (2 * h)),
    ],
)
def test_right_slopes(accepted, answer):
    accepted("05.slope", answer)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda f, x, h=1e-4: (f(x + h) - f(x)) / h, "right side only"),
        (lambda f, x, h=1e-4: (f(x) - f(x - h)) / h, "left side only"),
        (lambda f, x, h=1e-4: (f(x + h) - f(x - h)) / h, "twice the right one"),
        (lambda f, x, h=1e-4: f(x + h) - f(x - h) / (2 * h), "brackets missing"),
        (lambda f, x, h=1e-4: (f(x + h) - f(x - h)) / 2 * h, "from left to right"),
        (lambda f, x, h=1e-4: f(x + h) - f(x - h), "for each unit of x"),
        (lambda f, x, h=1e-4: (f(x - h) - f(x + h)) / (2 * h), "turned round"),
        (lambda f, x, h=1e-4: (f(x + 1e-5) - f(x - 1e-5)) / 2e-5, "does the argument h count"),
        (lambda f, x, h=1e-4: f(x), "f itself"),
        (lambda f, x, h=1e-4: (f(x + h) - f(x - h)) / (3 * h), "how far apart"),
        (lambda f, x, h=1.0: (f(x + h) - f(x - h)) / (2 * h) if h < 1 else 7.0, "default h"),
        (lambda f, x, h=1e-4: str(x), "Expected one Python number"),
    ],
)
def test_wrong_slopes(refused, answer, words):
    refused("05.slope", answer, words)


def log_softmax(scores, dim=1):
    shifted = scores - scores.amax(dim, keepdim=True)
    return shifted - shifted.exp().sum(dim, keepdim=True).log()


def of_the_right(table, targets):
    return table[torch.arange(len(targets)), targets]


def by_the_whole_tables_largest(scores, targets):
    shifted = scores - scores.max()
    return -of_the_right(shifted - shifted.exp().sum(1, keepdim=True).log(), targets).mean()


@pytest.mark.parametrize(
    "answer",
    [
        lambda s, t: -of_the_right(log_softmax(s), t).mean(),
        lambda s, t: (s.logsumexp(1) - s.gather(1, t[:, None])[:, 0]).mean(),
        torch.nn.functional.cross_entropy,
    ],
)
def test_right_cross_entropies(accepted, answer):
    accepted("05.cross_entropy", answer)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda s, t: -of_the_right(log_softmax(s), t).sum(), "sum over all guesses"),
        (lambda s, t: of_the_right(log_softmax(s), t).mean(), "sign is turned round"),
        (lambda s, t: -of_the_right(log_softmax(s), t).mean() / math.log(2), "in bits"),
        (lambda s, t: -of_the_right(log_softmax(s, 0), t).mean(), "sum to 1 over the guesses"),
        (lambda s, t: -log_softmax(s)[:, t].mean(), "every row"),
        (lambda s, t: -log_softmax(s).mean(), "mean over all words"),
        (lambda s, t: -of_the_right(s.softmax(1), t).mean().log(), "average the probabilities"),
        (lambda s, t: -of_the_right(s.softmax(1), t).mean(), "A logarithm is missing"),
        (lambda s, t: of_the_right(s.softmax(1), t).mean(), "mean of probabilities"),
        (lambda s, t: -of_the_right(s, t).mean(), "The others count too"),
        (lambda s, t: -of_the_right(s - s.amax(1, keepdim=True), t).mean(), "sum of all powers"),
        (lambda s, t: -of_the_right(s.exp() / s.exp().sum(1, keepdim=True), t).log().mean(), "fits into no float"),
        (lambda s, t: (s.exp().sum(1).log() - of_the_right(s, t)).mean(), "fits into no float"),
        (lambda s, t: -of_the_right(s.softmax(1), t).log().mean(), "before p is computed"),
        (by_the_whole_tables_largest, "Each guess needs its own"),
        (lambda s, t: -of_the_right(log_softmax(s), t), "shape"),
        (lambda s, t: float(-of_the_right(log_softmax(s), t).mean()), "Expected a tensor"),
        (lambda s, t: -of_the_right(s - s.exp().sum(1).log(), t).mean(), "keepdim|not right"),
    ],
)
def test_wrong_cross_entropies(refused, answer, words):
    refused("05.cross_entropy", answer, words)


def ordered(result):
    order, seen = [], set()

    def visit(number):
        if number not in seen:
            seen.add(number)
            for parent, _ in number.parents:
                visit(parent)
            order.append(number)

    visit(result)
    return order[::-1]


def walk(result, hand_on=lambda old, slope, own: old + slope * own):
    found = dict.fromkeys(ordered(result), 0.0)
    found[result] = 1.0
    for number in found:
        for parent, slope in number.parents:
            found[parent] = hand_on(found[parent], slope, found[number])
    return found


def along_each_way(result):
    found = {}

    def visit(number, slope):
        found[number] = found.get(number, 0.0) + slope
        for parent, step in number.parents:
            visit(parent, slope * step)

    visit(result, 1.0)
    return found


def at_the_first_visit(result, again=False):
    found, todo, done = {result: 1.0}, [result], set()
    while todo:
        number = todo.pop(0)
        if again or number not in done:
            done.add(number)
            for parent, slope in number.parents:
                found[parent] = found.get(parent, 0.0) + slope * found[number]
                todo.append(parent)
    return found


def without_the_result(result):
    found = walk(result)
    del found[result]
    return found


def test_right_walks(accepted):
    accepted("05.slopes", walk)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda r: walk(r, lambda old, slope, own: slope * own), "where ways meet|Where ways meet"),
        (lambda r: walk(r, lambda old, slope, own: old + slope), "later numbers do not count"),
        (lambda r: walk(r, lambda old, slope, own: old + slope + own), "multiplied, not added"),
        (at_the_first_visit, "before all of it has arrived"),
        (lambda r: at_the_first_visit(r, again=True), "again"),
        (along_each_way, "each way by itself"),
        (without_the_result, "when it moves itself"),
        (lambda r: {r: 1.0}, "lacks"),
        (lambda r: {str(n): v for n, v in walk(r).items()}, "keys should be the numbers"),
        (lambda r: list(walk(r).values()), "Return a dict"),
        (lambda r: {n: -v for n, v in walk(r).items()}, "signs are turned round"),
        (lambda r: {n: str(v) for n, v in walk(r).items()}, "Expected one Python number"),
        (lambda r: {n: 2 * v for n, v in walk(r).items()}, "the result"),
    ],
)
def test_wrong_walks(refused, answer, words):
    refused("05.slopes", answer, words)
