"""Minimal pairs: of two sentences that differ in one thing, does a model find the right one likelier?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..text.corpus import json_lines
from ..text.tokenizer import encode_lines, first_id
from .items import accuracy_by_kind, items_from
from .likelihood import token_log_probabilities

TIE = 1e-6  # nats: two sentences nearer than this are equally likely


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in one thing: one is right, the other breaks a rule."""

    phenomenon: str  # the rule
    right: str
    wrong: str


def read_pairs(path: str | Path) -> list[Pair]:
    """Pairs from JSON Lines: `{"phenomenon": …, "right": …, "wrong": …}`."""
    return list(items_from(json_lines(path, "pairs.jsonl"), Pair, str(path)))


def sentence_log_probabilities(model: nn.Module, tokenizer, sentences: Sequence[str]) -> Tensor:
    """log p of each sentence as the beginning of a document, after its `first_id`, in nats: (sentences,) float64."""
    rows = [[first_id(tokenizer), *ids] for ids in encode_lines(tokenizer, sentences)]
    return torch.tensor([float(row.sum()) for row in token_log_probabilities(model, rows)], dtype=torch.float64)


def judge_pairs(model: nn.Module, tokenizer, pairs: Sequence[Pair]) -> list[float]:
    """For each pair 1.0 if the model finds the right sentence likelier, 0.0 if the wrong one, 0.5 for a tie.

    The sentences' whole probabilities are compared, as in BLiMP (Warstadt et al., 2020), not those per token: the two
    halves of a good pair have nearly the same words.
    """
    if not pairs:
        return []
    sentences = [sentence for pair in pairs for sentence in (pair.right, pair.wrong)]
    right, wrong = sentence_log_probabilities(model, tokenizer, sentences).view(-1, 2).T  # (pairs,) each
    return torch.where((right - wrong).abs() < TIE, 0.5, (right > wrong).double()).tolist()


def minimal_pair_accuracy(model: nn.Module, tokenizer, pairs: Sequence[Pair | dict]) -> dict[str, float]:
    """Accuracy, 0 to 1, on the pairs of each phenomenon, and as "mean" on all pairs. Chance gives 0.5."""
    pairs = list(items_from(pairs, Pair, "pairs"))
    return accuracy_by_kind([pair.phenomenon for pair in pairs], judge_pairs(model, tokenizer, pairs))
