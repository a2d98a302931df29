"""The first steps of a run, done again: once as they should be done, and if that gives other losses than the run noted,
with a fault in the loop. Also: do a few steps at another learning rate get further than the whole run did?

The loop stands here a second time on purpose, short and slow: what is wrong in the other one must not be repeated.
"""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...basics.device import pick_precision
from ...training.hyperparameters import Hyperparameters
from ...training.optimizers import learning_rate_at, make_optimizers, set_learning_rate
from .findings import LIKELY, SURE, Finding
from .model import fresh_model
from .patient import Patient

STEPS = 10
TRIAL, FEWEST = 60, 25  # steps of a trial at another rate: at most, at least
SHORTEST = 100  # steps of a run whose learning rate may be called too low
LONG = 120.0  # seconds of a run that is not done again as a whole
MOST_WORK = 3e12  # operations of a replay: some ten seconds on two cores
FAULTS = {
    "kept": ("gradients never cleared", "the gradients of all steps before are kept"),
    "same": ("targets not shifted", "the targets are the inputs"),
    "later": ("targets shifted twice", "the targets are shifted once more"),
    "sum": ("loss averaged wrongly", "the gradients of a step's batches are added up and not averaged"),
    "mean of means": ("loss averaged wrongly", "each batch of a step counts alike, whatever it holds"),
    "last": ("loss averaged wrongly", "of a step's batches only the last one counts"),
}


def look_at_first_steps(patient: Patient) -> Iterator[Finding]:
    """Do the first steps, done again, give the losses that the run noted?"""
    noted = patient.history.train_loss[:STEPS]
    fresh = _start(patient)
    if len(noted) < 4 or fresh is None:
        return
    batches = _batches(patient, len(noted) * patient.h.accumulation_steps)
    if (
        len(batches) < len(noted) * patient.h.accumulation_steps
        or _work_of_step(patient, fresh) * len(noted) > MOST_WORK
    ):
        return
    rates = patient.history.learning_rate[: len(noted)]
    rates = rates or [learning_rate_at(n, patient.history.total_steps, patient.h) for n in range(len(noted))]
    right = _gap(replay(fresh, batches, patient.h, rates), noted)
    if right < 0.01:
        return
    for fault, (name, words) in FAULTS.items():
        if name == "loss averaged wrongly" and patient.h.accumulation_steps == 1:
            continue
        gap = _gap(replay(fresh, batches, patient.h, rates, fault), noted)
        if gap < 0.3 * right:
            saw = f"done again, the first {len(noted)} losses differ by up to {right:.2g} from those of the run, "
            saw += f"and by {gap:.2g} if {words}"
            yield Finding(name, saw, SURE if gap < 0.05 * right else 0.9)


