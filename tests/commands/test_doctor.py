"""Protects the command `doctor`: what it finds it says, also where a history, a text or checkpoints are missing; and
`train` ends with its verdict, in one line."""

import contextlib
import io
import json
import shutil

import doctor_runs as runs
import pytest

from ai4india_lib import load_model, save_model
from ai4india_lib.__main__ import main

TINY = ["--preset", "tiny", "--device", "cpu", "--max-steps", "40", "--num-epochs", "99"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a text of sentences, mine.txt, and a model that `train` made of it; and what `train` printed."""
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "mine.txt").write_text("\n".join(runs.made_up(200, seed=3)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        assert main(["train", "--data", "mine.txt", "--name", "mine", *TINY]) == 0
    return folder, printed.getvalue()


@pytest.fixture
def at_work(made, tmp_path, monkeypatch):
    shutil.copytree(made[0], tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_train_ends_with_a_verdict(made):
    lines = [line for line in made[1].splitlines() if "the doctor" in line]
    assert len(lines) == 1 and lines[0].startswith("the doctor finds nothing wrong: test loss")


def test_a_healthy_model_is_told_so_beside_the_yardsticks(at_work, capsys):
    assert main(["doctor", "--model", "mine"]) == 0
    told = capsys.readouterr().out
    assert "a run of 40 steps, mine.txt" in told and "the doctor finds nothing wrong" in told
    for yardstick in ("ln V", "unigram", "bigram", "5-gram"):
        assert yardstick in told
    assert "first_steps" in told and "training text" in told


def test_less_is_looked_at_where_less_is_there(at_work, capsys):
    """No checkpoints, then no history, then no text."""
    shutil.rmtree(at_work / "models" / "mine" / "training")
    assert main(["doctor", "--model", "mine", "--quick"]) == 0
    assert "finds nothing wrong" in capsys.readouterr().out
    (at_work / "models" / "mine" / "history.json").unlink()
    assert main(["doctor", "--model", "mine"]) == 0
    told = capsys.readouterr().out
    assert "no history; no text, so only the model is tried" in told and "finds nothing wrong" in told
    assert main(["doctor", "--model", "mine", "--column", "text"]) == 1
    assert "--column has no effect without --data" in capsys.readouterr().err


def test_another_text_is_not_the_one_of_the_run(at_work, capsys):
    """Its test loss is another one, and no fault."""
    (at_work / "other.txt").write_text("\n".join(runs.made_up(200, seed=4)), encoding="utf-8")
    assert main(["doctor", "--model", "mine", "--data", "other.txt", "--quick"]) == 0
    assert "the run noted" not in capsys.readouterr().out


def test_weights_that_are_not_those_of_the_run_are_seen(at_work, capsys):
    model, tokenizer = load_model("mine", "cpu")
    for block in model.blocks:
        block.attention.query.weight.data.normal_(std=0.5)
        block.attention.key.weight.data.normal_(std=0.5)
    save_model(model, tokenizer, "mine")
    history = at_work / "models" / "mine" / "history.json"
    noted = json.loads(history.read_text(encoding="utf-8"))
    assert main(["doctor", "--model", "mine", "--quick"]) == 0
    told = capsys.readouterr().out
    assert "the doctor suspects" in told and f"the run noted a test loss of {min(noted['eval_loss']):.2f}" in told
