"""Which wrong way of measuring, or of computing, gives the loss that a run noted? One that does, while the right way
does not, is what happened.
"""

from collections.abc import Iterator
from itertools import islice
from statistics import fmean, median

from torch import Tensor
from torch.nn import functional

from .findings import LIKELY, POSSIBLE, SURE, Finding
from .history import leaps
from .patient import Patient
from .reference import NO_FAULT, disease_of
from .rows import Measured, measure

SHIFTED = {0: "targets not shifted", 2: "targets shifted twice"}
WHERE = {0: "the token that it reads", 2: "the token after the next one"}


def look_at_shift(patient: Patient) -> Iterator[Finding]:
    """Which token does the model predict, in the text that it learned from?"""
    losses = patient.train_losses or patient.losses
    if not losses:
        return
    right, again, twice = (losses[shift] for shift in (1, 0, 2))
    if twice.loss < right.loss - 0.15 - 3 * (twice.error + right.error):
        saw = f"the loss is {right.loss:.2f} for the next token, and {twice.loss:.2f} for the one after it"
        yield Finding(SHIFTED[2], saw, SURE)
    easy = patient.counted.get(5, 0.5 * patient.uniform)
    if again.loss < min(right.loss, easy) - 0.5 and right.loss > patient.uniform - 0.5:
        saw = f"the loss is {right.loss:.2f} for the next token, and {again.loss:.2f} for the one that it reads"
        yield Finding(SHIFTED[0], saw, SURE)


def look_at_test_loss(patient: Patient) -> Iterator[Finding]:
    """Is the test loss that the run noted the one that the model has?"""
    noted, losses = patient.run_loss, patient.losses
    if noted is None or not losses or not patient.is_next_token:
        return
    right = losses[1]
    gap = right.loss - noted
    if abs(gap) <= _tolerance(right, noted):
        return
    if gap > 0 and patient.loss_among_used - noted <= _tolerance(right, noted):
        return
    saw = f"the run noted a test loss of {noted:.2f}, these weights have {right.loss:.2f}"
    if gap > 0:
        yield from _better_than_it_is(patient, noted, saw)
    else:
        yield from _worse_than_it_is(patient, noted, saw)


def _tolerance(measured: Measured, noted: float) -> float:
    return 0.005 + (0.006 if measured.error == 0 else 0.03) * noted + 3 * measured.error


def _better_than_it_is(patient: Patient, noted: float, saw: str) -> Iterator[Finding]:
    """The run noted less than there is: the weights are at home in another computation, or with other targets."""
    losses, right = patient.losses, patient.losses[1]
    ways = {f"the target is {WHERE[shift]}": (SHIFTED[shift], losses[shift].loss) for shift in (0, 2)}
    faulty = dict(patient.faulty_losses)
    without = faulty.pop(NO_FAULT, 0.0)
    for fault, loss in faulty.items():
        ways[f"computed with this fault: {fault}"] = disease_of(fault), right.loss + loss - without
    near = sorted((abs(loss - noted), way, name, loss) for way, (name, loss) in ways.items())
    explained = [found for found in near if found[0] < 0.3 * (right.loss - noted)]
    for number, (gap, way, name, loss) in enumerate(explained[:3]):
        fits = gap <= _tolerance(right, noted)
        yield Finding(name, f"{saw}, and {loss:.2f} if {way}", (0.9 if fits else 0.8) - 0.05 * number)
    if not explained:
        worse = right.loss > patient.uniform
        yield Finding("tokenizer of another model", saw, LIKELY if worse else POSSIBLE)


def _worse_than_it_is(patient: Patient, noted: float, saw: str) -> Iterator[Finding]:
    """The run noted more than there is: it was measured badly."""
    trained = measure(lambda ids: patient.logits(ids, training=True), patient.test_rows, (1,))[1]
    if abs(trained.loss - noted) < 0.5 * abs(noted - patient.losses[1].loss):
        saw = f"{saw}, and {trained.loss:.2f} in training mode"
        yield Finding("dropout left on while testing", saw, 0.95)
        return
    yield Finding("dropout left on while testing", saw, LIKELY)
    if patient.pad_id is not None:
        yield Finding("padding counted as text", saw, POSSIBLE)


def look_at_train_loss(patient: Patient) -> Iterator[Finding]:
    """Is the training loss of the last steps the one that the model has on the training text?"""
    history, losses = patient.history, patient.train_losses
    if len(history.train_loss) < 20 or not losses or not (patient.has_last_weights and patient.is_next_token):
        return
    noted = fmean(history.train_loss[-10:])
    right = losses[1]
    if right.loss - noted < 0.5 + 3 * right.error:
        return
    for shift in (0, 2):
        if abs(losses[shift].loss - noted) < 0.3 * (right.loss - noted):
            saw = f"the last training losses are {noted:.2f}; the model has {right.loss:.2f} on the training text, "
            saw += f"and {losses[shift].loss:.2f} if the target is {WHERE[shift]}"
            yield Finding(SHIFTED[shift], saw, SURE)


def look_at_leaps(patient: Patient) -> Iterator[Finding]:
    """Does the training loss leap, and not only where the text is odd?"""
    found = list(leaps(patient.history, patient.vocab_size))
    if found and not _is_odd_text(patient):
        yield from found


def _is_odd_text(patient: Patient) -> bool:
    """Is the text that was read where the loss was highest far harder for the trained model, too?"""
    accumulated = patient.h.accumulation_steps if patient.h else 1
    train = patient.history.train_loss
    top = max(range(len(train)), key=train.__getitem__) * accumulated
    if patient.train_loader is None or top > 5_000:
        return False
    there = list(islice(patient.batches_of_training(), top + 1))
    if len(there) <= top or len(there) < 10:
        return False
    hard, *usual = (_loss_of(patient, *batch) for batch in (there[top], *there[:: max(1, len(there) // 5)][:5]))
    return hard > 1.3 * median(usual)


def _loss_of(patient: Patient, inputs: Tensor, targets: Tensor) -> float:
    logits = patient.logits(inputs)
    return float(functional.cross_entropy(logits.flatten(0, 1), targets.flatten()))


LOOKS = (look_at_leaps, look_at_shift, look_at_test_loss, look_at_train_loss)
