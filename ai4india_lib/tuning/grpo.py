"""Reinforcement with a checkable reward: the model writes, a program marks, good texts become likelier.

Group-relative policy optimization (GRPO; Shao et al., 2024, §4.1): several texts are drawn for each task, and each is
compared with the others of its group. No reward model and no value model is trained. A penalty for leaving a frozen
copy of the model, the *reference*, keeps the language whole.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..basics.device import keep_freed_memory, pick_device
from ..model.decoder import DecoderLanguageModel
from ..training.hyperparameters import Hyperparameters
from ..training.optimizers import learning_rate_at, make_optimizers, optimizer_step
from .completions import autocast, completion_batch, completion_log_probabilities, shuffled_forever
from .rewards import Attempt, Reward, Task, mark, write_attempts

REINFORCEMENT = Hyperparameters(
    batch_size=8, max_steps=40, optimizer="adamw", learning_rate=3e-4, warmup_fraction=0.1, weight_decay=0.0
)
"""What `tune_on_rewards` uses when it is given no hyperparameters; `batch_size` counts tasks, not texts."""


@dataclass(frozen=True)
class Group:
    """How texts are drawn and compared (the letters of Shao et al., 2024, stand behind)."""

    size: int = 8  # texts drawn for each task; G
    max_new_tokens: int = 64
    kl_weight: float = 0.04  # how dear it is to leave the reference; β
    clip_range: float = 0.2  # how far one batch may move a token's probability, as a ratio; ε
    updates: int = 1  # steps of the optimizer for each batch of texts; μ

    def __post_init__(self):
        if self.size < 2:
            raise ValueError(f"size={self.size}: a group needs two texts or more, else there is nothing to compare")
        for name in ("max_new_tokens", "updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("kl_weight", "clip_range"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more")


@dataclass
class RewardHistory:
    """What happened in a run, one entry per batch of texts."""

    reward: list[float] = field(default_factory=list)  # mean over the batch's texts
    kl: list[float] = field(default_factory=list)  # to the reference, nats per token, before the batch's update
    loss: list[float] = field(default_factory=list)
    length: list[float] = field(default_factory=list)  # mean, in tokens
    silent: list[float] = field(
        default_factory=list
    )  # share of groups whose texts all earn the same: they teach nothing
    sample: list[str] = field(default_factory=list)  # the first text


def group_advantages(rewards: Tensor) -> Tensor:
    """How much better each text is than its group, in standard deviations of the group: (tasks, size) -> same.

    A group whose rewards are all the same gives zeros (Shao et al., 2024, §4.1.2).
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (rewards.std(1, keepdim=True) + 1e-6)


def kl_estimate(log_probabilities: Tensor, reference: Tensor) -> Tensor:
    """Estimate of the KL divergence from the reference at each drawn token, from its log p alone; same shape, in nats.

    r − log r − 1 with r = p_reference / p: never below zero, and right on average over tokens drawn from p ("k3" of
    Schulman, 2020; Shao et al., 2024, eq. 4).
    """
    log_ratio = reference - log_probabilities
    return log_ratio.exp() - log_ratio - 1


def grpo_loss(
    log_probabilities: Tensor,
    old: Tensor,
    reference: Tensor,
    advantages: Tensor,
    counts: Tensor,
    *,
    clip_range: float = 0.2,
    kl_weight: float = 0.04,
) -> Tensor:
    """The loss of each text, (texts,) (Shao et al., 2024, eq. 3, with the sign turned: lower is better).

    Args:
        log_probabilities: log p of each token (texts, time) under the model that is tuned.
        old: the same under the model that drew the texts, and
        reference: under the frozen reference; both without gradients.
        advantages: (texts,), see `group_advantages`.
        counts: (texts, time), True at tokens that the model wrote.
        clip_range: the ratio p / p_old earns nothing beyond 1 ± clip_range.
    """
    ratio = (log_probabilities - old).exp()  # (texts, time)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    gain = torch.minimum(ratio * advantages[:, None], clipped * advantages[:, None])
    per_token = kl_weight * kl_estimate(log_probabilities, reference) - gain
    return (per_token * counts).sum(1) / counts.sum(1)


@torch.no_grad()
def kl_to_reference(
    model: DecoderLanguageModel, reference: DecoderLanguageModel, attempts: Sequence[Attempt], *, batch_size: int = 32
) -> Tensor:
    """Estimated KL divergence of whole texts, (attempts,), in nats: its mean says how far the model went.

    The attempts must be the model's own. Per text log p − log p_reference, which is right on average.
    """
    parts = []
    for start in range(0, len(attempts), batch_size):
        part = attempts[start : start + batch_size]
        batch = completion_batch([a.task.prompt for a in part], [a.ids for a in part], model.device)
        parts.append(
            (completion_log_probabilities(model, *batch) - completion_log_probabilities(reference, *batch)).sum(1)
        )
    return torch.cat(parts).cpu()


