"""Lesson 15's feedback: right answers pass, stubs are "not done yet", each usual mistake gets its own sentence."""

import re

import pytest
from torch.nn import functional as F

from ai4india_lib.checks import check


def told(capsys, name, answer):
    verdict = check(f"15.{name}", answer)
    printed = capsys.readouterr().out
    assert printed.startswith(f"15.{name}: ") and printed.count("\n") == 1
    return verdict, printed


def assert_told(capsys, name, answer, words):
    verdict, printed = told(capsys, name, answer)
    assert verdict is False and "not yet" in printed and words in printed, printed


@pytest.mark.parametrize("name", ["reward", "advantages", "ipo"])
def test_a_stub_is_not_done_yet(capsys, name):
    def stub(*arguments): ...

    verdict, printed = told(capsys, name, stub)
    assert verdict is False and "not done yet" in printed


def said(text):
    return re.split(r"[\s।,!“”]+", text)


def test_right_reward(capsys):
    assert told(capsys, "reward", lambda text, words: sum(w in said(text) for w in words) / len(words))[0] is True


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda text, words: sum(text.count(w) for w in words), "This is a number of words"),
        (lambda text, words: sum(said(text).count(w) for w in words) / len(words), "A share lies between 0 and 1"),
        (lambda text, words: max(sum(text.count(w) for w in words) / len(words), 0.0), "A share lies"),
        (lambda text, words: sum(w in text for w in words) / len(words), "whole words"),
        (lambda text, words: sum(w in text.split() for w in words) / len(words), "comma"),
        (lambda text, words: float(all(w in said(text) for w in words)), "it should be 0.5"),
        (lambda text, words: str(len(words)), "Expected a number"),
        (lambda text, words: words[9], "IndexError"),
    ],
)
def test_wrong_reward(capsys, answer, words):
    assert_told(capsys, "reward", answer, words)


def leave_one_out(r, dim=1):
    return r - (r.sum(dim, keepdim=True) - r) / (r.shape[dim] - 1)


def in_place(r):
    wanted = leave_one_out(r)
    r -= r.mean()
    return wanted


def test_right_advantages(capsys):
    assert told(capsys, "advantages", leave_one_out)[0] is True


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda r: r - r.mean(1, keepdim=True), "the whole group"),
        (lambda r: (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-6), "the lesson's own"),
        (lambda r: (r.sum(1, keepdim=True) - r) / (r.shape[1] - 1), "mean of the others"),
        (lambda r: -leave_one_out(r), "signs are turned"),
        (lambda r: r - (r.sum(1, keepdim=True) - r) / r.shape[1], "how many others"),
        (lambda r: leave_one_out(r, 0) if len(r) == r.shape[1] else leave_one_out(r), "different tasks"),
        (lambda r: leave_one_out(r) / r.std(1, keepdim=True) * r.std(1, keepdim=True), "NaN"),
        (lambda r: leave_one_out(r)[0], "shape"),
        (in_place, "work on a copy"),
    ],
)
def test_wrong_advantages(capsys, answer, words):
    assert_told(capsys, "advantages", answer, words)


def margin_of(c, r, rc, rr):
    return (c - rc) - (r - rr)


def test_right_ipo(capsys):
    assert told(capsys, "ipo", lambda c, r, rc, rr, beta: (margin_of(c, r, rc, rr) - 0.5 / beta) ** 2)[0] is True


@pytest.mark.parametrize(
    "loss, words",
    [
        (lambda m, beta: -F.logsigmoid(beta * m), "the loss of DPO"),
        (lambda m, beta: (-m - 0.5 / beta) ** 2, "changed places"),
        (lambda m, beta: (m - 1 / beta) ** 2, "with the 2"),
        (lambda m, beta: (m - beta) ** 2, "β is not the goal itself"),
        (lambda m, beta: (beta * m - 0.5) ** 2, "multiplied by β"),
        (lambda m, beta: m - 0.5 / beta, "with its sign"),
        (lambda m, beta: ((m - 0.5 / beta) ** 2).mean(), "shape"),
        (lambda m, beta: m * 3, "Where do the two part?"),
    ],
)
def test_wrong_ipo(capsys, loss, words):
    assert_told(capsys, "ipo", lambda c, r, rc, rr, beta: loss(margin_of(c, r, rc, rr), beta), words)


def test_ipo_without_the_reference(capsys):
    assert_told(capsys, "ipo", lambda c, r, rc, rr, beta: (c - r - 0.5 / beta) ** 2, "reference does not count")
