"""Protects training.clock: a run by the clock takes its minutes, fixes its steps twice, and keeps their number."""

import re
import signal
import time
from dataclasses import replace

import pytest
import torch
from training_runs import ingredients, settings, told, weights

from ai4india_lib import get_hyperparameters, learning_rate_at, train
from ai4india_lib.training import clock as clock_module
from ai4india_lib.training.clock import Clock, Costs, early_looks, first_pace, is_time_to_look
from ai4india_lib.training.history import History
from ai4india_lib.training.hyperparameters import PRESETS
from ai4india_lib.training.loop import Run
from ai4india_lib.training.objective import NextToken
from ai4india_lib.training.resume import Checkpoints
from ai4india_lib.tuning.dpo import Preference, tune_on_preferences
from ai4india_lib.tuning.grpo import Group, tune_on_rewards
from ai4india_lib.tuning.rewards import Task

MINUTE = 60.0


class FakeTime:
    """A machine of which we say how long it takes; nothing sleeps, and unless it `computes`, nothing is learned."""

    def __init__(self, monkeypatch, step=0.5, look=1.0, whole_look=4.0, save=0.4, first_steps=3.0, computes=False):
        self.now, self.steps, self.seconds = 1000.0, 0, step
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        run_step, run_look, run_save = Run._step, NextToken.look, Checkpoints.save

        def step_(run):
            if computes:
                run_step(run)
            else:
                history = run.history
                warmup = history.pace["warmup_steps"]
                history.learning_rate.append(learning_rate_at(history.steps, history.total_steps, run.h, warmup))
                history.train_loss.append(5.0)
            self.steps += 1
            self.now += first_steps if self.steps <= 2 else self.seconds

        def look_(objective, model, max_batches=None, **more):
            self.now += whole_look if max_batches is None else look
            return run_look(objective, model, max_batches, **more) if computes else 4.0

        def save_(checkpoints, *content):
            self.now += save
            return run_save(checkpoints, *content)

        monkeypatch.setattr(Run, "_step", step_)
        monkeypatch.setattr(NextToken, "look", look_)
        monkeypatch.setattr(Checkpoints, "save", save_)


def by_the_clock(minutes, **changes):
    """Settings of a tiny model, with looks and checkpoints as rare as in a real run."""
    rhythm = {"eval_every": 100, "checkpoint_every": 100, "eval_batches": 1, "max_steps": None, "patience": 99}
    return settings(minutes=minutes, **rhythm | changes)


def run(h, folder=None, **more):
    model, *loaders = ingredients(h)
    history = train(model, *loaders, h, folder=folder, device="cpu", **{"progress": False, **more})
    return history, weights(model)


# How long it takes


