"""Preference tuning: of two texts, make the better one likelier and the worse one less likely.

Direct preference optimization (DPO; Rafailov et al., 2023) needs no reward model and draws no samples. Its loss asks
how much further apart the tuned model holds the two texts than the model did at the start, its *reference*.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from .device import keep_freed_memory, pick_device, pick_precision
from .evaluation import token_log_probabilities
from .hyperparameters import Hyperparameters
from .model import DecoderLanguageModel
from .optimizers import learning_rate_at, make_optimizers, optimizer_step
from .tokenizer import encode_lines

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


def completion_batch(
    prompts: list[list[int]], completions: list[list[int]], device: str | torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """(inputs, targets), each (batch, time), of texts of different lengths, each behind its prompt.

    Targets are the completions' ids where these are predicted, and −100 elsewhere: inside the prompts, and at the right
    end of short rows. A causal model never looks there from a token that counts, so no attention mask is needed.

    Raises ValueError for an empty prompt (nothing would predict the first token) or an empty completion.
    """
    rows = []
    for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        for name, ids in (("prompt", prompt), ("completion", completion)):
            if not ids:
                raise ValueError(
                    f"{name} {number} has no ids: a prompt needs at least the begin token, a text one token"
                )
        rows.append((prompt + completion)[:-1])
    if not rows:
        raise ValueError("no texts were given: the lists of prompts and completions are empty")
    inputs = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    targets = torch.full_like(inputs, -100)
    for row, (ids, prompt, completion) in enumerate(zip(rows, prompts, completions, strict=True)):
        inputs[row, : len(ids)] = torch.tensor(ids)
        targets[row, len(prompt) - 1 : len(ids)] = torch.tensor(completion)
    return inputs.to(device), targets.to(device)


def completion_log_probabilities(model: DecoderLanguageModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """log p of each target, given the tokens up to its place: (batch, time) in nats, 0 where the target is −100.

    With gradients, unlike `evaluation.token_log_probabilities`. The vocabulary, the widest part of a small model, is
    only looked at where a target counts.
    """
    counts = targets != -100  # (batch, time)
    hidden = model.hidden(inputs)[counts]  # (counted, emb_dim)
    scores = -F.cross_entropy(model.head(hidden).float(), targets[counts], reduction="none")  # (counted,)
    return scores.new_zeros(targets.shape).masked_scatter(counts, scores)


def sequence_log_probabilities(model: DecoderLanguageModel, inputs: Tensor, targets: Tensor) -> Tensor:
    """log p of each row's counted text as a whole: (batch,), the sum over its tokens, in nats."""
    return completion_log_probabilities(model, inputs, targets).sum(1)


def encode_preferences(tokenizer, pairs: Iterable[tuple[str, str, str]]) -> list[Preference]:
    """(prompt, chosen, rejected) texts as ids. The prompt begins with the begin token, so it may be empty.

    Raises ValueError for two texts that are the same: nothing could be learned from them.
    """
    pairs = list(pairs)
    begin = [tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id]
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


def plan_updates(h: Hyperparameters, items: int) -> int:
    """Steps that read `items` items `num_epochs` times, but at most `max_steps`."""
    steps = max(1, math.ceil(h.num_epochs * items / h.batch_size))
    return steps if h.max_steps is None else min(steps, h.max_steps)


def shuffled_forever(items: int, seed: int) -> Iterator[int]:
    """The numbers 0 … items − 1 in random order, again and again, each time in another one."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(items, generator=generator).tolist()


def autocast(model: DecoderLanguageModel, h: Hyperparameters):
    """bfloat16 where it pays; float32 elsewhere, also where training takes fp16, whose sums of log p are too coarse."""
    precision = pick_precision(model.device) if h.precision == "auto" else h.precision
    return torch.autocast(model.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
