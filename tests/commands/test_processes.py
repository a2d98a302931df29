"""Protects `train` and `finetune` in two processes: each start leaves a whole model, what is wrong is said once, and a
lost process ends the other, after which the run goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from training_runs import TEST, TRAIN

from ai4india_lib import load_model
from ai4india_lib.__main__ import main
from ai4india_lib.basics.processes import tell_once

linux = pytest.mark.skipif(sys.platform != "linux", reason="the script forks, and gloo asks for Linux's interface")
TESTS = Path(__file__).parents[1]
ALONE = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def start_again_and_again(folder: Path, number: int) -> dict:
    command = [sys.executable, TESTS / "several_processes.py", "starts", folder, str(number)]
    ran = subprocess.run(command, env=ALONE, capture_output=True, text=True, timeout=400 + 20 * number)
    assert ran.returncode == 0, ran.stderr
    return json.loads((folder / "came.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def came(tmp_path_factory):
    folder = tmp_path_factory.mktemp("starts")
    return start_again_and_again(folder, 2) | {"folder": folder}


def is_whole(folder: Path, *, killed: bool = False) -> bool:
    """Is there a model that opens, with its history, its plot and nothing half written? A process that is `killed`
    cannot put away the one checkpoint that it has in hand; nothing else may be left."""
    model, _ = load_model(folder, "cpu")
    there = {path.name for path in folder.iterdir()}
    in_hand = list((folder / "training").glob(".step-*.part")) if killed else []
    left = [path for path in folder.rglob(".*part*") if not {path, *path.parents} & {*in_hand}]
    whole = model.num_parameters() > 0 and {"history.json", "training"} <= there
    return whole and not left and len(in_hand) <= 1


@linux
@pytest.mark.slow
def test_each_start_leaves_a_whole_model(came):
    for name in ("run-0", "run-1", "over", "talks", "stopped", "goes-on", "alone"):
        statuses = came[name]["statuses"]
        assert not any(statuses) and came[name]["told"] == "", name
    for name in ("run-0", "run-1", "talks", "stopped", "lost"):
        assert is_whole(came["folder"] / "models" / name, killed=name == "lost")
    said = [(came["folder"] / f"run-0-{rank}.out").read_text(encoding="utf-8") for rank in (0, 1)]
    assert said[0].count("saved to models/run-0") == 1 and said[1] == ""


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("label", "status", "begins"),
    [
        ("again", 1, "error: models/run-0 is there already"),
        ("misspelt", 2, "usage: python -m ai4india_lib"),
        ("senseless", 1, "error: emb_dim=17 is not divisible by num_heads=2"),
        ("no-text", 1, "error: there is no nowhere"),
        ("write", 1, "error: `generate` runs in one process"),
    ],
)
def test_what_is_wrong_is_said_once(came, label, status, begins):
    assert came[label]["statuses"] == [status, status]
    assert came[label]["told"].startswith(begins) and came[label]["told"].count("error: ") == 1
    assert not (came["folder"] / "models" / "other").exists()


@linux
@pytest.mark.slow
@pytest.mark.parametrize("label", ["lost", "lost-first"])
def test_a_killed_process_ends_the_other_with_one_sentence(came, label):
    assert sorted(came[label]["statuses"]) == [-signal.SIGKILL, 1] and came[label]["seconds"] < 30
    assert came[label]["told"].startswith("error: another process of this run ended")
    assert came[label]["told"].count("\n") == 1
    assert came["alone"]["step"] > came["lost"]["step"], "one process went on with the run of two"


@linux
@pytest.mark.slow
@pytest.mark.long
def test_twenty_starts_in_a_row_lose_nothing(tmp_path):
    came = start_again_and_again(tmp_path, 20)
    assert all(came[f"run-{n}"]["statuses"] == [0, 0] for n in range(20))
    assert all(is_whole(tmp_path / "models" / f"run-{n}") for n in range(20))


@linux
@pytest.mark.slow
def test_torchrun_starts_it(tmp_path):
    """As a user types it; its exit status is that of the command."""
    (tmp_path / "text").mkdir()
    for name, lines in (("train.txt", TRAIN), ("test.txt", TEST)):
        (tmp_path / "text" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["ai4india_lib", "train", "--data", "text", "--name", "mine", "--preset", "tiny", "--max-steps", "4"]
    ran = subprocess.run([*command, "--device", "cpu"], env=ALONE, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.count("saved to models/mine") == 1, ran.stderr
    assert is_whole(tmp_path / "models" / "mine")


def test_accelerate_launch_that_starts_one_process_on_cpus_is_told(monkeypatch, capsys):
    """Without MPI it starts one where two were asked for, and says nothing."""
    for name, value in {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert main(["train", "--preset", "tiny"]) == 1
    assert "accelerate launch starts only one process on CPUs" in capsys.readouterr().err


def test_one_process_alone_always_tells(capsys):
    for _ in range(2):
        tell_once("error: a word", sys.stderr)
    assert capsys.readouterr().err == "error: a word\n" * 2
