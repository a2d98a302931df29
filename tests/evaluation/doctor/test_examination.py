"""Protects the doctor for runs: planted bugs are named, healthy runs are not accused, a wrong run is warned on its way.

The bugs here are planted into models and histories that cost no training; `doctor_runs.py` has those of whole runs.
"""

import copy
import math

import doctor_runs as runs
import pytest
import torch
from torch import nn

from ai4india_lib import examine, get_hyperparameters
from ai4india_lib.evaluation.doctor.history import Watch, history_signs, leaps, sure_signs
from ai4india_lib.evaluation.doctor.model import first_weights
from ai4india_lib.evaluation.doctor.patient import Patient
from ai4india_lib.evaluation.doctor.reference import FAULTS, NO_FAULT, Reference, disease_of, faults_for, weights_of
from ai4india_lib.evaluation.doctor.replay import replay
from ai4india_lib.training.history import History
from ai4india_lib.training.loop import make_model as first_model
from ai4india_lib.training.loop import train

IDS = torch.randint(3, 384, (2, 24), generator=torch.Generator().manual_seed(1))
LINES = runs.made_up(120, seed=1)
TESTS = runs.made_up(140, seed=1)[120:]


@pytest.mark.parametrize("shape", [{}, {"qk_norm": False}, {"num_kv_heads": 2, "tie_embeddings": False}])
def test_the_reference_is_the_decoder_and_each_fault_is_something_else(make_model, shape):
    model = make_model(**shape)
    reference = Reference(weights_of(model), model.config)
    with torch.no_grad():
        own = model(IDS)
    torch.testing.assert_close(reference.logits(IDS), own, rtol=1e-4, atol=1e-3)
    for fault in faults_for(model.config):
        gap = (reference.logits(IDS, fault) - own).abs().max() / own.std()
        assert gap > 0.1, f"{fault} changes nothing"


ATTENTION = [runs.no_mask, runs.unturned, runs.mispaired, runs.swapped, runs.unscaled, runs.no_residual, runs.no_norm]


@pytest.mark.parametrize("fault", ATTENTION)
def test_a_fault_in_a_models_code_is_named_without_any_text(make_model, tokenizer, fault):
    names = {f.__name__: n for f, n in zip(ATTENTION, ("no causal mask", "positions missing",
             "rotation with wrong pairing", "queries and keys swapped", "scale of the scores forgotten",
             "residual left out", "norm left out"), strict=True)}  # fmt: skip
    model = make_model(qk_norm=fault is not runs.unscaled)
    assert examine(model, tokenizer).is_healthy
    with fault():
        assert names[fault.__name__] in examine(model, tokenizer).guesses[:2]


def test_a_fault_in_one_block_is_named_with_its_number(make_model, tokenizer):
    model = make_model(num_blocks=3)
    model.blocks[1].forward = lambda x, place: model.blocks[1].mlp(model.blocks[1].mlp_norm(x))
    forward = runs.decoder.DecoderBlock.forward

    def without_residual(x, place):
        block = model.blocks[1]
        x = block.attention(block.attention_norm(x), place)
        return x + block.mlp(block.mlp_norm(x))

    model.blocks[1].forward = without_residual
    finding = examine(model, tokenizer).findings[0]
    assert finding.name == "residual left out" and "in block 1" in finding.saw and forward is not None


def test_faults_that_are_none_of_the_list_are_found_by_their_place(make_model, tokenizer):
    model = make_model()
    right = runs.decoder.F.scaled_dot_product_attention
    with runs.plain_attention(lambda _, q, k, v, m, causal, gqa: right(q, k, v, is_causal=causal, scale=0.07)):
        assert examine(model, tokenizer).guesses == ["scale of the scores forgotten"]
    with runs.patch.object(runs.decoder.RMSNorm, "forward", lambda self, x: x * self.gain):
        assert examine(model, tokenizer).guesses[0] == "norm left out"
    with runs.patch.object(model.norm, "forward", lambda x: x * 0.5):
        assert examine(model, tokenizer).guesses[0] == "norm left out"
    with runs.patch.object(runs.decoder, "rope", lambda x, cos, sin: x * cos.repeat(1, 2)):
        assert examine(model, tokenizer).guesses[0] == "rotation with wrong pairing"


class Strange(nn.Module):
    """A learner's own model: other names, no config, no mask."""

    def __init__(self, masked: bool):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.out, self.masked = nn.Embedding(384, 16), nn.Linear(16, 384), masked

    def forward(self, ids):
        x = self.table(ids)
        scores = x @ x.transpose(1, 2)
        if self.masked:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -torch.inf)
        return self.out(x + scores.softmax(-1) @ x)


