"""Protects evaluation.likelihood: probabilities are those of `transformers`, bits those of training."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from ai4india_lib.evaluation import likelihood
from ai4india_lib.evaluation.likelihood import bits_per_byte, document_bits, token_log_probabilities
from ai4india_lib.evaluation.minimal_pairs import Pair, judge_pairs
from ai4india_lib.evaluation.reliability import calibration
from ai4india_lib.formats.pretrained import save_model
from ai4india_lib.text.packing import WholeDocumentDataset
from ai4india_lib.text.resumable import TextLoader
from ai4india_lib.training.loss import compute_loss_and_perplexity
from ai4india_lib.tuning.dpo import encode_preferences, score_preferences

LINES = ["मीरा ने किताब पढ़ी।", "रहीम ने चाय पी और घर गया।", "एक दिन"]


def test_log_probabilities_are_those_of_transformers(make_model, tokenizer, tmp_path):
    """Rows of different lengths in one batch; the loss of `transformers`, one row at a time, is the reference."""
    model = make_model()
    save_model(model, tokenizer, tmp_path / "m")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    rows = [tokenizer(line)["input_ids"] for line in LINES]
    for ids, told in zip(rows, token_log_probabilities(model, rows), strict=True):
        with torch.no_grad():
            loss = theirs(torch.tensor([ids]), labels=torch.tensor([ids])).loss
        assert len(told) == len(ids) - 1 and -told.mean().item() == pytest.approx(loss.item(), rel=1e-4)


def test_rows_come_back_in_order_whatever_the_batches(make_model, monkeypatch):
    rows = [[5] * n + [7, 9] for n in (3, 40, 1, 12, 40, 2)] + [[4], [], [8, 8]]
    model = make_model()
    whole = token_log_probabilities(model, rows)
    assert [len(row) for row in whole] == [4, 41, 2, 13, 41, 3, 0, 0, 1]
    monkeypatch.setattr(likelihood, "TOKENS_AT_ONCE", 30)
    for a, b in zip(whole, token_log_probabilities(model, rows), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_a_long_row_is_read_in_pieces(make_model):
    model = make_model(context_size=16)
    row = [i % 300 + 7 for i in range(40)]
    [told] = token_log_probabilities(model, [row])
    pieces = token_log_probabilities(model, [row[:17], row[16:33], row[32:]])
    torch.testing.assert_close(told, torch.cat(pieces), atol=1e-4, rtol=0)


def test_training_mode_is_left_as_it_was(make_model):
    model = make_model().train()
    token_log_probabilities(model, [[1, 2, 3]])
    assert model.training


def test_bits_per_byte_is_what_training_reports_when_no_row_holds_two_documents(make_model, tokenizer):
    model = make_model(context_size=40)
    lines = [line * 2 for line in LINES[:2]]
    loader = TextLoader(WholeDocumentDataset(lines, tokenizer, 40, batch_size=2))
    rows = sum(len(inputs) for inputs, _ in loader)
    assert rows >= 2  # else documents share a row
    bits, sizes = document_bits(model, tokenizer, lines)
    assert sizes.tolist() == [len(line.encode()) + 1 for line in lines]
    tokens = sum(int((targets != -100).sum()) for _, targets in loader)
    loss, _ = compute_loss_and_perplexity(model, loader, "cpu")
    assert bits.sum().item() == pytest.approx(loss * tokens / math.log(2), rel=1e-4)
    assert bits_per_byte(model, tokenizer, iter(lines)) == pytest.approx(float(bits.sum() / sizes.sum()))


def test_a_model_that_knows_nothing_needs_log2_of_the_vocabulary_per_token(make_model, tokenizer):
    model = make_model()
    with torch.no_grad():
        model.embedding.weight.zero_()
    tokens = len(tokenizer(LINES[0])["input_ids"]) + 1  # and the end token
    assert document_bits(model, tokenizer, LINES[:1])[0].item() == pytest.approx(tokens * math.log2(384), rel=1e-5)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_damaged_model_is_told_instead_of_measured(make_model, tokenizer, value):
    model = make_model().train()
    with torch.no_grad():
        model.blocks[1].mlp.down.weight[0, 0] = value
    measures = {
        "bits per byte": lambda: bits_per_byte(model, tokenizer, LINES),
        "minimal pairs": lambda: judge_pairs(model, tokenizer, [Pair("verbs", "मीरा गई", "मीरा गया")]),
        "calibration": lambda: calibration(model, tokenizer, LINES),
        "DPO's reference": lambda: score_preferences(model, encode_preferences(tokenizer, [("", "गई", "गया")])),
    }
    for name, measure in measures.items():
        with pytest.raises(FloatingPointError, match="logits are not numbers: its weights may be damaged"):
            print(name, measure())
        assert model.training


def test_no_lines_are_told(make_model, tokenizer):
    with pytest.raises(ValueError, match="no documents"):
        bits_per_byte(make_model(), tokenizer, [])
