"""Feedback for the exercises of lesson 13, Speculative decoding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import NotYet, call, exercise, expect_close, expect_tensor


def _written(acceptance: float, k: int) -> float:
    return float(k + 1) if acceptance == 1 else (1 - acceptance ** (k + 1)) / (1 - acceptance)


@exercise("13.expected_tokens")
def check_expected_tokens(answer: object) -> str:
    for acceptance, k in ((0.5, 1), (0.0, 3), (0.8, 4), (0.9, 8), (1.0, 5)):
        got = call(answer, acceptance, k)
        if isinstance(got, bool) or not isinstance(got, (int, float)):
            raise NotYet(f"Expected a number, got {type(got).__name__}.")
        wanted, told = _written(acceptance, k), f"With acceptance {acceptance} and k={k} you say {got:.4g}."
        if math.isclose(got, wanted, rel_tol=1e-6):
            continue
        if math.isclose(got, wanted - 1, rel_tol=1e-6, abs_tol=1e-9):
            raise NotYet(f"{told} You count the accepted proposals. Who writes the token behind them?")
        if math.isclose(got, k * acceptance + 1, rel_tol=1e-6):
            raise NotYet(f"{told} That holds if each proposal were judged alone. What becomes of the 3rd one when the "
                         "1st is refused?")  # fmt: skip
        if math.isclose(got, _written(acceptance, k - 1), rel_tol=1e-6):
            raise NotYet(f"{told} One term is missing: how many terms has 1 + a + a² + … when all k are accepted?")
        if math.isclose(got, 1 / (1 - acceptance) if acceptance < 1 else math.inf, rel_tol=1e-6):
            raise NotYet(f"{told} That is an endless round. Only k={k} tokens were proposed.")
        if acceptance == 0:
            raise NotYet(f"{told} All proposals are refused. How many tokens does such a round still write?")
        raise NotYet(f"{told} Add up the chances: one token for sure, a second with chance a, a third with chance …?")
    return "So an endless draft with acceptance a would write 1 / (1 − a) tokens a pass: at 0.8 five, never more."


def _verdict(p: Tensor, q: Tensor, token: int) -> tuple[float, Tensor]:
    left = (p - q).clamp(min=0)
    return min(1.0, float(p[token] / q[token])), left / left.sum()


_CASES = (
    ([0.5, 0.3, 0.2], [0.2, 0.5, 0.3], 0),
    ([0.5, 0.3, 0.2], [0.2, 0.5, 0.3], 1),
    ([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], 0),
    ([0.0, 0.6, 0.4, 0.0], [0.25, 0.25, 0.25, 0.25], 3),
)


@exercise("13.verdict")
def check_verdict(answer: object) -> str:
    for model, draft, token in _CASES:
        p, q = torch.tensor(model), torch.tensor(draft)
        kept = p.clone(), q.clone()
        got = call(answer, p, q, token)
        if not isinstance(got, tuple) or len(got) != 2:
            raise NotYet("Expected two things: (chance that the token stands, distribution to draw from if not).")
        if not (torch.equal(p, kept[0]) and torch.equal(q, kept[1])):
            raise NotYet("p or q has changed. Both are still needed: work on copies.")
        chance, left = float(got[0]), got[1]
        _hold_chance(chance, p, q, token)
        _hold_left(expect_tensor(left, p, what="the distribution"), p, q, token)
    return "Add both ways to a token x: min(p, q) + max(p − q, 0) = p. The draft leaves no trace in the text."


def _hold_chance(chance: float, p: Tensor, q: Tensor, token: int) -> None:
    wanted = min(1.0, float(p[token] / q[token]))
    if math.isclose(chance, wanted, abs_tol=1e-6):
        return
    told = f"p = {p[token]:.2g} and q = {q[token]:.2g} give your token the chance {chance:.3g}."
    if chance > 1:
        raise NotYet(f"{told} A chance is at most 1. What if the model likes the token more than the draft does?")
    if chance in (0.0, 1.0):
        raise NotYet(f"{told} With yes or no alone the text would follow the draft. The rule is a chance.")
    if math.isclose(chance, min(1.0, float(q[token] / p[token])) if p[token] else -1, abs_tol=1e-6):
        raise NotYet(f"{told} A token that the draft proposes too often must stand more rarely: which way round is the "
                     "fraction?")  # fmt: skip
    if math.isclose(chance, float(p[token]), abs_tol=1e-6):
        raise NotYet(f"{told} Then it would be written with chance q · p. Which chance to stand makes that p?")
    raise NotYet(f"{told} It was proposed with chance q; together both chances may give at most p.")


def _hold_left(left: Tensor, p: Tensor, q: Tensor, token: int) -> None:
    _, wanted = _verdict(p, q, token)
    if torch.allclose(left, wanted, atol=1e-6):
        return
    if (left < 0).any():
        raise NotYet("A probability in the distribution is negative: where q is above p nothing is left to make up.")
    if torch.allclose(left, (p - q).clamp(min=0), atol=1e-6):
        raise NotYet(f"The distribution sums to {left.sum():.3g}. Its shape is right; what makes its sum 1?")
    if torch.allclose(left, p, atol=1e-6):
        raise NotYet("After a refusal you draw from p. Then tokens that the draft proposes often come too often: they "
                     "had their chance already.")  # fmt: skip
    without = p.clone()
    without[token] = 0
    if torch.allclose(left, without / without.sum(), atol=1e-6):
        raise NotYet("You leave out the refused token only. That is right for a draft that is certain of its token; "
                     "here other tokens were proposed too, each with its q.")  # fmt: skip
    if torch.allclose(left, (q - p).clamp(min=0) / (q - p).clamp(min=0).sum(), atol=1e-6):
        raise NotYet("You make up for what the draft proposes too often. It is the other tokens that come too seldom.")
    expect_close(left, wanted, "What does the draft propose too seldom, and by how much?", what="the distribution")


def _look_up(text: list[int], size: int, k: int) -> list[int]:
    for start in range(len(text) - size - 1, -1, -1):
        if text[start : start + size] == text[-size:]:
            return text[start + size : start + size + k]
    return []


_TEXTS = (
    ([5, 6, 7, 8, 5, 6], 2, 2, "a match in the middle"),
    ([5, 6, 1, 5, 6, 2, 5, 6], 2, 1, "two matches"),
    ([1, 2, 3, 4, 5], 2, 3, "no match"),
    ([5, 6, 7, 5, 6], 2, 5, "fewer than k tokens behind the match"),
    ([9, 9, 9, 9], 2, 1, "a match that overlaps the end"),
    ([4, 1, 2, 4], 1, 2, "one token to match"),
)


@exercise("13.look_up")
def check_look_up(answer: object) -> str:
    for text, size, k, case in _TEXTS:
        given = list(text)
        got = call(answer, given, size, k)
        if given != text:
            raise NotYet("The text you were given has changed. The model still needs it: work on a copy.")
        if not isinstance(got, list):
            raise NotYet(f"Expected a list of ids, got {type(got).__name__}. No match gives an empty list.")
        wanted = _look_up(text, size, k)
        if got == wanted:
            continue
        told = f"In {text} with size={size} and k={k} ({case}) you propose {got}."
        if not wanted:
            raise NotYet(f"{told} The last {size} tokens stand nowhere before: there is nothing to propose.")
        if got == text[-size:][:k] or got == text[-size:] + wanted[: max(k - size, 0)]:
            raise NotYet(f"{told} These are the tokens that matched. Wanted is what came *after* them.")
        if got and len(got) > k:
            raise NotYet(f"{told} That is more than k={k}.")
        if not got:
            raise NotYet(f"{told} But the last {size} tokens did stand before. Is your slice the right one, and do you "
                         "look at all places but the last?")  # fmt: skip
        first = next(s for s in range(len(text)) if text[s : s + size] == text[-size:])
        if got == text[first + size : first + size + k]:
            raise NotYet(f"{told} That followed the *first* match. The latest guesses better: from which end do you "
                         "search?")  # fmt: skip
        raise NotYet(f"{told} Find the latest earlier place of the last {size} tokens, and copy what follows it.")
    return "No weights, no training: on code, tables and summaries such drafts are often accepted."
