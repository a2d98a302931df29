"""Texts behind their prompts: batches of them, and how likely a model finds each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from ..basics.device import pick_precision
from ..model.decoder import DecoderLanguageModel
from ..text.packing import next_token_batch
from ..training.hyperparameters import Hyperparameters


def completion_batch(
    prompts: list[list[int]], completions: list[list[int]], device: str | torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """(inputs, targets), each (batch, time), of texts of different lengths, each behind its prompt.

    Targets are the completions' ids where these are predicted, and −100 elsewhere: inside the prompts, and at the right
    end of short rows. A causal model never looks there from a token that counts, so no attention mask is needed.

    Raises ValueError for an empty prompt (nothing would predict the first token) or an empty completion.
    """
    pairs = list(zip(prompts, completions, strict=True))
    for number, (prompt, completion) in enumerate(pairs):
        for name, ids in (("prompt", prompt), ("completion", completion)):
            if not ids:
                raise ValueError(
                    f"{name} {number} has no ids: a prompt needs at least the begin token, a text one token"
                )
    if not prompts:
        raise ValueError("no texts were given: the lists of prompts and completions are empty")
    rows = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    learned = [
        [0] * len(prompt) + [1] * len(completion) for prompt, completion in zip(prompts, completions, strict=True)
    ]
    inputs, targets = next_token_batch(rows, learned=learned)
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
