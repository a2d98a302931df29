"""Feedback for the exercises of lesson 13, Speculative decoding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import (
    NotYet,
    call,
    describe,
    exercise,
    expect_close,
    expect_list,
    expect_number,
    expect_several,
    recognise,
    same,
)


def _written(acceptance: float, k: int) -> float:
    return float(k + 1) if acceptance == 1 else (1 - acceptance ** (k + 1)) / (1 - acceptance)


@exercise("13.expected_tokens")
def check_expected_tokens(answer: object) -> str:
    for acceptance, k in ((0.8, 3), (0.5, 1), (0.0, 3), (0.9, 8), (1.0, 5)):
        got, wanted = expect_number(call(answer, acceptance, k)), _written(acceptance, k)
        if same(got, wanted, tolerance=1e-6):
            continue
        seen = f"With acceptance {acceptance} and k={k} you say {got:.4g}."
        recognise(got, wanted, [
            (wanted - 1, "You count the accepted proposals. Who writes the token after them?"),
            (k * acceptance + 1,
             "That holds if each proposal were judged alone. What becomes of the 3rd one when the 1st is refused?"),
            (k * acceptance, "You count proposals, each judged alone, and no token of the target's own."),
            (_written(acceptance, k - 1),
             "One term is missing: how many terms has 1 + a + a² + … when all k are accepted?"),
            (_written(acceptance, k + 1), "One term too many: how many terms has 1 + a + a² + … with k proposals?"),
            (1 / (1 - acceptance) if acceptance < 1 else math.inf,
             f"That is an endless round. Only k={k} tokens were proposed."),
            (acceptance**k, "That is the chance that all k are accepted. How many tokens are written on average?"),
            (k + 1, "That many are written if all are accepted. On average some are refused."),
            (_written(1 - acceptance, k), "You count with the chance that a proposal is refused, 1 − a."),
            (round(wanted), "That is rounded. An average need not be a whole number."),
            (math.floor(wanted), "That is rounded down. An average need not be a whole number."),
            (sum(i * acceptance**i for i in range(k + 1)),
             "You weigh each term with its place. A second token comes with chance a and counts once."),
            (sum(i * acceptance**i * (1 - acceptance) for i in range(k + 1)),
             "You add up i accepted proposals with the chance that the next is refused. Two things are missing: the "
             "target's own token, and the case that none is refused."),
        ], seen=seen, tolerance=1e-6)  # fmt: skip
        if acceptance == 0:
            raise NotYet(f"{seen} All proposals are refused. How many tokens does such a round still write?")
        raise NotYet(f"{seen} Add up the chances: one token for sure, a second with chance a, a third with chance …?")
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
        names = "the chance that the token stands", "the distribution to draw from if not"
        chance, left = expect_several(call(answer, p, q, token), names)
        if isinstance(chance, Tensor) and chance.shape == p.shape:
            more = (
                "Are the two things in the wrong order"
                if same(chance, _verdict(p, q, token)[1])
                else "Which is its own"
            )
            raise NotYet(f"The chance: {describe(chance)}, a number for each word. One word was proposed. {more}?")
        if isinstance(chance, bool):
            raise NotYet("The chance: a bool. You throw the dice already; return the chance itself.")
        _compare_chance(expect_number(chance, seen="The chance:"), p, q, token)
        _compare_left(left, p, q, token)
    return "Add both ways to a token x: min(p, q) + max(p − q, 0) = p. The draft leaves no trace in the text."


def _compare_chance(chance: float, p: Tensor, q: Tensor, token: int) -> None:
    wanted = min(1.0, float(p[token] / q[token]))
    if same(chance, wanted, tolerance=1e-6):
        return
    seen = f"p = {p[token]:.2g} and q = {q[token]:.2g} give your token the chance {chance:.3g}."
    if chance > 1:
        raise NotYet(f"{seen} A chance is at most 1. What if the model likes the token more than the draft does?")
    if chance in (0.0, 1.0):
        raise NotYet(f"{seen} With yes or no alone the text would follow the draft. The rule is a chance.")
    recognise(chance, wanted, [
        (min(1.0, float(q[token] / p[token])) if p[token] else -1.0,
         "A token that the draft proposes too often must stand more rarely: which way round is the fraction?"),
        (float(p[token]), "Then it would be written with chance q · p. Which chance to stand makes that p?"),
        (min(1.0, float(p.max() / q[token])), "You take the target's likeliest token. Which one was proposed?"),
        (1 - wanted, "That is the chance that it is refused."),
        (float(torch.minimum(p[token], q[token])),
         "That is min(p, q), how often it is proposed *and* stands. Proposed it is already."),
        (float(torch.minimum(p, q).sum()), "That is the average over all words. This one has a chance of its own."),
        (max(0.0, float(p[token] - q[token])), "That is how much p is above q. The chance is a fraction of the two."),
    ], seen=seen)  # fmt: skip
    raise NotYet(f"{seen} It was proposed with chance q; together both chances may give at most p.")


def _compare_left(left: object, p: Tensor, q: Tensor, token: int) -> None:
    _, wanted = _verdict(p, q, token)
    over, more = (p - q).clamp(min=0), (q - p).clamp(min=0)
    without = p.clone()
    without[token] = 0
    if isinstance(left, list | tuple):
        raise NotYet(
            f"Expected a tensor as the distribution, got {describe(left)}. p and q are tensors: compute with them."
        )
    if isinstance(left, int) or (isinstance(left, Tensor) and not left.dim()):
        raise NotYet("Instead of the distribution you return one number. Did you draw a word, or take the likeliest? "
                     f"Wanted is the chance of each word, {tuple(p.shape)}.")  # fmt: skip
    if isinstance(left, Tensor) and left.dim() and (left < 0).any():
        raise NotYet("A probability in the distribution is negative: where q is above p nothing is left to make up.")
    expect_close(left, wanted, "What does the draft propose too seldom, and by how much?", what="the distribution",
                 tolerance=1e-6, mistakes=[
        (over, f"The distribution sums to {over.sum():.3g}. Its shape is right; what makes its sum 1?"),
        (p, "After a refusal you draw from p. Then tokens that the draft proposes often come too often: they had their "
            "chance already."),
        (q, "After a refusal you draw from the draft again. What does it propose too seldom?"),
        (without / without.sum(),
         "You leave out the refused token only. That is right for a draft that is certain of its token; here other "
         "tokens were proposed too, each with its q."),
        (more / more.sum(),
         "You make up for what the draft proposes too often. It is the other tokens that come too seldom."),
        ((p - q).abs() / (p - q).abs().sum(),
         "You take the differences without their sign: what the draft proposes too often counts in it, too."),
        (over / over.max(), "The largest number is 1 now, not the sum. By what must you divide?"),
        (torch.minimum(p, q) / torch.minimum(p, q).sum(),
         "You draw from what both have in common. That part was written already, with the guesses that stood."),
        ((p / q) / (p / q).sum(), "You share by p / q. What is missing of each word is a difference."),
        ((p - q).softmax(-1), "Softmax gives a chance also to what comes too often. What else makes the sum 1?"),
        (over.softmax(-1), "Softmax makes the sum 1, but gives a chance to what had none. What else makes it 1?"),
    ])  # fmt: skip


def _look_up(text: list[int], size: int, k: int) -> list[int]:
    for start in range(len(text) - size - 1, -1, -1):
        if text[start : start + size] == text[-size:]:
            return text[start + size : start + size + k]
    return []


_TEXTS = (
    ([5, 6, 7, 8, 5, 6], 2, 2, "a match in the middle"),
    ([5, 6, 1, 5, 6, 2, 5, 6], 2, 1, "two matches"),
    ([1, 2, 3, 4, 5], 2, 3, "no match"),
    ([5, 6, 7, 5, 6], 2, 5, "fewer than k tokens after the match"),
    ([9, 9, 9, 9], 2, 1, "a match that overlaps the end"),
    ([4, 1, 2, 4], 1, 2, "one token to match"),
    ([7, 9, 9, 9], 2, 1, "a match that overlaps the end"),
    ([5, 6, 1, 4, 6, 2, 5, 6], 2, 1, "the last token alone stood later"),
    ([1, 5, 2, 3, 5], 2, 1, "only a part of the last tokens stood before"),
)


@exercise("13.look_up")
def check_look_up(answer: object) -> str:
    for text, size, k, case in _TEXTS:
        got, wanted = call(answer, text, size, k), _look_up(text, size, k)
        if isinstance(got, int) and not isinstance(got, bool):
            raise NotYet(f"Expected a list of ids, got {got}. Also a single id, or none, comes as a list.")
        got = expect_list(got, "ids")
        if got == wanted:
            continue
        seen = f"In {text} with size={size} and k={k} ({case}) you propose {got}."
        if not wanted:
            raise NotYet(f"{seen} The last {size} tokens stand nowhere before: there is nothing to propose.")
        if size > 1 and got and got == _look_up(text, 1, k):
            raise NotYet(f"{seen} That follows the last token alone. All the last {size} tokens must have stood there.")
        if got and wanted and got == _look_up(text, size, k + 1)[1:]:
            raise NotYet(f"{seen} The first id after the match is left out: off by one?")
        if len(wanted) > 1 and got == wanted[::-1]:
            raise NotYet(f"{seen} The ids are right, but turned round.")
        if wanted and got[: len(wanted)] == wanted and len(got) <= k:
            raise NotYet(f"{seen} The text ends before that. Fewer than k ids are fine: do not fill up.")
        if got == text[-size:][:k] or got == text[-size:] + wanted[: max(k - size, 0)]:
            raise NotYet(f"{seen} These are the tokens that matched. Wanted is what came *after* them.")
        if got and len(got) > k:
            raise NotYet(f"{seen} That is more than k={k}.")
        if not got:
            raise NotYet(f"{seen} But the last {size} tokens did stand before. Is your slice the right one, and do you "
                         "try every start from 0 on, but for the end itself? The two places may overlap.")  # fmt: skip
        if len(got) < len(wanted) and got == wanted[: len(got)]:
            raise NotYet(f"{seen} Those are right, but more ids follow: up to k={k} are wanted.")
        first = next(s for s in range(len(text)) if text[s : s + size] == text[-size:])
        if got == text[first + size : first + size + k]:
            raise NotYet(f"{seen} That followed the *first* match. The latest guesses better: from which end do you "
                         "search?")  # fmt: skip
        raise NotYet(f"{seen} Find where the last {size} tokens stood latest before, and copy what follows it.")
    return "No weights, no training: on code, tables and summaries such drafts are often accepted."
