"""Protects what DPO, GRPO and fine-tuning have from the one training loop: resume, Ctrl-C, accumulation, precision."""

import copy
import signal
from dataclasses import replace

import pytest
import torch
from training_runs import TRAIN, ingredients, settings, weights

from ai4india_lib.training.hyperparameters import Hyperparameters
from ai4india_lib.training.loop import Run, train
from ai4india_lib.training.objective import NextToken
from ai4india_lib.tuning import dpo
from ai4india_lib.tuning.dpo import Preference, tune_on_preferences
from ai4india_lib.tuning.grpo import Group, tune_on_rewards
from ai4india_lib.tuning.rewards import Task

H = Hyperparameters(
    batch_size=4, num_epochs=3, max_steps=7, optimizer="adamw", learning_rate=3e-3, weight_decay=0.0, precision="no",
    checkpoint_every=2,
)  # fmt: skip
PAIRS = [Preference([1, 7 + i], [20 + i, 40 + i], [60 + i] * (1 + i % 3)) for i in range(10)]
TASKS = [Task([1, token]) for token in range(10, 18)]


class PowerCutError(Exception):
    pass


def small_ids(attempt):
    return sum(token < 100 for token in attempt.ids) / len(attempt.ids)


def prefer(model, tokenizer, h, **more):
    return tune_on_preferences(model, PAIRS, h, device="cpu", progress=False, **more)


def reward(model, tokenizer, h, **more):
    group = Group(size=4, max_new_tokens=6, updates=2)
    return tune_on_rewards(model, tokenizer, TASKS, small_ids, h, group, device="cpu", progress=False, **more)


KINDS = pytest.mark.parametrize("tune", [prefer, reward])


def at_step(step, happening):
    """Let something happen when the loss of that step has been computed."""

    def change(monkeypatch):
        steps = Run._follow_gradients
        done = []

        def follow(run):
            done.append(run.history.steps)
            if run.history.steps == step and done.count(step) == 1:
                happening()
            steps(run)

        monkeypatch.setattr(Run, "_follow_gradients", follow)

    return change


def cut_power():
    raise PowerCutError


def same(one, other):
    return all(torch.equal(one[name], p) for name, p in other.items())


