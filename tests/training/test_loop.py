"""Protects training.loop: the run is the one that was asked for, and no interruption changes it."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from training_runs import PLANS, TEST, TOKENIZER, TRAIN, ingredients, settings, stories, told, weights

from ai4india_lib import DecoderLanguageModel, History, compute_loss_and_perplexity, count_text, train
from ai4india_lib.text.packing import PackedTextDataset
from ai4india_lib.text.resumable import TextLoader
from ai4india_lib.training import loop
from ai4india_lib.training.loop import Run, make_model
from ai4india_lib.training.loss import next_token_loss
from ai4india_lib.training.objective import NextToken

QUIET = {"device": "cpu", "progress": False}


def run(h, folder=None, *, more=None, **ingredient):
    """(history, final weights) of one run with everything made anew."""
    model, *loaders = ingredients(h, **ingredient)
    history = train(model, *loaders, h, folder=folder, **QUIET, **more or {})
    return history, weights(model)


def same(one, other):
    (history, final), (other_history, other_final) = one, other
    assert told(history) == told(other_history)
    assert final.keys() == other_final.keys()
    return all(torch.equal(final[name], other_final[name]) for name in final)


@pytest.fixture(scope="module")
def whole():
    """The uninterrupted run that others are held against."""
    return run(settings())


# Loss and perplexity


def hand_computed(model, batches):
    """Each target's −log probability, one by one."""
    losses = []
    with torch.no_grad():
        for inputs, targets in batches:
            for row, wanted in zip(inputs, targets, strict=True):
                probabilities = model(row[None])[0].double().softmax(-1)
                losses += [-math.log(probabilities[t, i]) for t, i in enumerate(wanted.tolist()) if i != -100]
    return losses


@pytest.mark.parametrize("is_training", [True, False])
def test_loss_and_perplexity_equal_a_hand_computation(is_training):
    torch.manual_seed(0)
    model = DecoderLanguageModel(30, 16, 2, 1, 0, context_size=12).train(is_training)
    batches = [(torch.randint(30, shape), torch.randint(30, shape)) for shape in ((3, 12), (2, 7), (1, 3))]
    batches[0][1][1, 4:] = batches[1][1][0] = -100
    for max_batches in (None, 1, 2, 9):
        losses = hand_computed(model, batches[:max_batches])
        loss, perplexity = compute_loss_and_perplexity(model, batches, max_batches=max_batches)
        assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
        assert perplexity == math.exp(loss)
        assert model.training is is_training
    with pytest.raises(ValueError, match="no tokens"):
        compute_loss_and_perplexity(model, [])


def test_no_batch_is_read_in_vain():
    """A look at the test text must not make a batch that it then throws away."""
    asked = []
    model = DecoderLanguageModel(30, 16, 2, 1, 0)
    batches = ((torch.ones(1, 3, dtype=torch.long),) * 2 for number in range(9) if asked.append(number) is None)
    compute_loss_and_perplexity(model, batches, max_batches=2)
    assert asked == [0, 1]


def test_next_token_loss():
    logits, targets = torch.randn(2, 3, 5, dtype=torch.bfloat16), torch.tensor([[1, 2, -100], [0, 4, 3]])
    kept = targets.flatten() != -100
    expected = F.cross_entropy(logits.float().flatten(0, 1)[kept], targets.flatten()[kept])
    assert next_token_loss(logits, targets).dtype == torch.float32
    torch.testing.assert_close(next_token_loss(logits, targets), expected)
    torch.testing.assert_close(next_token_loss(logits, targets, "sum"), 5 * expected)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_new_models_attention_begins_as_a_copier(kv_heads):
    """Each head asks for what its own group's key shows, and writes back what its own group's value took away."""
    model = make_model(settings(emb_dim=64, num_heads=4, num_kv_heads=kv_heads), TOKENIZER)
    for block in model.blocks:
        attention = block.attention
        queries = attention.query.weight.view(4, 16, 64)
        keys, values = (matrix.weight.view(kv_heads, 16, 64) for matrix in (attention.key, attention.value))
        outputs = attention.output.weight.T.reshape(4, 16, 64)  # what each head writes, one row for each of its numbers
        for head in range(4):
            group = head // (4 // kv_heads)
            for other in range(kv_heads):
                alike = F.cosine_similarity(queries[head].flatten(), keys[other].flatten(), dim=0)
                undone = F.cosine_similarity(outputs[head].flatten(), values[other].flatten(), dim=0)
                assert (alike > 0.85 and undone > 0.999) if other == group else max(alike.abs(), undone.abs()) < 0.15
        assert attention.output.weight.std().item() == pytest.approx(0.08, rel=0.01)
        assert not torch.equal(queries[0], queries[1])  # heads of a group differ


