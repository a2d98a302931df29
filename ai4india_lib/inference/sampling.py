"""logits → the next token: make used tokens less likely, sharpen or flatten, cut off the unlikely ones, draw.

`Sampling` holds those settings; the filters are applied in the order of `transformers`. Texts that are written together
are filtered together; each draws from random numbers of its own, so that it does not depend on its neighbours.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..basics.arguments import above, at_least, between, check_types

DAMAGED = "the model's logits are not numbers: its weights may be damaged, or overflow in fp16"
NUCLEUS = 256  # likeliest tokens among which top-p looks first: mostly they suffice, and sorting all takes 5 × as long


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. `temperature=0` is greedy: always the most likely one."""

    temperature: float = 0.8  # below 1: sharper than the model's own probabilities; above 1: flatter
    top_k: int | None = None  # keep the k most likely tokens (Fan et al., 2018)
    top_p: float | None = None  # keep the fewest that together have probability p (Holtzman et al., 2020)
    min_p: float | None = None  # keep those at least min_p times as likely as the likeliest (Nguyen et al., 2024)
    repetition_penalty: float = 1.0  # above 1: tokens already in the text become less likely (Keskar et al., 2019)
    seed: int | None = None  # same seed, same text; None: another text each time

    def __post_init__(self):
        check_types(self)
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature} must be 0 (greedy) or more; usual values are 0.5 to 1.2")
        at_least(1, top_k=self.top_k)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} is a probability: it must be above 0 and at most 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p={self.min_p} is a share: it must be 0 (nothing is left out) to 1")
        above(0, repetition_penalty=self.repetition_penalty)
        between(0, 2**63 - 1, seed=self.seed)  # what torch takes


def _discourage(logits: Tensor, used: Iterable[int], penalty: float) -> Tensor:
    """Logits (vocab_size,) with those of `used` made smaller, each once (Keskar et al., 2019, §4.1)."""
    if not (ids := list(set(used))):
        return logits
    old, logits = logits[ids], logits.clone()
    logits[ids] = torch.where(old > 0, old / penalty, old * penalty)
    return logits


def _nucleus(probabilities: Tensor, p: float) -> Tensor:
    """Which of the probabilities (..., vocab_size) are the fewest that together reach p."""
    rows = probabilities.reshape(-1, probabilities.shape[-1])
    ordered, index = rows.topk(min(NUCLEUS, rows.shape[-1]))
    kept = torch.zeros_like(rows, dtype=torch.bool)
    kept.scatter_(1, index, ordered.cumsum(-1) - ordered < p)  # what all likelier tokens have together: less than p
    wide = ordered.sum(-1) < p
    if rows.shape[-1] > NUCLEUS and wide.any():
        ordered, index = rows[wide].sort(descending=True)
        kept[wide] = torch.zeros_like(kept[wide]).scatter_(1, index, ordered.cumsum(-1) - ordered < p)
    return kept.view_as(probabilities)


