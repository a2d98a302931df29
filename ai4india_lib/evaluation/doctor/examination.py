"""The examination of a run: is this loss normal, and if not, what is wrong?

    report = examine(model, tokenizer, history, train=train_loader, test=test_loader, hyperparameters=h)
    print(report)

It tries the model (does it see the future?), reads the texts (is the test text new?), measures anew what the run noted,
and does the first steps of the run again. Only what stands in `findings` is found; a run in which nothing is found may
still have a fault of another kind.
"""

from collections.abc import Iterable

from torch import nn

from ...training.history import History
from ...training.hyperparameters import Hyperparameters
from .findings import LIKELY, Finding, Report, ranked
from .history import history_signs
from .measures import LOOKS as LOOKS_AT_MEASURES
from .measures import look_at_leaps
from .model import LOOKS as LOOKS_AT_MODEL
from .parts import LOOKS as LOOKS_AT_PARTS
from .patient import YARDSTICKS, Patient
from .replay import LOOKS as LOOKS_AT_STEPS
from .replay import look_at_rates
from .text import LOOKS as LOOKS_AT_TEXT


def examine(
    model: nn.Module,
    tokenizer,
    history: History | Iterable[float] | None = None,
    *,
    train=None,
    test=None,
    hyperparameters: Hyperparameters | None = None,
    before: nn.Module | dict | None = None,
    quick: bool = False,
) -> Report:
    """Look for what may be wrong with a run, and say where its loss stands.

    Args:
        model: anything that turns ids (batch, time) into logits (batch, time, vocab_size). One whose weights have our
            names and that has our `config` is compared with what these weights should compute, too.
        history: of the run, or its training losses, one per step.
        train, test: the texts: lists of documents, `TextLines`, or the loaders that the run read. With loaders the
            batches are looked at, and the first steps can be done again.
        hyperparameters: of a run of `train`: its first weights are then drawn again, and its first steps done again.
        before: the model before its training, or its `state_dict`, where it did not begin with fresh weights.
        quick: read less of the texts, and do no step again, which takes the longest.

    The model stays as it is. Takes some seconds with a model of a few million parameters.
    """
    patient = Patient(model, tokenizer, history, train, test, hyperparameters, before, quick)
    looks = [*LOOKS_AT_MODEL, *LOOKS_AT_PARTS, *LOOKS_AT_TEXT, *LOOKS_AT_MEASURES]
    if not patient.is_next_token:
        looks.remove(look_at_leaps)
    looks += [] if quick else LOOKS_AT_STEPS
    findings: list[Finding] = []
    if patient.is_next_token and not patient.is_conversation:
        findings += history_signs(patient.history, patient.vocab_size)
    looked_at = []
    for look in looks:
        if look is look_at_rates and any(finding.sure >= LIKELY for finding in findings):
            continue  # it takes longest, and there is an explanation
        found = list(look(patient))
        findings += found
        looked_at.append(look.__name__.removeprefix("look_at_"))
        if any(finding.name == "damaged weights" for finding in found):
            return Report(ranked(findings), {}, looked_at)
    return Report(ranked(findings), _figures(patient), looked_at)


def _figures(patient: Patient) -> dict[str, float]:
    """Losses to compare, in nats per token."""
    figures = {"even chances (ln V)": patient.uniform}
    figures |= {YARDSTICKS[length]: loss for length, loss in patient.counted.items()}
    if patient.history.floor_loss:
        figures["floor: no model can go below"] = patient.history.floor_loss
    if patient.losses:
        figures["this run, test text"] = patient.losses[1].loss
    if patient.train_losses:
        figures["this run, training text"] = patient.train_losses[1].loss
    return figures
