"""Protects training.interrupts: Ctrl-C at any moment keeps what was learned so far; a second one ends at once."""

import json
import signal
import threading
from pathlib import Path

import pytest
import torch
from training_runs import ingredients, settings, told, weights

from ai4india_lib import History, train
from ai4india_lib.__main__ import main
from ai4india_lib.training.interrupts import interrupts_wait
from ai4india_lib.training.loop import Run
from ai4india_lib.training.objective import NextToken

pytestmark = pytest.mark.usefixtures("without_pictures")

ROOT = Path(__file__).parents[2]


def press():
    signal.raise_signal(signal.SIGINT)


def run(h, folder=None, **more):
    model, *loaders = ingredients(h)
    history = train(model, *loaders, h, folder=folder, **{"device": "cpu", "progress": False} | more)
    return history, weights(model)


def press_after(step, monkeypatch, times=1):
    """Let Ctrl-C be pressed while that step is being done; the weights after it."""
    whole, seen = Run._step, {}

    def step_(run):
        if run.history.steps == step - 1:
            for _ in range(times):
                press()
        whole(run)
        seen[run.history.steps] = weights(run.plain_model)

    monkeypatch.setattr(Run, "_step", step_)
    return seen


def test_sigterm_is_waited_for_as_ctrl_c_is(monkeypatch):
    """A cluster ends a run by it, and a launcher its processes."""
    before = signal.getsignal(signal.SIGTERM)
    with interrupts_wait() as asked:
        signal.raise_signal(signal.SIGTERM)
        assert len(asked) == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_ctrl_c_that_torchrun_passes_on_is_the_same_one(monkeypatch):
    """Its processes have it from the terminal already."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    now = [100.0]
    monkeypatch.setattr("ai4india_lib.training.interrupts.time.monotonic", lambda: now[0])
    with interrupts_wait() as asked:
        press()
        now[0] += 1
        press()
        assert len(asked) == 1
        now[0] += 10
        with pytest.raises(KeyboardInterrupt):
            press()


@pytest.mark.parametrize("step", [1, 3, 11])
def test_what_was_learned_before_the_first_look_is_kept(step, tmp_path, monkeypatch):
    h = settings(max_steps=20, eval_every=100, checkpoint_every=100, learning_rate=0.02)
    with monkeypatch.context() as patch:
        seen = press_after(step, patch)
        history, final = run(h, tmp_path)
    assert history.ended.startswith("interrupted") and history.steps == history.eval_step[-1] == step
    assert history.test_loss == min(history.eval_loss) == history.eval_loss[-1]
    assert all(torch.equal(final[name], p) for name, p in seen[step].items())
    again, expected = run(h, tmp_path, resume=True), run(h)
    assert told(again[0]) == told(expected[0]), "the look after Ctrl-C is no part of the run"
    assert all(torch.equal(again[1][name], p) for name, p in expected[1].items())


def test_stopped_while_the_text_is_read_a_run_ends_well(monkeypatch):
    prepare = NextToken.prepare

    def pressed(objective, run):
        press()
        return prepare(objective, run)

    monkeypatch.setattr(NextToken, "prepare", pressed)
    history, _ = run(settings())
    assert history.steps == 0 and history.ended.startswith("interrupted") and history.test_loss > 0
    assert history.result_in_words().startswith("interrupted: resume goes on from here after 0 steps")


def test_stopped_in_the_last_look_a_run_has_all_its_steps(monkeypatch):
    looks, look = [], NextToken.look

    def pressed(objective, model, max_batches=None, **more):
        looks.append(max_batches)
        if max_batches is None:
            press()
            assert more["going_on"]() is False
        return look(objective, model, max_batches, **more)

    monkeypatch.setattr(NextToken, "look", pressed)
    history, _ = run(settings(eval_batches=1))
    assert history.ended == "finished" and history.steps == 12 and looks == [1, 1, 1, 1, None]
    assert history.test_loss == min(history.eval_loss)


def test_a_second_ctrl_c_ends_at_once_and_the_run_can_go_on(tmp_path, monkeypatch):
    h = settings(max_steps=8, checkpoint_every=2)
    with monkeypatch.context() as patch:
        press_after(6, patch, times=2)
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            run(h, tmp_path)
        assert signal.getsignal(signal.SIGINT) is before
    assert told(run(h, tmp_path, resume=True)[0]) == told(run(h)[0])


def test_a_block_within_a_block_has_the_same_list():
    with interrupts_wait() as outer:
        with interrupts_wait() as inner:
            press()
            assert inner is outer and len(outer) == 1
        with pytest.raises(KeyboardInterrupt):
            press()
    other = []
    thread = threading.Thread(target=lambda: other.append(interrupts_wait().__enter__()))
    thread.start()
    thread.join()
    assert other == [[]], "other threads get no signals"


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "text"
    folder.mkdir()
    for name, count in (("train", 120), ("test", 20)):
        lines = [f"मीरा ने {n} चाय पी और {n * n} पतंग देखी।" for n in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_the_command_saves_the_model_that_was_stopped(text, monkeypatch, capsys):
    press_after(3, monkeypatch)
    command = ["train", "--data", str(text), "--preset", "tiny", "--device", "cpu", "--name", "mine"]
    assert main(command) == 0
    told_lines = capsys.readouterr().out.splitlines()
    assert told_lines[0] == f"reading {text} …" and any(line.startswith("interrupted") for line in told_lines)
    assert History.load("models/mine/history.json").steps == 3
    assert (text.parent / "models" / "mine" / "model.safetensors").is_file()
    assert main(["train", "--name", "mine", "--resume"]) == 0
    history = History.load("models/mine/history.json")
    assert history.ended == "finished" and history.steps == history.total_steps > 3


@pytest.mark.parametrize(
    ("options", "minutes", "max_steps"),
    [
        ([], 4.0, None), (["--minutes", "0.5"], 0.5, None), (["--max-steps", "70"], None, 70),
        (["--num-epochs", "2"], None, 600),
        (["--preset", "laptop"], None, 600), (["--preset", "quick", "--minutes", "2"], 2.0, None),
        (["--minutes", "2", "--max-steps", "9"], 2.0, 9), (["--minutes", "none"], None, 600),
    ],
)  # fmt: skip
def test_train_takes_four_minutes_unless_it_is_told_how_long(options, minutes, max_steps):
    from ai4india_lib.commands import hyperparameters_of
    from ai4india_lib.commands.options import make_parser

    h = hyperparameters_of(make_parser().parse_args(["train", *options]))
    assert (h.minutes, h.max_steps) == (minutes, max_steps)


def test_the_first_lesson_goes_on_with_what_there_is(capsys):
    cells = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))["cells"]
    [cell] = [source for cell in cells if (source := "".join(cell["source"])).startswith("first, last = history")]
    history = History(total_steps=200, train_loss=[6.0] * 7, eval_step=[0, 7], eval_loss=[8.3, 6.0])
    history.ended = "interrupted: resume goes on from here"
    exec(cell, {"history": history})
    assert capsys.readouterr().out.startswith("you stopped it after 7 of 200 steps: the lesson goes on")
    with pytest.raises(AssertionError):  # a run that was not stopped must have learned
        exec(cell, {"history": History(total_steps=200, eval_step=[0], eval_loss=[8.3], ended="finished")})
