"""Protects training.loss.loss_of_hidden: the loss and the gradients of whole logits, without them."""

import pytest
import torch
from torch import nn

from ai4india_lib.training import loss as module
from ai4india_lib.training.loss import loss_of_hidden, next_token_loss


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head_with(weight, requires_grad=True):
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    head.weight = nn.Parameter(weight.clone(), requires_grad=requires_grad)
    return head


def both(hidden, head, targets, scale=1.0):
    """(loss, gradients) by parts, and of the logits as a whole."""
    results = []
    for loss_of in (loss_of_hidden, lambda h, head, t: next_token_loss(head(h), t)):
        x = hidden.clone().requires_grad_()
        loss = loss_of(x, head, targets)
        wanted = [x, head.weight] if head.weight.requires_grad else [x]
        results.append((loss.detach(), torch.autograd.grad(loss * scale, wanted)))
    return results


@pytest.mark.parametrize("at_once", [1, 33 * 5, 33 * 14, 2**21])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_parts_add_up_to_the_whole(monkeypatch, at_once, scale):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    targets = torch.randint(0, 33, (2, 7), generator=torch.Generator().manual_seed(2))
    ours, whole = both(drawn(2, 7, 8), head_with(drawn(33, 8, seed=1)), targets, scale)
    torch.testing.assert_close(ours, whole, rtol=1e-5, atol=1e-6)


def test_a_frozen_head_and_places_to_learn_from():
    targets = torch.randint(0, 33, (5,), generator=torch.Generator().manual_seed(2))
    ours, whole = both(drawn(5, 8), head_with(drawn(33, 8, seed=1), requires_grad=False), targets)
    torch.testing.assert_close(ours, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [50.0, 1e4])
def test_hopeless_targets_have_their_loss(size):
    """A chance of e^-1000 is zero in float32, but its logarithm is not."""
    weight, targets = torch.eye(8)[:6], torch.tensor([1, 0, 5])
    hidden = size * torch.eye(8)[[0, 0, 3]]
    ours, whole = both(hidden, head_with(weight), targets)
    torch.testing.assert_close(ours, whole, rtol=1e-5, atol=1e-6)
    assert ours[0] > 0.6 * size


def test_infinite_logits_are_not_hidden():
    hidden = drawn(3, 8)
    hidden[1, 2] = torch.inf
    assert not loss_of_hidden(
        hidden.requires_grad_(), head_with(drawn(33, 8, seed=1)), torch.tensor([1, 2, 3])
    ).isfinite()


@pytest.mark.parametrize("kind", ["no gradients", "half", "adapter", "bias"])
def test_elsewhere_the_logits_are_computed_as_ever(monkeypatch, kind):
    class Refused(torch.autograd.Function):
        @staticmethod
        def apply(*_):
            raise AssertionError("not here")

    monkeypatch.setattr(module, "_LossInParts", Refused)
    hidden, head, targets = drawn(3, 8), head_with(drawn(33, 8, seed=1)), torch.tensor([1, 2, 3])
    if kind == "adapter":

        class Adapter(nn.Linear):
            pass

        head.__class__ = Adapter
    if kind == "bias":
        head.bias = nn.Parameter(drawn(33))
    with torch.set_grad_enabled(kind != "no gradients"), torch.autocast("cpu", torch.bfloat16, enabled=kind == "half"):
        assert torch.equal(loss_of_hidden(hidden, head, targets), next_token_loss(head(hidden), targets))


def test_the_logits_never_are_there_as_a_whole(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 33 * 2)
    made = []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, *a: made.append(tuple(x.shape)) or softmax(x, *a))
    loss_of_hidden(drawn(7, 8).requires_grad_(), head_with(drawn(33, 8)), torch.arange(7)).backward()
    assert made == [(2, 33), (2, 33), (2, 33), (1, 33)]
