"""Protects basics.arguments: a value that makes no sense is refused by its name, and no other is."""

import math
import types
import typing
from dataclasses import asdict, fields, replace
from fractions import Fraction

import numpy as np
import pytest

from ai4india_lib import (
    DecoderConfig,
    DynamicBatcher,
    Group,
    Hyperparameters,
    NgramDraft,
    PackedTextDataset,
    Sampling,
    Task,
    TextLoader,
    add_lora,
    answer_questions,
    bootstrap_interval,
    compute_loss_and_perplexity,
    finetune,
    generate,
    get_hyperparameters,
    speculative_generate,
    train,
    train_tokenizer,
    tune_on_preferences,
    tune_on_rewards,
)
from ai4india_lib.basics.arguments import above, at_least, between


def test_sensible_values_pass():
    at_least(1, batch_size=1, max_steps=None, context_size=10**9, slots=np.int64(3))
    above(0, beta=1e-9, clip_norm=np.float32(0.5), floor=None, rate=Fraction(1, 3))
    between(0, 1, warmup_fraction=0, decay_fraction=1.0, level=None)
    between(0, math.inf, kl_weight=0, weight_decay=1e6)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: at_least(1, batch_size=8, context_size=0), "^context_size=0 must be a whole number of at least 1$"),
        (lambda: at_least(2, size=2.5), r"^size=2\.5 must be a whole number of at least 2$"),
        (lambda: at_least(1, vocab_size="256"), "^vocab_size='256' must be a whole number"),
        (lambda: at_least(1, slots=True), "^slots=True must be a whole number"),
        (lambda: at_least(1, slots=np.float64(4)), r"^slots=np.float64\(4.0\) must be a whole number"),
        (lambda: above(0, clip_norm=1, beta=0), "^beta=0 must be above 0$"),
        (lambda: above(0, beta=float("nan")), "^beta=nan must be a finite number above 0$"),
        (lambda: above(0, beta=float("inf")), "^beta=inf must be a finite number above 0$"),
        (lambda: above(0, beta="0.1"), "^beta='0.1' must be a finite number above 0$"),
        (lambda: between(0, 1, decay_fraction=1.1), r"^decay_fraction=1\.1 must lie between 0 and 1$"),
        (lambda: between(0, 1, decay_fraction=float("nan")), "^decay_fraction=nan must lie"),
        (lambda: between(0, 1, share=False), "^share=False must lie"),
        (lambda: between(0, math.inf, kl_weight=math.inf), "^kl_weight=inf must be a finite number of at least 0$"),
        (lambda: between(0, math.inf, kl_weight=10**400), "^kl_weight=1000+ must be a finite number"),
    ],
)
def test_others_are_refused_by_name(check, message):
    with pytest.raises(ValueError, match=message):
        check()


SETTINGS = [Hyperparameters(), Sampling(), DecoderConfig(300), Group()]
WRONG = {  # values that no field of this type may have
    int: ["8", 8.5, 8.0, math.inf, math.nan, True, None, [8], -1, np.float32(8), np.True_],
    float: ["0.5", math.inf, -math.inf, math.nan, True, None, [0.5], -1, np.nan, 10**400],
    bool: ["no", 0, 1, None, 1.0, [], np.int64(1)],
    str: [None, 3, b"muon", "", ["muon"]],
    dict: ["plain", 3, True, [], {}],
}


def kinds(settings, field):
    hint = typing.get_type_hints(type(settings))[field.name]
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def cases():
    for settings in SETTINGS:
        for field in fields(settings):
            allowed = kinds(settings, field)
            for value in WRONG[allowed[0]]:
                if value is not None or type(None) not in allowed:
                    yield pytest.param(settings, field.name, value, id=f"{field.name}-{value!r:.20}")


@pytest.mark.parametrize(("settings", "name", "value"), list(cases()))
def test_every_field_of_every_settings_refuses_what_it_cannot_be(settings, name, value):
    with pytest.raises(ValueError, match=rf"^{name}( |=)") as refused:
        replace(settings, **{name: value})
    assert len(str(refused.value)) < 250 and "\n" not in str(refused.value)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: type(settings).__name__)
