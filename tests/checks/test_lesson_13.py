"""Lesson 13's feedback: right answers pass, and each usual mistake gets its own sentence."""

import pytest
import torch


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


def finds_itself(text, size, k):
    for start in range(len(text) - size, -1, -1):
        if text[start : start + size] == text[-size:]:
            return text[start + size : start + size + k]
    return []


def without_overlap(text, size, k):
    for start in range(len(text) - 2 * size, -1, -1):
        if text[start : start + size] == text[-size:]:
            return text[start + size : start + size + k]
    return []


def changes_p(p, q, token):
    chance, left = verdict(p, q, token)
    p -= q
    return chance, left


@pytest.mark.parametrize(
    "name, answer",
    [
        ("expected_tokens", series),
        ("verdict", verdict),
        ("verdict", lambda p, q, x: list(verdict(p, q, x))),
        ("verdict", lambda p, q, x: ((p[x] / q[x]).clamp(max=1), verdict(p, q, x)[1])),
        ("look_up", look_up),
    ],
)
def test_right_answers(accepted, name, answer):
    accepted(f"13.{name}", answer)


def refusal(p, q, token):
    chance = verdict(p, q, token)[0]
    return 1 - chance if chance < 1 else chance


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
        ("expected_tokens", lambda a, k: series(a, k) - 1, "Who writes the token after"),
        ("expected_tokens", lambda a, k: 1 + 0.0 if a == 0.5 and k != 1 else 1 + k * a, "judged alone"),
        ("expected_tokens", lambda a, k: series(a, k - 1), "One term is missing"),
        ("expected_tokens", lambda a, k: 1 / (1 - a) if a < 1 else k + 1, "endless round"),
        ("expected_tokens", lambda a, k: series(a, k) if a else 0.5, "All proposals are refused"),
        ("expected_tokens", lambda a, k: "2", "Expected one Python number"),
        ("expected_tokens", lambda a, k: [a**i for i in range(k + 1)], "Expected one Python number, got list"),
        ("expected_tokens", lambda a, k: a ** torch.arange(k + 1), "is a sum or a mean still missing"),
        ("expected_tokens", lambda a, k: k * a, "no token of the target's own"),
        ("expected_tokens", lambda a, k: k + 1, "On average some are refused"),
        ("expected_tokens", lambda a, k: series(1 - a, k), "chance that a proposal is refused"),
        ("expected_tokens", lambda a, k: round(series(a, k)), "need not be a whole number"),
        ("expected_tokens", lambda a, k: int(series(a, k)), "rounded"),
        ("expected_tokens", lambda a, k: sum(i * a**i for i in range(k + 1)), "counts once"),
        ("expected_tokens", lambda a, k: sum(i * a**i * (1 - a) for i in range(k + 1)), "Two things are missing"),
        ("expected_tokens", lambda a, k: series(a, k) if a < 1 else k, "Who writes the token after"),
        ("expected_tokens", lambda a, k: 7.0, "Add up the chances"),
        ("expected_tokens", lambda a, k: a ^ k, "unsupported operand"),
        ("verdict", lambda p, q, x: ((p / q).clamp(max=1), verdict(p, q, x)[1]), "One word was proposed. Which is its"),
        ("verdict", lambda p, q, x: verdict(p, q, x)[::-1], "in the wrong order"),
        ("verdict", lambda p, q, x: (verdict(p, q, x)[0] > 0.5, p), "You throw the dice already"),
        ("verdict", lambda p, q, x: (float(torch.minimum(p, q).sum()), p), "average over all words"),
        ("verdict", lambda p, q, x: (float(min(p[x], q[x])), p), "proposed *and* stands"),
        ("verdict", lambda p, q, x: (max(0.01, float(p[x] - q[x])), p), "how much p is above q"),
        ("verdict", lambda p, q, x: (0.123, p), "together both chances"),
        ("verdict", with_left(lambda p, q, x: verdict(p, q, x)[1].tolist()), "p and q are tensors"),
        ("verdict", with_left(lambda p, q, x: int(verdict(p, q, x)[1].argmax())), "Did you draw a word"),
        ("verdict", with_left(lambda p, q, x: verdict(p, q, x)[1].argmax()), "Did you draw a word"),
        ("verdict", with_left(lambda p, q, x: (p - q).clamp(min=0).softmax(-1)), "a chance to what had none"),
        ("verdict", with_left(lambda p, q, x: (p - q).softmax(-1)), "also to what comes too often"),
        ("verdict", with_left(lambda p, q, x: verdict(p, q, x)[1] / verdict(p, q, x)[1].max()), "largest number is 1"),
        ("verdict", with_left(lambda p, q, x: torch.minimum(p, q) / torch.minimum(p, q).sum()), "both have in common"),
        ("verdict", with_left(lambda p, q, x: (p / q) / (p / q).sum()), "What is missing of each word"),
        ("verdict", with_left(lambda p, q, x: verdict(p, q, x)[1][None]), "a dimension too many"),
        ("verdict", lambda p, q, x: {"chance": 1.0}, "Return two things"),
        ("look_up", without_overlap, "may overlap"),
        ("look_up", lambda t, n, k: look_up(t, 1, k), "the last token alone"),
        ("look_up", lambda t, n, k: look_up(t, n, k) or look_up(t, 1, k), "nothing to propose|the last token alone"),
        ("look_up", finds_itself, "did stand before"),
        ("look_up", lambda t, n, k: look_up(t, n, k + 1)[1:], "is left out: off by one"),
        ("look_up", lambda t, n, k: look_up(t, n, k)[::-1], "turned round"),
        ("look_up", lambda t, n, k: (look_up(t, n, k) + [0] * k)[:k], "do not fill up|nothing to propose"),
        ("look_up", lambda t, n, k: look_up(t, n, 1)[0] if look_up(t, n, 1) else [], "Also a single id"),
        ("look_up", lambda t, n, k: look_up(t, n, k) or None, "is `return` missing"),
        ("look_up", lambda t, n, k: torch.tensor(look_up(t, n, k)), "Expected a list of ids, got tensor"),
        ("look_up", lambda t, n, k: [7], "more ids follow"),
        ("look_up", lambda t, n, k: [1, 1], "copy what follows it"),
        ("verdict", lambda p, q, x: (float(p[x] / q[x]), verdict(p, q, x)[1]), "at most 1"),
        ("verdict", lambda p, q, x: (min(1.0, float(q[x] / p[x])), verdict(p, q, x)[1]), "which way round"),
        ("verdict", lambda p, q, x: (float(p[x]), verdict(p, q, x)[1]), "with chance q · p"),
        ("verdict", lambda p, q, x: (1.0, verdict(p, q, x)[1]), "The rule is a chance"),
        ("verdict", with_left(lambda p, q, x: p), "you draw from p"),
        ("verdict", with_left(lambda p, q, x: (p - q).clamp(min=0)), "what makes its sum 1"),
        ("verdict", with_left(lambda p, q, x: p - q), "negative"),
        ("verdict", with_left(without_token), "refused token only"),
        ("verdict", lambda p, q, x: (refusal(p, q, x), verdict(p, q, x)[1]), "chance that it is refused"),
        ("verdict", lambda p, q, x: (min(1.0, float(p.max() / q[x])), verdict(p, q, x)[1]), "likeliest token|a chance"),
        ("verdict", lambda p, q, x: ((p[x] / q[x]).item().clamp(max=1), 0), "a plain Python float"),
        ("verdict", with_left(lambda p, q, x: q), "draw from the draft again"),
        ("verdict", with_left(lambda p, q, x: (p - q).abs() / (p - q).abs().sum()), "without their sign"),
        ("look_up", lambda t, n, k: look_up(t, n, 1), "more ids follow"),
        ("expected_tokens", lambda a, k: series(a, k + 1), "One term too many"),
        ("expected_tokens", lambda a, k: a**k, "all k are accepted"),
        ("expected_tokens", lambda a, k: (1 - a ** (k + 1)) / (1 - a), "makes the divisor 0"),
        ("verdict", with_left(surplus), "come too seldom"),
        ("verdict", lambda p, q, x: verdict(p, q, x)[0], "Return two things"),
        ("verdict", changes_p, "changed `p` in place"),
        ("look_up", first_match, "which end do you search"),
        ("look_up", lambda t, n, k: t[-n:], "came *after* them"),
        ("look_up", lambda t, n, k: look_up(t, n, k) or t[:k], "nothing to propose"),
        ("look_up", lambda t, n, k: look_up(t, n, k + 1), "more than k"),
        ("look_up", lambda t, n, k: [], "did stand before"),
        ("look_up", lambda t, n, k: tuple(look_up(t, n, k)), "Expected a list"),
        ("look_up", lambda t, n, k: t.reverse() or [], "changed `t` in place"),
    ],
)
def test_each_mistake_gets_its_own_words(refused, name, answer, words):
    refused(f"13.{name}", answer, words)


def test_an_error_inside_is_shown_in_words(refused):
    refused("13.verdict", lambda p, q, x: (1 / 0, torch.zeros(3)), "ZeroDivisionError")
