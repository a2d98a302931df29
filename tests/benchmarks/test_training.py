"""Protects benchmarks.training: both sides learn the same from the same, and operations are counted rightly."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ai4india_lib import __main__
from ai4india_lib.benchmarks import profiling, training
from ai4india_lib.benchmarks.training import Shape

TINY = {"s": Shape(16, 2, 4, 2, vocab_size=50, batch_size=2, context_size=8)}
TINY["qk"] = Shape(16, 2, 4, 2, qk_norm=True, vocab_size=50, batch_size=2, context_size=8)


@pytest.mark.parametrize("shape", TINY.values(), ids=TINY)
def test_both_sides_take_the_same_steps(shape):
    """Loss by loss, over five steps with AdamW: the same batches, loss, clipping and rule."""
    h = training.replace(training.get_hyperparameters(), learning_rate=1e-3, precision="no", weight_decay=0.0)
    steps = training.contestants(shape, h, "cpu")
    losses = {side: [step() for _ in range(5)] for side, step in steps.items()}
    assert losses["ours, AdamW"] == pytest.approx(losses["transformers, AdamW"], rel=1e-4)
    assert losses["ours, Muon"][0] == pytest.approx(losses["ours, AdamW"][0], rel=1e-6)
    assert losses["ours, Muon"][4] != losses["ours, AdamW"][4]


def test_operations_are_those_of_the_products():
    """Counted by torch: forward and backward are three times the forward products; attention is computed in half."""
    shape = Shape(32, 2, 2, 2, vocab_size=64, batch_size=2, context_size=16)
    model, _ = training.make_pair(shape)
    ids = torch.randint(1, 64, (2, 16))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(ids)
    products = 3 * counter.get_flop_counts()["Global"][torch.ops.aten.mm]
    attention = 12 * 2 * 32 * 16 * shape.tokens
    assert training.operations(model, shape.tokens) == products + attention


def test_the_command_prints_the_rows_that_were_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(training, "SHAPES", TINY)
    threads = torch.get_num_threads()
    assert __main__.main(["benchmark", "training", "--rows", "qk", "--repeats", "2", "--threads", str(threads)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| qk, ")]
    assert [row[0] for row in rows] == [
        f"| qk, {side}" for side in ("ours, AdamW", "ours, Muon", "transformers, AdamW")
    ]
    for _, speed, spread, ratio, share in rows:
        slow, fast = (float(x.replace(",", "")) for x in spread.split(" to "))
        assert 0 < slow <= float(speed.replace(",", "")) <= fast and float(ratio) > 0 and share.endswith("% |")
    assert rows[2][3] == "1.00"
    assert f"torch {torch.__version__.split('+')[0]}" in lines[0] and "transformers " in lines[0]
    assert lines[-1].startswith("qk: ") and "attention" in lines[-1]


def test_the_peak_is_that_of_the_fastest_product(monkeypatch):
    clock = iter([0.0, 4.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: next(clock))
    assert profiling.peak_of_products(size=10, repeats=3) == 2 * 10**3 / 2.0


def test_a_wrong_row_is_told(capsys):
    assert __main__.main(["benchmark", "training", "--rows", "s,s1"]) != 0
    assert "no row is called s1: there are s, m, laptop, colab" in capsys.readouterr().err
