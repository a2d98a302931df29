"""Feedback for the exercises of lesson 06, Attention."""

from __future__ import annotations

import torch
from torch import Tensor

from ..model.config import DecoderConfig
from ..model.decoder import rope, rope_frequencies
from . import NotYet, call, exercise, expect_close, expect_tensor, random_tensor, same

TRIANGLE = "A word must not see words that come after it. Which triangle of the matrix should stay?"


@exercise("06.causal_mask")
def causal_mask(answer) -> str:
    for time in (3, 1, 6):
        wanted = torch.ones(time, time).tril().bool()
        got = call(answer, time)
        if isinstance(got, Tensor) and got.shape == wanted.shape and got.dtype != torch.bool:
            raise NotYet(
                f"The mask holds {got.dtype} numbers. A mask answers yes or no: make it torch.bool, "
                "so that ~mask and masked_fill work."
            )
        got = expect_tensor(got, wanted, what="the mask")
        if torch.equal(got, wanted):
            continue
        if time == 1:
            raise NotYet("With one word the mask is [[False]]. Then this word sees nothing: may a word see itself?")
        if torch.equal(got, wanted.T):
            raise NotYet(f"Your mask lets position 0 see position 1 (mask[0, 1] is True). {TRIANGLE}")
        if torch.equal(got, ~wanted):
            raise NotYet(
                "Your mask is True exactly where looking is forbidden. Some libraries want that; "
                "here True means: may look."
            )
        if torch.equal(got, wanted.tril(-1)):
            raise NotYet("The diagonal is False: a word cannot see itself, and the first word sees nothing at all.")
        if got.all():
            raise NotYet(f"Every entry is True: that is no mask. {TRIANGLE}")
        if (got & ~wanted).any():
            row, column = (int(i) for i in (got & ~wanted).nonzero()[0])
            raise NotYet(f"Your mask lets position {row} see position {column}, with {time} words. {TRIANGLE}")
        row, column = (int(i) for i in (wanted & ~got).nonzero()[0])
        raise NotYet(
            f"With {time} words, position {row} cannot see position {column}, which comes before it. "
            "A word may see all earlier words, not only some of them."
        )
    return "Row t is True in its first t + 1 places: the words that have been said."


@exercise("06.attention")
def attention(answer) -> str:
    # more keys than queries, as with a cache; the mask is neither a triangle nor symmetric
    for batch, heads, time, seen, head_dim in ((1, 1, 5, 5, 4), (2, 3, 4, 7, 16)):
        q = random_tensor(batch, heads, time, head_dim, seed=50)
        k, v = random_tensor(2, batch, heads, seen, head_dim, seed=51)
        mask = torch.ones(time, seen).tril(seen - time).bool()
        mask[-1, 1] = False
        wanted = _attention(q, k, v, mask)
        got = call(answer, q, k, v, mask)
        if isinstance(got, Tensor) and got.shape == (batch, heads, time, seen) != wanted.shape:
            raise NotYet("The result has a column for each key: these are weights or scores. What do they weigh?")
        if expect_tensor(got, wanted).isnan().any():
            raise NotYet("The result holds nan. Is a whole row of scores −∞, or is −∞ multiplied by 0?")
        hint = "Compare each line with the formula: scores, scaling, mask, softmax, mix."
        expect_close(got, wanted, hint, mistakes=_wrong_attentions(q, k, v, mask))
    return "PyTorch's scaled_dot_product_attention(q, k, v, mask) gives the same numbers, without the large table."


def _attention(q, k, v, mask, *, scale=None, dim=-1):
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim) @ v


