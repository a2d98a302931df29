"""Lesson 06's feedback: right answers pass, and each usual mistake gets its own sentence."""

import pytest
import torch


def lower(time):
    return torch.ones(time, time).tril().bool()


def compared(time):
    return torch.arange(time)[:, None] >= torch.arange(time)


@pytest.mark.parametrize("answer", [lower, compared])
def test_right_causal_masks(accepted, answer):
    accepted("06.causal_mask", answer)


def hole(time):
    mask = lower(time)
    mask[-1, 0] = mask[0, 0]  # nothing wrong …
    if time > 5:
        mask[5, 2] = False  # … except here
    return mask


def window(time):
    return lower(time) & ~lower(time).tril(-2)


WRONG_MASKS = [
    (lambda time: torch.ones(time, time).triu().bool(), "mask[0, 1] is True"),
    (lambda time: ~lower(time), "forbidden"),
    (lambda time: torch.ones(time, time).tril(-1).bool(), "diagonal is False"),
    (lambda time: torch.ones(time, time).tril(1).bool(), "position 0 see position 1"),
    (lambda time: torch.ones(time, time).bool(), "no mask"),
    (lambda time: torch.ones(time, time).tril(), "torch.float32 numbers"),
    (lambda time: lower(time + 1), "should be (3, 3)"),
    (lambda time: lower(3), "should be (1, 1)"),
    (lambda time: lower(time).tolist(), "Expected a tensor"),
    (window, "not only some"),
    (hole, "position 5 cannot see position 2"),
    (lambda time: lower(time) + nonsense, "NameError"),  # noqa: F821
    (lower(3), "without calling it"),
]


@pytest.mark.parametrize(("answer", "words"), WRONG_MASKS, ids=[words for _, words in WRONG_MASKS])
def test_wrong_causal_masks(refused, answer, words):
    refused("06.causal_mask", answer, words)


def attention(q, k, v, mask):
    return weights_of(q, k, mask) @ v


def weights_of(q, k, mask, scale=None):
    scores = q @ k.transpose(-1, -2) * (scale or q.shape[-1] ** -0.5)
    return scores.masked_fill(~mask, -torch.inf).softmax(-1)


def plain_scores(q, k):
    return q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5


@pytest.mark.parametrize(
    "answer",
    [
        attention,
        torch.nn.functional.scaled_dot_product_attention,
        lambda q, k, v, mask: attention(q, k, v, mask + 0 > 0),
    ],
)
def test_right_attention(accepted, answer):
    accepted("06.attention", answer)


def without_keepdim(powers):
    return powers / powers.sum(-1)


WRONG_ATTENTIONS = [
    (lambda q, k, v, mask: weights_of(q, k, mask, 1.0) @ v, "not scaled"),
    (lambda q, k, v, mask: weights_of(q, k, mask, 1 / q.shape[-1]) @ v, "head_dim itself"),
    (lambda q, k, v, mask: weights_of(q, k, mask, k.shape[-2] ** -0.5) @ v, "number of words"),
    (lambda q, k, v, mask: weights_of(q, k, mask, q.shape[-1] ** 0.5) @ v, "multiply by √head_dim"),
    (lambda q, k, v, mask: plain_scores(q, k).softmax(-1) @ v, "no effect"),
    (lambda q, k, v, mask: attention(q, k, v, ~mask), "upside down"),
    (lambda q, k, v, mask: (plain_scores(q, k).softmax(-1) * mask) @ v, "after the softmax"),
    (lambda q, k, v, mask: (plain_scores(q, k) * mask).softmax(-1) @ v, "e⁰ is 1"),
    (lambda q, k, v, mask: plain_scores(q, k).masked_fill(~mask, -1e9).softmax(-2) @ v, "over the queries"),
    (lambda q, k, v, mask: plain_scores(q, k).masked_fill(~mask, 0) @ v, "no softmax"),
    (lambda q, k, v, mask: attention(q, k, k, mask), "mix the keys"),
    (lambda q, k, v, mask: weights_of(q, k, mask), "What do they weigh"),
    (lambda q, k, v, mask: (attention(q, k, v, mask), 0), "tuple of 2"),
    (lambda q, k, v, mask: attention(q, k, v, mask).transpose(1, 2), "shape"),
    (lambda q, k, v, mask: attention(q, k, v, mask).double(), "torch.float64 numbers"),
    (lambda q, k, v, mask: attention(q, k, v, mask) * torch.nan, "nan"),
    (lambda q, k, v, mask: attention(q, k, v, mask[:1]), "Compare each line"),
    (lambda q, k, v, mask: q @ k @ v, "at `q @ k`"),
    (lambda q, k, v, mask: q @ k @ v, "last size of its left side, here 4"),
    (lambda q, k, v, mask: weights_of(q, k, mask, 1.0) / q.shape[-1] ** 0.5 @ v, "after the softmax"),
    (lambda q, k, v, mask: plain_scores(q, k).masked_fill(~mask, -1e9).softmax(1) @ v, "over the heads"),
    (lambda q, k, v, mask: (plain_scores(q, k) + mask).softmax(-1) @ v, "hides nothing"),
    (lambda q, k, v, mask: without_keepdim(plain_scores(q, k).masked_fill(~mask, -torch.inf).exp()) @ v, "keepdim"),
    (lambda q, k, v, mask: attention(k, q, v, mask) if q.shape == k.shape else q, "have changed places"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), WRONG_ATTENTIONS, ids=[words for _, words in WRONG_ATTENTIONS])
