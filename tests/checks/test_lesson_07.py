"""What these tests protect: the feedback of lesson 07. A right answer passes, and each wrong one hears what is
wrong with it."""

import pytest
import torch
from torch.nn import functional as F


def rms_norm(x, gain, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * gain


def swiglu(x, gate_up, down):
    gate, up = (x @ gate_up.T).chunk(2, -1)
    return (F.silu(gate) * up) @ down.T


def fold(write, gain, bias, read):
    return write - write.mean(0), read * gain, read @ bias


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("07.rms_norm", rms_norm),
        ("07.rms_norm", lambda x, gain, eps: F.rms_norm(x.float(), (x.shape[-1],), gain.float(), eps).to(x.dtype)),
        ("07.swiglu", swiglu),
        ("07.layer_norm_to_rms_norm", fold),
    ],
)
def test_right(name, answer, accepted):
    accepted(name, answer)


def mean_square(x, dim=-1):
    return x.square().mean(dim, keepdim=True)


def in_place(x, gain, eps):
    x *= torch.rsqrt(mean_square(x) + eps)
    return x * gain


def layer_norm(x, gain, eps):
    return F.layer_norm(x, (x.shape[-1],), gain, eps=eps)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, g, e: x * mean_square(x).rsqrt() * g, "as if eps were 0"),
        (lambda x, g, e: x / (mean_square(x).sqrt() + e) * g, "inside the square root"),
        (layer_norm, "lost the mean"),
        (lambda x, g, e: x * (x.var(-1, keepdim=True, correction=0) + e).rsqrt() * g, "You divide by the deviation"),
        (lambda x, g, e: x.clone(), "The result is x itself"),
        (lambda x, g, e: x * (mean_square(x) + e).rsqrt() / g, "divided by the gain"),
        (lambda x, g, e: x * (x.square().mean(-1) + e).rsqrt() * g, "is `keepdim=True` missing"),
        (lambda x, g, e: x * (mean_square(x) + e).rsqrt(), "gain is missing"),
        (lambda x, g, e: x * (mean_square(x) + e).rsqrt() + g, "added the gain"),
        (lambda x, g, e: x * (x.square().sum(-1, keepdim=True) + e).rsqrt() * g, "The M in RMS"),
        (lambda x, g, e: x / (mean_square(x) + e) * g, "The R in RMS"),
        (lambda x, g, e: x * (mean_square(x) + e).sqrt() * g, "Long vectors became longer"),
        (lambda x, g, e: x * (x.square().mean() + e).rsqrt() * g, "all words together"),
        (lambda x, g, e: x * (mean_square(x, -2) + e).rsqrt() * g, "over the words (time)"),
        (lambda x, g, e: (mean_square(x) + e).sqrt(), "shape of the result is (2, 3, 1)"),
        (lambda x, g, e: (mean_square(x) + e).rsqrt() * x * g, "float16"),  # squares in float16
        (lambda x, g, e: rms_norm(x.float(), g.float(), e), "came as float16, the result is float32"),
        (lambda x, g, e: rms_norm(x, g, 0.3), "eps written into your code"),
        (lambda x, g, e: rms_norm(x.double(), g, e), "float64"),
        (lambda x, g, e: x.tolist(), "Expected a tensor"),
        (lambda x, g, e: x / 0 + undefined, "NameError"),  # noqa: F821
        (in_place, "changed `x` in place"),
    ],
)
def test_rms_norm(answer, words, refused):
    refused("07.rms_norm", answer, words)


def with_parts(combine):
    """A SwiGLU whose two branches meet in another way."""

    def answer(x, gate_up, down):
        gate, up = (x @ gate_up.T).chunk(2, -1)
        return combine(gate, up) @ down.T

    return answer


def every_second(x, gate_up, down):
    both = x @ gate_up.T
    return (F.silu(both[..., ::2]) * both[..., 1::2]) @ down.T


def down_turned(x, gate_up, down):
    gate, up = (x @ gate_up.T).chunk(2, -1)
    return (F.silu(gate) * up) @ (down if down.shape[0] == down.shape[1] else down.T)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (with_parts(lambda gate, up: gate * F.silu(up)), "wrong branch"),
        (with_parts(lambda gate, up: torch.sigmoid(gate) * up), "sigmoid alone"),
        (with_parts(lambda gate, up: gate * up), "no SiLU"),
        (with_parts(lambda gate, up: F.silu(gate) * F.silu(up)), "Both branches"),
        (with_parts(lambda gate, up: F.silu(gate * up)), "after the product"),
        (with_parts(lambda gate, up: F.silu(gate) + up), "added the branches"),
        (with_parts(lambda gate, up: F.relu(gate) * up), "ReLU"),
        (with_parts(lambda gate, up: F.gelu(gate) * up), "GELU"),
        (with_parts(lambda gate, up: 2 * F.silu(gate) * up), "check the gate"),
        (every_second, "every second row"),
        (down_turned, "turned round"),
        (lambda x, gate_up, down: x @ gate_up, "at `x @ gate_up`"),
        (lambda x, gate_up, down: x @ gate_up, "transpose"),
        (with_parts(lambda gate, up: F.silu(gate)), "other half is missing"),
        (lambda x, gate_up, down: F.silu(x @ gate_up.T).chunk(2, -1)[0], "still mlp_dim = 10 wide"),
        (lambda x, gate_up, down: x @ gate_up.T, "shape of the result"),
    ],
)
def test_swiglu(answer, words, refused):
    refused("07.swiglu", answer, words)


def centred(write):
    return write - write.mean(0)


def writes_over(write, gain, bias, read):
    write -= write.mean(0)
    return write, read * gain, read @ bias


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda w, g, b, r: (w, r * g, r @ b), "still has a mean"),
        (lambda w, g, b, r: (w - w.mean(1, keepdim=True), r * g, r @ b), "which direction of write"),
        (lambda w, g, b, r: (w - w.mean(), r * g, r @ b), "subtract one mean"),
        (lambda w, g, b, r: (g[:, None] * centred(w), r, r @ b), "gain to new_write"),
        (lambda w, g, b, r: (centred(g[:, None] * w), r, r @ b), "gain to new_write"),
        (lambda w, g, b, r: (centred(w), r, r @ b), "gain of LayerNorm is lost"),
        (lambda w, g, b, r: (centred(w), r * b, r @ b), "multiplied by the bias"),
        (lambda w, g, b, r: (centred(w), r / g, r @ b), "divided by the gain"),
        (lambda w, g, b, r: (centred(w), (r - r.mean(1, keepdim=True)) * g, r @ b), "centred read"),
        (lambda w, g, b, r: (centred(w), r * g, torch.zeros(6)), "bias of LayerNorm is lost"),
        (lambda w, g, b, r: (centred(w), r * g, r @ (g * b)), "scaled the bias"),
        (lambda w, g, b, r: (centred(w), r * g, b), "shape of new_bias is (8,)"),
        (lambda w, g, b, r: (centred(w), r * g, -(r @ b)), "wrong sign"),
        (lambda w, g, b, r: (centred(w), r * g, r.sum(1)), "applied to ones"),
        (lambda w, g, b, r: (centred(w), r * g, r @ b + 1), "three steps alone"),
        (lambda w, g, b, r: (2 * centred(w), r * g, r @ b), "three steps alone"),
        (lambda w, g, b, r: (centred(w), r * g), "Return three things"),
        (writes_over, "changed `write` in place"),
    ],
)
def test_layer_norm_to_rms_norm(answer, words, refused):
    refused("07.layer_norm_to_rms_norm", answer, words)
