"""Preference tuning: of two texts, make the better one likelier and the worse one less likely.

Direct preference optimization (DPO; Rafailov et al., 2023) needs no reward model and draws no samples. Its loss asks
how much further apart the tuned model holds the two texts than the model did at the start, its *reference*.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..basics.arguments import above
from ..basics.files import fingerprint_json, fingerprint_tensors
from ..evaluation.likelihood import token_log_probabilities
from ..model.decoder import DecoderLanguageModel
from ..text.tokenizer import encode_lines, first_id
from ..training.history import History
from ..training.hyperparameters import Hyperparameters, count_steps, get_hyperparameters, given_or_preset
from ..training.loop import Run
from ..training.objective import Objective
from .completions import ShuffledOrder, completion_batch, sequence_log_probabilities

PREFERENCE_TUNING = get_hyperparameters("dpo")  # what `tune_on_preferences` uses if it is given none


@dataclass(frozen=True)
class Preference:
    """Two ways to go on after a prompt, as ids: `chosen` is the better one."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def dpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float = 0.1
) -> Tensor:
    """−log σ(β · margin) of each pair, (batch,) (Rafailov et al., 2023, eq. 7).

    The arguments are log-probabilities (batch,) of whole texts. The margin is how much further the model holds the two
    apart than the reference: (chosen − reference_chosen) − (rejected − reference_rejected), in nats. `beta` says how
    costly it is to leave the reference: with a large one a small margin is enough. At the reference the loss is log 2.
    """
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -F.logsigmoid(beta * margin)


def encode_preferences(tokenizer, pairs: Iterable[tuple[str, str, str]]) -> list[Preference]:
    """(prompt, chosen, rejected) texts as ids. The prompt begins with the begin token, so it may be empty.

    Raises ValueError for two texts of the same ids, also where Unicode has two ways to write them: nothing could be
    learned from them.
    """
    pairs, begin, encoded = list(pairs), [first_id(tokenizer)], []
    for number, pair in enumerate(pairs, 1):
        if not (isinstance(pair, (tuple, list)) and len(pair) == 3 and all(isinstance(text, str) for text in pair)):
            raise ValueError(f"pair {number} must be three texts, (prompt, chosen, rejected); got {pair!r:.80}")
    columns = [encode_lines(tokenizer, column) for column in zip(*pairs, strict=True)]
    for number, (prompt, chosen, rejected) in enumerate(zip(*columns, strict=True), 1):
        if chosen == rejected or not chosen or not rejected:
            better, worse = pairs[number - 1][1:]
            alike = "" if better == worse or not (better and worse) else ", which are two ways to write the same"
            raise ValueError(f"pair {number} needs two different texts: {better[:60]!r} and {worse[:60]!r}{alike}")
        encoded.append(Preference(begin + prompt, chosen, rejected))
    return encoded


def score_preferences(model: DecoderLanguageModel, pairs: list[Preference]) -> Tensor:
    """log p of each pair's chosen and rejected text, (pairs, 2), without gradients."""
    rows = [pair.prompt + text for pair in pairs for text in (pair.chosen, pair.rejected)]
    starts = [len(pair.prompt) - 1 for pair in pairs for _ in range(2)]
    scores = token_log_probabilities(model, rows)
    sums = [row[start:].sum() for row, start in zip(scores, starts, strict=True)]
    return torch.stack(sums).float().view(len(pairs), 2)


def tune_on_preferences(
    model: DecoderLanguageModel,
    pairs: list[Preference],
    hyperparameters: Hyperparameters | None = None,
    *,
    beta: float = 0.1,
    folder: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device | None = None,
    progress: bool = True,
    reserved: float = 0.0,
) -> History:
    """Tune `model` in place with DPO; the reference is the model as it is at the start.

    The reference's log-probabilities are computed once, before the first step, so no second model stays in memory.
    All weights that require gradients are tuned: with LoRA only the adapter. Same seed, same machine: the same run.

    Args:
        hyperparameters: the preset "dpo" if None. `batch_size` counts pairs, `num_epochs` readings of all pairs.
        beta: see `dpo_loss`.
        folder, resume, device, progress, reserved: as in `train`; to resume, give the model of the start.

    Beside its loss the history has, for each step, the mean over its pairs of `accuracy` (1 where the chosen text is
    the likelier), `chosen` and `rejected` (how much likelier each became, in nats), and `margin`, their difference.
    """
    h = given_or_preset(hyperparameters, "dpo")
    if not pairs:
        raise ValueError("no pairs were given: preference tuning needs at least one")
    above(0, beta=beta)
    _check_lengths(pairs, model.config.context_size)
    more = {"folder": folder, "resume": resume, "device": device, "progress": progress}
    more["reserved"] = reserved
    return Run(model, _Preferring(pairs, h, beta), h, **more).go()


def _check_lengths(pairs: list[Preference], context_size: int) -> None:
    """Raises ValueError for what is no pair, and for one that the model cannot read to the end of both texts."""
    for number, pair in enumerate(pairs, 1):
        if not isinstance(pair, Preference):
            raise ValueError(f"pair {number} must be a Preference, as encode_preferences makes them; got {pair!r:.80}")
        length = len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))
        if length > context_size + 1:  # the last token is predicted, not read
            most = f"{context_size + 1} fit into context_size={context_size}"
            raise ValueError(f"pair {number} has {length} tokens with its prompt, {most}: shorten it or leave it out")


class _Preferring(Objective):
    """Of each pair the chosen text shall become likelier than the rejected one."""

    name = "preferences"

    def __init__(self, pairs: list[Preference], h: Hyperparameters, beta: float):
        self.pairs, self.h, self.beta, self.at_once = pairs, h, beta, min(h.batch_size, len(pairs))
        self.facts = {"kind": self.name, "beta": beta, "pairs": len(pairs)}

    def prepare(self, run: Run) -> History:
        with run.autocast():
            self.reference = score_preferences(run.plain_model, self.pairs).to(run.device)  # (pairs, 2)
        self.model = run.given_model
        self.data = ShuffledOrder(len(self.pairs), self.h.seed, run.rank, run.processes)
        per_step = self.h.batch_size * self.h.accumulation_steps * run.processes
        return History(count_steps(self.h, len(self.pairs), per_step))

    def fingerprints(self) -> dict[str, str]:
        pairs = [[pair.prompt, pair.chosen, pair.rejected] for pair in self.pairs]
        start = fingerprint_tensors(self.model.named_parameters())
        return {"had other pairs": fingerprint_json(pairs), "began with another model": start}

    def batches(self) -> list[list[int]]:
        return [self.data.take(self.at_once) for _ in range(self.h.accumulation_steps)]

    def loss(self, model: nn.Module, rows: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Chosen and rejected texts go through the model in one pass."""
        pairs, reference = [self.pairs[i] for i in rows], self.reference[rows]  # (batch, 2)
        texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        batch = completion_batch([pair.prompt for pair in pairs] * 2, texts, reference.device)
        scores = sequence_log_probabilities(model, *batch).view(2, len(pairs)).T  # (batch, 2)
        loss = dpo_loss(*scores.T, *reference.T, beta=self.beta).mean()
        scores = scores.detach()
        chosen, rejected = (scores - reference).mean(0)  # how far each moved
        noted = {"accuracy": (scores[:, 0] > scores[:, 1]).float().mean(), "margin": chosen - rejected}
        return loss, {"loss": loss.detach(), **noted, "chosen": chosen, "rejected": rejected}