def test_wrong_attention(refused, answer, words):
    refused("06.attention", answer, words)


def rope_at(x, positions, theta=10_000.0, *, sign=1, speeds=None, start=0):
    half = x.shape[-1] // 2
    speed = theta ** (-torch.arange(half) / half) if speeds is None else speeds(half, theta)
    angle = (positions + start)[:, None] * speed
    a, b = x[..., :half], x[..., half:]
    cos, sin = angle.cos(), sign * angle.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def neighbours(x, positions, theta=10_000.0):
    half = x.shape[-1] // 2
    angle = positions[:, None] * theta ** (-torch.arange(half) / half)
    turned = torch.view_as_complex(x.unflatten(-1, (half, 2)).contiguous()) * torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(turned).flatten(-2)


def too_slow(half, theta):
    return theta ** (-torch.arange(half) / (2 * half))


def no_minus(half, theta):
    return theta ** (torch.arange(half) / half)


def one_late(half, theta):
    return theta ** (-(torch.arange(half) + 1) / half)


def one_sign_wrong(x, positions, theta=10_000.0):
    half = x.shape[-1] // 2
    angle = positions[:, None] * theta ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angle.cos() + b * angle.sin(), b * angle.cos() + a * angle.sin()), dim=-1)


def in_place(x, positions, theta=10_000.0):
    x.copy_(rope_at(x, positions, theta))
    return x


def test_right_rope(accepted):
    accepted("06.rope", rope_at)


WRONG_ROPES = [
    (lambda x, p, theta: rope_at(x, p, theta, sign=-1), "backwards"),
    (neighbours, "pair neighbours"),
    (one_sign_wrong, "lengths have changed"),
    (lambda x, p, theta: rope_at(x, torch.arange(x.shape[-2]), theta), "whatever `positions` says"),
    (lambda x, p, theta: rope_at(x, p, theta, start=1), "one step too large"),
    (lambda x, p, theta: rope_at(x, p), "`theta` has no effect"),
    (lambda x, p, theta: rope_at(x, p, theta, speeds=lambda half, t: torch.ones(half)), "speed of its own"),
    (lambda x, p, theta: rope_at(x, p, theta, speeds=too_slow), "too slowly"),
    (lambda x, p, theta: rope_at(x, p, theta, speeds=no_minus), "needs a minus"),
    (lambda x, p, theta: x, "Nothing is turned"),
    (lambda x, p, theta: rope_at(x, p, theta)[..., :4], "shape"),
    (lambda x, p, theta: rope_at(x.double(), p, theta), "float64"),
    (lambda x, p, theta: rope_at(x, p * 57.3, theta), "Look at the pairs"),
    (in_place, "changed `x` in place"),
    (lambda x, p, theta: rope_at(x, p * 3.14159265 / 180, theta), "in degrees"),
    (lambda x, p, theta: rope_at(x, p, theta, speeds=one_late), "one step too slow"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), WRONG_ROPES, ids=[words for _, words in WRONG_ROPES])
def test_wrong_rope(refused, answer, words):
    refused("06.rope", answer, words)
