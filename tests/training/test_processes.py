"""Protects runs of several processes: two with half the batch are one with the whole, also with the model cut up over
them (FSDP2), in fine-tuning, with accumulation, and where another number of processes goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ai4india_lib.training.hyperparameters import get_hyperparameters, shared_anew

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script forks, and gloo asks for Linux's interface")
CLOSE = 1e-4  # nats: sums in another order


def in_script(*arguments: object, timeout: float = 400) -> None:
    """Run several_processes.py, one thread a process."""
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(tests.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, tests / "several_processes.py", *map(str, arguments)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def came(tmp_path_factory):
    """(label of a run, number of the process) → what came out."""
    folder = tmp_path_factory.mktemp("runs")
    in_script("equal", folder)
    statuses = json.loads((folder / "statuses.json").read_text(encoding="utf-8"))
    said = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.err")}
    assert not any(map(any, statuses.values())), said
    return {
        tuple(path.stem.rsplit("-", 1)): json.loads(path.read_text(encoding="utf-8"))
        for path in folder.glob("*-?.json")
    }


def gap(one: dict, other: dict) -> float:
    """The largest difference between two runs' losses, and their weights; all else must be the same."""
    names = ("train_loss", "eval_loss", "weights")
    assert {n: v for n, v in one.items() if n not in (*names, "test_loss")} == {
        n: v for n, v in other.items() if n not in (*names, "test_loss")
    }
    lists = [(one[name], other[name]) for name in names[:2]]
    lists += [(one["weights"][name], other["weights"][name]) for name in one["weights"]]
    lists += [([one["test_loss"]], [other["test_loss"]])]
    return max(abs(a - b) for first, second in lists for a, b in zip(first, second, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "one"),
    [
        *((f"{name}-two", f"{name}-one") for name in ("text", "accumulated", "talks", "adapter")),
        *((f"{name}-cut", f"{name}-one") for name in ("text", "talks", "adapter")),
        *((label, "text-one") for label in ("2-then-1", "1-then-2", "cut-again")),
    ],
)
def test_two_processes_are_one_with_the_whole_batch(came, label, one):
    whole = came[one, "0"]
    assert min(whole["eval_loss"]) < whole["eval_loss"][0] - CLOSE, "it learns"
    assert gap(whole, came[label, "0"]) < CLOSE
    if (label, "1") in came:
        assert came[label, "1"] == came[label, "0"], "both have the same weights and tell the same"


@pytest.mark.slow
@pytest.mark.parametrize("label", ["2-then-1-begun", "1-then-2-begun", "cut-begun"])
def test_one_process_that_is_asked_to_end_ends_all(came, label):
    assert came[label, "0"]["ended"].startswith("interrupted") and len(came[label, "0"]["train_loss"]) == 4
    assert came.get((label, "1"), came[label, "0"]) == came[label, "0"]


def test_another_number_of_processes_shares_the_same_rows():
    h = get_hyperparameters("tiny", batch_size=8, accumulation_steps=3)
    for had, now, expected in ((2, 1, (8, 6)), (1, 2, (6, 2)), (2, 16, (3, 1)), (4, 4, (8, 3))):
        shared = shared_anew(h, had, now)
        assert (shared.batch_size, shared.accumulation_steps) == expected
        assert had * 8 * 3 == now * shared.batch_size * shared.accumulation_steps
    assert shared_anew(h, 1, 4, by_batch=True) == get_hyperparameters("tiny", batch_size=2, accumulation_steps=3)
    with pytest.raises(ValueError, match="5 processes cannot share out the 48 rows"):
        shared_anew(h, 2, 5)
