"""Counting as a language model: interpolated n-grams, the baseline that a neural model has to beat.

The clear version is written in lesson 04, with one dictionary entry per history. This one gives the same probabilities
from sorted tables: millions of tokens are counted in seconds, and a whole text is looked up at once.

Smoothing: Witten & Bell (1991), method C, as interpolation (Chen & Goodman, 1999, §2.4).
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ..basics.arguments import at_least
from .packing import in_light_groups
from .tokenizer import encode_for_scoring


@dataclass(frozen=True)
class _Table:
    """All n-grams of one length. A *history* is what stands before the last token; its number is that of the shorter
    n-gram it is. An n-gram's key is history · vocab_size + last token, so that it fits into one integer."""

    keys: Tensor  # (n-grams,) sorted
    count: Tensor  # (n-grams,) how often the last token came after the history
    total: Tensor  # (histories,) how often anything did
    kinds: Tensor  # (histories,) how many different tokens did


class NgramModel:
    """Tokens counted after each history of up to `longest - 1` tokens; the shorter histories smooth the longer ones.

    p(w | h) = (c(h, w) + T(h) · p(w | shorter h)) / (c(h) + T(h)), where T(h) is the number of different tokens seen
    after h; below the empty history every token has 1 / vocab_size.

    `documents` are lists of ids, each as it begins: the first id is given, the others are counted. No history reaches
    over a document's beginning. Raises ValueError if they hold nothing to count.
    """

    def __init__(self, documents: Iterable[list[int]], longest: int, vocab_size: int):
        at_least(1, longest=longest)  # 1 counts single tokens, 2 pairs, …
        self.longest, self.vocab_size = longest, vocab_size
        self.tables: list[_Table] = []
        ids, position = self._in_one_row(documents)
        if not (position > 0).any():
            raise ValueError("nothing to count: each document needs two ids or more")
        history = torch.zeros_like(ids)  # numbers; the empty history is number 0
        histories = 1
        for length in range(1, longest + 1):
            inside = position >= length - 1  # the n-gram that ends here lies within its document
            keys, number = torch.unique(history[inside] * vocab_size + ids[inside], return_inverse=True)
            count = torch.bincount(number[position[inside] > 0], minlength=len(keys))
            before = keys // vocab_size
            total = torch.zeros(histories, dtype=torch.long).index_add_(0, before, count)
            kinds = torch.bincount(before[count > 0], minlength=histories)
            self.tables.append(_Table(keys, count, total, kinds))
            ngram = torch.full_like(ids, -1)
            ngram[inside] = number
            history, histories = ngram.roll(1), len(keys)

    @classmethod
    def from_lines(cls, lines: Iterable[str], tokenizer, longest: int = 5) -> Self:
        """Count a text, one document per line; each begins after an end token, as in `WholeDocumentDataset`."""
        documents = (ids for group in in_light_groups(lines) for ids in encode_for_scoring(tokenizer, group))
        return cls(documents, longest, len(tokenizer))

    def up_to(self, longest: int) -> Self:
        """The model of shorter n-grams that is a part of this one: what counting only so long ones would give."""
        if not 1 <= longest <= self.longest:
            raise ValueError(f"longest={longest} is not one of 1 to {self.longest}, which were counted")
        shorter = copy.copy(self)
        shorter.longest, shorter.tables = longest, self.tables[:longest]
        return shorter

    def token_log_probabilities(self, rows: list[list[int]]) -> list[Tensor]:
        """For each row of ids, read as a document: log-probabilities (nats, float64) of its tokens but the first."""
        ids, position = self._in_one_row(rows)
        p = torch.full(ids.shape, 1 / self.vocab_size, dtype=torch.float64)
        history = torch.zeros_like(ids)  # -1: never seen
        for length, table in enumerate(self.tables, 1):
            known = (history >= 0) & (position >= length - 1)
            key = torch.where(known, history * self.vocab_size + ids, -1)
            found = torch.searchsorted(table.keys, key).clamp(max=len(table.keys) - 1)
            seen = table.keys[found] == key
            total = torch.where(known, table.total[history], 0)
            kinds = torch.where(known, table.kinds[history], 0)
            count = torch.where(seen, table.count[found], 0)
            p = torch.where(total > 0, (count + kinds * p) / (total + kinds).clamp(min=1), p)
            history = torch.where(seen, found, -1).roll(1)
        return [part[1:] for part in p.log().split([len(row) for row in rows])]

    def _in_one_row(self, documents: Iterable[list[int]]) -> tuple[Tensor, Tensor]:
        """All ids one after the other, (tokens,), and each one's position in its document."""
        documents = list(documents)
        lengths = torch.tensor([len(ids) for ids in documents], dtype=torch.long)
        ids = torch.tensor([i for document in documents for i in document], dtype=torch.long)
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocab_size:
            raise ValueError(f"an id is not one of 0 to {self.vocab_size - 1}: were the texts encoded differently?")
        starts = lengths.cumsum(0) - lengths
        return ids, torch.arange(len(ids)) - starts.repeat_interleave(lengths)
