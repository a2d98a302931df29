"""Feedback for the exercises of lesson 16, evaluation: minimal pairs, calibration error, the paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..evaluation.reliability import calibrate
from . import NotYet, call, exercise, expect_tensor


def _one_number(got: object) -> float:
    if isinstance(got, Tensor) and got.numel() != 1:
        raise NotYet(f"Expected one number, got a tensor of shape {tuple(got.shape)}: a mean is still missing.")
    try:
        return float(got)
    except (TypeError, ValueError):
        raise NotYet(f"Expected one number, got {type(got).__name__} {str(got)[:40]!r}.") from None


def _tell_mistake(got: Tensor | float, wrong: list[tuple[Callable, str]], arguments: tuple, told: str) -> None:
    """Find out which mistake gives the same numbers, and say so."""
    for way, hint in wrong:
        other = torch.as_tensor(way(*arguments), dtype=torch.float64)
        mine = torch.as_tensor(got, dtype=torch.float64)
        if other.shape == mine.shape and torch.allclose(mine, other, atol=1e-6, equal_nan=True):
            raise NotYet(f"{told} {hint}")


# Warm-up


def _pair_accuracy(right: Tensor, wrong: Tensor) -> float:
    return float((right > wrong).double().mean() + (right == wrong).double().mean() / 2)


WRONG_ACCURACIES: list[tuple[Callable, str]] = [
    (lambda r, w: (r > w).double().mean(),
     "A tie counts as wrong in yours. A model that finds all sentences alike would get 0, worse than a coin."),
    (lambda r, w: (r >= w).double().mean(),
     "A tie counts as right in yours. A model that finds all sentences alike would get full marks."),
    (lambda r, w: 1 - _pair_accuracy(r, w), "You count the pairs that the model gets wrong."),
    (lambda r, w: 100 * _pair_accuracy(r, w), "Asked is a share between 0 and 1, not a percentage."),
    (lambda r, w: len(r) * _pair_accuracy(r, w), "You count pairs. Asked is their share."),
    (lambda r, w: float(r.sum() > w.sum()),
     "You add all pairs up and compare once. Each pair is a question of its own."),
    (lambda r, w: (r > w).double().sum() / max(int((r != w).sum()), 1),
     "You leave ties out. They are pairs of the test, too: half a point each."),
    (lambda r, w: (r.abs() > w.abs()).double().mean() + (r == w).double().mean() / 2,
     "Log-probabilities are below 0: the larger one is nearer to 0. You compare without the sign."),
    (lambda r, w: (r - w).mean(), "That is how far they differ on average: one clear pair outweighs many close ones."),
]  # fmt: skip


@exercise("16.pair_accuracy")
def check_pair_accuracy(answer: object) -> str:
    generator = torch.Generator().manual_seed(15)
    for right, wrong in (
        (torch.tensor([-9.0, -7.5, -4.0, -8.0]), torch.tensor([-9.5, -7.5, -3.4, -8.5])),
        (-20 * torch.rand(50, generator=generator), -20 * torch.rand(50, generator=generator)),
        (torch.full((6,), -3.0), torch.full((6,), -3.0)),
    ):
        wanted = _pair_accuracy(right, wrong)
        got = _one_number(call(answer, right.clone(), wrong.clone()))
        if abs(got - wanted) > 1e-6:
            ties = int((right == wrong).sum())
            told = f"For {len(right)} pairs, {ties} of them a tie, you give {got:.4g}."
            _tell_mistake(got, WRONG_ACCURACIES, (right, wrong), told)
            raise NotYet(f"{told} Count by hand: which pairs are won, which tied?")
    return "So a model that knows nothing gets one half, however it breaks ties."


# Core


def _error(confidence: Tensor, correct: Tensor, bins: int) -> float:
    return calibrate(confidence, correct, bins=bins).error


def _places(confidence: Tensor, bins: int) -> Tensor:
    return ((confidence.double() * bins).ceil().long() - 1).clamp(0, bins - 1)


def _gaps(confidence: Tensor, correct: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """(signed gap of each bin, count of each bin)"""
    found = calibrate(confidence, correct, bins=bins)
    return found.confidence - found.accuracy, found.count


def _plain_mean_of_gaps(c: Tensor, r: Tensor, bins: int, *, full_only: bool) -> Tensor:
    gap, count = _gaps(c, r, bins)
    return (gap[count > 0] if full_only else gap).abs().mean()


WRONG_ERRORS: list[tuple[Callable, str]] = [
    (lambda c, r, bins: abs(float(c.double().mean() - r.double().mean())),
     "That is the difference of the two means over everything: boasting in one bin hides shyness in another. Each "
     "bin's gap counts by itself, without its sign."),
    (lambda c, r, bins: c.double().mean() - r.double().mean(),
     "Your gaps have signs, so that they cancel: boasting in one bin hides shyness in another."),
    (lambda c, r, bins: (c.double() - r.double()).abs().mean(),
     "You take the gap of each single prediction. One prediction is right or wrong, never 80% right: first average "
     "within a bin."),
    (lambda c, r, bins: _plain_mean_of_gaps(c, r, bins, full_only=True),
     "All bins count alike in yours. A bin with a thousand predictions should weigh more than one with three."),
    (lambda c, r, bins: _plain_mean_of_gaps(c, r, bins, full_only=False),
     "You divide by the number of bins. Weigh each bin by its predictions, and divide by the number of these."),
    (lambda c, r, bins: (_gaps(c, r, bins)[0].abs() * _gaps(c, r, bins)[1]).sum(),
     "You weigh each bin by its count: now divide by the number of all predictions."),
    (lambda c, r, bins: _gaps(c, r, bins)[0].abs().max(),
     "That is the largest gap (the *maximum* calibration error). Asked is the mean one."),
    (lambda c, r, bins: ((_gaps(c, r, bins)[0] ** 2 * _gaps(c, r, bins)[1]).sum() / len(c)),
     "You square the gaps. Here the gap itself counts, without its sign."),
    (lambda c, r, bins: _error(c, r, 10), "You always take ten bins. The number of bins is given."),
]  # fmt: skip


@exercise("16.calibration_error")
def check_calibration_error(answer: object) -> str:
    generator = torch.Generator().manual_seed(15)
    for n, bins in ((6, 2), (400, 5), (300, 8)):
        confidence = torch.rand(n, generator=generator)
        correct = torch.rand(n, generator=generator) < confidence**2 * 0.9 + 0.1 * (confidence < 0.3)
        if bins == 8:
            confidence = 0.55 + 0.45 * confidence  # the lower bins stay empty
        told = f"For {n} predictions and {bins} bins"
        got = _one_number(call(answer, confidence.clone(), correct.clone(), bins))
        if got != got:
            raise NotYet(f"{told} you give nan. Is a bin empty? Its mean is nothing divided by nothing: leave it out.")
        wanted = _error(confidence, correct, bins)
        if abs(got - wanted) > 1e-5:
            _tell_mistake(got, WRONG_ERRORS, (confidence, correct, bins), f"{told} you give {got:.4g}.")
            raise NotYet(
                f"{told} you give {got:.4g}, which is not right. Print count, confidence and accuracy of a bin."
            )
    return "A low error alone is no praise: who always says the average is well calibrated, and useless."


# Stretch


def _interval(a: Tensor, b: Tensor, chosen: Tensor, low: float = 0.025) -> Tensor:
    means = (a - b).double()[chosen].mean(1)
    return torch.quantile(means, torch.tensor([low, 1 - low], dtype=torch.float64))


def _ends(x: Tensor, chosen: Tensor) -> Tensor:
    return _interval(x, torch.zeros_like(x), chosen)


WRONG_INTERVALS: list[tuple[Callable, str]] = [
    (lambda a, b, chosen: _interval(b, a, chosen), "That is b − a. How far is a ahead of b?"),
    (lambda a, b, chosen: _interval(a, b, chosen, 0.05),
     "You cut off 5% at each end. 95% shall remain in the middle: how much goes at each end?"),
    (lambda a, b, chosen: torch.stack([_ends(a, chosen)[0] - _ends(b, chosen)[1],
                                       _ends(a, chosen)[1] - _ends(b, chosen)[0]]),
     "You make two intervals and hold their ends against each other. A hard item is hard for both: take the "
     "difference item by item, before you resample."),
    (lambda a, b, chosen: _ends(a, chosen) - _ends(b, chosen),
     "You subtract the ends of two intervals. In each resample take the difference, then look for the ends."),
    (lambda a, b, chosen: torch.quantile((a.double()[chosen].mean(1) - b.double().mean()),
                                         torch.tensor([0.025, 0.975], dtype=torch.float64)),
     "You resample a, but not b. In each resample both models must sit the same items."),
    (lambda a, b, chosen: torch.quantile((a - b).double(), torch.tensor([0.025, 0.975], dtype=torch.float64)),
     "These are the ends of single differences. Asked is how the *mean* varies from resample to resample."),
    (lambda a, b, chosen: torch.quantile((a - b).double()[chosen].mean(0),
                                         torch.tensor([0.025, 0.975], dtype=torch.float64)),
     "The mean goes along the wrong axis: one resample is a row of `chosen`."),
    (lambda a, b, chosen: torch.quantile((a - b).double()[chosen].sum(1),
                                         torch.tensor([0.025, 0.975], dtype=torch.float64)),
     "You add the differences of a resample up. Asked is their mean."),
    (lambda a, b, chosen: torch.stack([(a - b).double()[chosen].mean(1).min(), (a - b).double()[chosen].mean(1).max()]),
     "These are the two most extreme resamples. Draw more, and they move on outwards. Where do the middle 95% end?"),
]  # fmt: skip


@exercise("16.paired_bootstrap")
def check_paired_bootstrap(answer: object) -> str:
    generator = torch.Generator().manual_seed(15)
    for items, resamples in ((12, 40), (60, 200), (30, 30)):
        hard = torch.rand(items, generator=generator)
        a = (torch.rand(items, generator=generator) > hard * 0.7).float()
        b = torch.where(torch.rand(items, generator=generator) < 0.7, a, (hard < 0.4).float())
        chosen = torch.randint(items, (resamples, items), generator=generator)
        wanted = _interval(a, b, chosen)
        got = call(answer, a.clone(), b.clone(), chosen.clone())
        got = torch.stack([torch.as_tensor(x) for x in got]) if isinstance(got, (tuple, list)) else got
        got = expect_tensor(got.double() if isinstance(got, Tensor) else got, wanted, what="the interval")
        if not torch.allclose(got, wanted, atol=1e-5):
            told = f"For {items} items you give {got[0]:.3f} to {got[1]:.3f}."
            _tell_mistake(got, WRONG_INTERVALS, (a, b, chosen), told)
            raise NotYet(f"{told} Take `chosen[0]`, and work out its mean difference by hand.")
    return "Does the interval hold 0? Then this test cannot tell the two models apart."
