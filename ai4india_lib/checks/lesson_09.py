"""Feedback for the exercises of lesson 09, Training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..training.hyperparameters import Hyperparameters
from ..training.optimizers import learning_rate_at
from . import NotYet, call, exercise, expect_close, expect_tensor

LONGER = "Measure the length over all tensors together, as if they were one long arrow."


@exercise("09.learning_rate")
def learning_rate(answer) -> str:
    for total, warmup, decay, highest in ((20, 4, 8, 0.01), (50, 5, 20, 0.3), (10, 0, 5, 2.0)):
        h = Hyperparameters(learning_rate=highest, warmup_fraction=warmup / total, decay_fraction=decay / total)
        wanted = [learning_rate_at(step, total, h) for step in range(total)]
        got = [call(answer, step, total, highest, warmup, decay) for step in range(total)]
        for step, rate in enumerate(got):
            if isinstance(rate, bool) or not isinstance(rate, (int, float)):
                raise NotYet(f"At step {step} it returns a {type(rate).__name__}. The rate is one Python number.")
        if _same(got, wanted):
            continue
        for hint, wrong in _wrong_rates(total, warmup, decay, highest):
            if _same(got, wrong):
                raise NotYet(hint)
        step = next(i for i in range(total) if not _same(got[i : i + 1], wanted[i : i + 1]))
        part = "warm-up" if step < warmup else "plateau" if total - step > decay else "decay"
        raise NotYet(
            f"Of {total} steps, with warmup={warmup}, decay={decay} and highest={highest}, step {step} is the first "
            f"with a wrong rate: {got[step]:.4g}. It lies in the {part}. Draw the three lines: which is lowest there?"
        )
    return "Three straight lines, and always the lowest of them: no `if` is needed."


def _wrong_rates(total, warmup, decay, highest):
    """(hint, the rates of a usual mistake) pairs."""

    def rates(rise, fall, highest=highest):
        return [highest * min(rise(step), 1.0, fall(step)) for step in range(total)]

    def up(step):
        return (step + 1) / (warmup + 1)

    def down(step):
        return (total - step) / (decay + 1)

    def flat(step):
        return 1.0

    yield "The rate is the highest at every step: neither a rise nor a fall.", rates(flat, flat)
    yield "There is no warm-up: the first step already has the highest rate.", rates(flat, down)
    yield "There is no decay: the last steps should become smaller and smaller.", rates(up, flat)
    if highest != 1:
        yield "Your shares are right, from 0 to 1. What do they multiply?", rates(up, down, 1.0)
    told = (
        "The very first step has a rate of 0: it learns nothing. `step` counts from 0; the rise should not start there."
    )
    yield told, rates(lambda step: step / max(warmup, 1), down)
    yield told, rates(lambda step: step / (warmup + 1), down)
    told = "The last step has a rate of 0, and is wasted. The fall should reach 0 one step after the last."
    yield told, rates(up, lambda step: (total - 1 - step) / max(decay, 1))
    yield told, rates(up, lambda step: (total - 1 - step) / (decay + 1))
    told = "Off by one at the ends of the lines: after `warmup` rising steps, the next is the first at the top."
    yield told, rates(lambda step: (step + 1) / max(warmup, 1), lambda step: (total - step) / max(decay, 1))
    yield told, rates(lambda step: (step + 1) / max(warmup, 1), down)
    yield told, rates(up, lambda step: (total - step) / max(decay, 1))


def _same(got, wanted) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-12) for a, b in zip(got, wanted, strict=True))


@exercise("09.adamw_step")
def adamw_step(answer) -> str:
    generator = torch.Generator().manual_seed(80)
    # small gradients, so that eps counts; a large decay, so that it counts too
    for step, shape, size in ((1, (3, 2), 1.0), (2, (5,), 1e-4), (7, (2, 3, 2), 0.1)):
        w, grad, m = torch.randn(3, *shape, generator=generator)
        grad, m = grad * size, m * size
        v = torch.rand(shape, generator=generator) * size**2
        if step == 1:
            m, v = torch.zeros(shape), torch.zeros(shape)
        settings = {"lr": 0.1, "beta1": 0.8, "beta2": 0.95, "eps": 1e-5, "weight_decay": 0.5}
        wanted = _adamw(w, grad, m, v, step, **settings)
        before = [x.clone() for x in (w, grad, m, v)]
        got = call(answer, w, grad, m, v, step, **settings)
        if not all(torch.equal(a, b) for a, b in zip(before, (w, grad, m, v), strict=True)):
            raise NotYet("An input has changed in place. Make new tensors: write w = w * …, not w *= ….")
        if not isinstance(got, (tuple, list)) or len(got) != 3:
            raise NotYet("Return three things: the new w, the new m and the new v. The next step needs all of them.")
        got = [expect_tensor(a, b, what=f"the new {name}") for a, b, name in zip(got, wanted, "wmv", strict=True)]
        for hint, place, wrong in _wrong_steps(w, grad, m, v, step, settings):
            if _close(got[place], wrong) and not _close(wrong, wanted[place]):
                raise NotYet(hint)
        expect_close(got[1], wanted[1], "m is a running mean of the gradients.", what="the new m", tolerance=1e-6)
        expect_close(
            got[2], wanted[2], "v is a running mean of the squared gradients.", what="the new v", tolerance=1e-9
        )
        expect_close(got[0], wanted[0], "m and v are right. Look at the last three lines.", what="the new w")
    return "This is one whole step of torch.optim.AdamW, for one tensor."


def _adamw(w, grad, m, v, step, lr, beta1, beta2, eps, weight_decay, *, correct=(True, True), inside=False, sign=-1):
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    mean = m / (1 - beta1**step) if correct[0] else m
    square = v / (1 - beta2**step) if correct[1] else v
    size = (square + eps).sqrt() if inside else square.sqrt() + eps
    return w - lr * weight_decay * w + sign * lr * mean / size, m, v


def _wrong_steps(w, grad, m, v, step, settings):
    """(hint, 0 for w, 1 for m, 2 for v, the result of a usual mistake) tuples."""
    lr, beta1, beta2, eps, decay = settings.values()
    yield (
        "Your m has beta1 and 1 − beta1 exchanged: it should mostly stay as it was.",
        1,
        beta1 * grad + (1 - beta1) * m,
    )
    yield "Your m leaves out (1 − beta1): then it grows to a sum, not a mean.", 1, beta1 * m + grad
    yield "Your v averages the gradient, not its square.", 2, beta2 * v + (1 - beta2) * grad
    yield "Your v uses beta1. It has a factor of its own.", 2, beta1 * v + (1 - beta1) * grad**2

    def new_w(**changes):
        return _adamw(w, grad, m, v, step, **{**settings, **changes})[0]

    told = "The correction of m and v is missing. They began at 0, so they are too small in the first steps."
    yield told, 0, new_w(correct=(False, False))
    yield "m is not corrected for having begun at 0.", 0, new_w(correct=(False, True))
    yield "v is not corrected for having begun at 0.", 0, new_w(correct=(True, False))
    yield "Is your eps inside the square root? It belongs outside, beside the root.", 0, new_w(inside=True)
    yield "You climb: w moves along the gradient, so the loss grows. Look at the sign.", 0, new_w(sign=1)
    yield "Weight decay is missing: w should also shrink a little.", 0, new_w(weight_decay=0.0)
    yield "Weight decay is not multiplied by the learning rate.", 0, new_w() + lr * decay * w - decay * w
    yield "Weight decay has the wrong sign: your weights grow.", 0, new_w(weight_decay=-decay)
    told = "You add the decay to the gradient, as Adam did before AdamW. It should pull on w directly, past m and v."
    coupled = _adamw(w, grad + decay * w, m, v, step, lr, beta1, beta2, eps, 0.0)
    yield told, 0, coupled[0]
    mean = (beta1 * m + (1 - beta1) * grad) / (1 - beta1**step)
    square = (beta2 * v + (1 - beta2) * grad**2) / (1 - beta2**step)
    yield "The square root is missing: you divide by v itself.", 0, w - lr * decay * w - lr * mean / (square + eps)


@exercise("09.clip")
def clip(answer) -> str:
    generator = torch.Generator().manual_seed(88)
    for shapes, size, longest in ((((2, 3), (4,)), 5.0, 1.0), (((3,), (2, 2), (5,)), 0.01, 1.0), (((6,),), 2.0, 0.5)):
        grads = [torch.randn(shape, generator=generator) * size for shape in shapes]
        norm = torch.cat([g.flatten() for g in grads]).norm()
        before = [g.clone() for g in grads]
        wanted = [g * min(1.0, float(longest / norm)) for g in grads]
        got = call(answer, grads, longest)
        if not all(torch.equal(a, b) for a, b in zip(grads, before, strict=True)):
            raise NotYet("The given gradients have changed in place. Return new tensors.")
        if isinstance(got, Tensor) or not isinstance(got, (list, tuple)) or len(got) != len(grads):
            raise NotYet(f"Return a list of {len(grads)} tensors, one for each gradient that you were given.")
        got = [expect_tensor(a, b, what=f"gradient {i}") for i, (a, b) in enumerate(zip(got, wanted, strict=True))]
        for hint, wrong in _wrong_clips(grads, norm, longest):
            if all(map(_close, got, wrong)) and not all(map(_close, wrong, wanted)):
                raise NotYet(hint)
        for i, (a, b) in enumerate(zip(got, wanted, strict=True)):
            expect_close(a, b, LONGER, what=f"gradient {i}", tolerance=1e-5)
    return "The direction stays, only the length is limited: torch.nn.utils.clip_grad_norm_ does this in place."


def _wrong_clips(grads, norm, longest):
    """(hint, the result of a usual mistake) pairs."""
    yield "Nothing is clipped: a long gradient comes back as long as it was.", grads
    told = "You cut off single numbers. That bends the direction: make the whole arrow shorter instead."
    yield told, [g.clamp(-longest, longest) for g in grads]
    told = f"You clip each tensor by its own length. {LONGER}"
    yield told, [g * min(1.0, float(longest / g.norm())) for g in grads]
    if norm < longest:
        yield "A short gradient became longer. Clipping must leave it as it is.", [g * longest / norm for g in grads]
    yield "You divide by the length, and forget how long it may be.", [g / norm for g in grads]
    told = "You divide by the squared length: is a square root missing?"
    yield told, [g * min(1.0, float(longest / norm**2)) for g in grads]
    mean = sum(g.norm() for g in grads)
    yield f"You add up the lengths of the tensors. {LONGER}", [g * min(1.0, float(longest / mean)) for g in grads]


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-10)
