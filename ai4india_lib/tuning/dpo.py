"""Preference tuning: of two texts, make the better one likelier and the worse one less likely.

Direct preference optimization (DPO; Rafailov et al., 2023) needs no reward model and draws no samples. Its loss asks
how much further apart the tuned model holds the two texts than the model did at the start, its *reference*.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..basics.device import keep_freed_memory, pick_device
from ..evaluation.likelihood import token_log_probabilities
from ..model.decoder import DecoderLanguageModel
from ..text.tokenizer import encode_lines, first_id
from ..training.hyperparameters import Hyperparameters
from ..training.optimizers import learning_rate_at, make_optimizers, optimizer_step
from .completions import autocast, completion_batch, plan_updates, sequence_log_probabilities, shuffled_forever

PREFERENCE_TUNING = Hyperparameters(
    batch_size=32, num_epochs=2, max_steps=None, optimizer="adamw", learning_rate=3e-4, warmup_fraction=0.1,
    weight_decay=0.0,
)  # fmt: skip
"""What `tune_on_preferences` uses when it is given no hyperparameters; `batch_size` counts pairs."""


@dataclass(frozen=True)
class Preference:
    """Two ways to go on after a prompt, as ids: `chosen` is the better one."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


@dataclass
class PreferenceHistory:
    """What happened in a run, one number per step."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)  # share of the step's pairs whose chosen text is likelier
    margin: list[float] = field(default_factory=list)  # how much further apart than at the start, in nats
    chosen: list[float] = field(default_factory=list)  # how much likelier the chosen texts became, in nats
    rejected: list[float] = field(default_factory=list)


def dpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, *, beta: float = 0.1
) -> Tensor:
    """−log σ(β · margin) of each pair, (batch,) (Rafailov et al., 2023, eq. 7).

    The arguments are log-probabilities (batch,) of whole texts. The margin is how much further the model holds the two
    apart than the reference: (chosen − reference_chosen) − (rejected − reference_rejected), in nats. `beta` says how
    dear it is to leave the reference: with a large one a small margin is enough. At the reference the loss is log 2.
    """
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -F.logsigmoid(beta * margin)


def encode_preferences(tokenizer, pairs: Iterable[tuple[str, str, str]]) -> list[Preference]:
    """(prompt, chosen, rejected) texts as ids. The prompt begins with the begin token, so it may be empty.

    Raises ValueError for two texts that are the same: nothing could be learned from them.
    """
    pairs = list(pairs)
    begin = [first_id(tokenizer)]
    for number, (_, chosen, rejected) in enumerate(pairs, 1):
        if chosen == rejected or not chosen or not rejected:
            raise ValueError(f"pair {number} needs two different texts: {chosen[:60]!r} and {rejected[:60]!r}")
    columns = (encode_lines(tokenizer, column) for column in zip(*pairs, strict=True))
    return [Preference(begin + prompt, *texts) for prompt, *texts in zip(*columns, strict=True)]


def score_preferences(model: DecoderLanguageModel, pairs: list[Preference]) -> Tensor:
    """log p of each pair's chosen and rejected text, (pairs, 2), without gradients."""
    rows = [pair.prompt + text for pair in pairs for text in (pair.chosen, pair.rejected)]
    starts = [len(pair.prompt) - 1 for pair in pairs for _ in range(2)]
    told = token_log_probabilities(model, rows)
    sums = [row[start:].sum() for row, start in zip(told, starts, strict=True)]
    return torch.stack(sums).float().view(len(pairs), 2)


def tune_on_preferences(
    model: DecoderLanguageModel,
    pairs: list[Preference],
    hyperparameters: Hyperparameters | None = None,
    *,
    beta: float = 0.1,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> PreferenceHistory:
    """Tune `model` in place with DPO; the reference is the model as it is at the start.

    The reference's log-probabilities are computed once, before the first step, so no second model stays in memory.
    All weights that require gradients are tuned: with LoRA only the adapter. Same seed, same machine: the same run.

    Args:
        hyperparameters: `PREFERENCE_TUNING` if None. `batch_size` counts pairs, `num_epochs` readings of all pairs.
        beta: see `dpo_loss`.
    """
    h = hyperparameters or PREFERENCE_TUNING
    if not pairs:
        raise ValueError("no pairs were given: preference tuning needs at least one")
    if not beta > 0:
        raise ValueError(f"beta={beta} must be above 0; usual values are 0.05 to 0.5")
    model.to(pick_device(device)).train()
    keep_freed_memory()
    with autocast(model, h):
        reference = score_preferences(model, pairs).to(model.device)  # (pairs, 2)
    optimizers = make_optimizers(model, h)
    steps = plan_updates(h, len(pairs))
    order = shuffled_forever(len(pairs), h.seed)
    history = PreferenceHistory()
    for step in tqdm(range(steps), desc="preferences", unit="step", **({} if progress else {"disable": True})):
        rows = [next(order) for _ in range(min(h.batch_size, len(pairs)))]
        with autocast(model, h):
            scores = _score_together(model, [pairs[i] for i in rows])  # (batch, 2)
        loss = dpo_loss(*scores.T, *reference[rows].T, beta=beta).mean()
        loss.backward()
        optimizer_step(model, optimizers, learning_rate_at(step, steps, h), h.clip_norm)
        _note(history, loss, scores.detach(), reference[rows])
    model.eval()
    return history


def _score_together(model: DecoderLanguageModel, pairs: list[Preference]) -> Tensor:
    """log p of chosen and rejected texts, (batch, 2), with gradients, in one pass through the model."""
    texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    batch = completion_batch([pair.prompt for pair in pairs] * 2, texts, model.device)
    return sequence_log_probabilities(model, *batch).view(2, len(pairs)).T


def _note(history: PreferenceHistory, loss: Tensor, scores: Tensor, reference: Tensor) -> None:
    if not math.isfinite(loss.item()):
        raise FloatingPointError(f"the loss became {loss.item()} at step {len(history.loss)}: lower the learning_rate")
    moved = (scores - reference).mean(0)  # (2,): chosen, rejected
    history.loss.append(loss.item())
    history.accuracy.append((scores[:, 0] > scores[:, 1]).float().mean().item())
    history.margin.append((moved[0] - moved[1]).item())
    history.chosen.append(moved[0].item())
    history.rejected.append(moved[1].item())