@KINDS
def test_a_run_that_lost_its_power_goes_on_bit_for_bit(tune, make_model, tokenizer, tmp_path, monkeypatch):
    start = make_model(spread=0.1)
    whole = copy.deepcopy(start)
    history = tune(whole, tokenizer, H)
    with monkeypatch.context() as patch:
        at_step(5, cut_power)(patch)
        with pytest.raises(PowerCutError):
            tune(copy.deepcopy(start), tokenizer, H, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000002", "step-0000004"]
    revived = copy.deepcopy(start)
    again = tune(revived, tokenizer, H, folder=tmp_path, resume=True)
    assert again == history and len(again.loss) == 7 and same(weights(whole), weights(revived))
    with pytest.raises(ValueError, match=r"was started with learning_rate=0\.003"):
        tune(copy.deepcopy(start), tokenizer, replace(H, learning_rate=1e-3), folder=tmp_path, resume=True)


@KINDS
def test_ctrl_c_ends_after_the_step_in_hand(tune, make_model, tokenizer, tmp_path, monkeypatch):
    start = make_model(spread=0.1)
    whole = tune(copy.deepcopy(start), tokenizer, H)
    with monkeypatch.context() as patch:
        at_step(2, lambda: signal.raise_signal(signal.SIGINT))(patch)
        history = tune(copy.deepcopy(start), tokenizer, H, folder=tmp_path)
    assert history.ended.startswith("interrupted") and history.loss == whole.loss[:3]
    assert tune(copy.deepcopy(start), tokenizer, H, folder=tmp_path, resume=True) == whole


@KINDS
def test_accumulated_gradients_equal_a_larger_batch(tune, make_model, tokenizer):
    """Of pairs two batches make one of twice the size; texts of one batch go through the model in two parts."""
    start, h = make_model(spread=0.1), replace(H, max_steps=2)
    small = replace(h, accumulation_steps=2, batch_size=2 if tune is prefer else 4)
    at_once, added_up = (copy.deepcopy(start) for _ in range(2))
    one, other = tune(at_once, tokenizer, h), tune(added_up, tokenizer, small)
    assert other.loss == pytest.approx(one.loss, abs=1e-5)
    for name in one.measured.keys() - {"sample"}:
        assert other.measured[name] == pytest.approx(one.measured[name], abs=1e-3), name
    before = weights(start)
    for name, expected in weights(at_once).items():
        assert not torch.equal(expected, before[name])
        torch.testing.assert_close(weights(added_up)[name], expected, rtol=0, atol=5e-5)


def test_another_run_is_not_resumed(make_model, tokenizer, tmp_path):
    """Not that of other pairs, of another beta or group, or of another kind of tuning."""
    start, quiet = make_model(spread=0.1), {"device": "cpu", "progress": False, "folder": tmp_path, "resume": True}
    tune_on_preferences(copy.deepcopy(start), PAIRS, H, **quiet)
    with pytest.raises(ValueError, match=r"was started with beta=0\.1: use the same"):
        tune_on_preferences(copy.deepcopy(start), PAIRS, H, beta=0.9, **quiet)
    with pytest.raises(ValueError, match="was started with pairs=10: use the same"):
        tune_on_preferences(copy.deepcopy(start), PAIRS[:5], H, **quiet)
    with pytest.raises(ValueError, match="kind=preferences"):
        tune_on_rewards(copy.deepcopy(start), tokenizer, TASKS, small_ids, H, Group(max_new_tokens=6), **quiet)


def test_another_text_is_not_resumed(tmp_path):
    h, quiet = settings(), {"device": "cpu", "progress": False, "folder": tmp_path, "resume": True}
    model, *loaders = ingredients(h)
    train(model, *loaders, h, **quiet)
    model, *loaders = ingredients(h, train_lines=[f"{line} फिर?" for line in TRAIN])
    with pytest.raises(ValueError, match="read another text"):
        train(model, *loaders, h, **quiet)


def test_gradients_of_before_the_run_do_not_count(make_model, tokenizer):
    clean, stale = make_model(spread=0.1), make_model(spread=0.1)
    stale(torch.tensor([[1, 2, 3]])).sum().backward()
    assert prefer(stale, tokenizer, H) == prefer(clean, tokenizer, H) and same(weights(stale), weights(clean))


def test_parts_of_a_step_count_by_what_they_teach():
    """Two batches with 3 and 25 learned tokens have the gradient of one batch with 28, not the mean of two means."""

    def step(batches):
        h = settings(max_steps=1, clip_norm=1e9, optimizer="adamw", learning_rate=0.1)
        model, *loaders = ingredients(h)
        objective = NextToken(*loaders, h)
        run = Run(model, objective, h, device="cpu", progress=False)
        run.optimizers = [torch.optim.SGD(model.parameters(), h.learning_rate)]
        objective.batches = lambda: batches
        run.go()
        return run.history.train_loss[0], weights(model)

    inputs, targets = torch.randint(7, 320, (2, 25)), torch.randint(7, 320, (2, 25))
    targets[0, 3:] = -100
    parts = [(inputs[:1], targets[:1]), (inputs[1:], targets[1:])]
    (loss, final), (expected_loss, expected) = step(parts), step([(inputs, targets)])
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    for name, p in final.items():
        torch.testing.assert_close(p, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [None, 2.0**10])
def test_a_scaler_changes_no_digit_of_dpo(scale, make_model, tokenizer):
    """fp16 runs on GPUs, but its scaler does not need one."""
    model = make_model(spread=0.1)
    run = Run(model, dpo._Preferring(PAIRS, H, 0.1), H, device="cpu", progress=False)
    if scale:
        run.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    run.go()
    expected = make_model(spread=0.1)
    prefer(expected, tokenizer, H)
    assert same(weights(model), weights(expected))


@KINDS
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_the_cpu_leaves_the_model_in_float32(precision, tune, make_model, tokenizer):
    model = make_model(spread=0.1)
    history = tune(model, tokenizer, replace(H, precision=precision, max_steps=3))
    assert len(history.loss) == 3 and all(abs(loss) < 5 for loss in history.loss)
    assert {p.dtype for p in model.parameters()} == {torch.float32} and not model.training
