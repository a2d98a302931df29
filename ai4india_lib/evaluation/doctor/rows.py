"""Token ids in rows, to measure on, and the loss that is measured on them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SHIFTS = (0, 1, 2)


@dataclass
class Rows:
    """Token ids to measure on: ids (rows, time), and which of them are targets, counted (rows, time)."""

    ids: Tensor
    counted: Tensor
    is_whole: bool  # all that the text has

    def batches(self, tokens: int = 2048) -> Iterator[tuple[Tensor, Tensor]]:
        size = max(1, tokens // self.ids.shape[1])
        return zip(self.ids.split(size), self.counted.split(size), strict=True)


@dataclass
class Measured:
    """Mean loss in nats per token where the target is so many tokens further, and how exactly it is known."""

    loss: float
    error: float  # one standard error: of a sample of the text; 0 where the whole text was measured


def measure(logits, rows: Rows, shifts: Iterable[int] = SHIFTS) -> dict[int, Measured]:
    """Loss where the target stands so many tokens further on; `logits` turns ids into them."""
    sums = {shift: ([], []) for shift in shifts}  # of each row: loss, tokens
    for ids, counted in rows.batches():
        log_p = logits(ids[:, :-1]).log_softmax(-1)  # (rows, time - 1, vocab_size)
        for shift, (losses, tokens) in sums.items():
            time = min(ids.shape[1] - 1, ids.shape[1] - shift)
            aims = ids[:, shift : shift + time]
            where = counted[:, max(shift, 1) : max(shift, 1) + time]
            found = -log_p[:, :time].gather(-1, aims[..., None])[..., 0]  # (rows, time)
            losses.append((found * where).sum(1).double())
            tokens.append(where.sum(1).double())
    return {shift: _mean(*map(torch.cat, both), rows.is_whole) for shift, both in sums.items()}


def _mean(losses: Tensor, tokens: Tensor, is_whole: bool) -> Measured:
    mean = float(losses.sum() / tokens.sum().clamp(min=1))
    if is_whole or len(losses) < 2:
        return Measured(mean, 0.0 if is_whole else 0.1 * mean)
    spread = (losses - mean * tokens).square().sum().sqrt() / tokens.sum().clamp(min=1)
    return Measured(mean, float(spread))


def padded(rows: list[list[int]], is_whole: bool, counted: list[list[bool]] | None = None) -> Rows:
    """Rows of ids in one tensor; what stands behind a row's end is no target."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    where = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        where[number, 1 : len(row)] = True if counted is None else torch.tensor(counted[number])
    return Rows(ids, where, is_whole)


def padding_of(row: Tensor, pad: int | None) -> int:
    """How many tokens at the end of a row are padding."""
    return 0 if pad is None else int(row.flip(0).eq(pad).long().cumprod(0).sum())


def skips_inside(inputs: Tensor, targets: Tensor) -> bool:
    """Are there places within the rows that are read and not learned, as in conversations?"""
    left_out = targets == -100
    return bool((left_out[:, :-1] & ~left_out[:, 1:]).any())
