"""What loss will a larger model, or more text, reach? L(N, D) = E + A / N^alpha + B / D^beta, fitted to runs.

The form and the way of fitting are those of Hoffmann et al. (2022), approach 3: Huber's loss of the difference of
logarithms, begun from many starts. E is the loss that is left when model and text are endless: the entropy of the text.
Besiroglu et al. (2024) found the published figures wrong by fitting again: so `bootstrap_laws` says how sure a fit is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ..basics.arguments import above, at_least

DELTA = 1e-3  # of Huber's loss: beyond a difference of 0.1% a run counts by its distance, not by the square of it
NUM_STARTS = 8  # of a fit's many starts the best so many are followed to the end
ROUNDS = 150  # of improving, at most
ENOUGH = 1e-9  # a fit that improved by less than this part of itself in each of ten rounds has come to its end


@dataclass(frozen=True)
class ScalingLaw:
    """L(N, D) = floor + a / N^alpha + b / D^beta, in the unit of the losses that it was fitted to."""

    floor: float  # E
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, parameters: float | Tensor, tokens: float | Tensor) -> float | Tensor:
        """The loss of a model of so many parameters after so many tokens: numbers, or tensors of one shape."""
        return self.floor + self.a / parameters**self.alpha + self.b / tokens**self.beta

    def best_size(self, operations: float, per_parameter: float = 6.0) -> tuple[float, float]:
        """(parameters, tokens) of the lowest loss that `operations` = `per_parameter` · N · D can buy.

        In the optimum a little more of either would help as much: alpha · a / N^alpha = beta · b / D^beta
        (Hoffmann et al., 2022, eq. 4). Raises ValueError for a law by which more parameters, or more text, do not help.
        """
        above(0, operations=operations, per_parameter=per_parameter)
        if min(self.alpha, self.beta) <= 0:
            powers = f"alpha={self.alpha:.3g}, beta={self.beta:.3g}"
            raise ValueError(f"{powers}: a best size needs both above 0; was the law fitted to enough runs?")
        pairs = operations / per_parameter  # N · D
        together = self.alpha + self.beta
        scale = (self.alpha * self.a / (self.beta * self.b)) ** (1 / together)
        parameters = scale * pairs ** (self.beta / together)
        return parameters, pairs / parameters


def fit_law(
    parameters: Sequence[float], tokens: Sequence[float], losses: Sequence[float], *, delta: float = DELTA
) -> ScalingLaw:
    """The law that fits the runs best: one entry of `parameters`, `tokens` and `losses` for each run.

    Raises ValueError for fewer than five runs (the law has five numbers), for values that are not above 0, and where
    only one size, or one amount of text, was tried.
    """
    logs = _checked(parameters, tokens, losses)
    weights = torch.ones(1, len(losses), dtype=torch.float64)
    return _as_law(_fit(logs, weights, delta)[0])


def bootstrap_laws(
    parameters: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    *,
    resamples: int = 200,
    seed: int = 0,
    delta: float = DELTA,
) -> list[ScalingLaw]:
    """Laws fitted to runs drawn again, with replacement: how far they lie apart says how sure the fit is.

    A draw with fewer than five different runs, of fewer than two sizes or two amounts of text, is drawn anew. Raises
    ValueError as `fit_law` does, and for five runs: there all draws would be the same, and look sure.
    """
    logs = _checked(parameters, tokens, losses)
    at_least(1, resamples=resamples)
    if len(losses) == 5:
        raise ValueError("five runs can be drawn in one way only, which says nothing: make more runs, better twenty")
    generator = torch.Generator().manual_seed(seed)
    count, drawn = len(losses), []
    while len(drawn) < resamples:
        chosen = torch.randint(count, (count,), generator=generator)
        seen = chosen.unique()
        if len(seen) >= 5 and all(len(logs[i][seen].unique()) > 1 for i in (0, 1)):
            drawn.append(torch.bincount(chosen, minlength=count).double())
    return [_as_law(row) for row in _fit(logs, torch.stack(drawn), delta)]


def _checked(parameters: Sequence[float], tokens: Sequence[float], losses: Sequence[float]) -> Tensor:
    """Logarithms of all three, (3, runs)."""
    if not len(parameters) == len(tokens) == len(losses) >= 5:
        counts = f"{len(parameters)} sizes, {len(tokens)} amounts of text, {len(losses)} losses"
        raise ValueError(f"{counts}: a law has five numbers, so it needs as many of each, and at least 5 runs")
    values = torch.tensor([list(map(float, row)) for row in (parameters, tokens, losses)], dtype=torch.float64)
    if not (values.isfinite() & (values > 0)).all():
        wrong = values[~(values.isfinite() & (values > 0))][0].item()
        raise ValueError(f"sizes, tokens and losses must be numbers above 0, but one is {wrong}: leave that run out")
    for row, name in ((0, "size of the model"), (1, "amount of text")):
        if len(values[row].unique()) < 2:
            raise ValueError(f"all runs have one {name}, {values[row, 0]:g}: try at least two, better four")
    return values.log()


def _starts(logs: Tensor) -> Tensor:
    """Guesses of (log E, log A, alpha, log B, beta), (starts, 5): parts of the loss, shared out in many ways."""
    size, amount, lowest = logs[0].mean(), logs[1].mean(), logs[2].min().exp()
    rows = []
    for share, alpha, beta, part in product((0.5, 0.8, 0.95), (0.2, 0.5, 1.0), (0.2, 0.5, 1.0), (0.2, 0.5, 0.8)):
        left = (logs[2].exp().mean() - share * lowest).log()
        rows.append([
            (share * lowest).log(), left + torch.log(torch.tensor(part)) + alpha * size, alpha,
            left + torch.log(torch.tensor(1 - part)) + beta * amount, beta,
        ])  # fmt: skip
    return torch.tensor(rows, dtype=torch.float64)


def _parts(guess: Tensor, logs: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of log L, (..., runs), and the parts of the loss that are E, A and B, (..., runs, 3)."""
    e, a, alpha, b, beta = (column[..., None] for column in guess.unbind(-1))
    terms = torch.stack([e.expand(*e.shape[:-1], logs.shape[1]), a - alpha * logs[0], b - beta * logs[1]], -1)
    return terms.logsumexp(-1) - logs[2], terms.softmax(-1)


