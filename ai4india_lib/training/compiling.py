"""A step's loss compiled for a GPU: when that is earned, and what happens where it fails.

A small model keeps a GPU waiting: each of its many small operations is started by Python. `torch.compile` makes a few
large ones of them, and with "reduce-overhead" the GPU repeats a recorded step by itself. Compiling takes from a few
seconds to a minute, so short runs go without.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .hyperparameters import Hyperparameters
from .loss import loss_of_hidden

EARNED_STEPS, EARNED_MINUTES = 500, 3.0  # a run must be so long, where its number of steps or its time is known
TRIALS = 3  # steps: one to compile, one to record, one to repeat

Loss = Callable[[Tensor, Tensor], Tensor]  # (ids, targets), (batch, time) each -> the mean loss


def is_earned(h: Hyperparameters, device: torch.device, steps: int, processes: int = 1) -> bool:
    """Is this run on a GPU, alone, and long enough, and may it compile?"""
    long = steps >= EARNED_STEPS and (h.minutes is None or h.minutes >= EARNED_MINUTES)
    return h.compile and device.type == "cuda" and processes == 1 and long


def plain_loss(model: nn.Module) -> Loss:
    """What is compiled: the model's loss, without a graph of its logits where that can be saved."""
    return lambda ids, targets: loss_of_hidden(model(ids, logits=False), model.head, targets)


def compiled_loss(run, shape: tuple[int, int]) -> Loss | None:
    """`plain_loss` of a run's model, compiled and tried out on ids of this shape; None where that fails, in whatever
    way: the run is told why, and goes on uncompiled."""
    model, h = run.plain_model, run.h
    run.say("compiling the step for this GPU: up to a minute, which a run of this length wins back (--no-compile: not)")
    ids = torch.ones(shape, dtype=torch.long, device=run.device)
    try:
        # gradients that are added up over passes must not lie where the next recorded pass writes
        mode = "reduce-overhead" if h.accumulation_steps == 1 else "default"
        loss_of = torch.compile(plain_loss(model), mode=mode, dynamic=False)
        for _ in range(TRIALS):
            with run.autocast():
                loss = loss_of(ids, ids)
            loss.backward()
            model.zero_grad()
        if not loss.isfinite():
            raise ArithmeticError(f"the compiled loss was {loss.item()}")
    except Exception as error:  # a compiler can fail in every way there is
        model.zero_grad()
        said = str(error).strip().splitlines() or [""]
        run.say(f"not compiled, the run goes on without ({type(error).__name__}: {said[0]:.120})")
        return None
    return loss_of
