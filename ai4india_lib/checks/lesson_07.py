"""Feedback for lesson 07: RMSNorm, SwiGLU, and folding a LayerNorm away."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from . import NotYet, call, exercise, expect_close, expect_several, expect_tensor, random_tensor, recognise, same


@exercise("07.rms_norm")
def rms_norm(answer) -> str:
    x = random_tensor(2, 3, 8, seed=1) + 0.7  # (batch, time, dim), with a mean that is not 0
    gain, eps = random_tensor(8, seed=2) + 1.5, 0.3
    got, wanted = call(answer, x, gain, eps), F.rms_norm(x, (8,), gain, eps)
    hint = "Take x = [3, 4], gain 1 and eps 0, and compare each step with your pencil."
    expect_close(got, wanted, hint, mistakes=_wrong_norms(x, gain, eps))

    other = random_tensor(5, 4, seed=3)  # another width, no batch
    got, wanted = call(answer, other, torch.ones(4), 1e-5), F.rms_norm(other, (4,), eps=1e-5)
    expect_close(got, wanted, "Here x is (5, 4): is a size or an eps written into your code as a fixed number?")

    half = torch.tensor([[300.0, -400.0, 500.0, 200.0]]).half()
    got, wanted = call(answer, half, torch.ones(4).half(), 1e-6), F.rms_norm(half.float(), (4,), eps=1e-6).half()
    if isinstance(got, Tensor) and got.dtype == torch.float32:
        raise NotYet("x came as float16, the result is float32. The next layer expects the type that x had.")
    if not same(expect_tensor(got, wanted), wanted, tolerance=2e-3):
        raise NotYet(
            "With numbers like 500 in float16 the result is wrong: float16 ends at 65,504. How large is the square? "
            "Where should you compute?"
        )
    return "It holds for any number of dimensions, and for float16 too, where squares overflow early."


def _wrong_norms(x: Tensor, gain: Tensor, eps: float) -> list[tuple[Tensor, str]]:
    """(result of a usual mistake, hint) pairs."""
    square = x.square()
    mean = square.mean(-1, keepdim=True)  # (…, 1), the mean of the squares of each vector
    normal = x * (mean + eps).rsqrt()
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return [
        (x * mean.rsqrt() * gain,
         "The result is as if eps were 0. Where does eps enter? A vector of zeros will show you why it must."),
        (x / (mean.sqrt() + eps) * gain,
         "Is your epsilon inside the square root? It was added after the root was taken."),
        (x * (mean + eps**2).rsqrt() * gain, "Your eps is squared. It is added to the mean of the squares as it is."),
        (centred * (variance + eps).rsqrt() * gain,
         "Your result has lost the mean of each vector. Which of the two norms subtracts it?"),
        (x * (variance + eps).rsqrt() * gain,
         "You divide by the deviation: in it the mean has been subtracted. The squares are of x itself."),
        (x, "The result is x itself. What should each vector be divided by?"),
        (x * gain, "Only the gain has acted. What should each vector be divided by?"),
        (normal, "The gain is missing: each of the 8 numbers of a vector has its own learned factor."),
        (normal + gain, "You added the gain. It says how loud each number is: is that a sum or a product?"),
        (normal / gain,
         "You divided by the gain. It says how loud each number is: should a large gain make it smaller?"),
        (x * (square.sum(-1, keepdim=True) + eps).rsqrt() * gain,
         "Your vectors are too short by one and the same factor. The M in RMS: did you add up the squares, or "
         "average them?"),
        (x / (x.abs().mean(-1, keepdim=True) + eps) * gain, "You averaged the sizes |x|. The S in RMS is for squares."),
        (x / (mean + eps) * gain, "You divided by the mean of the squares. The R in RMS is still missing."),
        (x * (mean + eps).sqrt() * gain,
         "Long vectors became longer. Did you multiply by the RMS where you should divide?"),
        (x * (square.mean() + eps).rsqrt() * gain,
         "One size was taken over all words together. Each word's vector has its own size: over which dimension do "
         "you average?"),
        (x * (square.mean(1, keepdim=True) + eps).rsqrt() * gain,
         "You averaged over the words (time). Each word must be scaled alone: which dimension holds its numbers?"),
        (x * (square.mean(0, keepdim=True) + eps).rsqrt() * gain,
         "You averaged over the batch. Each word must be scaled alone: which dimension holds its numbers?"),
    ]  # fmt: skip


@exercise("07.swiglu")
def swiglu(answer) -> str:
    for dim, mlp_dim, lead in ((6, 10, (2, 3)), (4, 4, (5,))):  # the second: square matrices, one sentence
        x = random_tensor(*lead, dim, seed=4)
        gate_up, down = random_tensor(2 * mlp_dim, dim, seed=5), random_tensor(dim, mlp_dim, seed=6)
        gate, up = (x @ gate_up.T).chunk(2, dim=-1)  # each (…, mlp_dim)
        wanted = (F.silu(gate) * up) @ down.T
        hint = "Print the shape after each line, and check the gate, the product and the end alone."
        got = call(answer, x, gate_up, down)
        if isinstance(got, Tensor) and got.shape == gate.shape != wanted.shape:
            raise NotYet(f"The result is still mlp_dim = {mlp_dim} wide. Which matrix leads back to the stream?")
        expect_close(got, wanted, hint, mistakes=_wrong_mlps(x, gate_up, down))
    return "Two multiplications instead of three: inference engines store gate and up in one matrix for this reason."


def _wrong_mlps(x: Tensor, gate_up: Tensor, down: Tensor) -> list[tuple[Tensor, str]]:
    """(result of a usual mistake, hint) pairs."""
    both = x @ gate_up.T
    gate, up = both.chunk(2, dim=-1)
    mistakes = [
        (gate * F.silu(up),
         "SiLU sits on the wrong branch, or your halves changed places: which half is the gate, the first or the "
         "second?"),
        (torch.sigmoid(gate) * up, "You have used the sigmoid alone. SiLU has one factor more."),
        (gate * up, "There is no SiLU in your result: without a bend the gate never closes."),
        (F.silu(gate) * F.silu(up), "Both branches were bent. One of the two stays as it is."),
        (F.silu(gate * up), "SiLU came after the product. The gate is bent before it meets the other half."),
        (F.silu(gate) + up,
         "You added the branches. A gate that is 0 must let nothing through: which operation does that?"),
        (F.silu(gate), "The other half is missing: what does the gate open and close?"),
        (F.relu(gate) * up, "That is ReLU on the gate. It is close, but the curve of this exercise is smooth."),
        (F.gelu(gate) * up, "That is GELU on the gate (GEGLU). It works in models too, but here the curve is SiLU."),
        (F.silu(both[..., ::2]) * both[..., 1::2],
         "You took every second row. The gate is the whole first half of the rows, in one piece."),
    ]  # fmt: skip
    mistakes = [(hidden @ down.T, hint) for hidden, hint in mistakes]
    if down.shape[0] == down.shape[1]:
        turned = (F.silu(gate) * up) @ down
        mistakes.append((turned, "Your down matrix is turned round: it is stored as (outputs, inputs)."))
    return mistakes


@exercise("07.layer_norm_to_rms_norm")
def layer_norm_to_rms_norm(answer) -> str:
    inputs, dim, outputs = 5, 8, 6
    write, read = random_tensor(dim, inputs, seed=7) + 0.4, random_tensor(outputs, dim, seed=8)
    gain, bias = random_tensor(dim, seed=9) + 1.5, random_tensor(dim, seed=10)
    parts = expect_several(call(answer, write, gain, bias, read), ("new_write", "new_read", "new_bias"))
    for part, like, name in zip(parts, (write, read, read @ bias), ("new_write", "new_read", "new_bias"), strict=True):
        expect_tensor(part, like, what=name)
    new_write, new_read, new_bias = parts

    _check_centring(new_write, write, gain)
    recognise(new_read, read * gain, [
        (read, "new_read is the old read: the gain of LayerNorm is lost."),
        (read * bias, "new_read was multiplied by the bias. Which of the two scales?"),
        (read / gain, "You divided by the gain. Write out read @ (gain * n): what multiplies column 0 of read?"),
        ((read - read.mean(1, keepdim=True)) * gain,
         "You centred read as well. The mean is gone already: read sees only what LayerNorm gives it."),
    ])  # fmt: skip
    recognise(new_bias, read @ bias, [
        (torch.zeros(outputs), "new_bias is all zeros: the bias of LayerNorm is lost. It, too, is read."),
        (read @ (gain * bias), "You scaled the bias by the gain. LayerNorm adds its bias after the gain."),
        (-(read @ bias), "new_bias has the wrong sign: LayerNorm adds its bias, and read takes it along."),
        (read.sum(1), "new_bias is the sum of read's rows: that is read applied to ones. What is read here?"),
    ])  # fmt: skip
    # x of usual size, and so small that eps matters
    for x in (random_tensor(20, inputs, seed=11), 1e-3 * random_tensor(20, inputs, seed=12)):
        wanted = F.layer_norm(x @ write.T, (dim,), gain, bias) @ read.T
        made = F.rms_norm(x @ new_write.T, (dim,), eps=1e-5) @ new_read.T + new_bias
        expect_close(made, wanted, "Check the three steps alone: mean, gain, bias.", what="what the new model reads")
    return "A LayerNorm model can be turned into an RMSNorm one without a new training step: the mean was never needed."


def _check_centring(new_write: Tensor, write: Tensor, gain: Tensor) -> None:
    scaled = gain[:, None] * write
    for misplaced in (gain[:, None] * (write - write.mean(0)), scaled - scaled.mean(0), scaled):
        if same(new_write, misplaced):
            raise NotYet("You gave the gain to new_write. There it changes the size that RMSNorm measures: too early.")
    if new_write.mean(0).abs().max() > 1e-5:
        if new_write.mean(1).abs().max() < 1e-5:
            raise NotYet("In new_write each row has mean 0. But h = write @ x: which direction of write runs along h?")
        if same(new_write, write - write.mean()):
            raise NotYet("You subtract one mean from all of write. But h = write @ x is made of its columns: which "
                         "mean has each of them?")  # fmt: skip
        raise NotYet("new_write @ x still has a mean. LayerNorm subtracts it; RMSNorm will not. Who can do it before?")
