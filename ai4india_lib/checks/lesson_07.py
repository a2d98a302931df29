"""Feedback for lesson 07: RMSNorm, SwiGLU, and folding a LayerNorm away."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from . import NotYet, call, exercise, expect_close, expect_tensor


def _recognise(got: Tensor, mistakes: dict[str, Tensor]) -> None:
    """Raise `NotYet` with the sentence of the first known mistake whose result `got` is."""
    for sentence, result in mistakes.items():
        if result.shape == got.shape and torch.allclose(got, result, rtol=1e-4, atol=1e-4):
            raise NotYet(sentence)


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@exercise("07.rms_norm")
def rms_norm(answer) -> str:
    x = _random(2, 3, 8, seed=1) + 0.7  # (batch, time, dim), with a mean that is not 0
    gain, eps = _random(8, seed=2) + 1.5, 0.3
    before = x.clone()
    got = call(answer, x, gain, eps)
    if not torch.equal(x, before):
        raise NotYet("Your function changed x itself. The stream still needs the old x: make a new tensor.")
    wanted = F.rms_norm(x, (8,), gain, eps)
    squares = x.square()
    mean = squares.mean(-1, keepdim=True)
    spread = x - x.mean(-1, keepdim=True)
    expect_tensor(got, wanted)
    _recognise(
        got,
        {
            "The result is as if eps were 0. Where does eps enter? A vector of zeros will show you why it must.": x
            * mean.rsqrt()
            * gain,
            "Is your epsilon inside the square root? It was added after the root was taken.": x
            / (mean.sqrt() + eps)
            * gain,
            "Your result has lost the mean of each vector. Which of the two norms subtracts it?": spread
            * (spread.square().mean(-1, keepdim=True) + eps).rsqrt()
            * gain,
            "The gain is missing: each of the 8 places has its own learned factor.": wanted / gain,
            "You added the gain. It says how loud each place is: is that a sum or a product?": wanted / gain + gain,
            "Your vectors are too short by one and the same factor. "
            "The M in RMS: did you add up the squares, or average them?": x
            * (squares.sum(-1, keepdim=True) + eps).rsqrt()
            * gain,
            "You divided by the mean of the squares. The R in RMS is still missing.": x / (mean + eps) * gain,
            "Long vectors became longer. Did you multiply by the RMS where you should divide?": x
            * (mean + eps).sqrt()
            * gain,
            "One size was taken over all words together. Each word's vector has its own size: "
            "over which dimension do you average?": x * (squares.mean() + eps).rsqrt() * gain,
            "You averaged over the words (time). Each word must be scaled alone: which dimension holds its numbers?": x
            * (squares.mean(1, keepdim=True) + eps).rsqrt()
            * gain,
        },
    )
    expect_close(got, wanted, "Take x = [3, 4], gain 1 and eps 0, and compare each step with your pencil.")
    other = _random(5, 4, seed=3)  # another width, no batch
    expect_close(
        call(answer, other, torch.ones(4), 1e-5),
        F.rms_norm(other, (4,), eps=1e-5),
        "Here x is (5, 4): is a size or an eps written into your code as a fixed number?",
    )
    half = torch.tensor([[300.0, -400.0, 500.0, 200.0]]).half()
    got = call(answer, half, torch.ones(4).half(), 1e-6)
    wanted = F.rms_norm(half.float(), (4,), eps=1e-6).half()
    if isinstance(got, Tensor) and got.dtype == torch.float32:
        raise NotYet("x came as float16, the result is float32. The next layer expects the type that x had.")
    expect_tensor(got, wanted)
    expect_close(
        got.float(),
        wanted.float(),
        "x holds numbers like 500 in float16, which ends at 65,504. How large is the square? Where should you compute?",
        tolerance=2e-3,
    )
    return "It holds for any number of dimensions, and for float16 too, where squares overflow early."


@exercise("07.swiglu")
def swiglu(answer) -> str:
    for dim, mlp_dim, lead in ((6, 10, (2, 3)), (4, 4, (5,))):  # the second: square matrices, one sentence
        x = _random(*lead, dim, seed=4)
        gate_up, down = _random(2 * mlp_dim, dim, seed=5), _random(dim, mlp_dim, seed=6)
        got = call(answer, x, gate_up, down)
        gate, up = (x @ gate_up.T).chunk(2, dim=-1)  # each (…, mlp_dim)
        odd, even = (x @ gate_up.T)[..., 1::2], (x @ gate_up.T)[..., ::2]
        wanted = (F.silu(gate) * up) @ down.T
        expect_tensor(got, wanted)
        _recognise(
            got,
            {
                "SiLU sits on the wrong branch, or your halves changed places: "
                "which half is the gate, the first or the second?": (gate * F.silu(up)) @ down.T,
                "You have used the sigmoid alone. SiLU has one factor more.": (torch.sigmoid(gate) * up) @ down.T,
                "There is no SiLU in your result: without a bend the gate never closes.": (gate * up) @ down.T,
                "Both branches were bent. One of the two stays as it is.": (F.silu(gate) * F.silu(up)) @ down.T,
                "SiLU came after the product. The gate is bent before it meets the other half.": F.silu(gate * up)
                @ down.T,
                "You added the branches. A gate that is 0 must let nothing through: which operation does that?": (
                    F.silu(gate) + up
                )
                @ down.T,
                "That is ReLU on the gate. It is close, but the curve of this exercise is smooth.": (F.relu(gate) * up)
                @ down.T,
                "That is GELU on the gate (GEGLU). It works in models too, but here the curve is SiLU.": (
                    F.gelu(gate) * up
                )
                @ down.T,
                "You took every second row. The gate is the whole first half of the rows, in one piece.": (
                    F.silu(even) * odd
                )
                @ down.T,
            },
        )
        if dim == mlp_dim:
            _recognise(
                got,
                {
                    "Your down matrix is turned round: it is stored as (outputs, inputs), as in nn.Linear.": (
                        F.silu(gate) * up
                    )
                    @ down
                },
            )
        expect_close(got, wanted, "Print the shape after each line, and check the gate, the product and the end alone.")
    return "Two multiplications instead of three: inference engines store gate and up in one matrix for this reason."


@exercise("07.layer_norm_to_rms_norm")
def layer_norm_to_rms_norm(answer) -> str:
    inputs, dim, outputs = 5, 8, 6
    write, read = _random(dim, inputs, seed=7) + 0.4, _random(outputs, dim, seed=8)
    gain, bias = _random(dim, seed=9) + 1.5, _random(dim, seed=10)
    given = [tensor.clone() for tensor in (write, gain, bias, read)]
    got = call(answer, write, gain, bias, read)
    if not all(torch.equal(*pair) for pair in zip(given, (write, gain, bias, read), strict=True)):
        raise NotYet("Your function changed the matrices it was given. Make new ones: the old model is still in use.")
    if not isinstance(got, tuple | list) or len(got) != 3:
        raise NotYet("Expected three tensors: new_write, new_read, new_bias, in this order.")
    shapes = (torch.empty(dim, inputs), torch.empty(outputs, dim), torch.empty(outputs))
    names = ("new_write", "new_read", "new_bias")
    for tensor, like, name in zip(got, shapes, names, strict=True):
        expect_tensor(tensor, like, what=name)
    new_write, new_read, new_bias = got
    scaled = gain[:, None] * write
    for misplaced in (gain[:, None] * (write - write.mean(0)), scaled - scaled.mean(0), scaled):
        if torch.allclose(new_write, misplaced, atol=1e-4):
            raise NotYet("You gave the gain to new_write. There it changes the size that RMSNorm measures: too early.")
    if new_write.mean(0).abs().max() > 1e-5:
        if new_write.mean(1).abs().max() < 1e-5:
            raise NotYet("In new_write each row has mean 0. But h = write @ x: which direction of write runs along h?")
        raise NotYet("new_write @ x still has a mean. LayerNorm subtracts it; RMSNorm will not. Who can do it before?")
    _recognise(
        new_read,
        {
            "new_read is the old read: the gain of LayerNorm is lost.": read,
            "new_read was multiplied by the bias. Which of the two scales?": read * bias,
            "You divided by the gain. Write out read @ (gain * n): what multiplies column 0 of read?": read / gain,
            "You centred read as well. The mean is gone already: read sees only what LayerNorm gives it.": (
                read - read.mean(1, keepdim=True)
            )
            * gain,
        },
    )
    _recognise(
        new_bias,
        {
            "new_bias is all zeros: the bias of LayerNorm is lost. It, too, is read.": torch.zeros(outputs),
            "You scaled the bias by the gain. LayerNorm adds its bias after the gain.": read @ (gain * bias),
        },
    )
    # x of usual size, and so small that eps matters
    for x in (_random(20, inputs, seed=11), 1e-3 * _random(20, inputs, seed=12)):
        wanted = F.layer_norm(x @ write.T, (dim,), gain, bias) @ read.T
        made = F.rms_norm(x @ new_write.T, (dim,), eps=1e-5) @ new_read.T + new_bias
        expect_close(made, wanted, "Check the three steps alone: mean, gain, bias.", what="what the new model reads")
    return "A LayerNorm model can be turned into an RMSNorm one without a new training step: the mean was never needed."
