"""Lesson 15's feedback: right answers pass, and each usual mistake gets its own sentence."""

import re

import pytest
from torch.nn import functional as F


def said(text):
    return re.split(r"[\s।,!“”]+", text)


def test_right_reward(accepted):
    accepted("15.reward", lambda text, words: sum(w in said(text) for w in words) / len(words))


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda text, words: sum(w in said(text) for w in words), "number of words"),
        (lambda text, words: sum(text.count(w) for w in words), "earns more and more"),
        (lambda text, words: min(sum(text.count(w) for w in words), 1) * 1.0, "any word is there"),
        (lambda text, words: sum(said(text).count(w) for w in words) / len(words), "repeated earns again"),
        (
            lambda text, words: max(sum(text.count(w) for w in words) / len(words), 0.0),
            "repeated earns again|part of another",
        ),
        (lambda text, words: sum(w in text for w in words) / len(words), "Compare whole words"),
        (lambda text, words: sum(w in text.split() for w in words) / len(words), "comma"),
        (lambda text, words: float(all(w in said(text) for w in words)), "whether all words are there"),
        (lambda text, words: str(len(words)), "Expected one Python number"),
        (lambda text, words: sum(w in re.findall(r"\w+", text) for w in words) / len(words), "tears पतंग"),
        (lambda text, words: float(any(w in said(text) for w in words)), "whether any word is there"),
        (lambda text, words: words[9], "has the index n − 1"),
        (lambda text, words: max(1.0 * sum(text.count(w) for w in words), 2.5), "earns more and more"),
        (lambda text, words: sum(w not in said(text) for w in words) / len(words), "are missing"),
        (lambda text, words: 7.5, "between 0 and 1"),
        (lambda text, words: 0.123, "Count by hand"),
        (lambda text, words: sum(w in re.findall(r"[\u0900-\u097f]+", text) for w in words) / len(words), "the danda"),
        (lambda text, words: sum(w in text.strip("।!").split() for w in words) / len(words), "comma"),
        (lambda text, words: [w in said(text) for w in words], "Expected one Python number"),
    ],
)
def test_wrong_reward(refused, answer, words):
    refused("15.reward", answer, words)


def leave_one_out(r, dim=1):
    return r - (r.sum(dim, keepdim=True) - r) / (r.shape[dim] - 1)


def in_place(r):
    wanted = leave_one_out(r)
    r -= r.mean()
    return wanted


def test_right_advantages(accepted):
    accepted("15.advantages", leave_one_out)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda r: r - r.mean(1, keepdim=True), "the whole group"),
        (lambda r: (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-6), "the lesson's own"),
        (lambda r: (r.sum(1, keepdim=True) - r) / (r.shape[1] - 1), "mean of the others"),
        (lambda r: -leave_one_out(r), "signs are turned"),
        (lambda r: r - (r.sum(1, keepdim=True) - r) / r.shape[1], "how many others"),
        (lambda r: leave_one_out(r, 0), "different tasks"),
        (lambda r: leave_one_out(r) / r.std(1, keepdim=True) * r.std(1, keepdim=True), "NaN"),
        (lambda r: leave_one_out(r)[0], "shape"),
        (lambda r: r - r.mean(1), "`keepdim=True` missing"),
        (lambda r: r - r.mean(), "mean of all tasks"),
        (lambda r: r - (r.sum(1, keepdim=True) - r), "sum of the others"),
        (in_place, "changed `r` in place"),
        (lambda r: r.clone(), "the rewards themselves"),
        (lambda r: leave_one_out(r) + r.std(), "the first one by hand"),
        (lambda r: leave_one_out(r.flatten(), 0).view(r.shape), "mean of all tasks|the first one by hand"),
        (lambda r: leave_one_out(r).sum(), "is the shape|shape"),
    ],
)
def test_wrong_advantages(refused, answer, words):
    refused("15.advantages", answer, words)


def margin_of(c, r, rc, rr):
    return (c - rc) - (r - rr)


def test_right_ipo(accepted):
    accepted("15.ipo", lambda c, r, rc, rr, beta: (margin_of(c, r, rc, rr) - 0.5 / beta) ** 2)


@pytest.mark.parametrize(
    "loss, words",
    [
        (lambda m, beta: -F.logsigmoid(beta * m), "the loss of DPO"),
        (lambda m, beta: (-m - 0.5 / beta) ** 2, "changed sides"),
        (lambda m, beta: (m - 1 / beta) ** 2, "with the 2"),
        (lambda m, beta: (m - beta) ** 2, "β is not the goal itself"),
        (lambda m, beta: (beta * m - 0.5) ** 2, "multiplied by β"),
        (lambda m, beta: m - 0.5 / beta, "with its sign"),
        (lambda m, beta: ((m - 0.5 / beta) ** 2).mean(), "shape"),
        (lambda m, beta: m * 3, "Where do the two part?"),
        (lambda m, beta: (m - beta / 2) ** 2, "is not β / 2"),
        (lambda m, beta: (m + 0.5 / beta) ** 2, "goal is added"),
        (lambda m, beta: m**2, "where is β"),
        (lambda m, beta: (m - 0.5 / beta).clamp(max=0) ** 2, "call back a pair"),
        (lambda m, beta: (m - 0.5 / beta).abs(), "its square was asked for"),
    ],
)
def test_wrong_ipo(refused, loss, words):
    refused("15.ipo", lambda c, r, rc, rr, beta: loss(margin_of(c, r, rc, rr), beta), words)


def test_ipo_without_the_reference(refused):
    refused("15.ipo", lambda c, r, rc, rr, beta: (c - r - 0.5 / beta) ** 2, "reference does not count")
    refused(
        "15.ipo", lambda c, r, rc, rr, beta: (margin_of(c, r, -rc, -rr) - 0.5 / beta) ** 2, "the reference is added"
    )
    refused("15.ipo", lambda c, r, rc, rr, beta: (margin_of(c, r, rr, rc) - 0.5 / beta) ** 2, "reference of the other")