def test_make_model_is_drawn_with_its_seed_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = weights(make_model(settings(), TOKENIZER))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(p, first[name]) for name, p in weights(make_model(settings(), TOKENIZER)).items())
    assert not torch.equal(first["embedding.weight"], make_model(settings(seed=1), TOKENIZER).embedding.weight)


# What a run does


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_loss_falls_and_the_history_tells_it(optimizer):
    h = settings(max_steps=40, eval_every=10, optimizer=optimizer, learning_rate=0.02)
    model, *loaders = ingredients(h)
    looks = []
    history = train(
        model, *loaders, h, **QUIET, floor_bits_per_byte=0.1, on_evaluation=lambda history: looks.append(history.steps)
    )
    assert history.train_loss[0] == pytest.approx(math.log(len(TOKENIZER)), rel=0.05), "at first it knows nothing"
    assert history.train_loss[-1] < 0.6 * history.train_loss[0]
    assert history.test_loss == min(history.eval_loss) < 0.6 * history.eval_loss[0]
    assert looks == history.eval_step == [0, 10, 20, 30, 40]
    assert history.ended == "finished" and history.steps == history.total_steps == len(history.learning_rate) == 40
    assert history.learning_rate == [loop.learning_rate_at(step, 40, h) for step in range(40)]
    tokens, test = count_text(TRAIN, TOKENIZER).tokens, count_text(TEST, TOKENIZER)
    assert history.tokens_per_step == 4 * 32 and history.passes == pytest.approx(40 * 4 * 32 / tokens)
    assert history.bytes_per_token == test.bytes_per_token and history.floor_bits_per_byte == 0.1
    assert compute_loss_and_perplexity(model, loaders[1])[0] == history.test_loss


def test_number_of_epochs_sets_the_steps():
    tokens = count_text(TRAIN, TOKENIZER).tokens
    history, _ = run(settings(num_epochs=0.5, max_steps=None))
    assert history.steps == math.ceil(0.5 * tokens / (4 * 32)) and history.passes == pytest.approx(0.5, abs=0.1)


def test_same_seed_same_run(whole):
    assert same(run(settings()), whole)
    history, _ = run(settings(seed=1))
    assert history.train_loss != whole[0].train_loss