def look_at_rates(patient: Patient) -> Iterator[Finding]:
    """Where a run ends high: what would other rates do?

    A short run is done again as a whole at a tenth of its rate. Of a long one only a beginning is, at both rates: there
    high rates are at an advantage, so that the rate was too high if even there the tenth comes further. That it was too
    low is only said where half of the steps at a higher one come a tenth further than all of the run did; and not of a
    run of a few dozen steps, to which any rate is too low.
    """
    fresh = None if isinstance(patient.before, nn.Module) else _start(patient)
    history = patient.history
    if fresh is None or not patient.is_above(5) or history.steps < 2 * FEWEST or history.steps != history.total_steps:
        return
    is_short = history.seconds < LONG and _work_of_step(patient, fresh) * history.steps < MOST_WORK / 3
    few = min(TRIAL, history.steps // 2, int(MOST_WORK / 2 / _work_of_step(patient, fresh)))
    batches = _batches(patient, (history.steps if is_short else few) * patient.h.accumulation_steps)
    if few < FEWEST or len(batches) < few * patient.h.accumulation_steps:
        return

    def at_the_end(factor: float, steps: int) -> float:
        h = replace(patient.h, learning_rate=patient.h.learning_rate * factor)
        return fmean(replay(fresh, batches, h, [learning_rate_at(step, steps, h) for step in range(steps)])[-10:])

    noted = fmean(history.train_loss[-10:])
    steps = len(batches) // patient.h.accumulation_steps if is_short else few
    own, slower = noted if steps == history.steps else at_the_end(1.0, steps), at_the_end(0.1, steps)
    if slower < 0.97 * own:
        saw = f"{steps} steps at a tenth of the learning rate come to a loss of {slower:.2f}, at all of it to {own:.2f}"
        yield Finding("learning rate too high", saw, LIKELY + 0.1)
        return
    for factor in (10.0, 30.0) if patient.is_above(2) and history.steps >= SHORTEST else ():
        if (end := at_the_end(factor, few)) < 0.9 * noted:
            saw = f"{few} steps at {factor:g} times the learning rate come to a loss of {end:.2f}, "
            saw += f"all {history.steps} steps of the run to {noted:.2f}"
            yield Finding("learning rate too low", saw, LIKELY + 0.1)
            return


def replay(
    fresh: nn.Module, batches: list[tuple[Tensor, Tensor]], h: Hyperparameters, rates: list[float], fault: str = ""
) -> list[float]:
    """Train a copy of `fresh` on the batches, a step at each of the learning rates; the loss of each step."""
    model = copy.deepcopy(fresh).train()
    device = next(model.parameters()).device
    optimizers = make_optimizers(model, h)
    precision = pick_precision(device) if h.precision == "auto" else h.precision
    half = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    losses = []
    for step, rate in enumerate(rates):
        own = batches[step * h.accumulation_steps : (step + 1) * h.accumulation_steps]
        set_learning_rate(optimizers, rate)
        if fault != "kept":
            model.zero_grad(set_to_none=True)
        losses.append(_backward(model, own, half, fault))
        nn.utils.clip_grad_norm_(model.parameters(), h.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
    return losses


def _backward(model: nn.Module, batches: list[tuple[Tensor, Tensor]], half, fault: str) -> float:
    """Add up the gradients of a step's batches; its loss."""
    device = next(model.parameters()).device
    sizes = [int((targets != -100).sum()) for _, targets in batches]
    loss = 0.0
    for number, ((inputs, targets), size) in enumerate(zip(batches, sizes, strict=True)):
        share = {"sum": 1.0, "mean of means": 1 / len(batches), "last": float(number == len(batches) - 1)}
        share = share.get(fault, size / max(1, sum(sizes)))
        if fault == "same":
            targets = torch.where(targets == -100, targets, inputs)
        elif fault == "later":
            inputs, targets = inputs[:, :-1], targets[:, 1:]
        with half:
            logits = model(inputs.to(device))
        found = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten().to(device))
        (found * share).backward()
        loss += found.item() * share
    return loss


def _start(patient: Patient) -> nn.Module | None:
    """The model as the run began with it, if that is known, and the run was one of this loop."""
    if patient.h is None or patient.train_loader is None:
        return None
    if isinstance(patient.before, nn.Module):
        return copy.deepcopy(patient.before).to(patient.device)
    fresh = fresh_model(patient)
    return None if fresh is None else fresh.to(patient.device)


def _batches(patient: Patient, count: int) -> list[tuple[Tensor, Tensor]]:
    found: list[tuple[Tensor, Tensor]] = []
    for _ in range(4):  # passes: a short text is read again
        found += islice(patient.batches_of_training(), count - len(found))
        if len(found) == count:
            break
    return found


def _work_of_step(patient: Patient, model: nn.Module) -> float:
    """Operations of one step, about."""
    tokens = patient.h.batch_size * patient.h.context_size * patient.h.accumulation_steps
    return 6 * sum(p.numel() for p in model.parameters()) * tokens


def _gap(losses: list[float], noted: list[float]) -> float:
    """The largest difference."""
    return max(abs(a - b) for a, b in zip(losses, noted, strict=True))


LOOKS = (look_at_first_steps, look_at_rates)
