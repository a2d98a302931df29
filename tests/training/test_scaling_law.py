"""Protects laws of scaling: numbers that were put in come out again, strange runs hardly count, thin data is told."""

import math
import random

import pytest
import torch

from ai4india_lib.training.scaling_law import ScalingLaw, bootstrap_laws, fit_law, huber

TRUE = ScalingLaw(1.75, 22.0, 0.6, 400.0, 0.6)
CHINCHILLA = ScalingLaw(1.69, 406.4, 0.34, 410.7, 0.28)
SIZES, AMOUNTS = (1056, 2352, 4160, 9312, 25680, 65696), tuple(2**power for power in (16, 17, 18, 19, 20))


def runs_of(law, noise=0.0, sizes=SIZES, amounts=AMOUNTS, seed=0):
    luck = random.Random(seed)
    runs = [(n, d, law.loss(n, d) * math.exp(luck.gauss(0, noise))) for n in sizes for d in amounts]
    return tuple(zip(*runs, strict=True))


@pytest.mark.parametrize(
    ("law", "sizes", "amounts"),
    [(TRUE, SIZES, AMOUNTS), (CHINCHILLA, (7e7, 3e8, 1e9, 7e9, 16e9), (5e9, 2e10, 1e11, 5e11))],
)
def test_the_numbers_of_a_law_come_out_again(law, sizes, amounts):
    found = fit_law(*runs_of(law, sizes=sizes, amounts=amounts))
    assert vars(found) == pytest.approx(vars(law), rel=1e-3)


def test_a_strange_run_hardly_counts():
    sizes, amounts, losses = runs_of(TRUE, noise=0.001)
    honest = fit_law(sizes, amounts, losses)
    spoilt = fit_law(sizes, amounts, (*losses[:-1], losses[-1] * 1.3))
    squares = fit_law(sizes, amounts, (*losses[:-1], losses[-1] * 1.3), delta=1e9)
    assert abs(spoilt.floor - honest.floor) < 0.02 < abs(squares.floor - honest.floor)


def test_huber_is_half_the_square_and_then_a_line():
    found = huber(torch.tensor([0.0, 0.5, -1.0, 3.0, -3.0]), 1.0)
    assert found.tolist() == [0.0, 0.125, 0.5, 2.5, 2.5]


def test_the_bootstrap_holds_the_truth_and_grows_with_the_noise():
    calm, wild = ([law.floor for law in bootstrap_laws(*runs_of(TRUE, noise), resamples=40)] for noise in (0.001, 0.01))
    assert min(wild) < TRUE.floor < max(wild) and min(calm) < TRUE.floor < max(calm)
    assert max(wild) - min(wild) > 2 * (max(calm) - min(calm))
    again = [law.floor for law in bootstrap_laws(*runs_of(TRUE, 0.001), resamples=40)]
    assert again == calm, "the same seed, the same draws"


@pytest.mark.parametrize("law", [TRUE, CHINCHILLA])
@pytest.mark.parametrize("operations", [1e9, 1e15, 5.76e23])
def test_no_other_size_of_the_same_budget_is_better(law, operations):
    n, d = law.best_size(operations)
    assert 6 * n * d == pytest.approx(operations)
    others = [law.loss(n * 1.05**i, d / 1.05**i) for i in range(-40, 41)]
    assert min(others) == pytest.approx(law.loss(n, d))
    assert law.best_size(operations, per_parameter=2.0)[0] > n, "who pays less for each can afford more"


def test_a_law_by_which_more_does_not_help_has_no_best_size():
    for law in (ScalingLaw(1.75, 22.0, -0.1, 400.0, 0.6), ScalingLaw(1.75, 22.0, 0.6, 400.0, 0.0)):
        with pytest.raises(ValueError, match="a best size needs both above 0"):
            law.best_size(1e9)
    with pytest.raises(ValueError, match="operations=0"):
        TRUE.best_size(0)


def test_five_runs_say_nothing_about_their_law():
    five = runs_of(TRUE, sizes=SIZES[:5], amounts=AMOUNTS[:1])
    other = (*five[0][:4], five[0][0]), (*five[1][:4], 2**18), five[2]
    fit_law(*other)
    with pytest.raises(ValueError, match="in one way only"):
        bootstrap_laws(*other)
    with pytest.raises(ValueError, match="resamples=0"):
        bootstrap_laws(*runs_of(TRUE), resamples=0)


def test_a_law_takes_tensors_as_it_takes_numbers():
    n, d = torch.tensor([1e3, 1e4]).double(), torch.tensor([1e5, 1e6]).double()
    assert TRUE.loss(n, d).tolist() == pytest.approx([TRUE.loss(1e3, 1e5), TRUE.loss(1e4, 1e6)])


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]), "at least 5 runs"),
        (([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 4]), "5 sizes, 5 amounts of text, 4 losses"),
        (([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 4, math.nan]), "one is nan"),
        (([1, 2, 3, 4, 5], [1, 2, 3, 4, 0], [1, 2, 3, 4, 5]), "one is 0"),
        (([1, 2, 3, 4, 5], [7, 7, 7, 7, 7], [1, 2, 3, 4, 5]), "one amount of text, 7"),
        (([4, 4, 4, 4, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]), "one size of the model, 4"),
    ],
)
def test_runs_that_fix_no_law_are_told(runs, told):
    for fit in (fit_law, bootstrap_laws):
        with pytest.raises(ValueError, match=told):
            fit(*runs)
