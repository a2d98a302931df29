"""Lesson 16's feedback: right answers pass, and each usual mistake gets its own sentence."""

import pytest
import torch


def accuracy(right, wrong):
    lead = right - wrong
    return ((lead.sign() + 1) / 2).mean()


def test_right_pair_accuracy(accepted):
    accepted("16.pair_accuracy", accuracy)
    accepted("16.pair_accuracy", lambda r, w: accuracy(r, w).item())


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda r, w: (r > w).float().mean(), "A tie counts as wrong"),
        (lambda r, w: (r >= w).float().mean(), "A tie counts as right"),
        (lambda r, w: accuracy(w, r), "gets wrong"),
        (lambda r, w: 100 * accuracy(r, w), "not a percentage"),
        (lambda r, w: accuracy(r, w) * len(r), "Asked is the fraction"),
        (lambda r, w: float(r.sum() > w.sum()), "compare once"),
        (lambda r, w: (r > w).sum() / (r != w).sum(), "leave ties out"),
        (lambda r, w: accuracy(r.abs(), w.abs()), "nearer to 0"),
        (lambda r, w: (r.abs() > w.abs()).float().mean(), "compare without the sign"),
        (lambda r, w: sum(1 for x, y in zip(r, w, strict=True) if x > y) / len(r), "A tie counts as wrong"),
        (lambda r, w: (r - w).mean(), "differ on average"),
        (lambda r, w: r > w, "a sum or a mean still missing"),
        (lambda r, w: "half", "Expected one Python number"),
        (lambda r, w: r @ w.float()[:2], "A dot product needs two vectors of one length"),
        (lambda r, w: 0.3, "Count by hand"),
    ],
)
def test_wrong_pair_accuracy(refused, answer, words):
    refused("16.pair_accuracy", answer, words)


def error(confidence, correct, bins, *, weigh="count", signed=False, square=False, empty=True, largest=False):
    """A learner's loop over bins, and its mistakes."""
    index = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    gaps, weights = [], []
    for number in range(bins):
        here = index == number
        if empty and not here.any():
            continue
        gap = confidence[here].mean() - correct[here].float().mean()
        gaps.append(gap if signed else gap**2 if square else gap.abs())
        weights.append(here.sum() if weigh == "count" else torch.tensor(1))
    gaps, weights = torch.stack(gaps), torch.stack(weights)
    if largest:
        return gaps.max()
    if weigh == "none":
        return (gaps * weights).sum() / bins
    return (gaps * weights).sum() / (weights.sum() if weigh != "sum" else 1)


def with_index(confidence, correct, index, bins=99):
    """The error with predictions in other bins; those outside 0 … bins − 1 are lost."""
    gap = confidence - correct.float()
    return sum(gap[index == i].sum().abs() for i in range(bins)) / len(confidence)


def in_bins(confidence, correct, bins, inside):
    """The error when `inside(confidence, low, high)` says what a bin holds."""
    gap = confidence - correct.float()
    return sum(gap[inside(confidence, i / bins, (i + 1) / bins)].sum().abs() for i in range(bins)) / len(confidence)


def lower_edges(confidence, correct, bins):
    return in_bins(confidence, correct, bins, lambda c, low, high: (c >= low) & (c < high))


def both_edges(confidence, correct, bins):
    return in_bins(confidence, correct, bins, lambda c, low, high: (c >= low) & (c <= high))


