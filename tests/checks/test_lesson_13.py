"""Lesson 13's feedback: right answers pass, stubs are "not done yet", each usual mistake gets its own sentence."""

import pytest
import torch

from ai4india_lib.checks import check


def told(capsys, name, answer):
    verdict = check(f"13.{name}", answer)
    printed = capsys.readouterr().out
    assert printed.startswith(f"13.{name}: ") and printed.count("\n") == 1
    return verdict, printed


@pytest.mark.parametrize("name", ["expected_tokens", "verdict", "look_up"])
def test_a_stub_is_not_done_yet(capsys, name):
    def stub(*arguments): ...

    verdict, printed = told(capsys, name, stub)
    assert verdict is False and "not done yet" in printed


def series(a, k):
    return sum(a**i for i in range(k + 1))


def verdict(p, q, token):
    left = (p - q).clamp(min=0)
    return min(1.0, float(p[token] / q[token])), left / left.sum()


def look_up(text, size, k):
    for start in range(len(text) - size - 1, -1, -1):
        if text[start : start + size] == text[-size:]:
            return text[start + size : start + size + k]
    return []


def first_match(text, size, k):
    for start in range(len(text) - size):
        if text[start : start + size] == text[-size:]:
            return text[start + size : start + size + k]
    return []


def changes_p(p, q, token):
    chance, left = verdict(p, q, token)
    p -= q
    return chance, left


@pytest.mark.parametrize("name, answer", [("expected_tokens", series), ("verdict", verdict), ("look_up", look_up)])
def test_right_answers(capsys, name, answer):
    assert told(capsys, name, answer)[0] is True


def with_left(left):
    return lambda p, q, token: (verdict(p, q, token)[0], left(p, q, token))


def without_token(p, q, token):
    rest = p.clone()
    rest[token] = 0
    return rest / rest.sum()


def surplus(p, q, token):
    return (q - p).clamp(min=0) / (q - p).clamp(min=0).sum()


@pytest.mark.parametrize(
    "name, answer, words",
    [
        ("expected_tokens", lambda a, k: series(a, k) - 1, "Who writes the token behind"),
        ("expected_tokens", lambda a, k: 1 + 0.0 if a == 0.5 and k != 1 else 1 + k * a, "judged alone"),
        ("expected_tokens", lambda a, k: series(a, k - 1), "One term is missing"),
        ("expected_tokens", lambda a, k: 1 / (1 - a) if a < 1 else k + 1, "endless round"),
        ("expected_tokens", lambda a, k: series(a, k) if a else 0.5, "All proposals are refused"),
        ("expected_tokens", lambda a, k: "2", "Expected a number"),
        ("verdict", lambda p, q, x: (float(p[x] / q[x]), verdict(p, q, x)[1]), "at most 1"),
        ("verdict", lambda p, q, x: (min(1.0, float(q[x] / p[x])), verdict(p, q, x)[1]), "which way round"),
        ("verdict", lambda p, q, x: (float(p[x]), verdict(p, q, x)[1]), "with chance q · p"),
        ("verdict", lambda p, q, x: (1.0, verdict(p, q, x)[1]), "The rule is a chance"),
        ("verdict", with_left(lambda p, q, x: p), "you draw from p"),
        ("verdict", with_left(lambda p, q, x: (p - q).clamp(min=0)), "what makes its sum 1"),
        ("verdict", with_left(lambda p, q, x: p - q), "negative"),
        ("verdict", with_left(without_token), "refused token only"),
        ("verdict", with_left(surplus), "come too seldom"),
        ("verdict", lambda p, q, x: verdict(p, q, x)[0], "Expected two things"),
        ("verdict", changes_p, "work on copies"),
        ("look_up", first_match, "which end do you search"),
        ("look_up", lambda t, n, k: t[-n:], "came *after* them"),
        ("look_up", lambda t, n, k: look_up(t, n, k) or t[:k], "nothing to propose"),
        ("look_up", lambda t, n, k: look_up(t, n, k + 1), "more than k"),
        ("look_up", lambda t, n, k: [], "did stand before"),
        ("look_up", lambda t, n, k: tuple(look_up(t, n, k)), "Expected a list"),
        ("look_up", lambda t, n, k: t.reverse() or [], "work on a copy"),
    ],
)
def test_each_mistake_is_told(capsys, name, answer, words):
    verdict, printed = told(capsys, name, answer)
    assert verdict is False and words in printed, printed


def test_an_error_inside_is_told_in_a_sentence(capsys):
    verdict, printed = told(capsys, "verdict", lambda p, q, x: (1 / 0, torch.zeros(3)))
    assert verdict is False and "ZeroDivisionError" in printed