def filter_logits(logits: Tensor, sampling: Sampling, used: Iterable = ()) -> Tensor:
    """Logits (vocab_size,) of one text with the cut-off ones at −inf; their softmax is what is drawn from.

    `used` are the ids of the text so far, for the repetition penalty. Greedy only asks for the largest: the
    temperature is then left out. For texts with the same settings: logits (rows, vocab_size), and `used` of each row.
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1.0:
        rows = zip(logits, used, strict=True) if logits.dim() == 2 else [(logits, used)]
        logits = torch.stack([_discourage(row, ids, sampling.repetition_penalty) for row, ids in rows]).view_as(logits)
    if sampling.temperature == 0:
        return logits
    logits = logits / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[..., -1:], -torch.inf)
    if sampling.top_p is not None and sampling.top_p < 1:
        logits = logits.masked_fill(~_nucleus(logits.softmax(-1), sampling.top_p), -torch.inf)
    if sampling.min_p:  # of probabilities a share is of logits a distance
        logits = logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(sampling.min_p), -torch.inf)
    return logits


def random_numbers(seed: int | None, row: int = 0) -> torch.Generator:
    """The random numbers of one text of a batch: the same for the same seed and row, on every device."""
    generator = torch.Generator()  # on the CPU: a few numbers a step are sent where they are needed
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed + row)
    return generator


def continued(generator: torch.Generator, drawn: int) -> torch.Generator:
    """The random numbers of a text again, from where the first `drawn` of them have been used."""
    again = torch.Generator().manual_seed(generator.initial_seed())
    for _ in range(drawn):
        torch.rand(1, generator=again)
    return again


def likeliest(logits: Tensor) -> list[int]:
    """The likeliest id of each row of logits (rows, vocab_size); of a row that has no numbers vocab_size, which no
    token has: `known` refuses it."""
    values, ids = logits.max(-1)  # a row's value is NaN if one of its logits is
    chosen = zip(values.tolist(), ids.tolist(), strict=True)
    return [token if math.isfinite(value) else logits.shape[-1] for value, token in chosen]


def known(ids: list[int], logits: Tensor) -> list[int]:
    """The ids that were chosen by logits (rows, vocab_size), if they are ids: asked here, where the step has waited for
    the device anyway.

    Raises FloatingPointError for vocab_size, which is what NaN and infinity come to.
    """
    if max(ids) == logits.shape[-1]:
        raise FloatingPointError(DAMAGED)
    return ids


def _draw(weights: Tensor, generators: Sequence[torch.Generator]) -> list[int]:
    """One id per row, as likely as its fraction of the row's weights: where a random height meets their running sum.

    Needs one random number per text, where `torch.multinomial` takes one for each token of the vocabulary.
    """
    wide = torch.float32 if weights.device.type == "mps" else torch.float64  # long sums of small numbers
    heights = torch.cat([torch.rand(1, generator=generator) for generator in generators])[:, None]  # (rows, 1) below 1
    total = weights.to(wide).cumsum(-1)  # (rows, vocab_size)
    ids = torch.searchsorted(total, heights.to(total) * total[:, -1:], right=True).flatten().tolist()
    return known(ids, weights)  # where weights are not numbers, a height lies behind the last


def draw(weights: Tensor, generator: torch.Generator) -> int:
    """An id drawn with probabilities that are proportional to weights (vocab_size,), which need not sum to 1."""
    return _draw(weights[None], [generator])[0]


def _choose(logits: Tensor, sampling: Sampling, used: Sequence, generators: Sequence[torch.Generator]) -> list[int]:
    """The next ids of rows of the same settings, from logits (rows, vocab_size)."""
    logits = filter_logits(logits, sampling, used)
    if sampling.temperature == 0:
        return known(likeliest(logits), logits)
    return _draw(logits.softmax(-1), generators)


def choose_rows(
    logits: Tensor, samplings: Sequence[Sampling], used: Sequence[Iterable[int]], generators: Sequence[torch.Generator]
) -> list[int]:
    """Draw the next id of each text from logits (rows, vocab_size); settings, ids so far and generators are per row.

    Rows with the same settings are worked on together; a row's choice depends on nothing but that row.
    Raises FloatingPointError if a row's logits are not numbers.
    """
    groups = defaultdict(list)
    if not all(sampling is samplings[0] for sampling in samplings):  # else, as usual, no need to compare all fields
        for row, sampling in enumerate(samplings):  # the seed does not count, each row has its generator
            groups[sampling if sampling.seed is None else replace(sampling, seed=None)].append(row)
    if len(groups) < 2:
        return _choose(logits, samplings[0], used, generators)
    chosen: dict[int, int] = {}
    for sampling, rows in groups.items():
        own = ([texts[row] for row in rows] for texts in (used, generators))
        chosen.update(zip(rows, _choose(logits[rows], sampling, *own), strict=True))
    return [chosen[row] for row in range(len(samplings))]


def choose(logits: Tensor, sampling: Sampling, used: Iterable[int], generator: torch.Generator) -> int:
    """Draw the next id of one text from logits (vocab_size,)."""
    return choose_rows(logits[None], [sampling], [used], [generator])[0]
