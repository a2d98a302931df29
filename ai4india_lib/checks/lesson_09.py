"""Feedback for the exercises of lesson 09, Training."""

from __future__ import annotations

import math

import torch

from ..training.hyperparameters import Hyperparameters
from ..training.optimizers import learning_rate_at
from . import NotYet, call, exercise, expect_close, expect_number, expect_several, expect_tensor, recognise, same

LONGER = "Measure the length over all tensors together, as if they were one long arrow."


@exercise("09.learning_rate")
def learning_rate(answer) -> str:
    for total, warmup, decay, highest in ((20, 4, 8, 0.01), (50, 5, 20, 0.3), (10, 0, 5, 2.0)):
        h = Hyperparameters(learning_rate=highest, warmup_fraction=warmup / total, decay_fraction=decay / total)
        wanted = [learning_rate_at(step, total, h) for step in range(total)]
        got = [call(answer, step, total, highest, warmup, decay) for step in range(total)]
        got = [expect_number(rate, seen=f"At step {step}:", tensors=False) for step, rate in enumerate(got)]
        if same(got, wanted, tolerance=1e-5):
            continue
        recognise(got, wanted, _wrong_rates(total, warmup, decay, highest), tolerance=1e-5)
        step = next(i for i in range(total) if not math.isclose(got[i], wanted[i], rel_tol=1e-5))
        part = "warm-up" if step < warmup else "plateau" if total - step > decay else "decay"
        raise NotYet(
            f"Of {total} steps, with warmup={warmup}, decay={decay} and highest={highest}, step {step} is the first "
            f"with a wrong rate: {got[step]:.4g}. It lies in the {part}. Draw the three lines: which is lowest there?"
        )
    return "Three straight lines, and always the lowest of them: no `if` is needed."


def _wrong_rates(total, warmup, decay, highest):
    """(the rates of a usual mistake, hint) pairs."""

    def rates(rise, fall, highest=highest):
        return [highest * min(rise(step), 1.0, fall(step)) for step in range(total)]

    def up(step):
        return (step + 1) / (warmup + 1)

    def down(step):
        return (total - step) / (decay + 1)

    def flat(step):
        return 1.0

    first = "The very first step has a rate of 0: it learns nothing. `step` counts from 0; should the rise start there?"
    last = "The last step has a rate of 0, and is wasted. The fall should reach 0 one step after the last."
    ends = "Off by one at the ends of the lines: after `warmup` rising steps, the next is the first at the top."
    return [
        (rates(flat, flat), "The rate is the highest at every step: neither a rise nor a fall."),
        (rates(flat, down), "There is no warm-up: the first step already has the highest rate."),
        (rates(up, flat), "There is no decay: the last steps should become smaller and smaller."),
        (rates(up, down, 1.0), "Your parts are right, from 0 to 1. What do they multiply?"),
        (rates(lambda step: step / max(warmup, 1), down), first),
        (rates(lambda step: step / (warmup + 1), down), first),
        (rates(up, lambda step: (total - 1 - step) / max(decay, 1)), last),
        (rates(up, lambda step: (total - 1 - step) / (decay + 1)), last),
        (rates(lambda step: (step + 1) / max(warmup, 1), lambda step: (total - step) / max(decay, 1)), ends),
        (rates(lambda step: (step + 1) / max(warmup, 1), down), ends),
        (rates(up, lambda step: (total - step) / max(decay, 1)), ends),
        ([highest * max(up(step), down(step)) for step in range(total)],
         "You take the highest of the lines at each step. Which of them holds the rate down?"),
        ([highest * min(up(step), down(step)) for step in range(total)],
         "Between rise and fall the rate grows above `highest`. The third line is flat."),
    ]  # fmt: skip


