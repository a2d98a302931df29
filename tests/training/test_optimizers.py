"""Protects training.optimizers and .hyperparameters: each weight is moved once, by the right rule and rate."""

from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest
import torch

from ai4india_lib import DecoderLanguageModel, add_lora, get_hyperparameters, learning_rate_at, make_optimizers
from ai4india_lib.training import optimizers as module
from ai4india_lib.training.hyperparameters import PRESETS, plan_steps
from ai4india_lib.training.muon import Muon
from ai4india_lib.training.optimizers import load_optimizer_tensors, optimizer_tensors, set_learning_rate

# The rate over time


@pytest.mark.parametrize("total", [10, 100, 977])
def test_learning_rate_rises_stays_and_falls(total):
    h = get_hyperparameters("tiny", learning_rate=0.01, warmup_fraction=0.1, decay_fraction=0.4)
    rates = [learning_rate_at(step, total, h) for step in range(total)]
    warmup, decay = round(0.1 * total), round(0.4 * total)
    assert all(a < b for a, b in pairwise(rates[: warmup + 1]))
    assert rates[warmup : total - decay] == [0.01] * (total - decay - warmup)
    assert all(a > b for a, b in pairwise(rates[total - decay - 1 :]))
    assert rates[0] == pytest.approx(0.01 / (warmup + 1)) and rates[-1] == pytest.approx(0.01 / (decay + 1))
    assert min(rates) > 0 and max(rates) == 0.01


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("fractions", [(0.0, 0.0), (0.02, 0.4), (0.5, 0.5), (1.0, 1.0)])
def test_the_shortest_runs_move_too(total, fractions):
    warmup, decay = fractions
    h = get_hyperparameters("tiny", warmup_fraction=warmup, decay_fraction=decay)
    rates = [learning_rate_at(step, total, h) for step in range(total)]
    assert all(0 < rate <= h.learning_rate for rate in rates)


# The optimizers


def small_model(**more):
    torch.manual_seed(0)
    return DecoderLanguageModel(50, 16, 2, 2, 0, num_kv_heads=1, context_size=8, **more)


def with_gradients(model, seed):
    draw = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=draw)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("tied", [True, False])
def test_each_parameter_has_one_optimizer(optimizer, tied):
    model = small_model(tie_embeddings=tied)
    optimizers = make_optimizers(model, get_hyperparameters("tiny", optimizer=optimizer))
    names = {id(p): name for name, p in model.named_parameters()}
    owned = [[names[id(p)] for g in o.param_groups for p in g["params"]] for o in optimizers]
    assert sorted(name for owner in owned for name in owner) == sorted(names.values())
    if optimizer == "adamw":
        assert len(owned) == 1
        return
    layers = ["query", "key", "value", "output"], ["gate", "up", "down"]
    matrices = [f"blocks.{b}.attention.{x}.weight" for b in (0, 1) for x in layers[0]]
    matrices += [f"blocks.{b}.mlp.{x}.weight" for b in (0, 1) for x in layers[1]]
    assert sorted(owned[1]) == sorted(matrices)
    assert isinstance(optimizers[1], Muon)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_of_an_adapter_a_learns_more_slowly_than_b(kind):
    model = add_lora(small_model(), 2)
    optimizers = make_optimizers(model, get_hyperparameters("tiny", optimizer=kind))
    set_learning_rate(optimizers, 0.01)
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    rates = {names[id(p)]: g["lr"] for o in optimizers for g in o.param_groups for p in g["params"]}
    assert sorted(rates) == sorted(names.values())
    assert all(rate == pytest.approx(0.002 if "lora_A" in name else 0.01) for name, rate in rates.items())


def test_adamw_equals_the_one_of_torch():
    h = get_hyperparameters("tiny", optimizer="adamw", learning_rate=0.01, weight_decay=0.3)
    ours, theirs = small_model(), small_model()
    (optimizer,) = make_optimizers(ours, h)
    decayed = [p for p in theirs.parameters() if p.dim() == 2]
    kept = [p for p in theirs.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.3}, {"params": kept, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8, foreach=False, fused=False)
    for seed in range(4):
        with_gradients(ours, seed)
        with_gradients(theirs, seed)
        optimizer.step()
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_muon_moves_all_directions_alike():
    """The strongest direction of a gradient does not outrun the others, and the step is as large as one of AdamW: its
    root mean square is about 0.2 times the rate (Liu et al., 2025, §2.2)."""
    h = get_hyperparameters("tiny", learning_rate=0.01, weight_decay=0.0)
    model = small_model()
    weight = model.blocks[0].attention.query.weight  # (16, 16)
    before = weight.detach().clone()
    with_gradients(model, 0)
    weight.grad[0] *= 50  # one direction is far stronger than the others
    for optimizer in make_optimizers(model, h):
        optimizer.step()
    step = before - weight.detach()
    of_gradient, of_step = torch.linalg.svdvals(weight.grad), torch.linalg.svdvals(step)
    assert of_gradient.max() / of_gradient.median() > 30 and of_step.max() / of_step.median() < 2
    assert step.square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.2)