def test_a_model_of_another_kind_is_tried_too(tokenizer):
    assert examine(Strange(True), tokenizer).is_healthy
    assert examine(Strange(False), tokenizer).guesses == ["no causal mask"]


def test_chance_in_a_test_and_tables_that_are_not_tied_are_seen(make_model, tokenizer):
    with runs.patch.object(
        runs.decoder.MLP, "forward", lambda self, x: nn.functional.dropout(self.down(self.up(x)), 0.2)
    ):
        assert examine(make_model(), tokenizer).guesses[0] == "dropout left on while testing"
    model = make_model()
    model.head = copy.deepcopy(model.head)
    assert examine(model, tokenizer).guesses == ["weights not tied"]  # with the same numbers, until the next step
    model.blocks[0].mlp.up.weight.data[3, 3] = math.nan
    assert examine(model, tokenizer).guesses == ["damaged weights"]


def test_the_model_stays_as_it_was(make_model, tokenizer):
    model = make_model().train()
    model.blocks[0].eval()
    before = copy.deepcopy(model.state_dict())
    model(IDS).sum().backward()
    gradient = model.norm.gain.grad.clone()
    batches = [(IDS[:, :-1], IDS[:, 1:])]
    examine(model, tokenizer, train=batches, test=batches)
    assert model.training and not model.blocks[0].training and torch.equal(model.norm.gain.grad, gradient)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def batches_of(change):
    h = get_hyperparameters("tiny", context_size=48)
    return list(runs.OtherTargets(runs.loaders(h, LINES, TESTS, runs.train_tokenizer(LINES, 384))[1], change))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("targets not shifted", lambda inputs, targets: torch.where(targets == -100, targets, inputs)),
        ("targets shifted twice", runs.later),
        ("padding counted as text", lambda inputs, targets: targets.masked_fill(targets == -100, 0)),
    ],
)
def test_batches_that_ask_for_something_else_are_seen(make_model, tokenizer, name, change):
    model = make_model()
    assert examine(model, tokenizer, test=batches_of(lambda inputs, targets: targets)).is_healthy
    assert examine(model, tokenizer, test=batches_of(change)).guesses[0] == name


def test_texts_that_are_not_what_they_should_be_are_seen(make_model, tokenizer):
    model = make_model(spread=0.02)
    assert examine(model, tokenizer, train=LINES, test=TESTS).is_healthy
    assert examine(model, tokenizer, train=[*LINES, *TESTS], test=TESTS).guesses[0] == "test text in the training text"
    pieces = [" ".join(pair) for pair in zip(LINES[::2], LINES[1::2], strict=True)]  # cut otherwise
    assert examine(model, tokenizer, train=LINES, test=pieces).guesses[0] == "test text in the training text"
    assert examine(model, tokenizer, train=LINES[:2] * 50, test=TESTS).guesses[0] == "training text repeated"


def history_of(losses, rates=None, looks=()):
    steps = [step for step, _ in looks]
    return History(len(losses), 100, 1.0, train_loss=list(losses), learning_rate=list(rates or []),
                   eval_step=steps, eval_loss=[loss for _, loss in looks])  # fmt: skip


FALLING = [6.0 - 3 * (1 - 0.97**step) + 0.05 * (-1) ** step for step in range(100)]
LEAPING = [6.0, 6.2, 9.8, 12.0, 7.0, *FALLING[5:]]
RISE = [min(1.0, (step + 1) / 6) for step in range(100)]


@pytest.mark.parametrize(
    ("history", "names"),
    [
        (history_of(FALLING, RISE, [(0, 6.0), (50, 3.7), (100, 3.2)]), []),
        (history_of(FALLING), []),
        (history_of(LEAPING, [1.0] * 100), ["no warm-up"]),
        (history_of(LEAPING, RISE), ["learning rate too high"]),
        (history_of([4 * x for x in FALLING], RISE, [(0, 6.0), (50, 3.7)]), ["loss averaged wrongly"]),
        (history_of([x / 4 for x in FALLING], RISE, [(0, 6.0), (50, 3.7)]), ["loss averaged wrongly"]),
        (history_of([*FALLING[:40], *[math.nan] * 60], RISE), ["damaged weights"]),
        (history_of([9.0, *FALLING], RISE, [(0, 9.0)]), ["tokenizer of another model"]),
        (history_of([max(0.01, x - 3.5) for x in FALLING], RISE, [(0, 6.0), (50, 5.9), (100, 9.0)]), None),
    ],
)
def test_a_history_shows_by_itself(history, names):
    found = [finding.name for finding in (*history_signs(history, 403), *leaps(history, 403))]
    assert found[:1] == (["targets not shifted"] if names is None else names)[:1]