@exercise("09.adamw_step")
def adamw_step(answer) -> str:
    generator = torch.Generator().manual_seed(80)
    # small gradients, so that eps counts; a large decay, so that it counts too
    for step, shape, size in ((7, (2, 3, 2), 0.1), (2, (5,), 1e-4), (1, (3, 2), 1.0)):
        w, grad, m = torch.randn(3, *shape, generator=generator)
        grad, m = grad * size, m * size
        v = torch.rand(shape, generator=generator) * size**2
        if step == 1:
            m, v = torch.zeros(shape), torch.zeros(shape)
        settings = {"lr": 0.1, "beta1": 0.8, "beta2": 0.95, "eps": 1e-5, "weight_decay": 0.5}
        wanted = _adamw(w, grad, m, v, step, **settings)
        names = "the new w", "the new m", "the new v"
        got = expect_several(call(answer, w, grad, m, v, step, **settings), names)
        for part, like, name in zip(got, wanted, names, strict=True):
            expect_tensor(part, like, what=name)
        (new_w, new_m, new_v), wrong = got, _wrong_steps(w, grad, m, v, step, settings)
        hints = "m is a running mean of the gradients.", "v is a running mean of the squared gradients."
        expect_close(new_m, wanted[1], hints[0], what=names[1], tolerance=1e-5, mistakes=wrong["m"])
        expect_close(new_v, wanted[2], hints[1], what=names[2], tolerance=1e-5, mistakes=wrong["v"])
        hint = "m and v are right. Look at the last three lines."
        expect_close(new_w, wanted[0], hint, what=names[0], tolerance=1e-5, mistakes=wrong["w"])
    return "This is one whole step of torch.optim.AdamW, for one tensor."


def _adamw(w, grad, m, v, step, lr, beta1, beta2, eps, weight_decay, *, correct=(True, True), inside=False, sign=-1):
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    mean = m / (1 - beta1**step) if correct[0] else m
    square = v / (1 - beta2**step) if correct[1] else v
    size = (square + eps).sqrt() if inside else square.sqrt() + eps
    return w - lr * weight_decay * w + sign * lr * mean / size, m, v


def _wrong_steps(w, grad, m, v, step, settings):
    """For each of w, m and v: (result of a usual mistake, hint) pairs."""
    lr, beta1, beta2, eps, decay = settings.values()

    def new_w(**changes):
        return _adamw(w, grad, m, v, step, **{**settings, **changes})[0]

    mean = (beta1 * m + (1 - beta1) * grad) / (1 - beta1**step)
    square = (beta2 * v + (1 - beta2) * grad**2) / (1 - beta2**step)
    no_root = w - lr * decay * w - lr * mean / (square + eps)
    return {
        "m": [
            (beta1 * grad + (1 - beta1) * m,
             "Your m has beta1 and 1 − beta1 exchanged: it should mostly stay as it was."),
            (beta1 * m + grad, "Your m leaves out (1 − beta1): then it grows to a sum, not a mean."),
            (beta2 * m + (1 - beta2) * grad, "Your m uses beta2. It has a factor of its own."),
            (mean, "You give the corrected m back. The next step needs m as it was before the correction."),
            (m, "Your m is the old one: the gradient of this step is not in it."),
        ],
        "v": [
            (beta2 * v + (1 - beta2) * grad, "Your v averages the gradient, not its square."),
            (beta1 * v + (1 - beta1) * grad**2, "Your v uses beta1. It has a factor of its own."),
            (beta2 * grad**2 + (1 - beta2) * v,
             "Your v has beta2 and 1 − beta2 exchanged: it should mostly stay as it was."),
            (beta2 * v + grad**2, "Your v leaves out (1 − beta2): then it grows to a sum, not a mean."),
            (beta2 * v + ((1 - beta2) * grad)**2, "You square (1 − beta2) too. Only the gradient is squared."),
            (square, "You give the corrected v back. The next step needs v as it was before the correction."),
            (v, "Your v is the old one: the gradient of this step is not in it."),
        ],
        "w": [
            (new_w(correct=(False, False)),
             "The correction of m and v is missing. They began at 0, so they are too small in the first steps."),
            (new_w(correct=(False, True)), "m is not corrected for having begun at 0."),
            (new_w(correct=(True, False)), "v is not corrected for having begun at 0."),
            (new_w(inside=True), "Is your eps inside the square root? It belongs outside, beside the root."),
            (new_w(eps=0.0), "eps has no effect: where v is 0 you would divide by 0."),
            (new_w(sign=1), "You climb: w moves along the gradient, so the loss grows. Look at the sign."),
            (new_w(weight_decay=0.0), "Weight decay is missing: w should also shrink a little."),
            (new_w() + lr * decay * w - decay * w, "Weight decay is not multiplied by the learning rate."),
            (new_w(weight_decay=-decay), "Weight decay has the wrong sign: your weights grow."),
            (_coupled(w, grad, m, v, step, settings),
             "You add the decay to the gradient, as Adam did before AdamW. It should pull on w itself, past m and v."),
            (no_root, "The square root is missing: you divide by v itself."),
            (w, "w has not moved at all."),
        ],
    }  # fmt: skip