def tune_on_rewards(
    model: DecoderLanguageModel,
    tokenizer,
    tasks: Sequence[Task],
    reward: Reward,
    hyperparameters: Hyperparameters | None = None,
    group: Group | None = None,
    *,
    reference: DecoderLanguageModel | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
    on_batch: Callable[[RewardHistory], None] | None = None,
) -> RewardHistory:
    """Tune `model` in place so that its texts earn more of `reward`, a function of an `Attempt`.

    All weights that require gradients are tuned: with LoRA only the adapter. Same seed, same machine: the same run.

    Args:
        hyperparameters: `REINFORCEMENT` if None. `batch_size` counts tasks, `max_steps` batches of texts; texts pass
            through the model in `accumulation_steps` parts, where memory is short.
        group: how texts are drawn and compared; `Group()` if None.
        reference: the frozen model that the penalty is measured from; None: a copy of the model as it is at the start.
        on_batch: called with the history after each batch, to draw or to print it.
    """
    if not tasks:
        raise ValueError("no tasks were given: reinforcement needs at least one prompt to write on")
    h = hyperparameters or REINFORCEMENT
    run_group = group or Group()
    _check_room(model, tasks, run_group)
    model.to(pick_device(device))
    reference = frozen_copy(model) if reference is None else reference.to(model.device).eval()
    run = _Run(model, reference, h, run_group)
    keep_freed_memory()
    order = shuffled_forever(len(tasks), h.seed)
    silent = {} if progress else {"disable": True}
    for step in tqdm(range(run.steps), desc="reinforcement", unit="batch", **silent):
        chosen = [tasks[next(order)] for _ in range(h.batch_size)]
        several = [task for task in chosen for _ in range(run.group.size)]
        seed = h.seed + step * len(several)  # each text of a run draws from its own random numbers
        attempts = write_attempts(model, tokenizer, several, max_new_tokens=run.group.max_new_tokens, seed=seed)
        run.learn_from(attempts, mark(attempts, reward).view(h.batch_size, run.group.size))
        if on_batch is not None:
            on_batch(run.history)
    return run.history


def frozen_copy(model: DecoderLanguageModel) -> DecoderLanguageModel:
    """The model as it is now, for a reference. Weights that are frozen are shared, not copied: with LoRA the copy takes
    only the adapter's memory."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, shared).eval().requires_grad_(False)


def _check_room(model: DecoderLanguageModel, tasks: Sequence[Task], group: Group) -> None:
    """What the model would forget while it writes cannot be trained as it was drawn."""
    longest, context = max(len(task.prompt) for task in tasks), model.config.context_size
    if longest + group.max_new_tokens - 1 > context:
        raise ValueError(
            f"a prompt of {longest} tokens and max_new_tokens={group.max_new_tokens} do not fit into "
            f"context_size={context}: try max_new_tokens={max(context - longest + 1, 0)} or shorter prompts"
        )


class _Run:
    """The state of one run, and what it does with a batch of marked texts."""

    def __init__(self, model: DecoderLanguageModel, reference: DecoderLanguageModel, h: Hyperparameters, group: Group):
        if h.max_steps is None:
            raise ValueError("max_steps=None: say how many batches of texts are to be drawn, for example max_steps=40")
        self.model, self.reference, self.h, self.group = model, reference, h, group
        self.steps = h.max_steps
        self.optimizers = make_optimizers(model, h)
        self.history = RewardHistory()

    def learn_from(self, attempts: list[Attempt], rewards: Tensor) -> None:
        """`updates` steps of the optimizers on one batch; rewards (tasks, size)."""
        advantages = group_advantages(rewards).flatten().to(self.model.device)
        batch = completion_batch([a.task.prompt for a in attempts], [a.ids for a in attempts], self.model.device)
        parts = torch.arange(len(attempts)).chunk(self.h.accumulation_steps)
        known: list[tuple[Tensor, Tensor]] = []  # of each part, log p when it was drawn and under the reference
        rate = learning_rate_at(len(self.history.loss), self.steps, self.h)
        for update in range(self.group.updates):
            loss = 0.0
            for number, rows in enumerate(parts):
                inputs, targets = (x[rows] for x in batch)
                with autocast(self.model, self.h):
                    now = completion_log_probabilities(self.model, inputs, targets)  # (texts, time)
                    if update == 0:
                        with torch.no_grad():
                            known.append((now.detach(), completion_log_probabilities(self.reference, inputs, targets)))
                settings = {"clip_range": self.group.clip_range, "kl_weight": self.group.kl_weight}
                losses = grpo_loss(now, *known[number], advantages[rows], targets != -100, **settings)
                part = losses.sum() / len(attempts)
                part.backward()
                loss += part.item()
            optimizer_step(self.model, self.optimizers, rate, self.h.clip_norm)
        self._note(attempts, rewards, loss, known)

    def _note(self, attempts: list[Attempt], rewards: Tensor, loss: float, known: list[tuple[Tensor, Tensor]]) -> None:
        history = self.history
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss} at batch {len(history.loss)}: lower the learning_rate")
        tokens = sum(len(attempt.ids) for attempt in attempts)
        history.reward.append(rewards.mean().item())
        history.kl.append(sum(kl_estimate(*pair).sum().item() for pair in known) / tokens)
        history.loss.append(loss)
        history.length.append(tokens / len(attempts))
        history.silent.append((rewards == rewards[:, :1]).all(1).float().mean().item())
        history.sample.append(attempts[0].text)