def _wrong_attentions(q, k, v, mask):
    """(result of a usual mistake, hint) pairs."""
    head_dim, seen = q.shape[-1], k.shape[-2]
    products = q @ k.transpose(-1, -2)
    scores = products / head_dim**0.5
    hidden = scores.masked_fill(~mask, -torch.inf)  # softmax over these gives the right weights
    everything = torch.ones_like(mask)
    mistakes = [
        (_attention(q, k, v, mask, scale=1.0),
         "Your scores are not scaled: their spread grows with head_dim. What are they divided by?"),
        (_attention(q, k, v, mask, scale=1 / head_dim),
         "You divide the scores by head_dim itself. Their deviation is only its square root."),
    ]  # fmt: skip
    powers = hidden.exp()
    if q.shape[:2] == (1, 1) and q.shape[-2] == seen:  # elsewhere this does not fit, and stops with an error
        rows_as_columns = (powers / powers.sum(-1)) @ v
        hint = "Each weight is divided by another row's sum: your sum lost a dimension. Is keepdim=True missing?"
        mistakes.append((rows_as_columns, hint))
    for name, size in (("words", seen), ("queries", q.shape[-2]), ("heads", q.shape[1])):
        mistakes += [
            (_attention(q, k, v, mask, scale=size**-0.5),
             f"You scale by the square root of the number of {name}. Which size does the dot product add up over?"),
        ]  # fmt: skip
    mistakes += [
        (_attention(q, k, v, mask, scale=head_dim**0.5),
         "You multiply by √head_dim. Large scores should become smaller."),
        (products.masked_fill(~mask, -torch.inf).softmax(-1) / head_dim**0.5 @ v,
         "You scale the weights, after the softmax. It is the scores before it that are too large."),
        (_attention(q, k, v, everything), "The mask has no effect: hidden words are still looked at."),
    ]  # fmt: skip
    if (~mask).any(-1).all():  # else the row that may see all is nan
        mistakes += [
            (_attention(q, k, v, ~mask), "The mask is upside down: your words see only what they must not."),
        ]  # fmt: skip
    mistakes += [
        ((scores.softmax(-1) * mask) @ v,
         "You hide words after the softmax: then the weights of a row no longer sum to 1. When must hiding happen?"),
        (scores.masked_fill(~mask, 0).softmax(-1) @ v,
         "Hidden scores are 0, but e⁰ is 1: hidden words still get weight. Which score gives weight 0?"),
        ((scores + mask).softmax(-1) @ v,
         "You add the mask, which raises some scores by 1 and hides nothing. Which score gives weight 0?"),
        (hidden.softmax(-2) @ v,
         "The softmax runs over the queries, so columns sum to 1. For each query, the weights over the keys should."),
        (scores.masked_fill(~mask, -1e9).softmax(1) @ v,
         "The softmax runs over the heads. For each query, the weights over the keys sum to 1."),
        (scores.masked_fill(~mask, 0) @ v,
         "There is no softmax: weights must be positive, and each row must sum to 1."),
        (hidden.log_softmax(-1).masked_fill(~mask, 0) @ v,
         "You mix with the logarithms of the weights: what does softmax give without the log?"),
        (_attention(q, k, k, mask), "You mix the keys. Keys only help to find the weights; what do they weigh?"),
    ]  # fmt: skip
    if q.shape == k.shape:
        mistakes += [
            (_attention(k, q, v, mask),
             "Queries and keys have changed places: row t should be the question of word t."),
        ]  # fmt: skip
    return mistakes


@exercise("06.rope")
def rope_at(answer) -> str:
    x = random_tensor(2, 3, 4, 8, seed=57)  # (batch, heads, time, head_dim)
    for positions, theta in (
        (torch.arange(4), 10_000.0),
        (torch.tensor([57, 3, 3, 20]), 10_000.0),
        (torch.tensor([0, 1, 9, 2]), 500.0),
    ):
        wanted = _turned(x, positions, theta)
        got = call(answer, x, positions, theta)
        if isinstance(got, Tensor) and got.dtype == torch.float64:
            raise NotYet("The result is float64. Somewhere a table was made in double precision: keep float32.")
        lengths = expect_tensor(got, wanted).norm(dim=-1)
        hint = "Lengths are right, so you do turn. Look at the pairs and at the angles."
        if not same(lengths, x.norm(dim=-1), tolerance=1e-3):
            hint = (
                "The vectors' lengths have changed, but turning keeps every length. Look at the two lines of the "
                "formula: each takes one cosine and one sine part, and one of them has a minus."
            )
        expect_close(got, wanted, hint, mistakes=_wrong_turns(x, positions, theta), tolerance=1e-3)
    return "This is how a cached model places its next word: only the position tells where it stands."


def _turned(x, positions, theta):
    config = DecoderConfig(1, num_heads=1, emb_dim=x.shape[-1], rope_theta=theta)
    angles = positions[:, None] * rope_frequencies(config)  # (time, head_dim/2)
    return rope(x, angles.cos(), angles.sin())


def _wrong_turns(x, positions, theta):
    """(result of a usual mistake, hint) pairs."""
    half = x.shape[-1] // 2
    pair = torch.arange(half)
    counted = torch.arange(len(positions))
    neighbours = _turned(torch.cat((x[..., ::2], x[..., 1::2]), dim=-1), positions, theta)
    mistakes = [
        (x, "Nothing is turned: the result equals x."),
        (_turned(x, -positions, theta), "Each pair is turned backwards. Which of the two lines has the minus?"),
        (_turned(x, counted, theta),
         "The words are counted 0, 1, 2 … whatever `positions` says. The next word of a long text may be number 57."),
        (_turned(x, positions + 1, theta),
         "The angles are one step too large: a word at position 0 should not be turned at all."),
        (_turned(x, positions, 10_000.0), "`theta` has no effect: you count with 10,000 whatever is given."),
        (torch.stack(neighbours.chunk(2, dim=-1), dim=-1).flatten(-2),
         "You pair neighbours: number 0 with number 1. Here number i pairs with number i + head_dim/2."),
        (_with_speed(x, positions, torch.ones(half)),
         "All pairs turn at the speed of the first. Each pair has a speed of its own."),
        (_with_speed(x, positions, theta ** (-pair / (2 * half))),
         "The speeds fall too slowly: the exponent of pair i is i / head_dim. Pairs are only half as many as "
         "numbers."),
        (_with_speed(x, positions, theta ** (pair / half)),
         "Later pairs turn faster. The exponent needs a minus: the first pair is the fastest."),
        (_with_speed(x, positions, theta ** (-(pair + 1) / half)),
         "Every pair is one step too slow: the first pair turns by one radian a word. Which number has the first "
         "pair?"),
        (_turned(x, positions * torch.pi / 180, theta),
         "Your angles are in degrees; cos and sin of torch take radians."),
    ]  # fmt: skip
    return mistakes


def _with_speed(x, positions, speed):
    angles = positions[:, None] * speed
    return rope(x, angles.cos(), angles.sin())