def test_a_run_is_warned_once_and_only_of_what_is_sure():
    said = []
    watch = Watch(403, said.append)
    watch(history_of(FALLING, RISE, [(0, 6.0)]))
    assert said == []
    for _ in range(3):
        watch(history_of(LEAPING, RISE, [(0, 6.0)]))
    assert len(said) == 1 and said[0].startswith("the doctor warns: learning rate too high") and "12.00" in said[0]
    below = history_of(FALLING, RISE, [(0, 6.0), (50, 0.2)])
    below.floor_bits_per_byte, below.bytes_per_token = 0.5, 4.0
    assert [finding.name for finding in sure_signs(below, 403)] == ["loss below what is possible"]


def test_first_steps_done_again_are_those_of_the_loop():
    """The short loop of the doctor is the loop of training, with accumulation and with each optimizer."""
    tokenizer = runs.train_tokenizer(LINES, 384)
    for optimizer in ("muon", "adamw"):
        h = get_hyperparameters("tiny", batch_size=2, accumulation_steps=2, max_steps=6, optimizer=optimizer,
                                precision="no", vocab_size=384)  # fmt: skip
        both = runs.loaders(h, LINES, TESTS, tokenizer)
        history = train(first_model(h, tokenizer), *both, h, device="cpu", progress=False)
        both[0].rewind()
        batches = [batch for batch, _ in zip(both[0], range(12), strict=False)]
        again = replay(first_model(h, tokenizer), batches, h, history.learning_rate)
        assert again == pytest.approx(history.train_loss, abs=2e-4)
        for fault in ("kept", "sum", "last"):
            assert replay(first_model(h, tokenizer), batches, h, history.learning_rate, fault) != pytest.approx(
                again, abs=2e-3
            )


def test_the_first_weights_of_a_run_from_word_vectors_are_counted_again():
    tokenizer = runs.train_tokenizer(LINES, 384)
    h = get_hyperparameters("tiny", max_steps=3, precision="no", vocab_size=384, word_vectors=True)
    model, both = first_model(h, tokenizer, LINES), runs.loaders(h, LINES, TESTS, tokenizer)
    begun = {name: p.detach().clone() for name, p in model.named_parameters()}
    history = train(model, *both, h, device="cpu", progress=False)
    found = first_weights(Patient(model, tokenizer, history, *both, h, None))
    assert all(torch.equal(found[name], p) for name, p in begun.items())
    assert not torch.equal(
        begun["embedding.weight"], first_model(runs.replace(h, word_vectors=False), tokenizer).embedding.weight
    )
    assert first_weights(Patient(model, tokenizer, history, None, None, h, None)) is None
    with pytest.raises(ValueError, match="word_vectors are counted in the text"):
        first_model(h, tokenizer)


def test_every_fault_has_a_disease_in_words():
    from ai4india_lib.evaluation.doctor.findings import DISEASES, Finding, Report

    assert {disease_of(fault) for fault in FAULTS} <= set(DISEASES) and NO_FAULT not in FAULTS
    assert all(all(words) for words in DISEASES.values())
    report = Report([Finding(name, "a number", 0.7) for name in DISEASES])
    assert "a number" in report.verdict and all(name in str(report) for name in DISEASES)


def small_run(**changes):
    """A run of two seconds on a text of no language."""
    h = runs.settings(emb_dim=32, context_size=48, max_steps=60, eval_every=20, vocab_size=384, **changes)
    return runs.run(h, LINES, TESTS, runs.train_tokenizer(LINES, 384))


@pytest.mark.slow
def test_a_healthy_run_raises_no_alarm_live_or_saved():
    made = small_run()
    assert made.live().is_healthy and made.saved().is_healthy


@pytest.mark.slow
def test_bugs_of_whole_runs_are_named():
    """One in the loop, one that shows in the saved folder alone. `doctor_runs.py` has the others."""
    with runs.never_cleared():
        assert small_run().live().guesses[0] == "gradients never cleared"
    names = [name for name, _, _ in runs.SICK]
    assert runs.tell_sick(names.index("rotation with wrong pairing") + 1)


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_tables(capsys):
    """At least four fifths of the bugs among the first two guesses, and not one alarm in 20 healthy runs."""
    sick = [runs.tell_sick(number) for number in range(1, len(runs.SICK) + 1)]
    assert sum(sick) >= 0.8 * len(sick), capsys.readouterr().out
    texts = runs.real_texts([])
    well = [runs.tell_healthy(number, texts) for number in range(1, len(runs.HEALTHY) + 1)]
    assert all(well), capsys.readouterr()
