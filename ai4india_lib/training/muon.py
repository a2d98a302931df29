"""Muon: each weight matrix moves by the orthogonal matrix that is nearest to its momentum (Jordan et al., 2024).

A gradient is strong in few directions and weak in most. Write it as U S Vᵀ (its singular value decomposition): U Vᵀ
has the same directions, all equally strong. No decomposition is computed: a polynomial p(X) = a X + b (XXᵀ) X +
c (XXᵀ)² X leaves U and V as they are and turns each singular value s into a s + b s³ + c s⁵, so a few polynomials, one
after the other, can lift all of them to about 1. That takes products of matrices only.
"""

import torch
from torch import Tensor

from .sharding import cut_like, whole

# (a, b, c) of each polynomial. Amsel et al. (2025, "The Polar Express", algorithm 1) worked out which ones come nearest
# to 1. Four by their recipe, for singular values from 0.005 to 1, do on the momentum of our own runs what five times
# Jordan's polynomial does, of which torch.optim.Muon is made: 0.23 off, as a root mean square. Losses were alike.
POLAR_EXPRESS = (
    (8.10250, -22.77876, 16.40758),
    (3.88080, -2.83823, 0.53242),
    (3.15322, -2.31788, 0.47449),
    (2.19648, -1.57376, 0.40858),
)
JORDAN = ((3.4445, -4.7750, 2.0315),) * 5

MARGIN = 1.01  # singular values end below 1 by so much, as rounding might lift them
TINY = 1e-20  # a matrix of zeros stays one
MOST_AT_ONCE = 2**24  # numbers in one stack of matrices: more would only take memory


class Muon(torch.optim.Optimizer):
    """For matrices only. Steps have the size of AdamW's, so that one learning rate fits both (Liu et al., 2025, §2.2).

    `dtype` is that of the products: float32, or bfloat16 where the hardware multiplies it fast. Matrices of one shape
    are stacked, so that each product is one call for all of them. Those that are cut up over processes (FSDP2) are made
    whole first: the nearest orthogonal matrix is one of all their rows. Each process computes it, and keeps its part.
    """

    def __init__(
        self, params, lr: float, weight_decay: float = 0.1, momentum: float = 0.95, *,
        dtype: torch.dtype = torch.float32, polynomials=POLAR_EXPRESS,
    ):  # fmt: skip
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype, self.polynomials = dtype, polynomials
        for group in self.param_groups:
            if odd := [tuple(p.shape) for p in group["params"] if p.dim() != 2]:
                raise ValueError(f"Muon moves matrices, not a parameter of shape {odd[0]}: give that to AdamW")

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._move(weights, group)
        return loss

    def _move(self, weights: list[Tensor], group: dict) -> None:
        """One step of a group's weights; torch's `_foreach` functions do all of a list in one call."""
        for p in weights:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        gradients, momenta = [p.grad for p in weights], [self.state[p]["momentum_buffer"] for p in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov: the next momentum, if all stays
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for part in _stacks(weights):
            stack = torch.stack([whole(ahead[i]) for i in part])  # (count, rows, columns)
            moves = orthogonalise(stack.to(self.dtype), self.polynomials).to(stack.dtype)
            rate = group["lr"] * 0.2 * max(stack.shape[1:]) ** 0.5  # the moves' root mean square is then 0.2 lr, about
            moves = [cut_like(move, weights[i]) for i, move in zip(part, moves, strict=True)]
            torch._foreach_add_([weights[i] for i in part], moves, alpha=-rate)  # that of AdamW's


def _stacks(matrices: list[Tensor]) -> list[list[int]]:
    """Numbers of matrices of one shape, each list of at most `MOST_AT_ONCE` numbers in all."""
    by_shape: dict[torch.Size, list[int]] = {}
    for number, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(number)
    stacks = []
    for shape, numbers in by_shape.items():
        count = max(1, MOST_AT_ONCE // shape.numel())
        stacks += [numbers[first : first + count] for first in range(0, len(numbers), count)]
    return stacks


def orthogonalise(matrices: Tensor, polynomials=POLAR_EXPRESS) -> Tensor:
    """About U Vᵀ for each matrix U S Vᵀ of a stack (count, rows, columns), computed in its dtype.

    Of XXᵀ and XᵀX the smaller one is taken, here called the Gram matrix; a polynomial is then a factor on that side.

    The polynomials want singular values of at most 1. That is seen to by dividing by the fourth root of the sum of
    their fourth powers: the squares of the Gram matrix, which is needed anyway, add up to it. It lies closer to the
    largest one than the Frobenius norm does, which leaves less to lift.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    small, large = sorted(matrices.shape[1:])
    length = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    x = matrices / length.clamp(min=TINY)  # first to length 1: no square gets too small
    gram = x.mT @ x if tall else x @ x.mT  # (count, small, small)
    size = MARGIN**2 * torch.linalg.vector_norm(gram, dim=(1, 2), keepdim=True).clamp(min=TINY)
    x, gram = x / size.sqrt(), gram / size
    if large > 1.5 * small and x.dtype == torch.float32:  # then fewer multiplications are needed, for any number of
        whole = _factor(gram, polynomials)  #               polynomials; half precision would lose small values
        return x @ whole if tall else whole @ x
    for number, (a, b, c) in enumerate(polynomials):
        if number:
            gram = x.mT @ x if tall else x @ x.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b G + c G²
        x = torch.baddbmm(x, x, factor, beta=a) if tall else torch.baddbmm(x, factor, x, beta=a)
    return x


def _factor(gram: Tensor, polynomials) -> Tensor:
    """All polynomials as one factor, from the Gram matrices G (count, small, small) alone.

    Each polynomial multiplies X by P = a I + b G + c G². That turns G into P G P, and the factors gather in `whole`.
    """
    whole = None
    for number, (a, b, c) in enumerate(polynomials, 1):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        whole = factor if whole is None else factor @ whole
        if number < len(polynomials):
            gram = factor @ (gram @ factor)
    return whole