def test_loaders_that_were_used_before_start_anew():
    h = settings(max_steps=20)  # more than one pass
    model, *loaders = ingredients(h)
    first = train(model, *loaders, h, **QUIET), weights(model)
    assert loaders[0].dataset.epoch > 0
    model = make_model(h, TOKENIZER)
    assert same((train(model, *loaders, h, **QUIET), weights(model)), first)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_accumulated_gradients_equal_a_larger_batch(optimizer):
    kinds = [{"batch_size": 8}, {"batch_size": 4, "accumulation_steps": 2}]
    kinds = [settings(max_steps=3, eval_every=3, optimizer=optimizer, learning_rate=1e-3, **kind) for kind in kinds]
    (large, at_once), (small, added_up) = (run(h) for h in kinds)
    assert large.tokens_per_step == small.tokens_per_step and large.passes == small.passes
    assert small.train_loss == pytest.approx(large.train_loss, abs=1e-5)
    start = weights(make_model(kinds[0], TOKENIZER))
    tolerance = 1e-6 if optimizer == "adamw" else 3e-5  # Muon multiplies matrices in bfloat16
    for name, expected in at_once.items():
        assert not torch.equal(expected, start[name])
        torch.testing.assert_close(added_up[name], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("clip_norm", [0.01, 1e6])
def test_gradients_are_clipped(clip_norm, monkeypatch):
    """Plain gradient descent moves the weights by rate × gradient: its length shows the clipping."""
    h = settings(max_steps=1, clip_norm=clip_norm, learning_rate=0.1)
    monkeypatch.setattr(loop, "make_optimizers", lambda m, h: [torch.optim.SGD(m.parameters(), h.learning_rate)])
    _, final = run(h)
    start = weights(make_model(h, TOKENIZER))
    moved = math.sqrt(sum(float((final[name] - start[name]).square().sum()) for name in start))
    if clip_norm == 0.01:
        assert moved == pytest.approx(0.1 * 0.01, rel=1e-2)
    else:
        assert moved > 0.1 * 0.3


def test_bf16_trains_on_the_cpu_and_leaves_the_model_as_it_was():
    h = settings(max_steps=30, eval_every=10, precision="bf16", learning_rate=0.02)
    seen = []
    model, *loaders = ingredients(h)
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    history = train(model, *loaders, h, **QUIET)
    assert set(seen) == {torch.bfloat16} and history.test_loss < 0.7 * history.eval_loss[0]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model(torch.ones(1, 3, dtype=torch.long)).dtype == seen[-1] == torch.float32


def test_a_loss_that_is_no_number_is_told():
    h = settings(precision="bf16")
    model, *loaders = ingredients(h)
    with torch.no_grad():
        model.norm.gain[0] = math.nan
    with pytest.raises(FloatingPointError, match=r"became nan at step 0: try a learning_rate below 0\.004"):
        train(model, *loaders, h, **QUIET)
    assert model(torch.ones(1, 3, dtype=torch.long)).dtype == torch.float32, "autocast has ended with the run"


def test_one_scaler_serves_both_optimizers():
    """fp16 runs on GPUs only, but its scaler does not: powers of two must leave each digit as it was."""

    def few_steps(scaled):
        h = settings(max_steps=4)
        model, *loaders = ingredients(h)
        run = Run(model, NextToken(*loaders, h), h, device="cpu", progress=False)
        if scaled:
            run.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
        run.go()
        if scaled:
            assert run.scaler.get_scale() == 2.0**12, "doubled after each two steps, not more often"
        return run.history, weights(model)

    assert same(few_steps(True), few_steps(False))


def test_the_best_weights_are_kept_and_a_hopeless_run_ends(capsys):
    """Seven lines are soon known by heart; then other lines only get worse."""
    h = settings(max_steps=400, eval_every=10, patience=2, learning_rate=0.02)
    model, *loaders = ingredients(h, train_lines=stories(7), test_lines=stories(12, first=40))
    history = train(model, *loaders, h, device="cpu", progress=True)
    assert history.steps < 400 and len(history.eval_loss) >= 4
    best = min(history.eval_loss)
    assert history.eval_loss.index(best) == len(history.eval_loss) - 3
    assert history.test_loss == best == compute_loss_and_perplexity(model, loaders[1])[0]
    assert history.ended == "stopped early: the last 2 looks at the test text were no better than an earlier one"
    soon, before, after = capsys.readouterr().out.splitlines()
    assert soon == "reading the text …"
    assert before.startswith("400 steps of 128 tokens read the text ") and before.endswith(" times")
    assert f"(weights of step {history.steps - 20}, the best on the test text)" in after


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch, whole):
    monkeypatch.chdir(tmp_path)
    assert same(run(settings()), whole)
    assert not list(tmp_path.iterdir())


def test_loaders_and_settings_must_agree():
    for field in ("batch_size", "context_size"):
        model, *loaders = ingredients(settings())
        with pytest.raises(ValueError, match=rf"{field}=\d+, the hyperparameters 7"):
            train(model, *loaders, settings(**{field: 7}), **QUIET)
    model, *loaders = ingredients(settings(), world_size=2)
    with pytest.raises(ValueError, match=r"1 processes train, .* world_size=2"):
        train(model, *loaders, settings(), **QUIET)


def test_a_text_without_a_batch_is_told():
    h = settings()
    model, _, test = ingredients(h)
    with pytest.raises(ValueError, match="no lines"):
        train(model, TextLoader(PackedTextDataset([], TOKENIZER, 32, 4)), test, h, **QUIET)


# Interruptions


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class PowerCutError(Exception):
    pass


def cut_power_at(step):
    def look(history):
        if history.steps == step:
            raise PowerCutError

    return {"on_evaluation": look}


def resumed(h, folder, **more):
    return run(h, folder, more={"resume": True, **more})


@pytest.mark.parametrize("optimizer, precision", [("muon", "no"), ("adamw", "bf16")])
def test_resume_repeats_the_uninterrupted_run(tmp_path, optimizer, precision):
    h = settings(optimizer=optimizer, precision=precision, max_steps=14, checkpoint_every=3)
    expected = run(h)
    with pytest.raises(PowerCutError):
        run(h, tmp_path, more=cut_power_at(8))
    assert names(tmp_path) == ["step-0000003", "step-0000006"]
    with pytest.raises(PowerCutError):
        resumed(h, tmp_path, **cut_power_at(12))
    assert same(resumed(h, tmp_path), expected)
    assert same(resumed(h, tmp_path), expected), "a run that is over can be resumed too: it only tells its result"


def test_ctrl_c_ends_after_the_step_in_hand_with_a_checkpoint(tmp_path, whole):
    seen = []

    def press(history):
        seen.append(history.steps)
        if history.steps == 4:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    history, _ = run(settings(checkpoint_every=99), tmp_path, more={"on_evaluation": press})
    assert signal.getsignal(signal.SIGINT) is before
    assert history.steps == 4 and history.ended.startswith("interrupted")
    assert history.train_loss == whole[0].train_loss[:4] and history.test_loss == min(history.eval_loss)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000004"]
    assert same(resumed(settings(checkpoint_every=99), tmp_path), run(settings(checkpoint_every=99)))
    assert seen == [0, 4]


