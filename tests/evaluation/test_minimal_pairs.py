"""Protects evaluation.minimal_pairs: whole sentences are compared, and shares are those of the hand."""

import json

import pytest

from ai4india_lib.evaluation.likelihood import token_log_probabilities
from ai4india_lib.evaluation.minimal_pairs import (
    Pair,
    judge_pairs,
    minimal_pair_accuracy,
    read_pairs,
    sentence_log_probabilities,
)
from ai4india_lib.text.archives import CorpusError
from ai4india_lib.text.ngrams import NgramModel

LINES = ["मीरा ने किताब पढ़ी।", "रहीम ने चाय पी और घर गया।", "एक दिन"]


def test_pairs_are_judged_by_the_whole_sentence(make_model, tokenizer):
    """Against `transformers`-checked log-probabilities, summed: the longer half is not favoured by its mean."""
    model = make_model()
    pairs = [Pair("a", LINES[0], LINES[1]), Pair("a", LINES[1], LINES[0]), Pair("b", LINES[2], LINES[2])]
    sums = [float(row.sum()) for row in token_log_probabilities(model, [tokenizer(t)["input_ids"] for t in LINES])]
    assert sentence_log_probabilities(model, tokenizer, LINES).tolist() == pytest.approx(sums, abs=1e-3)
    first = float(sums[0] > sums[1])
    assert judge_pairs(model, tokenizer, pairs) == [first, 1 - first, 0.5]
    assert minimal_pair_accuracy(model, tokenizer, pairs) == {"a": 0.5, "b": 0.5, "mean": 0.5}


def test_a_counting_model_knows_the_agreement_it_has_counted(tokenizer):
    counted = NgramModel.from_lines(["मीरा आई।", "रहीम आया।"] * 5, tokenizer, 5)
    pairs = [{"phenomenon": "verb", "right": "मीरा आई।", "wrong": "मीरा आया।"},
             {"phenomenon": "verb", "right": "रहीम आया।", "wrong": "रहीम आई।"},
             {"phenomenon": "turned", "right": "रहीम आई।", "wrong": "रहीम आया।"}]  # fmt: skip
    found = minimal_pair_accuracy(counted, tokenizer, pairs)
    assert found == {"verb": 1.0, "turned": 0.0, "mean": pytest.approx(2 / 3)}


def test_an_untrained_model_guesses(make_model, tokenizer):
    pairs = [Pair("x", *((a, b) if n % 2 else (b, a)))
             for n in range(100) for a, b in [(f"मीरा {n} आई।", f"मीरा {n} आया।")]]  # fmt: skip
    assert minimal_pair_accuracy(make_model(), tokenizer, pairs)["mean"] == pytest.approx(0.5, abs=0.15)


def test_pairs_are_read_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"phenomenon": "ne", "right": "a", "wrong": "b", "note": 1}) + "\n", encoding="utf-8")
    assert read_pairs(path) == [Pair("ne", "a", "b")]
    path.write_text('{"phenomenon": "ne", "right": "a", "wrong": "b"}\n\n{"right": "a"}\n', encoding="utf-8")
    with pytest.raises(CorpusError, match=r"pairs\.jsonl, line 3, has no text as phenomenon, wrong"):
        read_pairs(path)
    with pytest.raises(ValueError, match="no items"):
        minimal_pair_accuracy(None, None, [])
