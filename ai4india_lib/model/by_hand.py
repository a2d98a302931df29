"""The formulas of norm and rotation once more, with gradients written by hand, for training on a CPU.

Autograd takes the gradient of each small operation by itself, and each reads and writes the whole tensor. Put together
on paper, the same gradients need about half as many passes over memory, which is what such a step waits for.
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor, nn


def pays(x: Tensor) -> bool:
    """Does it pay, and is it exact, to compute by hand here? Compilers join the operations themselves."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and torch.is_grad_enabled() and not torch.compiler.is_compiling()


class Normalise(torch.autograd.Function):
    """x / rms(x) · gain, for x (..., dim) and gain (dim,): see `RMSNorm`.

    With n = x / rms(x) and the gradient g of the result, that of the gain is the sum of g · n, and that of x is
    (g · gain - n · mean(g · gain · n)) / rms(x).
    """

    @staticmethod
    def forward(ctx, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)  # (..., 1)
        normal = x * scale
        ctx.save_for_backward(normal, scale, gain)
        return normal * gain

    @staticmethod
    def backward(ctx, g: Tensor):
        normal, scale, gain = ctx.saved_tensors
        product = g * normal
        mean = (product @ gain).unsqueeze(-1) / gain.numel()  # (..., 1)
        gain_gradient = product.flatten(0, -2).sum(0)
        return torch.mul(g, gain, out=product).addcmul_(normal, mean, value=-1).mul_(scale), gain_gradient, None


def normalising(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The `forward` of `RMSNorm`, which computes by hand where that pays."""

    @wraps(forward)
    def chosen(norm: nn.Module, x: Tensor) -> Tensor:
        return Normalise.apply(x, norm.gain, norm.eps) if pays(x) else forward(norm, x)

    return chosen


class Turn(torch.autograd.Function):
    """Rotate pairs by angles: see `rope`. The gradient is turned back by the same angles."""

    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        (first, second), (turned, new_first, new_second) = x.chunk(2, dim=-1), _halves_like(x)
        torch.mul(first, cos, out=new_first).sub_(second * sin)  # to the last bit as without gradients
        torch.mul(second, cos, out=new_second).add_(first * sin)
        return turned

    @staticmethod
    def backward(ctx, g: Tensor):
        cos, sin = ctx.saved_tensors
        (first, second), (back, new_first, new_second) = g.chunk(2, dim=-1), _halves_like(g)
        torch.mul(first, cos, out=new_first).addcmul_(second, sin)
        torch.mul(second, cos, out=new_second).addcmul_(first, sin, value=-1)
        return back, None, None


def _halves_like(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A new tensor and its two halves, to be written to without copies in between."""
    whole = torch.empty_like(x)
    return whole, *whole.chunk(2, dim=-1)
