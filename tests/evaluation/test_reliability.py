"""Protects evaluation.reliability: bins hold what they should, and each token of a text counts once."""

import pytest
import torch

from ai4india_lib.evaluation.reliability import calibrate, calibration

LINES = ["मीरा ने किताब पढ़ी।", "रहीम ने चाय पी और घर गया।", "एक दिन"]


def test_calibration_by_hand():
    """0.2 and 0.3 lie in the lower of two bins, with one right of two: gap 0.25; 0.9 in the upper, wrong: gap 0.9."""
    found = calibrate(torch.tensor([0.2, 0.3, 0.9]), torch.tensor([True, False, False]), bins=2)
    assert found.count.tolist() == [2, 1]
    assert found.confidence.tolist() == pytest.approx([0.25, 0.9]) and found.accuracy.tolist() == [0.5, 0.0]
    assert found.error == pytest.approx((2 * 0.25 + 1 * 0.9) / 3)


def test_edges_of_bins():
    """A bin holds its upper edge; 0 and 1 have a bin."""
    found = calibrate(torch.tensor([0.0, 0.25, 0.5, 1.0]), torch.ones(4, dtype=torch.bool), bins=4)
    assert found.count.tolist() == [2, 1, 0, 1]


def test_honest_coins_are_well_calibrated_and_boasters_are_not():
    torch.manual_seed(0)
    confidence = torch.rand(20_000)
    correct = torch.rand(20_000) < confidence
    assert calibrate(confidence, correct).error < 0.02
    assert calibrate(confidence.sqrt(), correct).error > 0.1


@torch.no_grad()
def test_calibration_of_a_model_counts_each_token_once(make_model, tokenizer):
    model = make_model()
    found = calibration(model, tokenizer, LINES, bins=5)
    rows = [[2, *tokenizer(line)["input_ids"], 2] for line in LINES]
    assert int(found.count.sum()) == sum(len(row) - 1 for row in rows)
    right = total = 0.0
    for row in rows:
        p, token = model(torch.tensor([row[:-1]]))[0].softmax(-1).max(-1)
        right += float((token == torch.tensor(row[1:])).sum())
        total += float(p.sum())
    assert float((found.accuracy * found.count).sum()) == pytest.approx(right)
    assert float((found.confidence * found.count).sum()) == pytest.approx(total, rel=1e-4)
