"""Feedback for the exercises of lesson 16, evaluation: minimal pairs, calibration error, the paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..evaluation.reliability import calibrate
from . import (
    NotYet,
    call,
    exercise,
    expect_close,
    expect_number,
    expect_several,
    expect_tensor,
    recognise,
    results,
    same,
)

# Warm-up


def _pair_accuracy(right: Tensor, wrong: Tensor) -> float:
    return float((right > wrong).double().mean() + (right == wrong).double().mean() / 2)


WRONG_ACCURACIES: list[tuple[Callable, str]] = [
    (lambda r, w: (r > w).double().mean(),
     "A tie counts as wrong in yours. A model that finds all sentences alike would get 0, worse than a coin."),
    (lambda r, w: (r >= w).double().mean(),
     "A tie counts as right in yours. A model that finds all sentences alike would get full marks."),
    (lambda r, w: 1 - _pair_accuracy(r, w),
     "You count the pairs that the model gets wrong. Of two log-probabilities the larger one is nearer to 0."),
    (lambda r, w: 100 * _pair_accuracy(r, w), "Asked is a fraction between 0 and 1, not a percentage."),
    (lambda r, w: len(r) * _pair_accuracy(r, w), "You count pairs. Asked is the fraction of them."),
    (lambda r, w: float(r.sum() > w.sum()),
     "You add all pairs up and compare once. Each pair is a question of its own."),
    (lambda r, w: (r > w).double().sum() / max(int((r != w).sum()), 1),
     "You leave ties out. They are pairs of the test, too: half a point each."),
    (lambda r, w: (r.abs() > w.abs()).double().mean(),
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
        got = expect_number(call(answer, right, wrong))
        if not same(got, wanted, tolerance=1e-6):
            seen = f"For {len(right)} pairs, {int((right == wrong).sum())} of them a tie, you give {got:.4g}."
            recognise(got, wanted, _as_numbers(WRONG_ACCURACIES, right, wrong), seen=seen, tolerance=1e-6)
            raise NotYet(f"{seen} Count by hand: which pairs are won, which tied?")
    return "So a model that knows nothing gets one half, however it breaks ties."


def _as_numbers(mistakes: list[tuple[Callable, str]], *arguments) -> Iterator[tuple[float, str]]:
    for wrong, hint in results(mistakes, *arguments):
        yield float(wrong), hint


# Core


def _error(confidence: Tensor, correct: Tensor, bins: int) -> float:
    return calibrate(confidence, correct, bins=bins).error


def _error_of_bins(confidence: Tensor, correct: Tensor, bins: int, index: Tensor) -> float:
    """The error when prediction i is in bin index[i]."""
    gaps = [(confidence.double() - correct.double())[index == i].sum().abs() for i in range(bins)]
    return float(sum(gaps) / len(confidence))


def _gaps(confidence: Tensor, correct: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """(signed gap of each bin, count of each bin)"""
    found = calibrate(confidence, correct, bins=bins)
    return found.confidence - found.accuracy, found.count


def _plain_mean_of_gaps(c: Tensor, r: Tensor, bins: int) -> Tensor:
    gap, count = _gaps(c, r, bins)
    return gap[count > 0].abs().mean()


def _edges_twice(c: Tensor, r: Tensor, bins: int) -> float:
    """The error when a bin holds both its edges."""
    gap, found = c.double() - r.double(), 0.0
    for i in range(bins):
        found += float(gap[(c >= i / bins) & (c <= (i + 1) / bins)].sum().abs())
    return found / len(c)


WRONG_ERRORS: list[tuple[Callable, str]] = [
    (lambda c, r, bins: abs(float(c.double().mean() - r.double().mean())),
     "That is the difference of the two means over everything: boasting in one bin hides shyness in another. Each "
     "bin's gap counts by itself, without its sign."),
    (lambda c, r, bins: c.double().mean() - r.double().mean(),
     "Your gaps have signs, so that they cancel: boasting in one bin hides shyness in another."),
    (lambda c, r, bins: (c.double() - r.double()).abs().mean(),
     "You take the gap of each single prediction. One prediction is right or wrong, never 80% right: first average "
     "within a bin."),
    (_plain_mean_of_gaps,
     "All bins count alike in yours: a mean over bins. A bin with a thousand predictions should weigh more than one "
     "with three."),
    (lambda c, r, bins: (_gaps(c, r, bins)[0].abs() * _gaps(c, r, bins)[1]).sum(),
     "You weigh each bin by its count: now divide by the number of all predictions."),
    (lambda c, r, bins: _gaps(c, r, bins)[0].abs().max(),
     "That is the largest gap (the *maximum* calibration error). Asked is the mean one."),
    (lambda c, r, bins: ((_gaps(c, r, bins)[0] ** 2 * _gaps(c, r, bins)[1]).sum() / len(c)),
     "You square the gaps. Here the gap itself counts, without its sign."),
    (lambda c, r, bins: _error(c, r, 10), "You always take ten bins. The number of bins is given."),
    (lambda c, r, bins: _error_of_bins(c, r, bins, (c * bins).long().clamp(max=bins - 1)),
     "A prediction exactly on an edge is in the bin above in yours. A bin holds its *upper* edge: whose is 0.5?"),
    (lambda c, r, bins: _error_of_bins(c, r, bins, (c * bins).long()),
     "A confidence of 1 is in no bin of yours. A bin holds its upper edge: which one holds 1?"),
    (lambda c, r, bins: _error_of_bins(c, r, bins, (c * bins).ceil().long() - 1),
     "A confidence of 0 is in no bin of yours. Where should it go?"),
    (_edges_twice, "A prediction exactly on an edge counts in two bins of yours. A bin holds its upper edge alone."),
    (lambda c, r, bins: _error_of_bins(c, r, bins, (c * bins).round().long()),
     "You round to the nearest edge, so the bins are shifted by half. Which bin is between two edges?"),
    (lambda c, r, bins: _error_of_bins(c, r, bins, c.argsort().argsort() * bins // len(c)),
     "Your bins hold equally many predictions. Here they are equally wide."),
    (lambda c, r, bins: 100 * _error(c, r, bins), "That is a percentage. Asked is a number between 0 and 1."),
]  # fmt: skip


@exercise("16.calibration_error")
def check_calibration_error(answer: object) -> str:
    generator = torch.Generator().manual_seed(15)
    for n, bins in ((400, 5), (6, 2), (300, 8), (60, 4)):
        confidence = torch.rand(n, generator=generator)
        chance = confidence**2 * 0.9 + 0.1 * (confidence < 0.3)
        if bins == 5:
            chance += 0.5 * (confidence < 0.5)  # shy below, boasting above: on the whole shy
        correct = torch.rand(n, generator=generator) < chance
        if bins == 8:
            confidence = 0.55 + 0.45 * confidence  # the lower bins stay empty
        if bins == 4:
            confidence = (confidence * 8).round() / 8  # many stand exactly on an edge, some at 0 and at 1
        seen = f"For {n} predictions and {bins} bins"
        got = expect_number(call(answer, confidence, correct, bins))
        if got != got:
            raise NotYet(f"{seen} you give nan. Is a bin empty? Its mean is nothing divided by nothing: leave it out.")
        wanted = _error(confidence, correct, bins)
        if not same(got, wanted, tolerance=1e-5):
            seen += f"{', many of them on an edge,' if bins == 4 else ''} you give {got:.4g}."
            mistakes = _as_numbers(WRONG_ERRORS, confidence, correct, bins)
            recognise(got, wanted, mistakes, seen=seen, tolerance=1e-5)
            raise NotYet(f"{seen} That is not right. Print count, confidence and accuracy of a bin.")
    return "A low error alone is no praise: who always says the average is well calibrated, and useless."


# Stretch


def _interval(a: Tensor, b: Tensor, chosen: Tensor, low: float = 0.025) -> Tensor:
    means = (a - b).double()[chosen].mean(1)
    return torch.quantile(means, torch.tensor([low, 1 - low], dtype=torch.float64))


def _normal_ends(a: Tensor, b: Tensor) -> Tensor:
    gaps = (a - b).double()
    width = 1.96 * gaps.std() / len(gaps) ** 0.5
    return torch.stack([gaps.mean() - width, gaps.mean() + width])


def _ends(x: Tensor, chosen: Tensor) -> Tensor:
    return _interval(x, torch.zeros_like(x), chosen)


WRONG_INTERVALS: list[tuple[Callable, str]] = [
    (lambda a, b, chosen: _interval(a, b, chosen).flip(0), "The high end comes first in yours. low, then high."),
    (lambda a, b, chosen: _interval(b, a, chosen), "That is b − a. How far is a ahead of b?"),
    (lambda a, b, chosen: _interval(a, b, chosen, 0.05),
     "You cut off 5% at each end. 95% shall remain in the middle: how much goes at each end?"),
    (lambda a, b, chosen: _normal_ends(a, b),
     "You take 1.96 deviations of the mean, as if it were normal. Which resamples stand at the ends?"),
    (lambda a, b, chosen: torch.stack([_ends(a, chosen)[0] - _ends(b, chosen)[1],
                                       _ends(a, chosen)[1] - _ends(b, chosen)[0]]),
     "You make two intervals and compare their ends. A hard item is hard for both: take the "
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
        got = call(answer, a, b, chosen)
        if isinstance(got, tuple | list):
            ends = expect_several(got, ("the low end", "the high end"))
            got = torch.tensor([expect_number(end) for end in ends], dtype=torch.float64)
        got = expect_tensor(
            got.double() if isinstance(got, Tensor) and not got.is_complex() else got, wanted, what="the interval"
        )
        seen = f"For {items} items you give {got[0]:.3f} to {got[1]:.3f}."
        hint = "Take `chosen[0]`, and work out its mean difference by hand."
        mistakes = results(WRONG_INTERVALS, a, b, chosen)
        expect_close(got, wanted, hint, mistakes=mistakes, what="the interval", seen=seen, tolerance=1e-5)
    return "Does the interval hold 0? Then this test cannot tell the two models apart."
