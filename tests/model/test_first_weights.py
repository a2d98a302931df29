"""Protects model.first_weights: what embeddings begin as is what is counted in the text, and nothing else changes."""

import math
import random

import pytest
import torch

from ai4india_lib import DecoderLanguageModel
from ai4india_lib.model.first_weights import SMOOTHING, _company, begin_by_counting

VOCABULARY = 40


def fresh(emb_dim=16, vocab_size=VOCABULARY):
    torch.manual_seed(3)
    return DecoderLanguageModel(vocab_size, emb_dim, 2, 1, 0, num_kv_heads=1, context_size=16)


def sentences(count=400):
    """A name (10 to 13), what it does (20 to 23), a thing (30 to 33)."""
    draw = random.Random(5)
    return [[1, *(start + draw.randrange(4) for start in (10, 20, 30)), 2] for _ in range(count)]


def test_tokens_of_like_company_are_alike():
    model = begin_by_counting(fresh(), sentences(2000))
    vectors = torch.nn.functional.normalize(model.embedding.weight.detach(), dim=1)
    kinds = [range(10, 14), range(20, 24), range(30, 34)]
    for kind in kinds:
        for token in kind:
            others = [other for one in kinds for other in one if other != token]
            nearest = sorted(others, key=lambda other: -(vectors[token] @ vectors[other]).item())[:3]
            assert sorted([token, *nearest]) == list(kind)


def test_only_embeddings_of_tokens_that_were_seen_change_and_no_length_does():
    before, model = fresh(), begin_by_counting(fresh(), sentences())
    for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
        if name != "embedding.weight":
            assert torch.equal(old, new), name
    old, new = before.embedding.weight.detach(), model.embedding.weight.detach()
    seen = sorted({token for ids in sentences() for token in ids})
    changed = [token for token in range(VOCABULARY) if not torch.equal(old[token], new[token])]
    assert changed == seen
    assert new[seen].norm(dim=1).mean() == pytest.approx(old[seen].norm(dim=1).mean().item(), rel=0.15)


def test_the_same_seed_gives_the_same_vectors_and_no_other_draw_changes():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (begin_by_counting(model, sentences(), seed) for model, seed in
                           zip([fresh() for _ in range(3)], (0, 0, 1), strict=True))  # fmt: skip
    torch.manual_seed(7)
    begin_by_counting(first, sentences())
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(again.embedding.weight, begin_by_counting(fresh(), sentences(), 0).embedding.weight)
    assert not torch.equal(other.embedding.weight, again.embedding.weight)


@pytest.mark.parametrize("documents", [[], [[]], [[5]], [[5], [6], [7]]], ids=str)
def test_a_text_in_which_nothing_stands_together_changes_nothing(documents):
    assert torch.equal(begin_by_counting(fresh(), documents).embedding.weight, fresh().embedding.weight)


def test_an_embedding_wider_than_the_vocabulary():
    model = begin_by_counting(fresh(emb_dim=64), sentences())
    assert model.embedding.weight.isfinite().all()


def test_company_is_positive_pointwise_mutual_information():
    """By hand: a b a | b c, neighbours count one, those two tokens away a half, none over the end of a document."""
    a, b, c = range(3)
    counts = {(a, b): 2.0, (b, a): 2.0, (a, a): 1.0, (b, c): 1.0, (c, b): 1.0}
    alone = {t: sum(n for (left, _), n in counts.items() if left == t) for t in (a, b, c)}
    smoothed = {t: n**SMOOTHING for t, n in alone.items()}
    found = _company([[a, b, a], [b, c]], 4).to_dense()
    assert found.shape == (4, 4)
    for one in range(4):
        for other in range(4):
            expected = 0.0
            if (one, other) in counts:
                by_chance = alone[one] * smoothed[other] / sum(smoothed.values())
                expected = max(0.0, math.log(counts[one, other] / by_chance))
            assert found[one, other].item() == pytest.approx(expected, abs=1e-6)
