"""Texts behind their prompts: batches of them, and how likely a model finds each. DPO and GRPO rest on this."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..text.packing import next_token_batch


def completion_batch(
    prompts: list[list[int]], completions: list[list[int]], device: str | torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """(inputs, targets), each (batch, time), of texts of different lengths, each behind its prompt.

    Targets are the completions' ids where these are predicted, and −100 elsewhere (see `packing.next_token_batch`).
    Raises ValueError for an empty prompt (nothing would predict the first token) or an empty completion.
    """
    pairs = list(zip(prompts, completions, strict=True))
    for number, (prompt, completion) in enumerate(pairs):
        if not prompt or not completion:
            empty = f"{'completion' if prompt else 'prompt'} {number}"
            raise ValueError(f"{empty} has no ids: a prompt needs at least the begin token, a text one token")
    if not pairs:
        raise ValueError("no texts were given: the lists of prompts and completions are empty")
    learned = [[0] * len(prompt) + [1] * len(completion) for prompt, completion in pairs]
    inputs, targets = next_token_batch([prompt + completion for prompt, completion in pairs], learned=learned)
    return inputs.to(device), targets.to(device)


def completion_log_probabilities(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """log p of each target, given the tokens up to its place: (batch, time) in nats, 0 where the target is −100.

    With gradients, unlike `likelihood.token_log_probabilities`. The vocabulary, the widest part of a small model, is
    only looked at where a target counts.
    """
    counts = targets != -100  # (batch, time)
    logits = model(inputs, where=counts).float()  # (counted, vocab_size)
    scores = -F.cross_entropy(logits, targets[counts], reduction="none")  # (counted,)
    return scores.new_zeros(targets.shape).masked_scatter(counts, scores)


def sequence_log_probabilities(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """log p of each row's counted text as a whole: (batch,), the sum over its tokens, in nats."""
    return completion_log_probabilities(model, inputs, targets).sum(1)


class ShuffledOrder:
    """The numbers 0 … items − 1 in random order, again and again, each time in another one; dealt out to processes.

    It knows its position, so that a run can go on from there.
    """

    def __init__(self, items: int, seed: int, rank: int = 0, processes: int = 1):
        self.items, self.seed, self.rank, self.processes = items, seed, rank, processes
        self.drawn, self._numbers = 0, self._endless()

    def _endless(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield from torch.randperm(self.items, generator=generator).tolist()

    def take(self, count: int) -> list[int]:
        """The next `count` numbers for this process."""
        for_all = list(islice(self._numbers, count * self.processes))
        self.drawn += len(for_all)
        return for_all[self.rank :: self.processes]

    def state_dict(self) -> dict:
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict) -> None:
        self.drawn, self._numbers = state["drawn"], islice(self._endless(), state["drawn"], None)