def test_numbers_of_numpy_are_numbers(settings):
    """As from np.arange, or a search over learning rates; they become Python's own."""
    in_numpy = {int: np.int64, float: np.float64, bool: np.bool_}
    own = asdict(settings)
    converted = {name: in_numpy.get(type(value), lambda x: x)(value) for name, value in own.items()}
    made = replace(settings, **converted)
    assert made == settings and all(type(value) is type(own[name]) for name, value in asdict(made).items())


@pytest.mark.parametrize("kind", [Hyperparameters, Sampling])
def test_a_seed_is_one_that_torch_takes(kind):
    assert kind(seed=2**63 - 1).seed == 2**63 - 1
    with pytest.raises(ValueError, match=r"^seed=10+ must lie between 0 and"):
        kind(seed=10**30)


def test_a_whole_number_may_stand_for_a_float():
    assert Hyperparameters(num_epochs=2, clip_norm=np.int32(3)).clip_norm == 3
    assert Sampling(temperature=1, top_p=1).top_p == 1


CALLS = {  # an argument of a function or a class → a call that gives it
    "rank": lambda model, value: add_lora(model, value),
    "alpha": lambda model, value: add_lora(model, 2, value),
    "lora_rank": lambda model, value: finetune(model, None, [], lora_rank=value),
    "lora_alpha": lambda model, value: finetune(model, None, [], lora_rank=2, lora_alpha=value),
    "replay_share": lambda model, value: finetune(model, None, [], replay_share=value),
    "beta": lambda model, value: tune_on_preferences(model, ["pair"], beta=value),
    "slots": lambda model, value: DynamicBatcher(model, slots=value),
    "queue_size": lambda model, value: DynamicBatcher(model, queue_size=value),
    "cannot write": lambda model, value: generate(model, [[1]], max_new_tokens=value),
    "k": lambda model, value: speculative_generate(model, [1], model, max_new_tokens=3, k=value),
    "longest": lambda model, value: NgramDraft(value),
    "vocab_size": lambda model, value: train_tokenizer(["text"], value),
    "min_frequency": lambda model, value: train_tokenizer(["text"], 300, min_frequency=value),
    "context_size": lambda model, value: PackedTextDataset([], None, value),
    "shuffle_buffer": lambda model, value: PackedTextDataset([], None, 8, shuffle_buffer=value),
    "num_workers": lambda model, value: TextLoader(None, num_workers=value),
    "max_batches": lambda model, value: compute_loss_and_perplexity(model, [], max_batches=value),
    "batch_size": lambda model, value: answer_questions(model, None, [], batch_size=value),
    "resamples": lambda model, value: bootstrap_interval([1.0, 2.0], resamples=value),
}


@pytest.mark.parametrize("value", ["3", 2.5, math.nan, math.inf, True, [3], -1], ids=repr)
@pytest.mark.parametrize("name", CALLS)
def test_arguments_of_functions_are_refused_by_name(name, value, make_model):
    if value == 2.5 and name in ("alpha", "lora_alpha", "beta"):  # numbers there
        return
    with pytest.raises(ValueError, match=rf"^{name}( |=)"):
        CALLS[name](make_model(), value)


@pytest.mark.parametrize("given", ["laptop", {"batch_size": 8}, 3, [], Sampling()], ids=lambda given: repr(given)[:12])
def test_settings_are_settings(given, make_model):
    for tune in (
        lambda: train(make_model(), None, None, given),
        lambda: finetune(make_model(), None, [], given),
        lambda: tune_on_preferences(make_model(), ["pair"], given),
        lambda: tune_on_rewards(make_model(), None, [Task([1])], None, given),
    ):
        with pytest.raises(ValueError, match=r"^hyperparameters=.* must be Hyperparameters, or None: get_hyper"):
            tune()
    with pytest.raises(ValueError, match=r"^group=.* must be a Group"):
        tune_on_rewards(make_model(), None, [Task([1])], None, None, given)
    if not isinstance(given, str):
        with pytest.raises(ValueError, match=r"^preset .* is not known: there are laptop"):
            get_hyperparameters(given)
