"""Reinforcement: advantages, KL and loss are the paper's; what is drawn is what is trained; rewards rise."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ai4india_lib.model.lora import add_lora
from ai4india_lib.training.hyperparameters import Hyperparameters
from ai4india_lib.tuning.completions import completion_batch, completion_log_probabilities
from ai4india_lib.tuning.grpo import (
    Group,
    frozen_copy,
    group_advantages,
    grpo_loss,
    kl_estimate,
    kl_to_reference,
    tune_on_rewards,
)
from ai4india_lib.tuning.rewards import Attempt, Task, answer_reward, mark, mention_reward, write_attempts

QUICK = Hyperparameters(
    batch_size=4, max_steps=12, optimizer="adamw", learning_rate=1e-2, weight_decay=0.0, precision="no"
)
TASKS = [Task([1, token]) for token in range(10, 18)]
ONES = torch.ones(1, 1, dtype=torch.bool)


def share_of_small_ids(attempt: Attempt) -> float:
    return sum(token < 100 for token in attempt.ids) / len(attempt.ids)


# The parts of the loss


def test_advantages_of_a_hand_computed_group():
    # rewards 1, 0, 0, 1: mean 0.5, deviation of a sample sqrt(1/3)
    found = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
    assert torch.allclose(found, torch.tensor([[1.0, -1.0, -1.0, 1.0]]) * 0.5 * math.sqrt(3), atol=1e-4)


def test_groups_do_not_see_each_other_and_a_constant_group_teaches_nothing():
    found = group_advantages(torch.tensor([[5.0, 5.0, 5.0], [0.0, 1.0, 2.0]]))
    assert torch.equal(found[0], torch.zeros(3)) and torch.allclose(found[1], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-4)


@pytest.mark.parametrize("value", [0.7, 2.97, 100.1, 1 / 3, -0.3, 1e-7, 12345.678, 1e30, 0.0, 3])
@pytest.mark.parametrize("size", [2, 3, 8, 24])
def test_equal_rewards_teach_exactly_nothing(value, size):
    """The mean of equal numbers may be another number in its last digit: that is no difference between texts."""
    for dtype in (torch.float32, torch.float64):
        rewards = torch.tensor([[value] * size, [*range(size)]], dtype=dtype)
        found = group_advantages(rewards)
        assert torch.equal(found[0], torch.zeros(size, dtype=dtype)) and found[1][0] < 0 < found[1][-1]


def test_rewards_that_differ_by_rounding_alone_teach_nothing():
    parts = [0.1, 0.2, 0.3, 0.7, 1.1]
    sums = [sum(parts), sum(reversed(parts)), 0.1 + 0.3 + 0.2 + 1.1 + 0.7, 2.4]
    for dtype in (torch.float32, torch.float64):
        ulp = torch.finfo(dtype).eps
        rewards = torch.tensor(
            [sums, [0.7, 0.7 + ulp, 0.7 - ulp, 0.7], [5.0, 5.0, 5.0 * (1 + 2 * ulp), 5.0]], dtype=dtype
        )
        assert len(rewards.unique()) > 4 and torch.equal(group_advantages(rewards), torch.zeros_like(rewards))
    small = torch.tensor([[0.7, 0.7001], [1000.0, 1001.0], [0.0, 1e-5]])  # real differences, however small, count
    assert (group_advantages(small)[:, 1] > 0.5).all()
    whole = torch.tensor([[1, 0, 0, 1], [3, 3, 3, 3]])
    assert torch.allclose(group_advantages(whole), group_advantages(whole.float()))


def test_a_silent_group_moves_no_weight(make_model, tokenizer):
    """Without the pull of the reference nothing is left: no gradient, for any reward that all texts share."""
    for value in (0.7, 2.97, 100.1):
        model = make_model(spread=0.1)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        h, group = replace(QUICK, max_steps=2), Group(size=8, max_new_tokens=3, kl_weight=0.0)
        history = tune_on_rewards(
            model, tokenizer, TASKS, lambda a, value=value: value, h, group, device="cpu", progress=False
        )
        assert history.silent == [1.0, 1.0] and history.loss == [0.0, 0.0]
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_kl_estimate_is_zero_at_the_reference_never_below_and_right_on_average():
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    assert torch.equal(kl_estimate(p.log(), p.log()), torch.zeros(3))
    each = kl_estimate(p.log(), q.log())
    assert (each >= 0).all()
    wanted = torch.distributions.kl_divergence(torch.distributions.Categorical(p), torch.distributions.Categorical(q))
    assert torch.allclose((p * each).sum(), wanted)


@pytest.mark.parametrize(
    ("ratio", "advantage", "wanted"),
    [
        (1.0, 2.0, -2.0),
        (1.1, 2.0, -2.2),
        (1.5, 2.0, -2.4),  # beyond 1 + 0.2 a good text earns no more
        (0.5, 2.0, -1.0),  # but it may still lose
        (0.5, -1.0, 0.8),  # below 1 − 0.2 a bad text costs no less
        (1.5, -1.0, 1.5),
    ],
)
def test_the_clipped_gain_of_a_hand_computed_token(ratio, advantage, wanted):
    now, old = torch.tensor([[math.log(ratio) - 1]]), torch.tensor([[-1.0]])
    loss = grpo_loss(now, old, now, torch.tensor([advantage]), ONES, clip_range=0.2, kl_weight=0.04)
    assert loss.item() == pytest.approx(wanted, abs=1e-5)


def test_each_text_counts_by_the_mean_of_its_own_tokens():
    now = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, 0.0, 0.0]])
    reference = torch.tensor([[-1.0, -2.0, -2.0], [-1.5, 7.0, 7.0]])
    counts = torch.tensor([[True, True, True], [True, False, False]])
    loss = grpo_loss(now, now, reference, torch.tensor([1.0, -1.0]), counts, kl_weight=0.5)
    first = 0.5 * (math.e - 1 - 1) / 3 - 1
    second = 0.5 * (math.exp(-0.5) + 0.5 - 1) + 1
    assert torch.allclose(loss, torch.tensor([first, second]))


def test_at_the_start_the_gradient_is_that_of_the_plain_policy_gradient():
    now = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]], requires_grad=True)
    counts = torch.tensor([[True, True], [True, False]])
    grpo_loss(now, now.detach(), now.detach(), torch.tensor([0.7, -1.2]), counts).sum().backward()
    assert torch.allclose(now.grad, torch.tensor([[-0.35, -0.35], [1.2, 0.0]]))


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    now = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    old, reference = now.detach() + 0.05, torch.randn(3, 4, dtype=torch.float64)
    counts = torch.rand(3, 4) < 0.8
    counts[:, 0] = True
    advantages = torch.randn(3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: grpo_loss(x, old, reference, advantages, counts, kl_weight=0.3), [now])


# Writing and marking


def test_what_is_drawn_has_the_probability_that_is_trained(make_model, tokenizer):
    """The model writes with a cache, greedily here by a trick: its log-probabilities must lead to the same tokens."""
    model = make_model()
    attempts = write_attempts(model, tokenizer, TASKS, max_new_tokens=12, seed=1)
    inputs, targets = completion_batch([a.task.prompt for a in attempts], [a.ids for a in attempts])
    scores = completion_log_probabilities(model, inputs, targets).sum(1)
    cache = model.new_cache(1, 40)
    for attempt, score in zip(attempts, scores, strict=True):
        cache.set_lengths(torch.tensor([0]))
        logits, total = model(torch.tensor([attempt.task.prompt]), cache)[0, -1], 0.0
        for token in attempt.ids:
            total += logits.log_softmax(-1)[token].item()
            logits = model(torch.tensor([[token]]), cache)[0, -1]
        assert score.item() == pytest.approx(total, abs=1e-3)


def test_tokens_are_drawn_as_often_as_the_model_says(make_model, tokenizer):
    model = make_model(spread=0.2)
    draws = write_attempts(model, tokenizer, [Task([1, 20])] * 3000, max_new_tokens=1, seed=2)
    counts = torch.bincount(torch.tensor([attempt.ids[0] for attempt in draws]), minlength=384) / 3000
    probabilities = model(torch.tensor([[1, 20]]))[0, -1].softmax(-1)
    assert (counts - probabilities).abs().sum() < 0.3 and probabilities.max() > 0.02


def test_an_attempt_tells_whether_it_ended(make_model, tokenizer):
    model = make_model()
    attempts = write_attempts(model, tokenizer, TASKS * 20, max_new_tokens=30, seed=3)
    assert {attempt.ended for attempt in attempts} == {True, False}
    for attempt in attempts:
        assert attempt.ended == (attempt.ids[-1] in (tokenizer.eos_token_id, 6, tokenizer.pad_token_id))
        assert attempt.text == tokenizer.decode(attempt.ids, skip_special_tokens=True)


def test_a_reward_that_is_no_number_is_told(make_model, tokenizer):
    attempts = write_attempts(make_model(), tokenizer, TASKS, max_new_tokens=4)
    with pytest.raises(ValueError, match="not a finite number"):
        mark(attempts, lambda attempt: math.nan)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "the function returned nothing (is `return` missing?)"),
        ("good", "it is 'good'"),
        ("0.5", "it is '0.5'"),
        ([1.0], "it is [1.0]"),
        (torch.ones(2), "it is tensor([1., 1.])"),
        (1e300, "it is 1e+300"),
        (10**400, "it is 1000"),
        (1j, "it is 1j"),
        (math.inf, "it is inf"),
    ],
)
def test_what_a_reward_should_not_return_is_told(given, told):
    attempt = Attempt(Task([1]), [2], "मीरा गई", True)
    with pytest.raises(ValueError) as error:
        mark([attempt], lambda a: given)
    assert str(error.value).startswith("the reward of 'मीरा गई' is not a finite number: ") and told in str(error.value)
    for number in (np.float32(1), torch.tensor(1.0), True, 1, np.int64(1), torch.tensor([1.0])):
        assert mark([attempt], lambda a, number=number: number).tolist() == [1.0]
    with pytest.raises(ValueError, match="reward must be a function of one attempt that returns a number, not 0"):
        mark([attempt], 0.5)


@pytest.mark.parametrize("tasks", [[[1, 2]], ["एक"], [Task([1]), None]], ids=str)
def test_tasks_of_another_shape_are_told(make_model, tokenizer, tasks):
    with pytest.raises(ValueError, match="tasks must be a list of Task"):
        tune_on_rewards(make_model(), tokenizer, tasks, len, QUICK, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("text", "wanted", "marks"),
    [(" नीली। ", "नीली", 1), ("नीला", "नीली", 0), ("नीली पतंग", "नीली", 0), ("", "नीली", 0), ("Blue.", "blue", 1)],
)
def test_answer_reward_is_exact_match(text, wanted, marks):
    assert answer_reward(Attempt(Task([1], wanted), [], text, True)) == marks


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("मेले में पतंग उड़ी।", 0.5),
        ("“पतंग, चाय!”", 1),
        ("पतंग पतंग पतंग", 0.5),  # saying a word often earns nothing
        ("पतंगें और चायवाला", 0),  # parts of words do not count
    ],
)
def test_mention_reward_counts_each_wanted_word_once(text, marks):
    assert mention_reward(Attempt(Task([1], ("पतंग", "चाय")), [], text, True)) == marks


@pytest.mark.parametrize("wanted", [None, "चाय", [], 5], ids=str)
def test_rewards_without_what_is_wanted_are_told(wanted):
    """A word is no list of words: its letters would be looked for."""
    attempt = Attempt(Task([1], wanted), [], "चाय", True)
    with pytest.raises(ValueError, match="mention_reward needs a list of words: give each task one"):
        mention_reward(attempt)
    if wanted is None:
        with pytest.raises(ValueError, match="answer_reward needs the answer: give each task one"):
            answer_reward(attempt)


# Tuning


def test_the_reward_rises_and_the_kl_starts_at_zero(make_model, tokenizer):
    model = make_model(spread=0.1)
    start = copy.deepcopy(model)
    group = Group(size=8, max_new_tokens=8, kl_weight=0.01)
    history = tune_on_rewards(model, tokenizer, TASKS, share_of_small_ids, QUICK, group, device="cpu", progress=False)
    assert history.kl[0] == 0 and history.kl[-1] > 0.01
    assert sum(history.reward[-3:]) / 3 > history.reward[0] + 0.2
    assert len(history.reward) == len(history.length) == len(history.sample) == 12
    attempts = write_attempts(model, tokenizer, TASKS * 8, max_new_tokens=8, seed=99)
    assert kl_to_reference(model, start, attempts).mean() > 0.1
    assert kl_to_reference(start, start, attempts).abs().max() == 0


def test_a_large_kl_weight_holds_the_model_at_the_reference(make_model, tokenizer):
    kl = []
    for weight in (0.0, 20.0):
        group = Group(size=4, max_new_tokens=8, kl_weight=weight)
        model = make_model(spread=0.1)
        h = replace(QUICK, max_steps=8)
        kl.append(tune_on_rewards(model, tokenizer, TASKS, share_of_small_ids, h, group, progress=False).kl[-1])
    assert kl[1] < kl[0] / 2


def test_a_constant_reward_changes_nothing(make_model, tokenizer):
    model = make_model(spread=0.1)
    before = copy.deepcopy(model.state_dict())
    h = replace(QUICK, max_steps=2)
    settings = {"device": "cpu", "progress": False}
    history = tune_on_rewards(model, tokenizer, TASKS, lambda attempt: 3.0, h, Group(max_new_tokens=4), **settings)
    assert history.silent == [1.0, 1.0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_parts_and_several_updates(make_model, tokenizer):
    """Several parts give the gradient of the whole; several updates go further with the same texts."""
    weights = []
    for parts, updates in ((1, 1), (4, 1), (1, 3)):
        model = make_model(spread=0.1)
        h = replace(QUICK, max_steps=1, accumulation_steps=parts)
        group = Group(size=4, max_new_tokens=6, updates=updates)
        tune_on_rewards(model, tokenizer, TASKS, share_of_small_ids, h, group, progress=False)
        weights.append(model.blocks[0].mlp.up.weight.detach())
    assert torch.allclose(weights[0], weights[1], atol=1e-4) and not torch.allclose(weights[0], weights[2], atol=1e-3)


def test_same_seed_same_run_and_the_reference_is_left_alone(make_model, tokenizer):
    runs, reference = [], make_model(spread=0.1)
    before = copy.deepcopy(reference.state_dict())
    for _ in range(2):
        settings = {"reference": reference, "device": "cpu", "progress": False}
        h, group = replace(QUICK, max_steps=3), Group(max_new_tokens=8)
        model = copy.deepcopy(reference)
        runs.append(tune_on_rewards(model, tokenizer, TASKS, share_of_small_ids, h, group, **settings))
    assert runs[0] == runs[1]
    assert all(torch.equal(value, before[name]) for name, value in reference.state_dict().items())
    assert all(p.requires_grad for p in reference.parameters())  # it can still be trained elsewhere


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"size": 1}, "size=1"), ({"max_new_tokens": 0}, "max_new_tokens=0"), ({"kl_weight": -1}, "kl_weight=-1")],
)
def test_wrong_settings_of_a_group_are_told(settings, told):
    with pytest.raises(ValueError, match=told):
        Group(**settings)


def test_with_lora_only_the_adapter_is_tuned_and_the_reference_shares_the_rest(make_model, tokenizer):
    model = add_lora(make_model(spread=0.1), rank=4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    reference = frozen_copy(model)
    assert reference.embedding.weight is model.embedding.weight
    assert not any(p.requires_grad for p in reference.parameters())
    group, h = Group(size=4, max_new_tokens=8), replace(QUICK, max_steps=4)
    settings = {"reference": reference, "device": "cpu", "progress": False}
    history = tune_on_rewards(model, tokenizer, TASKS, share_of_small_ids, h, group, **settings)
    assert history.kl[0] == 0 < history.kl[-1]
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if "lora_" in name}
    assert all(torch.equal(p, before[name]) for name, p in reference.named_parameters())


def test_a_model_that_has_written_can_be_copied(make_model, tokenizer):
    """The packed decoder holds tensors that torch cannot copy."""
    model = make_model()
    write_attempts(model, tokenizer, TASKS, max_new_tokens=40, seed=1)
    other = frozen_copy(model)
    assert torch.equal(other(torch.tensor([[1, 9]])), model(torch.tensor([[1, 9]])))
    model.requires_grad_(False)
    assert frozen_copy(model).embedding.weight is model.embedding.weight


def test_a_text_that_would_outgrow_the_context_is_told(make_model, tokenizer):
    with pytest.raises(ValueError, match=r"2 tokens and max_new_tokens=64 do not fit .* try max_new_tokens=63"):
        tune_on_rewards(make_model(), tokenizer, TASKS, share_of_small_ids, QUICK)


def test_no_tasks_are_told(make_model, tokenizer):
    with pytest.raises(ValueError, match="no tasks"):
        tune_on_rewards(make_model(), tokenizer, [], share_of_small_ids)
