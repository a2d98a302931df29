"""Protects how a result is compared: shapes get a reason, and mistakes that any exercise may see are recognised."""

import math

import pytest
import torch

from ai4india_lib.checks import NotYet, expect_close, expect_tensor, random_tensor, recognise, same

RIGHT = random_tensor(3, 4, seed=0).abs() + 0.5


def said(got, wanted=RIGHT, **named):
    with pytest.raises(NotYet) as error:
        expect_close(got, wanted, "Look there.", **named)
    return str(error.value)


@pytest.mark.parametrize(
    "got, words",
    [
        (RIGHT.T, "their order is not: is there a transpose"),
        (RIGHT.sum(1), "One dimension is gone"),
        (RIGHT.sum(1, keepdim=True), "Dimension 1 has one number only"),
        (RIGHT[:, 1:], "Dimension 1 is one too short"),
        (RIGHT[:, None] + RIGHT, "a dimension too many"),
        (RIGHT.double(), "made in double precision"),
        (RIGHT > 0, "A bool answers yes or no"),
        (RIGHT.mean().item(), "does a sum or mean run over too much"),
        ((RIGHT, 1), "Return one thing alone"),
    ],
)
def test_kind_and_shape_get_a_reason(got, words):
    with pytest.raises(NotYet) as error:
        expect_tensor(got, RIGHT)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "got, words",
    [
        (0 * RIGHT, "every number is 0"),
        (-RIGHT, "signs are turned round"),
        (RIGHT.log(), "logarithms"),
        (RIGHT.exp(), "powers of e"),
        (RIGHT**2, "Is a root missing"),
        (RIGHT.sqrt(), "square roots"),
        (1 / RIGHT, "1 divided by"),
        (4 * RIGHT, "every number is 4 times the right one. Which factor"),
        (RIGHT / math.log(2), "which base should the logarithm have"),
        (RIGHT + 2, "every number is 2 too large"),
        (RIGHT.roll(1, 1), "one position too late along dimension 1"),
        (RIGHT.flip(0), "in reverse along dimension 0"),
        (RIGHT * torch.tensor([[1.0], [1], [3]]), "in 4 of 12 numbers, all at index 2 of dimension 0"),
        (RIGHT * torch.nan, "holds nan in 12 of 12"),
        (RIGHT.sin(), "Not one number of the result is right"),
    ],
)
def test_mistakes_of_any_exercise_are_recognised(got, words):
    assert words in said(got) and "Look there." in said(got)


def test_rows_and_columns():
    square = random_tensor(3, 3, seed=1)
    assert "rows and columns have changed places" in said(square.T, square)


def test_own_mistakes_of_an_exercise_come_first():
    assert said(2 * RIGHT, mistakes=[(2 * RIGHT, "Twice.")], seen="Seen:") == "Seen: Twice."
    recognise(RIGHT, RIGHT, [(RIGHT, "a mistake that changes nothing is none")])


def test_same_is_relative_to_the_largest_number_and_exact_for_ids():
    small = RIGHT * 1e-9
    assert same(small, small * 1.00001) and not same(small, small * 1.01) and not same(small, 0 * small)
    assert not same([5000, 1], [5000, 2]) and not same(torch.tensor([5000]), torch.tensor([5001]))
    assert same((1.0, [2]), [1, [2]]) and not same(torch.tensor(torch.nan), torch.nan) and not same(1.0, "1.0")
    assert same(torch.tensor(-torch.inf), torch.tensor(-torch.inf)) and not same(10**40, 1.0)
