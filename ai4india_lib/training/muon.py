"""Muon: each weight matrix moves by the orthogonal matrix that is nearest to its momentum (Jordan et al., 2024).

A gradient is strong in few directions and weak in most. Write it as U S Vᵀ (its singular value decomposition): U Vᵀ
has the same directions, all equally strong. No decomposition is computed: a polynomial p(X) = a X + b (XXᵀ) X +
c (XXᵀ)² X leaves U and V as they are and turns each singular value s into a s + b s³ + c s⁵, so a few polynomials, one
after the other, can lift all of them to about 1. That takes products of matrices only.
"""

import torch
from torch import Tensor

# (a, b, c) of each polynomial. Amsel et al. (2025, "The Polar Express", algorithm 1) worked out which ones come nearest
# to 1. Four by their recipe, for singular values from 0.005 to 1, do on the momentum of our own runs what five times
# Jordan's polynomial does, of which torch.optim.Muon is made: 0.23 off, as a root mean square. Models come out alike.
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
    are stacked, so that each product is one call for all of them.
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
            wide = torch.stack([_lying(ahead[i]) for i in part])  # (count, rows, columns), rows <= columns
            moves = orthogonalise(wide.to(self.dtype), self.polynomials).to(wide.dtype)
            rate = group["lr"] * 0.2 * wide.shape[2] ** 0.5  # its root mean square is then 0.2, as AdamW's is about
            of_shape = [weights[i] for i in part]
            back = [move if p.shape == move.shape else move.T for p, move in zip(of_shape, moves, strict=True)]
            torch._foreach_add_(of_shape, back, alpha=-rate)


def _lying(matrix: Tensor) -> Tensor:
    """The matrix, or its transpose where that is wider."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def _stacks(matrices: list[Tensor]) -> list[list[int]]:
    """Numbers of matrices of one shape (lying), each list of at most `MOST_AT_ONCE` numbers in all."""
    by_shape: dict[tuple, list[int]] = {}
    for number, matrix in enumerate(matrices):
        by_shape.setdefault(tuple(_lying(matrix).shape), []).append(number)
    stacks = []
    for (rows, columns), numbers in by_shape.items():
        count = max(1, MOST_AT_ONCE // (rows * columns))
        stacks += [numbers[first : first + count] for first in range(0, len(numbers), count)]
    return stacks


def orthogonalise(matrices: Tensor, polynomials=POLAR_EXPRESS) -> Tensor:
    """About U Vᵀ for each matrix U S Vᵀ of a stack (count, rows, columns), rows <= columns; computed in its dtype.

    The polynomials want singular values of at most 1. That is seen to by dividing by the fourth root of the sum of
    their fourth powers: the squares of XXᵀ, which is needed anyway, add up to it. It lies closer to the largest one
    than the Frobenius norm does, which leaves less to lift.
    """
    length = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    x = matrices / length.clamp(min=TINY)  # first to length 1: no square gets too small
    gram = x @ x.mT  # (count, rows, rows)
    size = MARGIN**2 * torch.linalg.vector_norm(gram, dim=(1, 2), keepdim=True).clamp(min=TINY)
    x, gram = x / size.sqrt(), gram / size
    rows, columns = x.shape[1:]
    if columns > 1.5 * rows and x.dtype == torch.float32:  # then fewer multiplications are needed, for any number of
        return _by_gram(x, gram, polynomials)  #             polynomials; half precision would lose small values
    for number, (a, b, c) in enumerate(polynomials):
        gram = gram if number == 0 else x @ x.mT
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b XXᵀ + c (XXᵀ)²
        x = torch.baddbmm(x, factor, x, beta=a)
    return x


def _by_gram(x: Tensor, gram: Tensor, polynomials) -> Tensor:
    """The same, on small matrices only: each polynomial is a factor P, made of XXᵀ, with which X is multiplied.

    XXᵀ becomes P XXᵀ P, and the factors gather in `whole`, until at the end X is multiplied once.
    """
    whole = None
    for number, (a, b, c) in enumerate(polynomials, 1):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # (count, rows, rows)
        factor.diagonal(dim1=1, dim2=2).add_(a)  # P = a I + b XXᵀ + c (XXᵀ)²
        whole = factor if whole is None else factor @ whole
        if number < len(polynomials):
            gram = factor @ (gram @ factor)
    return whole @ x
