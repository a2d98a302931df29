"""Preference tuning: the loss is the paper's, its gradient has the right direction, and tuning does what it says."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ai4india_lib.evaluation.minimal_pairs import sentence_log_probabilities
from ai4india_lib.model.lora import add_lora
from ai4india_lib.training.hyperparameters import Hyperparameters
from ai4india_lib.tuning.completions import completion_batch, completion_log_probabilities, sequence_log_probabilities
from ai4india_lib.tuning.dpo import Preference, dpo_loss, encode_preferences, score_preferences, tune_on_preferences

QUICK = Hyperparameters(
    batch_size=4, num_epochs=8, max_steps=None, optimizer="adamw", learning_rate=3e-3, weight_decay=0.0, precision="no"
)


def random_pairs(count=8, seed=0):
    """Pairs of different lengths behind prompts of different lengths."""
    generator = torch.Generator().manual_seed(seed)

    def ids(longest):
        length = int(torch.randint(1, longest, (1,), generator=generator))
        return torch.randint(7, 384, (length,), generator=generator).tolist()

    return [Preference([1, *ids(5)], ids(9), ids(9)) for _ in range(count)]


# The loss


def test_the_loss_of_a_hand_computed_pair():
    # margin = (−10 + 11) − (−14 + 12) = 3 nats; with β = 0.5: −log σ(1.5) = log(1 + e^−1.5)
    loss = dpo_loss(*(torch.tensor([x]) for x in (-10.0, -14.0, -11.0, -12.0)), beta=0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1.5)), abs=1e-6)


def test_at_the_reference_the_loss_is_log_2_and_both_gradients_are_half_beta():
    chosen = torch.tensor([-20.0, -3.0], requires_grad=True)
    rejected = torch.tensor([-21.0, -9.0], requires_grad=True)
    loss = dpo_loss(chosen, rejected, chosen.detach(), rejected.detach(), beta=0.3)
    assert torch.allclose(loss, torch.full((2,), math.log(2)))
    loss.sum().backward()
    assert torch.allclose(chosen.grad, torch.full((2,), -0.15))  # falls as the chosen text becomes likelier
    assert torch.allclose(rejected.grad, torch.full((2,), 0.15))


def test_the_gradient_is_that_of_finite_differences():
    arguments = [torch.randn(5, dtype=torch.float64, requires_grad=True) * 4 for _ in range(4)]
    assert torch.autograd.gradcheck(lambda *x: dpo_loss(*x, beta=0.7), arguments)


def test_the_loss_pulls_harder_the_more_a_pair_is_confused():
    """Eq. 7's weight: σ of minus β · margin (Rafailov et al., 2023, §4)."""
    chosen = torch.tensor([-8.0, 0.0, 8.0], requires_grad=True)
    dpo_loss(chosen, torch.zeros(3), torch.zeros(3), torch.zeros(3), beta=0.5).sum().backward()
    assert torch.allclose(-chosen.grad, 0.5 * torch.sigmoid(-0.5 * chosen.detach()))


# Log-probabilities of completions


def test_a_completions_log_probability_is_that_of_a_plain_loop(make_model):
    model = make_model()
    pairs = random_pairs()
    batch = completion_batch([pair.prompt for pair in pairs], [pair.chosen for pair in pairs])
    found = sequence_log_probabilities(model, *batch)
    for row, pair in enumerate(pairs):
        text, wanted = list(pair.prompt), 0.0
        for token in pair.chosen:
            wanted += F.log_softmax(model(torch.tensor([text]))[0, -1], -1)[token].item()
            text.append(token)
        assert found[row].item() == pytest.approx(wanted, abs=1e-3)


def test_filling_up_changes_nothing_and_does_not_count(make_model):
    model, pairs = make_model(), random_pairs()
    inputs, targets = completion_batch([pair.prompt for pair in pairs], [pair.chosen for pair in pairs])
    scores = completion_log_probabilities(model, inputs, targets)
    assert ((scores != 0) == (targets != -100)).all() and (targets != -100).sum() == sum(len(p.chosen) for p in pairs)
    for row, pair in enumerate(pairs):
        alone = completion_log_probabilities(model, *completion_batch([pair.prompt], [pair.chosen]))
        assert torch.allclose(scores[row, : alone.shape[1]], alone[0], atol=1e-4)


def test_scores_without_gradients_agree_with_those_of_the_training_forward(make_model):
    model, pairs = make_model(), random_pairs()
    scores = score_preferences(model, pairs)
    for column, texts in enumerate(([p.chosen for p in pairs], [p.rejected for p in pairs])):
        trained = sequence_log_probabilities(model, *completion_batch([p.prompt for p in pairs], texts))
        assert torch.allclose(scores[:, column], trained, atol=1e-3) and trained.requires_grad


def test_encoded_sentences_score_as_minimal_pairs_do(make_model, tokenizer):
    model = make_model(spread=0.1)
    right, wrong = "मीरा ने गीत गाया।", "मीरा ने गीत गाई।"
    scores = score_preferences(model, encode_preferences(tokenizer, [("", right, wrong)]))[0]
    assert torch.allclose(scores.double(), sentence_log_probabilities(model, tokenizer, [right, wrong]), atol=1e-3)


