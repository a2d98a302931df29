"""How sure is a measurement, and is one model really better than another?

A test set is a sample: another thousand stories would give another figure. The bootstrap (Efron & Tibshirani, 1993)
asks the sample itself how much: draw as many items from it, with repeats, again and again; how does the figure vary?
Two models are compared on the *same* items, so that hard ones are hard for both (Koehn, 2004).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from ..basics.arguments import at_least, between

Numbers = Sequence[float] | Tensor
NUMBERS_AT_ONCE = 4_000_000  # drawn together: bounds the memory


@dataclass(frozen=True)
class Interval:
    """A measured value, and the bounds between which the true one lies with the stated confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Model A against model B on the same items, where more is better."""

    difference: Interval  # mean of A − B
    better: float  # fraction of resamples in which A is ahead (a draw counts half)
    wins: int  # items on which A is better
    losses: int
    ties: int
    p_value: float  # of the sign test: how often a fair coin would be as lopsided


def _numbers(values: Numbers) -> Tensor:
    values = values.cpu() if isinstance(values, Tensor) else values  # first: Apple's GPU has no float64
    numbers = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    if numbers.dim() != 1 or not len(numbers):
        raise ValueError(f"expected one number per item, at least one, got shape {tuple(numbers.shape)}")
    return numbers


def _resample(values: Tensor, weights: Tensor, level: float, resamples: int, seed: int) -> tuple[Interval, Tensor]:
    """sum(values) / sum(weights), both (items,), with its percentile interval; and the same figure of each of
    `resamples` samples of as many items, drawn with repeats: (resamples,)."""
    between(0, 1, level=level)
    if level in (0, 1):
        raise ValueError(f"level={level} must lie between 0 and 1; usual is 0.95")
    at_least(1, resamples=resamples)
    between(0, 2**63 - 1, seed=seed)
    items, generator, found = len(values), torch.Generator().manual_seed(seed), []
    at_once = max(1, NUMBERS_AT_ONCE // items)
    for start in range(0, resamples, at_once):
        chosen = torch.randint(items, (min(at_once, resamples - start), items), generator=generator)
        found.append(values[chosen].sum(1) / weights[chosen].sum(1))
    drawn = torch.cat(found)
    low, high = drawn.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return Interval(float(values.sum() / weights.sum()), low, high), drawn


def bootstrap_interval(
    values: Numbers, weights: Numbers | None = None, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of `values` (items,) with its percentile interval (Efron & Tibshirani, 1993, §13.3).

    With `weights` the figure is sum(values) / sum(weights), as in bits per byte: bits and bytes of each document.
    Same seed, same interval. Raises ValueError for no items, or a `level` that is not between 0 and 1.
    """
    values = _numbers(values)
    weights = torch.ones_like(values) if weights is None else _numbers(weights)
    if values.shape != weights.shape:
        raise ValueError(f"{len(values)} values but {len(weights)} weights: each item needs one of both")
    return _resample(values, weights, level, resamples, seed)[0]


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p-value: how probable a split at least as lopsided is if each item is decided by a fair coin.

    Ties are left out beforehand. Exact, from the binomial distribution (Arbuthnot, 1710).
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"wins={wins} and losses={losses} are counts: they cannot be negative")
    n = wins + losses
    # C(n, 0), C(n, 1) … C(n, the fewer of both)
    ways = accumulate(range(min(wins, losses)), lambda before, k: before * (n - k) // (k + 1), initial=1)
    return min(1.0, 2 * sum(ways) / 2**n)


def compare(a: Numbers, b: Numbers, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Comparison:
    """Hold the scores of two models on the same items, (items,) each, against each other; more is better.

    The difference is resampled by item (paired bootstrap: Koehn, 2004, §4); the sign test counts only who was better.
    For surprises, where less is better, give their negatives. Raises ValueError if the numbers of items differ.
    """
    a, b = _numbers(a), _numbers(b)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} scores against {len(b)}: a fair comparison needs both models on the same items")
    lead = a - b  # (items,)
    difference, drawn = _resample(lead, torch.ones_like(lead), level, resamples, seed)
    wins, losses = int((lead > 0).sum()), int((lead < 0).sum())
    ahead = float((drawn > 0).double().mean() + (drawn == 0).double().mean() / 2)
    return Comparison(difference, ahead, wins, losses, len(lead) - wins - losses, sign_test(wins, losses))


def cohen_kappa(a: Sequence, b: Sequence) -> float:
    """How far two judges agree beyond chance: 1 fully, 0 as by chance, below 0 less than that (Cohen, 1960).

    `a` and `b` are their labels of the same items. nan if both give all items one and the same label: chance alone
    would agree then, and nothing is left to measure.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"{len(a)} labels against {len(b)}: both judges must judge the same items, one at least")
    n = len(a)
    agreed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    by_chance = sum(list(a).count(label) * list(b).count(label) for label in {*a, *b}) / n**2
    return math.nan if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)