def test_a_second_ctrl_c_interrupts_at_once():
    def press_twice(history):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(settings(), more={"on_evaluation": press_twice})


def test_half_written_checkpoints_do_no_harm(tmp_path, whole):
    with pytest.raises(PowerCutError):
        run(settings(), tmp_path, more=cut_power_at(8))
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000004"]
    half = tmp_path / ".step-0000008.part"  # being written, or being deleted
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    assert same(resumed(settings(), tmp_path), whole)
    assert names(tmp_path) == ["step-0000008", "step-0000012"]


def test_a_fresh_run_replaces_an_older_one(tmp_path, whole):
    run(settings(max_steps=16), tmp_path)
    (tmp_path / ".step-0000099.part").mkdir()
    (tmp_path / "notes.txt").write_text("keep me", encoding="utf-8")
    assert same(run(settings(), tmp_path), whole)
    assert names(tmp_path) == ["notes.txt", "step-0000008", "step-0000012"]
    assert same(resumed(settings(), tmp_path / "new"), whole), "without a checkpoint, resume starts afresh"


def test_resume_with_other_settings_names_them(tmp_path):
    run(settings(), tmp_path)
    with pytest.raises(ValueError, match=r"was started with batch_size=4, learning_rate=0\.004: use the same"):
        resumed(settings(batch_size=2, learning_rate=0.1), tmp_path)
    state = tmp_path / "step-0000012" / "state.json"
    content = json.loads(state.read_text(encoding="utf-8"))
    state.write_text(json.dumps({**content, "positions": content["positions"] * 3}), encoding="utf-8")
    with pytest.raises(ValueError, match="had 3 processes, this one has 1, and each had its own part of the text"):
        resumed(settings(), tmp_path)


# Other processes


def script(*arguments, **environment):
    """Start training_runs.py with one thread per process."""
    here = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(here.parent), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, here / "training_runs.py", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def written(folder, name):
    history = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return History(**history), (folder / f"{name}.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_killed_runs_go_on_as_if_nothing_had_happened(tmp_path):
    """SIGINT to the whole process group, as Ctrl-C in a terminal; then SIGKILL at random moments, and on again."""
    process = script("kill", tmp_path, TQDM_DISABLE="1")
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0 and errors == "", "no progress bar where TQDM_DISABLE=1 forbids it, and no warning"
    assert "going on after step" in out
    events = json.loads((tmp_path / "events.json").read_text(encoding="utf-8"))
    for name, (h, _) in PLANS.items():
        interrupted = History.load(tmp_path / f"{name}-interrupted.json")
        assert interrupted.ended.startswith("interrupted") and interrupted.steps < h.max_steps
        assert events[name]["status"] == 0 and events[name]["kills"] >= 1
        (history, final), (expected, expected_final) = (
            written(tmp_path, f"{name}-again"),
            written(tmp_path, f"{name}-whole"),
        )
        assert history == expected and final == expected_final
        assert len(history.train_loss) == h.max_steps


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo finds 127.0.0.1 by the name of Linux's interface")
def test_two_processes_train_together(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launched = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    launched |= {"GLOO_SOCKET_IFNAME": "lo"}
    processes = [script("together", tmp_path, RANK=rank, LOCAL_RANK=rank, **launched) for rank in "01"]
    try:
        told_by = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], told_by[0][1] + told_by[1][1]

    read = [json.loads((tmp_path / f"ids-{rank}.json").read_text(encoding="utf-8")) for rank in "01"]
    for first, second in zip(*read, strict=True):
        assert first and second and first != second
    assert len({len(test) for _, test in read}) == 2, "one process has more test batches and must not wait"
    whole, final = written(tmp_path, "whole-0")
    assert written(tmp_path, "whole-1") == (whole, final), "both have the same weights and tell the same"
    assert whole.tokens_per_step == 2 * 4 * 32 and whole.train_loss[-1] < whole.train_loss[0]
    begun = History.load(tmp_path / "begun-1.json")
    assert begun.steps == 6 and begun.ended.startswith("interrupted"), "one was interrupted, both ended"
    for rank in "01":
        assert written(tmp_path, f"again-{rank}") == (whole, final)
    by_the_clock = written(tmp_path, "clock-0")
    assert by_the_clock == written(tmp_path, "clock-1"), "one decides how many steps fit into the time, for both"
    assert by_the_clock[0].ended == "finished" and by_the_clock[0].pace["step_seconds"] > 0
