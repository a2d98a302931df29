"""Protects model.by_hand: gradients written by hand are those of autograd, and are used only where they are exact."""

import pytest
import torch

from ai4india_lib import DecoderLanguageModel, RMSNorm, rope
from ai4india_lib.model import by_hand


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def autograd(monkeypatch):
    """Calls a function without what is written by hand."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(by_hand, "pays", lambda x: False)
            return function()

    return call


def gradients(function, *tensors):
    leaves = [t.clone().requires_grad_() for t in tensors]
    result = function(*leaves)
    return result, torch.autograd.grad(result, leaves, drawn(*result.shape, seed=9))


@pytest.mark.parametrize("shape", [(2, 5, 8), (3, 2, 5, 8), (1, 8), (7, 1)])
def test_norm(autograd, shape):
    def normal(x, gain):
        norm = RMSNorm(shape[-1], eps=1e-3)
        del norm.gain  # another tensor takes its place
        norm.gain = gain
        return norm(x)

    tensors = drawn(*shape), drawn(shape[-1], seed=1)
    ours, theirs = gradients(normal, *tensors), autograd(lambda: gradients(normal, *tensors))
    assert torch.equal(ours[0], theirs[0])
    for a, b in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert torch.autograd.gradcheck(
        lambda x, gain: by_hand.Normalise.apply(x, gain, 1e-3), [t.double().requires_grad_() for t in tensors]
    )


@pytest.mark.parametrize("rows_differ", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_rotation(autograd, rows_differ, turned):
    """`turned`: as attention gives it, (batch, time, heads, head_dim) with two dimensions exchanged."""
    x = drawn(2, 5, 3, 8).transpose(1, 2) if turned else drawn(2, 3, 5, 8)
    cos, sin = (drawn(2, 1, 5, 4, seed=s) if rows_differ else drawn(5, 4, seed=s) for s in (1, 2))
    ours, theirs = (call(lambda: gradients(lambda x: rope(x, cos, sin), x)) for call in (lambda f: f(), autograd))
    assert torch.equal(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])


@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_whole_model_has_the_same_gradients(autograd, qk_norm):
    torch.manual_seed(0)
    model = DecoderLanguageModel(50, 16, 4, 2, 0, num_kv_heads=2, context_size=12, qk_norm=qk_norm)
    ids = torch.randint(1, 50, (3, 12))

    def run():
        model.zero_grad()
        model(ids).square().mean().backward()
        return [p.grad for p in model.parameters()]

    for a, b in zip(run(), autograd(run), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        expected = model(ids)
    assert torch.equal(model(ids), expected), "a policy that is its reference differs from it in nothing"


def test_it_is_used_only_for_gradients_in_float32_on_a_cpu():
    x = drawn(2, 4)
    assert by_hand.pays(x)
    assert not by_hand.pays(x.double()) and not by_hand.pays(x.to("meta"))
    with torch.no_grad():
        assert not by_hand.pays(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not by_hand.pays(x)
