"""Protects evaluation.significance: intervals hold the truth as often as they say; tests give textbook values."""

import math
import random

import pytest
import torch

from ai4india_lib.evaluation.significance import bootstrap_interval, cohen_kappa, compare, sign_test


def test_interval_has_the_width_of_theory():
    """For a share of 0.8 among 400, the normal approximation says ± 1.96 · sqrt(0.8 · 0.2 / 400) = 0.039."""
    found = bootstrap_interval([1.0] * 320 + [0.0] * 80)
    assert found.value == pytest.approx(0.8)
    assert found.low == pytest.approx(0.8 - 0.0392, abs=0.004) and found.high == pytest.approx(0.8 + 0.0392, abs=0.004)
    narrower = bootstrap_interval([1.0] * 320 + [0.0] * 80, level=0.5)
    assert found.low < narrower.low < 0.8 < narrower.high < found.high


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    draw = random.Random(5)
    held = 0
    for seed in range(200):
        sample = [float(draw.random() < 0.7) for _ in range(60)]
        found = bootstrap_interval(sample, resamples=400, seed=seed)
        held += found.low <= 0.7 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_weighted_interval_is_that_of_the_ratio():
    """Bits per byte is all bits over all bytes, not the mean of each document's own."""
    bits, sizes = [10.0, 1000.0], [100.0, 1000.0]
    found = bootstrap_interval(bits, sizes)
    assert found.value == pytest.approx(1010 / 1100)
    assert found.low == pytest.approx(0.1) and found.high == pytest.approx(1.0)  # twice the one, twice the other


def test_same_seed_same_interval_and_large_samples_are_drawn_in_parts(monkeypatch):
    values = torch.arange(100).double()
    whole = bootstrap_interval(values, seed=3)
    assert whole == bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)
    monkeypatch.setattr("ai4india_lib.evaluation.significance.NUMBERS_AT_ONCE", 1000)
    assert bootstrap_interval(values, seed=3) == whole


def test_paired_comparison_sees_what_two_intervals_do_not():
    """B is right wherever A is, and on 12 of 500 items more: the intervals overlap, the paired difference is clear."""
    a = [1.0] * 300 + [0.0] * 200
    b = [1.0] * 312 + [0.0] * 188
    assert bootstrap_interval(b).low < bootstrap_interval(a).high
    found = compare(b, a)
    assert (found.wins, found.losses, found.ties) == (12, 0, 488)
    assert found.difference.value == pytest.approx(0.024) and found.difference.low > 0 and found.better == 1.0
    assert found.p_value == pytest.approx(2 / 2**12)
    turned = compare(a, b)
    assert turned.difference.value == -found.difference.value and turned.better == 0.0


def test_equal_models_are_equal():
    found = compare([1.0, 0.0, 1.0], [1.0, 0.0, 1.0])
    assert (found.difference.low, found.difference.high, found.better, found.p_value) == (0, 0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (5, 0, 2 / 32), (0, 5, 2 / 32), (8, 2, 2 * 56 / 1024), (60, 40, 0.056887933640980784)],
)
def test_sign_test(wins, losses, p):
    """The last value is that of `scipy.stats.binomtest(60, 100)`."""
    assert sign_test(wins, losses) == pytest.approx(p)


def test_sign_test_of_many_items_is_that_of_the_normal_curve():
    p = math.erfc((10_300 - 10_000 - 0.5) / math.sqrt(20_000 / 4) / math.sqrt(2))
    assert sign_test(10_300, 9_700) == pytest.approx(p, rel=0.01)


def test_kappa():
    """Of 50 proposals both accept 20 and both refuse 15; the first alone accepts 5, the second 10:
    agreement 0.7, by chance 0.5 · 0.6 + 0.5 · 0.4 = 0.5."""
    a = ["yes"] * 20 + ["yes"] * 5 + ["no"] * 10 + ["no"] * 15
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(a, b) == pytest.approx(0.4)
    assert cohen_kappa(a, a) == 1 and cohen_kappa([0, 1], [1, 0]) == -1
    assert math.isnan(cohen_kappa(["A"] * 4, ["A"] * 4))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: bootstrap_interval([]), "at least one"),
        (lambda: bootstrap_interval([1.0], [1.0, 2.0]), "2 weights"),
        (lambda: bootstrap_interval([1.0], level=95), "level=95"),
        (lambda: compare([1.0], [1.0, 0.0]), "same items"),
        (lambda: sign_test(-1, 2), "wins=-1"),
        (lambda: cohen_kappa("ab", "a"), "2 labels against 1"),
    ],
)
def test_mistakes_are_told(call, told):
    with pytest.raises(ValueError, match=told):
        call()
