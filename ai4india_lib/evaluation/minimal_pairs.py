"""Minimal pairs: of two sentences, which one does a model find likelier?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..text.corpus import CorpusError, json_lines
from ..text.tokenizer import encode_lines, first_id
from .likelihood import token_log_probabilities

TIE = 1e-6  # nats: two sentences nearer than this are equally likely


# Minimal pairs


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in one thing: one is right, the other breaks a rule."""

    phenomenon: str  # the rule
    right: str
    wrong: str


def read_pairs(path: str | Path) -> list[Pair]:
    """Pairs from JSON Lines: `{"phenomenon": …, "right": …, "wrong": …}`."""
    return list(_records(Pair, json_lines(path, "pairs.jsonl"), str(path)))


def sentence_log_probabilities(model: nn.Module, tokenizer, sentences: Sequence[str]) -> Tensor:
    """log p of each sentence as the beginning of a document, in nats: (sentences,) float64.

    That is the sum over all its tokens after the begin token (after the end token where there is no begin token).
    """
    rows = [[first_id(tokenizer), *ids] for ids in encode_lines(tokenizer, sentences)]
    return torch.tensor([float(row.sum()) for row in token_log_probabilities(model, rows)], dtype=torch.float64)


def judge_pairs(model: nn.Module, tokenizer, pairs: Sequence[Pair]) -> list[float]:
    """For each pair 1.0 if the model finds the right sentence likelier, 0.0 if the wrong one, 0.5 for a tie.

    The sentences' whole probabilities are compared, as in BLiMP (Warstadt et al., 2020), not those per token: the two
    halves of a good pair have nearly the same words.
    """
    both = [sentence for pair in pairs for sentence in (pair.right, pair.wrong)]
    told = sentence_log_probabilities(model, tokenizer, both).view(-1, 2) if both else torch.empty(0, 2)
    lead = told[:, 0] - told[:, 1]  # (pairs,)
    return torch.where(lead.abs() < TIE, 0.5, (lead > 0).double()).tolist()


def minimal_pair_accuracy(model: nn.Module, tokenizer, pairs: Sequence[Pair | dict]) -> dict[str, float]:
    """Share of pairs judged rightly, 0 to 1, for each phenomenon, and as "mean" over all pairs. Chance gives 0.5."""
    pairs = list(_records(Pair, pairs, "pairs"))
    return accuracy_by_kind([pair.phenomenon for pair in pairs], judge_pairs(model, tokenizer, pairs))


def accuracy_by_kind(kinds: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """Mean score of each kind, in the order in which the kinds first come, and "mean", the mean of all scores."""
    if not scores:
        raise ValueError("no items to score: the list is empty")
    grouped: dict[str, list[float]] = {}
    for kind, score in zip(kinds, scores, strict=True):
        grouped.setdefault(kind, []).append(score)
    grouped["mean"] = list(scores)
    return {kind: sum(values) / len(values) for kind, values in grouped.items()}


def _records(kind: type, found: Iterable, source: str) -> Iterator:
    """Dicts (or finished records) as records of `kind`; names what is missing."""
    names = list(kind.__dataclass_fields__)
    for number, told in enumerate(found, 1):
        if isinstance(told, kind):
            yield told
            continue
        if absent := [name for name in names if not isinstance(told.get(name), str)]:
            raise CorpusError(f"{source}, number {number}, has no text as {', '.join(absent)}: each needs {names}")
        yield kind(**{name: told[name] for name in names})