def test_gains_are_not_decayed():
    for kind in ("muon", "adamw"):
        model = small_model()
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        for optimizer in make_optimizers(model, get_hyperparameters("tiny", optimizer=kind, weight_decay=0.5)):
            optimizer.step()
        for name, p in model.named_parameters():
            shrunk = not torch.equal(p, before[name])
            assert shrunk == (p.dim() == 2), name


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_memories_go_on_in_new_optimizers(kind):
    h = get_hyperparameters("tiny", optimizer=kind)
    model, other = small_model(), small_model()
    optimizers = make_optimizers(model, h)
    for seed in range(2):
        with_gradients(model, seed)
        for optimizer in optimizers:
            optimizer.step()
    other.load_state_dict(model.state_dict())
    resumed = make_optimizers(other, h)
    load_optimizer_tensors(resumed, optimizer_tensors(optimizers))
    for m, each in ((model, optimizers), (other, resumed)):
        with_gradients(m, 7)
        for optimizer in each:
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_torch_without_muon_trains_with_ours(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)  # torch 2.6 to 2.8 have none
    model = small_model()
    with_gradients(model, 0)
    before = model.blocks[0].mlp.up.weight.detach().clone()
    for optimizer in make_optimizers(model, get_hyperparameters("tiny")):
        optimizer.step()
    assert not torch.equal(before, model.blocks[0].mlp.up.weight)


@pytest.mark.parametrize(
    "fast, wanted, dtype",
    [
        ("bf16", "auto", torch.bfloat16), ("bf16", "bf16", torch.bfloat16), ("bf16", "no", torch.float32),
        ("no", "auto", torch.float32), ("no", "bf16", torch.float32), ("fp16", "auto", torch.float32),
    ],
)  # fmt: skip
def test_muon_computes_in_halves_where_they_are_fast_and_wanted(monkeypatch, fast, wanted, dtype):
    monkeypatch.setattr(module, "pick_precision", lambda device: fast)
    assert make_optimizers(small_model(), get_hyperparameters("tiny", precision=wanted))[1].dtype == dtype


# Hyperparameters


def test_promised_fields():
    h = get_hyperparameters()
    assert h == get_hyperparameters("laptop") == PRESETS["laptop"]
    for name in ("emb_dim", "num_heads", "num_blocks", "batch_size", "learning_rate", "num_epochs", "context_size"):
        assert getattr(h, name) > 0
    with pytest.raises(FrozenInstanceError):
        h.batch_size = 3


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_makes_a_model(preset):
    h = get_hyperparameters(preset, batch_size=3)
    assert h.batch_size == 3 and get_hyperparameters(preset).batch_size != 3
    with torch.device("meta"):
        model = DecoderLanguageModel(
            h.vocab_size, h.emb_dim, h.num_heads, h.num_blocks, 0, num_kv_heads=h.num_kv_heads, qk_norm=h.qk_norm
        )
    assert model.num_parameters() > 0


def test_unknown_names_are_told():
    with pytest.raises(ValueError, match=r"preset 'desktop' is not known: there are laptop, quick"):
        get_hyperparameters("desktop")
    with pytest.raises(ValueError, match=r"'batchsize': there are .*batch_size"):
        get_hyperparameters("tiny", batchsize=8)


@pytest.mark.parametrize(
    "field, value",
    [
        ("batch_size", 0), ("context_size", 0), ("accumulation_steps", 0), ("num_epochs", 0), ("eval_every", 0),
        ("checkpoint_every", -1), ("patience", 0), ("max_steps", 0), ("eval_batches", 0), ("optimizer", "sgd"),
        ("precision", "fp8"), ("learning_rate", -1e-3), ("learning_rate", float("nan")), ("warmup_fraction", 1.5),
        ("decay_fraction", -0.1), ("clip_norm", 0),
    ],
)  # fmt: skip
def test_senseless_values_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field}='?{value}"):
        get_hyperparameters("tiny", **{field: value})


def test_plan_steps():
    h = get_hyperparameters("tiny", batch_size=4, context_size=50, accumulation_steps=2, num_epochs=3, max_steps=None)
    assert plan_steps(h, tokens=10_000) == (75, 400, 3.0)
    assert plan_steps(h, tokens=10_001) == (76, 400, 76 * 400 / 10_001), "the last step may begin another pass"
    assert plan_steps(h, tokens=10_000, processes=5) == (15, 2000, 3.0)
    assert plan_steps(h, tokens=10) == (1, 400, 40.0)
    capped = get_hyperparameters("tiny", batch_size=4, context_size=50, num_epochs=3, max_steps=20)
    assert plan_steps(capped, tokens=10_000) == (20, 200, 0.4)
