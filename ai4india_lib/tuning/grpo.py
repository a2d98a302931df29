"""Reinforcement with a checkable reward: the model writes, a program marks, good texts become likelier.

Group-relative policy optimization (GRPO; Shao et al., 2024, §4.1): several texts are drawn for each task, and each is
compared with the others of its group. No reward model and no value model is trained. A penalty for leaving a frozen
copy of the model, the *reference*, keeps the language whole.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..basics.arguments import at_least, between, check_types
from ..basics.files import fingerprint_json, fingerprint_tensors
from ..model.decoder import DecoderLanguageModel
from ..training.history import History
from ..training.hyperparameters import NO_END, Hyperparameters, get_hyperparameters, given_or_preset
from ..training.loop import Run
from ..training.objective import Objective
from .completions import ShuffledOrder, completion_batch, completion_log_probabilities
from .rewards import Attempt, Reward, Task, mark, write_attempts

REINFORCEMENT = get_hyperparameters("grpo")  # what `tune_on_rewards` uses if it is given none
ROUNDING = 8  # units in the last place: sums of the same parts in another order differ by a few


@dataclass(frozen=True)
class Group:
    """How texts are drawn and compared (the letters of Shao et al., 2024, stand behind)."""

    size: int = 8  # texts drawn for each task; G
    max_new_tokens: int = 64
    kl_weight: float = 0.04  # how costly it is to leave the reference; β
    clip_range: float = 0.2  # how far one batch may move a token's probability, as a ratio; ε
    updates: int = 1  # steps of the optimizer for each batch of texts; μ

    def __post_init__(self):
        check_types(self)
        if self.size < 2:
            raise ValueError(f"size={self.size}: a group needs two texts or more, else there is nothing to compare")
        at_least(1, max_new_tokens=self.max_new_tokens, updates=self.updates)
        between(0, math.inf, kl_weight=self.kl_weight, clip_range=self.clip_range)


def _silent(rewards: Tensor) -> Tensor:
    """Which groups of rewards (tasks, size) teach nothing, (tasks,): all theirs are the same, but for rounding."""
    low, high = rewards.aminmax(dim=1)
    return high - low <= ROUNDING * torch.finfo(rewards.dtype).eps * rewards.abs().amax(1)


def group_advantages(rewards: Tensor) -> Tensor:
    """How much better each text is than its group, in standard deviations of the group: (tasks, size) -> same.

    A group whose rewards are all the same, but for rounding, gives zeros (Shao et al., 2024, §4.1.2).
    """
    rewards = rewards if rewards.is_floating_point() else rewards.float()
    centred = rewards - rewards.mean(1, keepdim=True)
    return (centred / (rewards.std(1, keepdim=True) + 1e-6)).masked_fill(_silent(rewards)[:, None], 0)


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
    at_least(1, batch_size=batch_size)
    parts = []
    for start in range(0, len(attempts), batch_size):
        part = attempts[start : start + batch_size]
        batch = completion_batch([a.task.prompt for a in part], [a.ids for a in part], model.device)
        own, others = (completion_log_probabilities(m, *batch) for m in (model, reference))  # (texts, time) each
        parts.append((own - others).sum(1))
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
    on_batch: Callable[[History], None] | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    device: str | torch.device | None = None,
    progress: bool = True,
    reserved: float = 0.0,
) -> History:
    """Tune `model` in place so that its texts earn more of `reward`. Frozen weights stay. Same seed: the same run.

    Args:
        hyperparameters: the preset "grpo" if None. `batch_size` counts tasks, `max_steps` batches of texts; texts pass
            through the model in `accumulation_steps` parts, where memory is short.
        group: how texts are drawn and compared; `Group()` if None.
        reference: the frozen model that the penalty is measured from; None: a copy of the model as it is at the start.
        on_batch: called with the history after each batch, to draw or to print it.
        folder, resume, device, progress, reserved: as in `train`; to resume, give the model of the start.

    Beside its loss the history has, for each batch of texts, the mean `reward`, the `kl` to the reference (nats per
    token, before the batch's update), the mean `length` in tokens, the share of `silent` groups, whose texts all earn
    the same and teach nothing, and the first text as a `sample`.
    """
    if not tasks:
        raise ValueError("no tasks were given: reinforcement needs at least one prompt to write on")
    if odd := [task for task in tasks if not isinstance(task, Task)]:
        raise ValueError(f"tasks must be a list of Task(prompt, wanted), prompts as ids; it holds {odd[0]!r:.60}")
    h, group = given_or_preset(hyperparameters, "grpo"), Group() if group is None else group
    if not isinstance(group, Group):
        raise ValueError(f"group={group!r:.60} must be a Group, such as Group(size=8), or None")
    if h.max_steps is None and h.minutes is None:
        raise ValueError("max_steps=None: say how many batches of texts are to be drawn, for example max_steps=40")
    longest, context = max(len(task.prompt) for task in tasks), model.config.context_size
    if longest + group.max_new_tokens - 1 > context:  # what a model forgets while it writes can't be trained as drawn
        raise ValueError(
            f"a prompt of {longest} tokens and max_new_tokens={group.max_new_tokens} do not fit into "
            f"context_size={context}: try max_new_tokens={max(context - longest + 1, 0)} or shorter prompts"
        )
    more = {"folder": folder, "resume": resume, "device": device, "progress": progress}
    more["reserved"] = reserved
    return Run(model, _Rewarding(tokenizer, tasks, reward, h, group, reference), h, **more).go(on_step=on_batch)


def frozen_copy(model: DecoderLanguageModel) -> DecoderLanguageModel:
    """The model as it is now, for a reference. Frozen weights are shared: with LoRA only the adapter is copied."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, shared).eval().requires_grad_(False)


@dataclass
class _Texts:
    """Some of the texts of a step, and how they are to be judged."""

    inputs: Tensor  # (texts, time)
    targets: Tensor
    advantages: Tensor  # (texts,)
    old: Tensor | None = None  # log p of each token (texts, time) under the model that drew the texts,
    reference: Tensor | None = None  # and under the reference


class _Rewarding(Objective):
    """Texts that earn more than the others of their group shall become likelier."""

    name = "reinforcement"

    def __init__(self, tokenizer, tasks, reward: Reward, h: Hyperparameters, group: Group, reference):
        self.tokenizer, self.tasks, self.reward, self.h, self.group = tokenizer, tasks, reward, h, group
        self.reference, self.updates = reference, group.updates
        self.facts = {"kind": self.name, "tasks": len(tasks), **asdict(group)}

    def prepare(self, run: Run) -> History:
        self.model, self.rank, self.processes = run.plain_model, run.rank, run.processes
        self.reference = frozen_copy(self.model) if self.reference is None else self.reference.to(run.device).eval()
        self.facts["processes"] = self.processes  # each draws its own texts
        if run.is_sharded:
            raise ValueError("rewards cannot be learned from with FSDP, as no process has a whole model to write with")
        self.data = ShuffledOrder(len(self.tasks), self.h.seed, self.rank, self.processes)
        return History(self.h.max_steps or NO_END)

    def fingerprints(self) -> dict[str, str]:
        tasks = [[task.prompt, task.wanted] for task in self.tasks]
        reference = fingerprint_tensors(self.reference.named_parameters())
        return {"had other tasks": fingerprint_json(tasks), "had another reference": reference}

    def batches(self) -> list[_Texts]:
        """Draw texts on some tasks, and mark them."""
        texts = self.h.batch_size * self.group.size  # of this process
        seed = self.h.seed + self.data.drawn * self.group.size + self.rank * texts  # each text draws its own numbers
        tasks = [self.tasks[i] for i in self.data.take(self.h.batch_size) for _ in range(self.group.size)]
        length = self.group.max_new_tokens
        self.attempts = write_attempts(self.model, self.tokenizer, tasks, max_new_tokens=length, seed=seed)
        self.rewards = mark(self.attempts, self.reward).view(self.h.batch_size, self.group.size)
        advantages = group_advantages(self.rewards).flatten().to(self.model.device)
        prompts, completions = zip(*((a.task.prompt, a.ids) for a in self.attempts), strict=True)
        whole = (*completion_batch(prompts, completions, self.model.device), advantages)
        self.parts = [_Texts(*part) for part in zip(*(x.chunk(self.h.accumulation_steps) for x in whole), strict=True)]
        return self.parts

    def size(self, part: _Texts) -> int:
        return len(part.inputs)

    def loss(self, model: nn.Module, part: _Texts) -> tuple[Tensor, dict[str, Tensor]]:
        now = completion_log_probabilities(model, part.inputs, part.targets)  # (texts, time)
        if part.old is None:
            part.old = now.detach()
            with torch.no_grad():
                part.reference = completion_log_probabilities(self.reference, part.inputs, part.targets)
        settings = {"clip_range": self.group.clip_range, "kl_weight": self.group.kl_weight}
        losses = grpo_loss(now, part.old, part.reference, part.advantages, part.targets != -100, **settings)
        return losses.mean(), {"loss": losses.detach().mean()}

    def measured(self) -> dict[str, float | str]:
        tokens = sum(len(attempt.ids) for attempt in self.attempts)
        return {
            "reward": self.rewards.mean().item(),
            "kl": sum(kl_estimate(part.old, part.reference).sum().item() for part in self.parts) / tokens,
            "length": tokens / len(self.attempts),
            "silent": _silent(self.rewards).float().mean().item(),
            "sample": self.attempts[0].text,
        }
