"""Protects measuring on Apple's GPU, which has no float64: all that needs it is brought to the CPU first.

No such GPU is needed: a class of tensors stands in that refuses float64 as MPS does, until they are on the CPU.
"""

import pytest
import torch

from ai4india_lib import (
    Pair,
    Sampling,
    bits_per_byte,
    bootstrap_interval,
    calibration,
    compare,
    compute_loss_and_perplexity,
    encode_lines,
    encode_preferences,
    generate,
    judge_pairs,
    score_preferences,
)  # fmt: skip
from ai4india_lib.evaluation.reliability import calibrate

REFUSED = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64"


def on_cpu(func, args, kwargs):
    """Is this what brings a tensor to the CPU, and changes nothing else?"""
    if func is torch.Tensor.cpu:
        return True
    target = [*args[1:], *kwargs.values()]
    return func is torch.Tensor.to and len(target) == 1 and str(target[0]) == "cpu"


class OnApple(torch.Tensor):
    """A tensor that says it is on "mps", as does all that is computed from it, and that refuses float64."""

    device = property(lambda self: torch.device("mps"))

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        found = super().__torch_function__(func, types, args, kwargs or {})
        if on_cpu(func, args, kwargs or {}):
            return found.as_subclass(torch.Tensor)
        for one in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(one, cls) and one.dtype == torch.float64:
                raise TypeError(REFUSED)
        return found


def to_apple(tensor):
    return tensor.as_subclass(OnApple)


@pytest.fixture
def model(make_model):
    """A model whose logits are on Apple's GPU."""
    model = make_model()
    own = model.forward
    model.forward = lambda *args, **more: to_apple(own(*args, **more))
    return model


LINES = ["एक दिन मीरा विद्यालय गई।", "चिड़िया"]

MEASURES = {
    "bits per byte": lambda model, tokenizer: bits_per_byte(model, tokenizer, LINES),
    "pairs": lambda model, tokenizer: judge_pairs(model, tokenizer, [Pair("a", "मीरा गई", "मीरा गया")]),
    "reference of DPO": lambda model, tokenizer: score_preferences(
        model, encode_preferences(tokenizer, [("मीरा", "गई", "गया")])
    ).tolist(),
    "calibration": lambda model, tokenizer: calibration(model, tokenizer, LINES).error,
    "loss": lambda model, tokenizer: compute_loss_and_perplexity(
        model, [(ids[:, :-1], ids[:, 1:]) for ids in map(torch.tensor, [encode_lines(tokenizer, LINES[:1])])]
    ),
    "sampling": lambda model, tokenizer: generate(
        model, [[1, 40, 50]], max_new_tokens=5, sampling=Sampling(seed=1, top_p=0.9)
    ),
}


@pytest.mark.parametrize("measure", MEASURES)
def test_the_same_figure_as_on_the_cpu(model, make_model, tokenizer, measure):
    found = MEASURES[measure](model, tokenizer)
    assert found == MEASURES[measure](make_model(), tokenizer)


def test_figures_that_lie_on_the_device():
    torch.manual_seed(0)
    a, b = torch.rand(2, 20)
    assert compare(to_apple(a), to_apple(b)) == compare(a, b)
    assert bootstrap_interval(to_apple(a), to_apple(b)) == bootstrap_interval(a, b)
    assert calibrate(to_apple(a), to_apple(b > 0.5)).error == calibrate(a, b > 0.5).error


def test_the_stand_in_refuses():
    x = to_apple(torch.ones(3))
    for wrong in (lambda: x.double(), lambda: x.to(torch.float64), lambda: x.to("cpu", torch.float64)):
        with pytest.raises(TypeError, match="MPS"):
            wrong()
    assert type(x.cpu().double()) is torch.Tensor and type(x + 1) is OnApple
