"""Protects training.distillation: a taught model learns its teacher's distributions, not only the text."""

import pytest
import torch
from training_runs import TEST, ingredients, settings, told, weights

from ai4india_lib import distillation_loss, next_token_loss, train
from ai4india_lib.text.packing import PackedTextDataset

QUIET = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def teacher():
    """A larger model that has learned the text."""
    h = settings(emb_dim=48, max_steps=100, learning_rate=0.02, patience=99)
    model, *loaders = ingredients(h)
    train(model, *loaders, h, **QUIET)
    return model


@torch.no_grad()
def distance(model, teacher, tokenizer):
    inputs = torch.cat([inputs for inputs, _ in PackedTextDataset(TEST, tokenizer, 32, 4)])
    return distillation_loss(model(inputs), teacher(inputs)).item()


def test_the_loss_is_the_mean_divergence_from_the_teacher():
    random = torch.Generator().manual_seed(0)
    logits, taught = (torch.randn(2, 3, 11, generator=random).requires_grad_() for _ in range(2))
    p, q = taught.double().softmax(-1), logits.double().softmax(-1)
    loss = distillation_loss(logits, taught)
    assert loss.item() == pytest.approx((p * (p / q).log()).sum(-1).mean().item(), rel=1e-5)
    assert distillation_loss(taught, taught).item() == pytest.approx(0, abs=1e-6)
    loss.backward()
    torch.testing.assert_close(logits.grad, ((q - p) / 6).float())  # its gradient: too likely minus wanted
    assert taught.grad is None, "the teacher does not learn"


def test_a_taught_model_comes_closer_to_its_teacher_than_the_text_brings_it(teacher):
    h = settings(max_steps=160, eval_every=20, patience=99, learning_rate=0.02)
    (model, *loaders), (untaught, *others) = ingredients(h), ingredients(h)
    tokenizer, before = loaders[0].dataset.tokenizer, weights(teacher)
    history = train(model, *loaders, h, teacher=teacher, **QUIET)
    train(untaught, *others, h, **QUIET)
    assert distance(model, teacher, tokenizer) < 0.7 * distance(untaught, teacher, tokenizer)
    assert all(torch.equal(before[name], now) for name, now in weights(teacher).items()), "the teacher stays as it is"
    assert history.train_loss[0] == pytest.approx(first_text_loss(h), rel=1e-4), "told is the loss on the text"


def first_text_loss(h):
    model, train_loader, _ = ingredients(h)
    inputs, targets = next(iter(train_loader))
    return next_token_loss(model(inputs), targets).item()


class PowerCutError(Exception):
    pass


def test_a_taught_run_can_be_resumed_with_its_teacher_only(teacher, tmp_path):
    h = settings()
    model, *loaders = ingredients(h)
    whole = train(model, *loaders, h, teacher=teacher, **QUIET)

    def cut_power(history):
        if history.steps == 8:
            raise PowerCutError

    other, *others = ingredients(h)
    with pytest.raises(PowerCutError):
        train(other, *others, h, teacher=teacher, folder=tmp_path, on_evaluation=cut_power, **QUIET)
    other, *others = ingredients(h)
    with pytest.raises(ValueError, match="was started with a teacher: it can't be resumed without one"):
        train(other, *others, h, folder=tmp_path, resume=True, **QUIET)
    other, *others = ingredients(h)
    resumed = train(other, *others, h, teacher=teacher, folder=tmp_path, resume=True, **QUIET)
    assert told(resumed) == told(whole)
    assert all(torch.equal(weights(model)[name], now) for name, now in weights(other).items())


def test_teachers_who_do_not_fit_are_refused(make_model):
    h = settings()
    model, *loaders = ingredients(h)
    for teacher, wanted in (
        (model, "its own teacher"),
        (make_model(vocab_size=99), "the teacher knows 99 tokens, the model 320"),
        (make_model(vocab_size=320, context_size=16), r"at most 16 tokens, .* 32: set context_size=16"),
    ):
        with pytest.raises(ValueError, match=wanted):
            train(model, *loaders, h, teacher=teacher, **QUIET)
