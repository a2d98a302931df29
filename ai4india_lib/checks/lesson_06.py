"""Feedback for the exercises of lesson 06, Attention."""

from __future__ import annotations

import torch
from torch import Tensor

from ..model.config import DecoderConfig
from ..model.decoder import rope, rope_frequencies
from . import NotYet, call, exercise, expect_close, expect_tensor

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
            raise NotYet(f"Every place is True: that is no mask. {TRIANGLE}")
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
    generator = torch.Generator().manual_seed(50)
    for batch, heads, time, seen, head_dim in ((1, 1, 5, 5, 4), (2, 3, 4, 7, 16)):
        q = torch.randn(batch, heads, time, head_dim, generator=generator)
        k, v = torch.randn(2, batch, heads, seen, head_dim, generator=generator)
        mask = torch.ones(time, seen).tril(seen - time).bool()
        mask[-1, 1] = False
        wanted = _attention(q, k, v, mask)
        got = call(answer, q, k, v, mask)
        if isinstance(got, tuple):
            raise NotYet(f"It returns {len(got)} things. Return one: the mixed values.")
        if isinstance(got, Tensor) and got.shape == (batch, heads, time, seen) != wanted.shape:
            raise NotYet("The result has a column for each key: these are weights or scores. What do they weigh?")
        got = expect_tensor(got, wanted)
        if got.isnan().any():
            raise NotYet("The result holds nan. Is a whole row of scores −∞, or is −∞ multiplied by 0?")
        for hint, wrong in _wrong_attentions(q, k, v, mask):
            if _close(got, wrong) and not _close(wrong, wanted):
                raise NotYet(hint)
        expect_close(got, wanted, "Compare each line with the formula: scores, scaling, mask, softmax, mix.")
    return "PyTorch's scaled_dot_product_attention(q, k, v, mask) gives the same numbers, without the large table."


def _attention(q, k, v, mask, *, scale=None, dim=-1):
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim) @ v


def _wrong_attentions(q, k, v, mask):
    """(hint, result of a usual mistake) pairs."""
    head_dim, seen = q.shape[-1], k.shape[-2]
    scores = q @ k.transpose(-1, -2) / head_dim**0.5
    everything = torch.ones_like(mask)
    yield (
        "Your scores are not scaled: their spread grows with head_dim. What are they divided by?",
        _attention(q, k, v, mask, scale=1.0),
    )
    yield (
        "You divide the scores by head_dim itself. Their deviation is only its square root.",
        _attention(q, k, v, mask, scale=1 / head_dim),
    )
    for name, size in (("words", seen), ("queries", q.shape[-2]), ("heads", q.shape[1])):
        told = f"You scale by the square root of the number of {name}. Which size does the dot product add up over?"
        yield told, _attention(q, k, v, mask, scale=size**-0.5)
    yield (
        "You multiply by √head_dim. Large scores should become smaller.",
        _attention(q, k, v, mask, scale=head_dim**0.5),
    )
    yield "The mask has no effect: hidden words are still looked at.", _attention(q, k, v, everything)
    if (~mask).any(-1).all():  # else the row that may see all is nan
        yield "The mask is upside down: your words see only what they must not.", _attention(q, k, v, ~mask)
    weights = scores.softmax(-1) * mask
    told = "You hide words after the softmax: then the weights of a row no longer sum to 1. When must hiding happen?"
    yield told, weights @ v
    told = "Hidden scores are 0, but e⁰ is 1: hidden words still get weight. Which score gives weight 0?"
    yield told, scores.masked_fill(~mask, 0).softmax(-1) @ v
    told = "The softmax runs over the queries, so columns sum to 1. For each query, the weights over the keys should."
    yield told, scores.masked_fill(~mask, -torch.inf).softmax(-2) @ v
    yield "There is no softmax: weights must be positive, and each row must sum to 1.", scores.masked_fill(~mask, 0) @ v
    yield "You mix the keys. Keys only help to find the weights; what do they weigh?", _attention(q, k, k, mask)


@exercise("06.rope")
def rope_at(answer) -> str:
    generator = torch.Generator().manual_seed(57)
    x = torch.randn(2, 3, 4, 8, generator=generator)  # (batch, heads, time, head_dim)
    for positions, theta in (
        (torch.arange(4), 10_000.0),
        (torch.tensor([57, 3, 3, 20]), 10_000.0),
        ([0, 1, 9, 2], 500.0),
    ):
        positions = torch.as_tensor(positions)
        wanted = _turned(x, positions, theta)
        before = x.clone()
        got = call(answer, x, positions, theta)
        if not torch.equal(x, before):
            raise NotYet("The input x itself has changed. Make a new tensor: other code may still need x.")
        if isinstance(got, Tensor) and got.dtype == torch.float64:
            raise NotYet("The result is float64. Somewhere a table was made in double precision: keep float32.")
        got = expect_tensor(got, wanted)
        for hint, wrong in _wrong_turns(x, positions, theta):
            if _close(got, wrong) and not _close(wrong, wanted):
                raise NotYet(hint)
        lengths, should = got.norm(dim=-1), x.norm(dim=-1)
        if not _close(lengths, should):
            raise NotYet(
                "The vectors' lengths have changed, but turning keeps every length. Look at the two lines of the "
                "formula: each takes one cosine and one sine part, and one of them has a minus."
            )
        expect_close(got, wanted, "Lengths are right, so you do turn. Look at the pairs and at the angles.")
    return "This is how a cached model places its next word: only the position tells where it stands."


def _turned(x, positions, theta):
    config = DecoderConfig(1, num_heads=1, emb_dim=x.shape[-1], rope_theta=theta)
    angles = positions[:, None] * rope_frequencies(config)  # (time, head_dim/2)
    return rope(x, angles.cos(), angles.sin())


def _wrong_turns(x, positions, theta):
    """(hint, result of a usual mistake) pairs."""
    half = x.shape[-1] // 2
    counted = torch.arange(len(positions))
    yield "Nothing is turned: the result equals x.", x
    told = "Each pair is turned backwards. Which of the two lines has the minus?"
    yield told, _turned(x, -positions, theta)
    told = "The words are counted 0, 1, 2 … whatever `positions` says. The next word of a long text may be number 57."
    yield told, _turned(x, counted, theta)
    told = "The angles are one step too large: a word at position 0 should not be turned at all."
    yield told, _turned(x, positions + 1, theta)
    told = "`theta` has no effect: you count with 10,000 whatever is given."
    yield told, _turned(x, positions, 10_000.0)
    told = "You pair neighbours: number 0 with number 1. Here number i pairs with number i + head_dim/2."
    neighbours = torch.cat((x[..., ::2], x[..., 1::2]), dim=-1)
    turned = _turned(neighbours, positions, theta)
    yield told, torch.stack(turned.chunk(2, dim=-1), dim=-1).flatten(-2)
    told = "All pairs turn at the speed of the first. Each pair has a speed of its own."
    yield told, _with_speed(x, positions, torch.ones(half))
    told = "The speeds fall too slowly: the exponent of pair i is i / head_dim. Pairs are only half as many as numbers."
    yield told, _with_speed(x, positions, theta ** (-torch.arange(half) / (2 * half)))
    told = "Later pairs turn faster. The exponent needs a minus: the first pair is the fastest."
    yield told, _with_speed(x, positions, theta ** (torch.arange(half) / half))


def _with_speed(x, positions, speed):
    angles = positions[:, None] * speed
    return rope(x, angles.cos(), angles.sin())


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-3)