def huber(difference: Tensor, delta: float = DELTA) -> Tensor:
    """Half of the square up to `delta`, and beyond it a straight line (Huber, 1964): one number for each difference."""
    size = difference.abs()
    return torch.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


def _objective(difference: Tensor, weights: Tensor, delta: float) -> Tensor:
    """Huber's loss, added up over the runs: (...,)"""
    return (weights * huber(difference, delta)).sum(-1)


def _fit(logs: Tensor, weights: Tensor, delta: float) -> Tensor:
    """The best guess for each row of `weights` (fits, runs): (fits, 5).

    Levenberg and Marquardt's method, all fits and starts at once. Huber's loss is a sum of squares in which a run that
    is far off counts less, and how much less is worked out anew in each round.
    """
    starts = _starts(logs)
    begun = _objective(_parts(starts, logs)[0][None], weights[:, None], delta)  # (fits, starts)
    guess = starts[begun.topk(min(NUM_STARTS, len(starts)), largest=False).indices]  # (fits, few, 5)
    weights = weights[:, None]  # (fits, 1, runs)
    damping = torch.full(guess.shape[:2], 1e-2, dtype=torch.float64)
    best = _objective(_parts(guess, logs)[0], weights, delta)
    since = 0
    for _ in range(ROUNDS):
        difference, part = _parts(guess, logs)
        slope = torch.stack([
            part[..., 0], part[..., 1], -part[..., 1] * logs[0], part[..., 2], -part[..., 2] * logs[1],
        ], -1)  # (fits, few, runs, 5)  # fmt: skip
        counted = weights * (delta / difference.abs().clamp(min=delta))
        square = slope.mT @ (counted[..., None] * slope)  # (fits, few, 5, 5)
        toward = slope.mT @ (counted * difference)[..., None]  # (fits, few, 5, 1)
        diagonal = square.diagonal(dim1=-2, dim2=-1) + 1e-12
        step = torch.linalg.solve(square + torch.diag_embed(damping[..., None] * diagonal), toward)[..., 0]
        tried = guess - step.clamp(-2, 2)
        found = _objective(_parts(tried, logs)[0], weights, delta)
        better = found < best
        since = 0 if (best - found > ENOUGH * best + 1e-15).any() else since + 1
        guess, best = torch.where(better[..., None], tried, guess), torch.where(better, found, best)
        damping = torch.where(better, damping / 3, damping * 4).clamp(1e-9, 1e9)
        if since == 10:
            break
    return guess.gather(1, best.argmin(1)[:, None, None].expand(-1, 1, 5))[:, 0]


def _as_law(guess: Tensor) -> ScalingLaw:
    e, a, alpha, b, beta = guess.tolist()
    floor, a, b = torch.tensor([e, a, b], dtype=torch.float64).exp().tolist()
    return ScalingLaw(floor, a, alpha, b, beta)
