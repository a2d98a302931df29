"""Protects training.compiling: long runs on a GPU compile their loss, and whatever goes wrong then costs one line.

There is no GPU here: `torch.compile` is a stand-in, or compiles for a CPU without a compiler ("aot_eager").
"""

import pytest
import torch
from training_runs import ingredients, settings, told, weights

from ai4india_lib import get_hyperparameters, train
from ai4india_lib.commands.options import make_parser
from ai4india_lib.training import compiling, objective
from ai4india_lib.training.compiling import is_earned

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize(
    "earned, device, steps, processes, changes",
    [
        (True, GPU, 500, 1, {}), (True, GPU, 10**6, 1, {"minutes": 4.0}), (False, CPU, 10**6, 1, {}),
        (False, GPU, 499, 1, {}), (False, GPU, 10**6, 1, {"minutes": 1.0}), (False, GPU, 10**6, 2, {}),
        (False, GPU, 10**6, 1, {"compile": False}), (False, torch.device("mps"), 10**6, 1, {}),
    ],
)  # fmt: skip
def test_when_it_is_earned(earned, device, steps, processes, changes):
    assert is_earned(get_hyperparameters("colab", **changes), device, steps, processes) == earned


def test_the_command_line_can_forbid_it():
    assert make_parser().parse_args(["train", "--no-compile"]).compile is False
    assert not hasattr(make_parser().parse_args(["train"]), "compile"), "the preset decides"


def run(monkeypatch, capsys, compiler, **changes):
    """(history, weights, lines) of a run that is taken for one on a GPU."""
    monkeypatch.setattr(objective, "is_earned", lambda *_: compiler is not None)
    monkeypatch.setattr(torch, "compile", compiler)
    h = settings(max_steps=6, **changes)
    model, *loaders = ingredients(h)
    history = train(model, *loaders, h, device="cpu")
    return history, weights(model), capsys.readouterr().out


def aot(function, *, mode, dynamic):
    """The whole of it is one graph: nothing in the model stops the compiler."""
    return real_compile(function, backend="aot_eager", fullgraph=True, dynamic=dynamic)


real_compile = torch.compile


@pytest.mark.parametrize(
    "changes", [{}, pytest.param({"accumulation_steps": 2, "batch_size": 2}, marks=pytest.mark.slow)]
)
def test_a_compiled_run_learns_the_same(monkeypatch, capsys, changes):
    plain = run(monkeypatch, capsys, None, **changes)
    compiled = run(monkeypatch, capsys, aot, **changes)
    assert "compiling the step" in compiled[2] and "not compiled" not in compiled[2]
    assert compiled[0].train_loss == pytest.approx(plain[0].train_loss, rel=1e-4)
    for name, p in plain[1].items():
        torch.testing.assert_close(compiled[1][name], p, rtol=1e-2, atol=1e-3)


class Fails:
    """Compilers that fail: at once, at the first call, in the backward pass, at the third call, or with nonsense."""

    def __init__(self, when):
        self.when, self.calls = when, 0

    def __call__(self, function, *, mode, dynamic):
        if self.when == "at once":
            raise RuntimeError("Cannot find a working triton installation.\nmore lines\nand more")

        def compiled(ids, targets):
            self.calls += 1
            if self.when == "first" or (self.when == "third" and self.calls == 3):
                raise torch._dynamo.exc.BackendCompilerFailed(function, ValueError("no ptxas"), None)
            loss = function(ids, targets)
            if self.when == "backward":
                loss.register_hook(self.fail)
            return loss * torch.nan if self.when == "nonsense" else loss

        return compiled

    def fail(self, gradient):
        raise OSError("the disk of the cache is full")


@pytest.mark.parametrize("when", ["at once", "first", "backward", "third", "nonsense"])
def test_whatever_fails_costs_one_line_and_the_run_goes_on(monkeypatch, capsys, when):
    plain = run(monkeypatch, capsys, None)
    failed = run(monkeypatch, capsys, Fails(when))
    lines = [line for line in failed[2].splitlines() if "compil" in line]
    assert len(lines) == 2 and lines[1].startswith("not compiled, the run goes on without (")
    assert told(failed[0]) == told(plain[0]), "not a bit of the run has changed"
    assert all(torch.equal(failed[1][name], p) for name, p in plain[1].items())


@pytest.mark.parametrize("accumulated, mode", [(1, "reduce-overhead"), (2, "default")])
def test_recorded_steps_are_not_added_up(monkeypatch, capsys, accumulated, mode):
    modes = []

    def compiler(function, *, mode, dynamic):
        modes.append(mode)
        return function

    run(monkeypatch, capsys, compiler, accumulation_steps=accumulated)
    assert modes == [mode]


def test_batches_of_another_shape_are_not_compiled(monkeypatch, capsys):
    shapes = []

    def compiler(function, *, mode, dynamic):
        return lambda ids, targets: shapes.append(tuple(ids.shape)) or function(ids, targets)

    history, _, _ = run(monkeypatch, capsys, compiler)
    assert set(shapes) == {(4, 32)} and len(shapes) >= compiling.TRIALS + 1 and history.steps == 6