def test_right_calibration_error(accepted):
    accepted("16.calibration_error", error)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda c, r, bins: (c.mean() - r.float().mean()).abs(), "by itself, without its sign"),
        (lambda c, r, bins: (c - r.float()).abs().mean(), "each single prediction"),
        (lambda c, r, bins: error(c, r, bins, weigh="one"), "All bins count alike"),
        (lambda c, r, bins: error(c, r, bins, signed=True), "boasting in one bin hides"),
        (lambda c, r, bins: error(c, r, bins, square=True), "square the gaps"),
        (lambda c, r, bins: error(c, r, bins) * len(c), "divide by the number of all predictions"),
        (lambda c, r, bins: error(c, r, 10), "always take ten bins"),
        (lambda c, r, bins: error(c, r, bins, empty=False), "Is a bin empty"),
        (lambda c, r, bins: with_index(c, r, (c * bins).long().clamp(max=bins - 1)), "exactly on an edge"),
        (lambda c, r, bins: with_index(c, r, (c * bins).long(), bins), "confidence of 1"),
        (lambda c, r, bins: with_index(c, r, (c * bins).ceil().long() - 1, bins), "confidence of 0"),
        (lambda c, r, bins: with_index(c, r, c.argsort().argsort() * bins // len(c)), "equally many"),
        (lambda c, r, bins: with_index(c, r, (c * bins).round().long(), bins), "nearest edge"),
        (lambda c, r, bins: lower_edges(c, r, bins), "confidence of 1"),
        (lambda c, r, bins: with_index(c, r, torch.bucketize(c, torch.linspace(0, 1, bins + 1)[1:-1], right=True)),
         "exactly on an edge"),
        (lambda c, r, bins: both_edges(c, r, bins), "two bins of yours"),
        (lambda c, r, bins: c.mean() - r.float().mean(), "signs, so that they cancel"),
        (lambda c, r, bins: error(c, r, bins, largest=True), "*maximum*"),
        (lambda c, r, bins: error(c, r, bins, weigh="none"), "All bins count alike"),
        (lambda c, r, bins: 100 * error(c, r, bins), "percentage"),
        (lambda c, r, bins: c, "a sum or a mean still missing"),
        (lambda c, r, bins: 0.123, "not right"),
    ],
)  # fmt: skip
def test_wrong_calibration_error(refused, answer, words):
    refused("16.calibration_error", answer, words)


ENDS = torch.tensor([0.025, 0.975])


def interval(a, b, chosen, ends=ENDS):
    return torch.quantile((a - b)[chosen].mean(1), ends)


def around(gaps):
    return gaps.mean() + 1.96 * gaps.std() / len(gaps) ** 0.5 * torch.tensor([-1.0, 1.0])


def alone(x, chosen):
    return torch.quantile(x[chosen].mean(1), ENDS)


def test_right_paired_bootstrap(accepted):
    accepted("16.paired_bootstrap", interval)
    accepted("16.paired_bootstrap", lambda *x: tuple(interval(*x).tolist()))


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda a, b, chosen: interval(b, a, chosen), "That is b − a"),
        (lambda a, b, chosen: interval(a, b, chosen, torch.tensor([0.05, 0.95])), "cut off 5% at each end"),
        (lambda a, b, chosen: torch.stack([alone(a, chosen)[0] - alone(b, chosen)[1],
                                           alone(a, chosen)[1] - alone(b, chosen)[0]]), "hard for both"),
        (lambda a, b, chosen: interval(a, b, chosen).flip(0), "high end comes first"),
        (lambda a, b, chosen: around(a - b), "as if it were normal"),
        (lambda a, b, chosen: alone(a, chosen) - alone(b, chosen), "subtract the ends"),
        (lambda a, b, chosen: alone(a, chosen) - b.mean(), "resample a, but not b"),
        (lambda a, b, chosen: torch.quantile(a - b, ENDS), "ends of single differences"),
        (lambda a, b, chosen: torch.quantile((a - b)[chosen].mean(0), ENDS), "wrong axis"),
        (lambda a, b, chosen: torch.quantile((a - b)[chosen].sum(1), ENDS), "Asked is their mean"),
        (lambda a, b, chosen: torch.stack([(a - b)[chosen].mean(1).min(), (a - b)[chosen].mean(1).max()]), "extreme"),
        (lambda a, b, chosen: (a - b)[chosen].mean(1), "shape"),
        (lambda a, b, chosen: "0 to 1", "Expected a tensor"),
        (lambda a, b, chosen: ["0", "1"], "Expected one Python number"),
        (lambda a, b, chosen: interval(a, b, chosen) + 1, "Take `chosen[0]`"),
    ],
)  # fmt: skip
def test_wrong_paired_bootstrap(refused, answer, words):
    refused("16.paired_bootstrap", answer, words)
