"""Protects the probe: it finds what is written in vectors, and its control task holds what nobody can know."""

import pytest
import torch

from ai4india_lib.evaluation.inside.probe import control_labels, fit_probe


def points(n=400, dim=12, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_a_direction_is_found_and_noise_is_not():
    x, new = points(), points(seed=1)
    probe = fit_probe(x * 100 + 7, (x[:, 3] > 0).long(), 2)  # whatever their size and middle
    assert probe.accuracy(new * 100 + 7, (new[:, 3] > 0).long()) > 0.9
    nothing = fit_probe(x, torch.randint(2, (400,), generator=torch.Generator().manual_seed(2)), 2)
    assert 0.4 < nothing.accuracy(new, (new[:, 3] > 0).long()) < 0.6


def test_it_is_the_minimum_that_gradient_descent_finds():
    x, labels = points(60, 3), torch.arange(60) % 3
    probe = fit_probe(x, labels, 3, decay=0.1)
    standard = (x.double() - x.double().mean(0)) / x.double().std(0)
    wanted = torch.eye(3).double()[labels]
    weight, bias = torch.zeros(3, 3).double().requires_grad_(), torch.zeros(3).double().requires_grad_()
    for _ in range(500):
        loss = (standard @ weight + bias - wanted).square().sum() / 60 + 0.1 * weight.square().sum()
        gradients = torch.autograd.grad(loss, (weight, bias))
        with torch.no_grad():
            weight -= 0.2 * gradients[0]
            bias -= 0.2 * gradients[1]
    assert torch.allclose(probe.weight, weight, atol=1e-6) and torch.allclose(probe.bias, bias, atol=1e-6)


def test_it_trains_also_where_gradients_are_off_and_leaves_the_vectors_alone():
    x = points(20).requires_grad_()
    with torch.no_grad():
        probe = fit_probe(x, (x[:, 0] > 0).long(), 2)
    assert probe(x).shape == (20,) and x.grad is None


def test_a_kind_keeps_its_label_and_chance_decides_which():
    kinds = ["का", "की", "का", "के", *range(500)]
    labels = control_labels(kinds, 4, seed=1)
    assert labels[0] == labels[2] and torch.equal(labels, control_labels(kinds, 4, seed=1))
    assert not torch.equal(labels, control_labels(kinds, 4, seed=2))
    assert labels.bincount(minlength=4).min() > 90


@pytest.mark.parametrize(
    "labels, classes, words",
    [
        (torch.zeros(5).long(), 2, "expected"),
        (torch.full((20,), 2), 2, "0 to 1"),
        (torch.zeros(20).long(), 1, "classes"),
    ],
)
def test_labels_that_cannot_be_are_told(labels, classes, words):
    with pytest.raises(ValueError, match=words):
        fit_probe(points(20), labels, classes)