@pytest.mark.parametrize("step", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("saves", [False, True])
def test_a_run_takes_its_minutes(step, saves, tmp_path, monkeypatch):
    """Slow first steps, looks, checkpoints and the last look at the whole test text are all in them."""
    fake = FakeTime(monkeypatch, step=step)
    history, _ = run(by_the_clock(1.0), tmp_path if saves else None)
    assert fake.now - 1000 == history.seconds == pytest.approx(MINUTE, rel=0.1)
    assert history.ended == "finished" and history.steps == history.total_steps == fake.steps


def test_an_odd_step_while_it_is_timed_does_not_count(monkeypatch):
    fake = FakeTime(monkeypatch)
    step = Run._step

    def odd(run):
        step(run)
        fake.now += 4.0 if fake.steps == 6 else 0.0

    monkeypatch.setattr(Run, "_step", odd)
    assert run(by_the_clock(1.0))[0].seconds == pytest.approx(MINUTE, rel=0.1)


@pytest.mark.parametrize("later", [0.25, 1.0])
def test_a_machine_that_changes_its_speed_gets_another_number_before_the_rate_falls(later, monkeypatch):
    """Timed at half a second a step, half as fast or twice as fast after thirty steps; the rate is of one schedule."""
    fake = FakeTime(monkeypatch)
    step = Run._step

    def changed(run):
        fake.seconds = 0.5 if fake.steps < 30 else later
        step(run)

    monkeypatch.setattr(Run, "_step", changed)
    h = by_the_clock(2.0)
    history, _ = run(h)
    assert history.seconds == pytest.approx(2 * MINUTE, rel=0.2) and history.steps == history.total_steps
    warmup, half = history.pace["warmup_steps"], history.steps // 2
    assert history.learning_rate[:half] == [learning_rate_at(at, history.steps, h, warmup) for at in range(half)]
    assert history.learning_rate[-1] < 0.05 * h.learning_rate


def test_what_is_reserved_is_left_free(monkeypatch):
    FakeTime(monkeypatch)
    assert run(by_the_clock(1.0), reserved=20.0)[0].seconds == pytest.approx(MINUTE - 20, rel=0.1)


@pytest.mark.parametrize("minutes", [0.001, 0.1])
def test_minutes_too_short_for_a_measurement_still_give_a_run(minutes, monkeypatch):
    fake = FakeTime(monkeypatch)
    history, _ = run(by_the_clock(minutes))
    assert 1 <= history.steps == history.total_steps <= 3 and history.ended == "finished"
    assert history.eval_step[-1] == history.steps and history.test_loss is not None and fake.steps == history.steps


def test_what_ends_first_counts(monkeypatch, capsys):
    FakeTime(monkeypatch)
    history, _ = run(by_the_clock(1.0, max_steps=30), progress=True)
    assert history.steps == history.total_steps == 30
    assert "all 30 steps fit into 1 minute on this machine" in capsys.readouterr().out
    history, _ = run(by_the_clock(1.0, max_steps=5000))
    assert 50 < history.steps < 120
    few, _ = run(by_the_clock(1.0, num_epochs=1.0))
    assert few.passes == pytest.approx(1, abs=0.2) and few.steps < 30


def test_the_number_is_told(monkeypatch, capsys):
    FakeTime(monkeypatch)
    history, _ = run(by_the_clock(1.0), progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["reading the text …", "1 minute of training: the first steps tell how many that will be"]
    first = re.fullmatch(r"about (\d+) steps in 1 minute on this machine, they read the text [\d.]+ times", lines[2])
    assert int(first[1]) == pytest.approx(history.steps, abs=2)
    assert lines[3].startswith(f"finished after {history.steps} steps")
    tokens = NextToken(*ingredients(settings())[1:], settings()).data.dataset.num_tokens()
    assert history.passes == pytest.approx(history.steps * history.tokens_per_step / tokens)


# The schedule


def test_the_learning_rate_is_that_of_one_schedule_whatever_the_number_becomes(monkeypatch):
    """It rises for a number of steps that is known from the first one, and has fallen to zero when the time is over."""
    rates = {}
    for minutes in (1.0, 2.0):
        with monkeypatch.context() as patch:
            FakeTime(patch)
            h = by_the_clock(minutes, warmup_fraction=0.1)
            history, _ = run(h)
        rates[minutes] = history.learning_rate
        warmup = history.pace["warmup_steps"]
        assert warmup == 0.1 * clock_module.SHORT
        assert history.learning_rate == [
            learning_rate_at(step, history.steps, h, warmup) for step in range(history.steps)
        ]
        assert history.learning_rate[-1] == pytest.approx(h.learning_rate / (round(0.4 * history.steps) + 1))
    assert rates[1.0][:40] == rates[2.0][:40], "the steps before and behind the decision know nothing of it"


@pytest.mark.parametrize("most_steps, warmup", [(600, 4), (10**9, 4), (100, 2), (10, 0), (0, 0)])
def test_the_warm_up_is_short(most_steps, warmup):
    assert first_pace(PRESETS["laptop"], most_steps)["warmup_steps"] == warmup


def test_the_preset_gives_way_to_the_clock():
    assert get_hyperparameters("laptop", minutes=4).max_steps is None
    assert get_hyperparameters("laptop", minutes=4, max_steps=100).max_steps == 100
    assert get_hyperparameters("laptop", minutes=None).max_steps == get_hyperparameters("laptop").max_steps == 600
    assert get_hyperparameters("laptop").minutes is None, "the library's presets have steps: same seed, same run"


@pytest.mark.parametrize("minutes", [0, -1, float("nan")])
def test_minutes_that_are_none_are_refused(minutes):
    with pytest.raises(ValueError, match="minutes"):
        get_hyperparameters("laptop", minutes=minutes)


# Going on


class PowerCutError(Exception):
    pass


def test_a_resumed_run_keeps_the_number_and_repeats_the_run(tmp_path, monkeypatch):
    """Killed after it was fixed, and gone on with on a machine that is five times as fast."""
    h, kept = by_the_clock(0.5), []
    with monkeypatch.context() as patch:
        FakeTime(patch, save=0.0, computes=True)
        expected = run(h)
    with monkeypatch.context() as patch:
        fake = FakeTime(patch, save=0.0, computes=True)
        fix = Run._fix_steps

        def then_cut(run):
            fix(run)
            if run.clock is None:
                kept.append(run.history.total_steps)
                raise PowerCutError

        patch.setattr(Run, "_fix_steps", then_cut)
        with pytest.raises(PowerCutError):
            run(h, tmp_path)
        assert fake.steps < expected[0].steps
    with monkeypatch.context() as patch:
        FakeTime(patch, step=0.1, computes=True)
        history, final = run(h, tmp_path, resume=True)
    assert [history.total_steps] == kept == [expected[0].total_steps]
    assert told(history) == told(expected[0])
    assert all(torch.equal(final[name], p) for name, p in expected[1].items())


def test_a_run_that_ended_while_it_was_timed_is_timed_again(tmp_path, monkeypatch):
    FakeTime(monkeypatch)
    h = by_the_clock(1.0)
    step = Run._step

    def press(run):
        step(run)
        if run.history.steps == 4:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_step", press)
        history, _ = run(h, tmp_path)
    assert history.is_open and history.steps == 4 and history.ended.startswith("interrupted")
    history, _ = run(h, tmp_path, resume=True)
    assert not history.is_open and history.seconds == pytest.approx(MINUTE, rel=0.1)
    with pytest.raises(ValueError, match=r"was started with minutes=1\.0"):
        run(replace(h, minutes=2.0), tmp_path, resume=True)


# Looks and checkpoints


def fixed(step, costs, *, seconds=240.0, test_batches=8.0, **changes):
    """What a clock fixes that has seen ten steps."""
    clock = Clock(seconds, time.perf_counter(), torch.device("cpu"))
    clock.times = [step] * 10
    history = History(total_steps=10**9, train_loss=[5.0] * 10, pace={"minutes": seconds / 60})
    h = get_hyperparameters("laptop", minutes=seconds / 60, **changes)
    return clock.fix(history, 10**9, h, costs, test_batches)


@pytest.mark.parametrize(
    "step, look, save", [(0.6, 2.0, 0.3), (0.003, 0.02, 0.2), (0.0002, 0.02, 3.0), (2.0, 6.0, 5.0)]
)
def test_looks_and_checkpoints_take_a_small_part_of_the_time(step, look, save):
    steps, pace = fixed(step, Costs(look, look / 8, save))
    looking, saving = steps / pace["eval_every"] * look, steps / pace["checkpoint_every"] * save
    assert looking <= 0.05 * 240 and saving <= 0.03 * 240 and steps / pace["eval_every"] <= 30
    assert pace["early_looks"] is (look <= 2.4), "a hundredth of the time"
    early = sum(10 < at < min(steps, pace["eval_every"]) for at in early_looks(pace["eval_every"]))
    early = early * pace["early_looks"] + 1
    assert (steps - 10) * step + early * look + looking + 2 * save + saving == pytest.approx(240, rel=0.1)
    assert pace["eval_every"] >= 100 and pace["checkpoint_every"] >= 100


def test_the_last_look_at_a_huge_test_text_takes_a_tenth_of_the_time():
    steps, pace = fixed(0.6, Costs(2.0, 0.25, 0.0), test_batches=100_000)
    assert pace["last_batches"] == 96  # 24 s
    assert steps * 0.6 == pytest.approx(240 - 24, rel=0.07)
    assert fixed(0.6, Costs(2.0, 0.25, 0.0), test_batches=90)[1]["last_batches"] is None


def looks(every, total):
    history = History(total_steps=total)
    seen = []
    for _ in range(total):
        history.train_loss.append(0.0)
        if is_time_to_look(history, settings(eval_every=every)):
            seen.append(history.steps)
    return seen


@pytest.mark.parametrize(
    "every, total, expected",
    [
        (100, 240, [10, 20, 50, 100, 200, 240]), (40, 200, [10, 20, 40, 80, 120, 160, 200]), (15, 30, [10, 15, 30]),
        (4, 9, [4, 8, 9]), (1000, 1500, [10, 20, 50, 100, 200, 500, 1000, 1500]), (200, 7, [7]),
    ],
)  # fmt: skip
def test_the_curve_has_points_from_the_first_steps_on(every, total, expected):
    assert looks(every, total) == expected


def test_early_looks_do_not_end_a_run():
    """Patience counts looks of the usual distance: the loss may rise for a moment at the start."""
    history = History(total_steps=900, eval_step=[0, 10, 20, 50, 100], eval_loss=[3.0, 3.1, 3.2, 3.1, 3.1])
    assert history.looks_since_best() == 4 and history.steps_since_best() == 100
    history.eval_step.append(200)
    history.eval_loss.append(2.0)
    assert history.steps_since_best() == 0 == History().steps_since_best()


# The other kinds of training


def test_preferences_and_rewards_by_the_clock(make_model, tokenizer, monkeypatch):
    fake = FakeTime(monkeypatch, computes=True)
    quiet = {"device": "cpu", "progress": False}
    h = get_hyperparameters("dpo", minutes=0.5, batch_size=4, num_epochs=1e6, precision="no", learning_rate=1e-5)
    pairs = [Preference([1, 7 + i], [20 + i, 40 + i], [60 + i]) for i in range(6)]
    history = tune_on_preferences(make_model(), pairs, h, **quiet)
    assert history.seconds == pytest.approx(30, rel=0.1) and history.steps == history.total_steps == fake.steps
    h = get_hyperparameters("grpo", minutes=0.5, batch_size=2, precision="no", learning_rate=1e-5)
    tasks = [Task([1, token]) for token in range(10, 18)]
    group = Group(size=2, max_new_tokens=3)
    history = tune_on_rewards(make_model(), tokenizer, tasks, lambda attempt: 0.5, h, group, **quiet)
    assert history.seconds == pytest.approx(30, rel=0.1) and history.steps == history.total_steps < 60