def _coupled(w, grad, m, v, step, settings):
    """The new w of Adam with L2: the decay goes into the gradient, but m and v are handed back without it."""
    return _adamw(w, grad + settings["weight_decay"] * w, m, v, step, **{**settings, "weight_decay": 0.0})[0]


@exercise("09.clip")
def clip(answer) -> str:
    generator = torch.Generator().manual_seed(88)
    # too long, short, too long for a single tensor, and none at all
    for shapes, size, longest in (
        (((2, 3), (4,)), 5.0, 0.5),
        (((3,), (2, 2), (5,)), 0.01, 1.0),
        (((6,),), 2.0, 2.0),
        (((2,), (3,)), 0.0, 1.0),
    ):
        grads = [torch.randn(shape, generator=generator) * size for shape in shapes]
        norm = torch.cat([g.flatten() for g in grads]).norm()
        wanted = [g * min(1.0, float(longest / norm)) if norm > 0 else g for g in grads]
        got = call(answer, grads, longest)
        if not isinstance(got, list | tuple) or len(got) != len(grads):
            raise NotYet(f"Return a list of {len(grads)} tensors, one for each gradient that you were given.")
        for i, (part, like) in enumerate(zip(got, wanted, strict=True)):
            expect_tensor(part, like, what=f"gradient {i}")
        if norm == 0 and any(part.isnan().any() for part in got):
            raise NotYet("All gradients are 0, and NaN comes out: 0 divided by 0. No length must be divided by alone.")
        recognise(list(got), wanted, _wrong_clips(grads, norm, longest), tolerance=1e-5)
        for i, (part, right) in enumerate(zip(got, wanted, strict=True)):
            expect_close(part, right, LONGER, what=f"gradient {i}", tolerance=1e-5)
    return "The direction stays, only the length is limited: torch.nn.utils.clip_grad_norm_ does this in place."


def _wrong_clips(grads, norm, longest):
    """(result of a usual mistake, hint) pairs."""
    lengths = [g.norm() for g in grads]
    mistakes = [
        (grads, "Nothing is clipped: a long gradient comes back as long as it was."),
        ([g.clamp(-longest, longest) for g in grads],
         "You cut off single numbers. That bends the direction: make the whole arrow shorter instead."),
        ([g * min(1.0, float(longest / length)) for g, length in zip(grads, lengths, strict=True)],
         f"You clip each tensor by its own length. {LONGER}"),
        ([g / norm for g in grads], "You divide by the length, and forget how long it may be."),
        ([g * min(1.0, float(longest / norm**2)) for g in grads],
         "You divide by the squared length: is a square root missing?"),
        ([g * min(1.0, float(longest / sum(lengths))) for g in grads],
         f"You add up the lengths of the tensors. {LONGER}"),
        ([g * min(1.0, float(longest / max(lengths))) for g in grads],
         f"You take the length of the longest tensor. {LONGER}"),
        ([g * longest for g in grads], "You multiply by `longest`, however long they are together."),
    ]  # fmt: skip
    if norm < longest:
        mistakes.insert(0, ([g * longest / norm for g in grads],
                            "A short gradient became longer. Clipping must leave it as it is."))  # fmt: skip
    return mistakes