@pytest.mark.parametrize(
    ("prompts", "completions", "told"),
    [([[1], []], [[5], [5]], "prompt 1 has no ids"), ([[1]], [[]], "completion 0 has no ids"), ([], [], "no texts")],
)
def test_texts_without_ids_are_refused(prompts, completions, told):
    with pytest.raises(ValueError, match=told):
        completion_batch(prompts, completions)


def test_a_pair_of_the_same_text_is_refused(tokenizer):
    with pytest.raises(ValueError, match="pair 2 needs two different texts"):
        encode_preferences(tokenizer, [("", "अ", "ब"), ("", "क", "क")])


NUKTA = "\u0958", "\u0915\u093c"  # two ways to write क़


@pytest.mark.parametrize("texts", [("घर", "घर"), NUKTA, ("घर", ""), ("", "घर"), ("", "")], ids=str)
@pytest.mark.parametrize("prompt", ["", "क"])
def test_pairs_that_teach_nothing_are_refused(tokenizer, prompt, texts):
    with pytest.raises(ValueError) as error:
        encode_preferences(tokenizer, [("", "अ", "ब"), ("क", "अ", "ब"), (prompt, *texts)])
    told = f"pair 3 needs two different texts: {texts[0]!r} and {texts[1]!r}"
    assert str(error.value) == told + (", which are two ways to write the same" if texts is NUKTA else "")


@pytest.mark.parametrize(
    "pair", [("घर", "गई"), "घर", {"prompt": "क", "chosen": "घ", "rejected": "ग"}, ("क", "घर", None), ("क", ["घर"], "ग")]
)
def test_pairs_of_another_shape_are_told(tokenizer, pair):
    """A dict too: read as three texts it would be its keys."""
    with pytest.raises(ValueError, match=r"pair 2 must be three texts, \(prompt, chosen, rejected\); got"):
        encode_preferences(tokenizer, [("", "अ", "ब"), pair])


def test_pairs_that_the_model_cannot_read_whole_are_refused_before_anything_is_computed(make_model, monkeypatch):
    model = make_model(context_size=16)
    fits, same_to_the_end = Preference([1], [7] * 16, [8]), Preference([1, 2], [7] * 16 + [9], [7] * 16 + [10])
    tune_on_preferences(model, [fits], replace(QUICK, max_steps=1), device="cpu", progress=False)
    monkeypatch.setattr(type(model), "forward", None)
    for pair in (same_to_the_end, Preference([1], [7], [8] * 17)):
        with pytest.raises(ValueError, match=r"pair 2 has \d+ tokens with its prompt, 17 fit into context_size=16"):
            tune_on_preferences(model, [fits, pair], QUICK, device="cpu", progress=False)
    with pytest.raises(ValueError, match="pair 1 must be a Preference, as encode_preferences makes them; got"):
        tune_on_preferences(model, [("क", "घर", "गई")], QUICK, device="cpu", progress=False)


# Tuning


def test_tuning_turns_the_models_preferences(make_model):
    """All pairs move apart in the right direction, and of texts of one length the better becomes the likelier."""
    model, pairs = make_model(spread=0.1), random_pairs(12)
    before = score_preferences(model, pairs)
    history = tune_on_preferences(model, pairs, QUICK, beta=0.2, device="cpu", progress=False)
    assert history.loss[0] == pytest.approx(math.log(2), abs=1e-5) and history.margin[0] == pytest.approx(0, abs=1e-4)
    moved = score_preferences(model, pairs) - before  # (pairs, 2)
    assert (moved[:, 0] > moved[:, 1]).all()
    assert history.loss[-1] < 0.3 and len(history.loss) == 24 == len(history.accuracy)
    assert history.margin[-1] == pytest.approx(history.chosen[-1] - history.rejected[-1], abs=1e-3)
    assert sum(history.accuracy[-3:]) > sum(history.accuracy[:3])


def test_same_seed_same_run_and_another_seed_another(make_model):
    runs = []
    for seed in (3, 3, 4):
        model = make_model(spread=0.1)
        h = Hyperparameters(**{**vars(QUICK), "num_epochs": 1, "seed": seed})
        runs.append(tune_on_preferences(model, random_pairs(), h, device="cpu", progress=False).loss)
    assert runs[0] == runs[1] != runs[2]


def test_frozen_weights_stay(make_model):
    model = make_model(spread=0.1)
    model.embedding.weight.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    tune_on_preferences(model, random_pairs(), QUICK, device="cpu", progress=False)
    assert torch.equal(model.embedding.weight, before["embedding.weight"])
    assert not torch.equal(model.blocks[0].mlp.up.weight, before["blocks.0.mlp.up.weight"])


def test_with_lora_the_reference_is_the_model_without_it(make_model):
    model = add_lora(make_model(spread=0.1), rank=4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    history = tune_on_preferences(model, random_pairs(), QUICK, device="cpu", progress=False)
    assert history.loss[0] == pytest.approx(math.log(2), abs=1e-5) and history.loss[-1] < history.loss[0]
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if "lora_" in name}


@pytest.mark.parametrize(("changes", "told"), [({"pairs": []}, "no pairs"), ({"beta": 0}, "beta=0 must be above 0")])
def test_wrong_settings_are_told(make_model, changes, told):
    arguments = {"pairs": random_pairs(), "progress": False} | changes
    with pytest.raises(ValueError, match=told):
        tune_on_preferences(make_model(), **arguments)
