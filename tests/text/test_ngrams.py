"""Protects text.ngrams: the fast tables give the probabilities of lesson 04's dictionaries, and of the hand."""

import math
import random
from collections import defaultdict

import pytest
import torch

from ai4india_lib.text.ngrams import NgramModel


class Dictionaries:
    """Witten–Bell interpolation as in the formula, one history at a time: the reference."""

    def __init__(self, documents, longest, vocab_size):
        self.longest, self.vocab_size = longest, vocab_size
        self.after = defaultdict(lambda: defaultdict(int))
        for ids in documents:
            for t in range(1, len(ids)):
                for start in range(max(0, t - longest + 1), t + 1):
                    self.after[tuple(ids[start:t])][ids[t]] += 1

    def probability(self, token, history):
        shorter = self.probability(token, history[1:]) if history else 1 / self.vocab_size
        seen = self.after.get(history, {})
        if not seen:
            return shorter
        return (seen.get(token, 0) + len(seen) * shorter) / (sum(seen.values()) + len(seen))

    def log_probabilities(self, ids):
        return [
            math.log(self.probability(ids[t], tuple(ids[max(0, t - self.longest + 1) : t]))) for t in range(1, len(ids))
        ]


def random_documents(count, vocab_size, seed):
    draw = random.Random(seed)
    return [
        [0] + [min(int(draw.expovariate(0.5)), vocab_size - 1) for _ in range(draw.randrange(9))] for _ in range(count)
    ]


@pytest.mark.parametrize("longest", [1, 2, 3, 5])
def test_gives_the_probabilities_of_the_formula(longest):
    """New documents, too: with histories and tokens that were never counted."""
    documents, new = random_documents(40, 12, seed=1), random_documents(30, 12, seed=2)
    new += [[0, 11, 11, 11, 3, 10, 0], [5, 1, 0, 1], [7]]
    reference = Dictionaries(documents, longest, 12)
    rows = NgramModel(documents, longest, 12).token_log_probabilities(documents + new)
    for ids, row in zip(documents + new, rows, strict=True):
        assert row.tolist() == pytest.approx(reference.log_probabilities(ids), abs=1e-12)


@pytest.mark.parametrize("shorter", [1, 2, 3])
def test_shorter_ones_are_a_part_of_longer_ones(shorter):
    documents = [[0, 5, 3, 5, 3, 1], [0, 3, 5, 5, 1, 2, 5, 3]]
    within, alone = (model.token_log_probabilities(documents) for model in (
        NgramModel(documents, 3, 6).up_to(shorter), NgramModel(documents, shorter, 6)))  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(within, alone, strict=True))
    with pytest.raises(ValueError, match="not one of 1 to 3"):
        NgramModel(documents, 3, 6).up_to(4)


def test_by_hand():
    """राधा चाय. अमन चाय.: after अमन (seen once, one kind), चाय has (1 + 1 · p(चाय)) / 2; p(चाय) = (2 + 4/9) / (6 + 4),
    with six tokens counted, of four kinds, from a vocabulary of nine."""
    end, radha, aman, tea = 0, 1, 2, 3
    model = NgramModel([[end, radha, tea, end], [end, aman, tea, end]], 2, 9)
    alone = (2 + 4 / 9) / 10
    assert model.token_log_probabilities([[aman, tea]])[0].exp().item() == pytest.approx((1 + alone) / 2)
    assert model.token_log_probabilities([[8, tea]])[0].exp().item() == pytest.approx(alone)


def test_all_tokens_together_have_probability_one():
    model = NgramModel(random_documents(50, 10, seed=3), 4, 10)
    for history in ([0], [0, 1, 0], [3, 9, 9, 9], [2, 2, 1]):
        rows = model.token_log_probabilities([[*history, token] for token in range(10)])
        assert sum(row[-1].exp().item() for row in rows) == pytest.approx(1)


def test_documents_do_not_look_into_each_other():
    """The same document has the same probabilities alone and beside others."""
    documents = random_documents(20, 8, seed=4)
    model = NgramModel(documents, 3, 8)
    together = model.token_log_probabilities(documents)
    for ids, row in zip(documents, together, strict=True):
        assert torch.equal(row, model.token_log_probabilities([ids])[0])


def test_counts_lines_of_text(tokenizer):
    lines = ["मीरा ने किताब पढ़ी।", "रहीम ने चाय पी।"] * 3
    model = NgramModel.from_lines(iter(lines), tokenizer, 3)
    [good, bad] = model.token_log_probabilities([tokenizer("मीरा ने किताब पढ़ी।")["input_ids"], [1, 300, 301, 302]])
    assert good.exp().mean() > 0.5 > bad.exp().mean()


@pytest.mark.parametrize(
    ("documents", "longest", "message"),
    [([[1, 2]], 0, "longest=0"), ([], 2, "nothing to count"), ([[1]], 2, "nothing to count"), ([[1, 9]], 2, "0 to 4")],
)
def test_mistakes_are_named(documents, longest, message):
    with pytest.raises(ValueError, match=message):
        NgramModel(documents, longest, 5)
