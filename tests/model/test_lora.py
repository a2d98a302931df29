"""Protects model.lora and .adapters: LoRA computes what PEFT computes, and folders go both ways."""

import json
import math

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ai4india_lib import add_lora, load_adapter, load_model, merge_lora, save_adapter
from ai4india_lib.formats.pretrained import save_model
from ai4india_lib.model import LORA_TARGETS, has_lora
from ai4india_lib.training.hyperparameters import get_hyperparameters
from ai4india_lib.training.optimizers import make_optimizers

IDS = torch.tensor([[1, 9, 200, 33, 7, 7, 120], [1, 50, 60, 70, 80, 90, 100]])


def shaken(model, seed=1):
    """The model with adapters that do something: B is zero at first."""
    torch.manual_seed(seed)
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data.copy_(torch.randn_like(p) * 0.3)
    return model


def logits(model):
    with torch.no_grad():
        return model(IDS)


@pytest.fixture
def base(make_model, tokenizer, tmp_path):
    """(model, its folder)."""
    model = make_model(num_kv_heads=2)
    return model, save_model(model, tokenizer, tmp_path / "models" / "base")


def test_at_first_nothing_changes_and_only_adapters_train(make_model):
    model = make_model()
    before, weights = logits(model), {name: p.clone() for name, p in model.named_parameters()}
    assert add_lora(model, 3, targets=("query", "down")) is model and has_lora(model)
    assert torch.equal(logits(model), before)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    wanted = {f"blocks.{n}.{m}.lora_{x}.weight" for n in (0, 1) for m in ("attention.query", "mlp.down") for x in "AB"}
    assert trained == wanted
    optimizers = make_optimizers(model, get_hyperparameters("tiny", learning_rate=0.01))
    model(IDS).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
    assert not torch.equal(logits(model), before)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters() if name in weights)


def test_correction_is_that_of_the_paper(make_model):
    """W x + alpha/rank · B A x, computed here from the matrices alone."""
    model = shaken(add_lora(make_model(), 4, alpha=6, targets=("up",)))
    layer, x = model.blocks[0].mlp.up, torch.randn(5, 32)
    expected = x @ (layer.weight + 6 / 4 * layer.lora_B.weight @ layer.lora_A.weight).T
    torch.testing.assert_close(layer(x), expected)


def test_many_rows_are_computed_as_few_are(make_model):
    """With many rows the matrices are joined before they are applied: the same output, gradients, and frozen weight."""
    layer = shaken(add_lora(make_model(), 4, alpha=6, targets=("up",))).blocks[0].mlp.up
    x = torch.randn(2, 2 * max(layer.weight.shape), layer.in_features)
    found = []
    for parts in ([x], x.flatten(0, 1).split(16)):
        rows = [part.clone().requires_grad_() for part in parts]
        outputs = torch.cat([layer(part).flatten(0, -2) for part in rows])
        outputs.square().sum().backward()
        gradients = [
            layer.lora_A.weight.grad,
            layer.lora_B.weight.grad,
            torch.cat([r.grad.flatten(0, -2) for r in rows]),
        ]
        assert layer.weight.grad is None
        found.append([outputs.detach(), *gradients])
        layer.zero_grad()
    for many, few in zip(*found, strict=True):
        torch.testing.assert_close(many, few, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("targets", [LORA_TARGETS, ("query", "value")])
def test_merged_model_is_plain_and_gives_the_same_logits(make_model, targets):
    model = shaken(add_lora(make_model(), 4, targets=targets))
    before = logits(model)
    assert merge_lora(model) is model and not has_lora(model)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)
    assert all(p.requires_grad for p in model.parameters())
    assert {type(m) for m in model.modules() if isinstance(m, torch.nn.Linear)} == {torch.nn.Linear}


def test_adapters_stay_float32_beside_half_precision(make_model):
    model = shaken(add_lora(make_model().bfloat16(), 4))
    assert model.blocks[0].mlp.up.lora_A.weight.dtype == torch.float32
    assert logits(model).dtype == torch.bfloat16
    before = logits(model).float()
    after = logits(merge_lora(model)).float()
    assert model.embedding.weight.dtype == torch.bfloat16
    assert (after - before).abs().mean() < 0.05 * before.abs().mean()


def test_seed_draws_the_adapters_and_leaves_the_generator_alone(make_model):
    torch.manual_seed(5)
    expected = torch.rand(2)
    one, two, other = (add_lora(make_model(), 4, seed=seed).blocks[1].mlp.up.lora_A.weight for seed in (1, 1, 2))
    torch.manual_seed(5)
    add_lora(model := make_model(seed=5), 4)
    assert torch.equal(one, two) and not torch.equal(one, other) and has_lora(model) and expected.shape == (2,)
    torch.manual_seed(5)
    linear = make_model(seed=3)
    state = torch.get_rng_state()
    add_lora(linear, 4)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda model: add_lora(model, 0), "rank=0"),
        (lambda model: add_lora(model, 4, alpha=-1), "alpha=-1"),
        (lambda model: add_lora(model, 4, targets=("q_proj",)), "'q_proj'.*query, key"),
        (lambda model: add_lora(model, 4, targets=()), "no targets"),
        (lambda model: add_lora(add_lora(model, 4), 4), "adapters already"),
        (lambda model: save_adapter(model, "x", base="y"), "no adapters"),
        (lambda model: save_model(add_lora(model, 4), None, "x"), "save_adapter"),
        (lambda model: make_optimizers(model.requires_grad_(False), get_hyperparameters()), "frozen"),
    ],
)
def test_mistakes_are_told(make_model, call, told):
    with pytest.raises(ValueError, match=told):
        call(make_model())


# PEFT


@pytest.mark.parametrize("targets", [LORA_TARGETS, ("key", "gate")])
def test_our_adapter_opens_in_peft(base, tmp_path, targets):
    model, folder = base
    shaken(add_lora(model, 4, alpha=10, targets=targets))
    saved = save_adapter(model, tmp_path / "models" / "adapter", base=folder)
    assert sorted(path.name for path in saved.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), saved).eval()
    assert "lora_A.default" in "".join(name for name, _ in theirs.named_parameters())
    torch.testing.assert_close(theirs(IDS).logits, logits(model), rtol=1e-4, atol=1e-4)
    assert (logits(model) - logits(load_model(folder, "cpu")[0])).abs().max() > 0.5, "the adapter must do something"


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "down_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.1\.mlp\.up_proj"},
        {"target_modules": ["v_proj"], "use_rslora": True},
        {"target_modules": ["v_proj", "gate_proj"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj"], "init_lora_weights": "gaussian"},
        {"target_modules": ["q_proj"], "init_lora_weights": "orthogonal"},
        {"target_modules": ["q_proj"], "init_lora_weights": False},
        {"target_modules": "all-linear", "exclude_modules": ["up_proj"]},
    ],
)
def test_adapter_of_peft_opens_here(base, tmp_path, settings):
    model, folder = base
    config = LoraConfig(r=4, lora_alpha=12, task_type="CAUSAL_LM", **settings)
    theirs = shaken(get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).eval())
    theirs.save_pretrained(tmp_path / "models" / "theirs")
    expected = theirs(IDS).logits
    load_adapter(model, tmp_path / "models" / "theirs")
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
    opened, opened_tokenizer = load_model(tmp_path / "models" / "theirs", "cpu")
    assert not has_lora(opened) and opened_tokenizer.chat_template
    torch.testing.assert_close(logits(opened), expected, rtol=1e-4, atol=1e-4)


def test_peft_trains_the_same_number_of_parameters(base):
    model, folder = base
    theirs = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        LoraConfig(r=5, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    add_lora(model, 5)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == theirs.get_nb_trainable_parameters()[0]


# Folders


def test_there_and_back_by_name(make_model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = make_model()
    save_model(model, tokenizer, "base")
    shaken(add_lora(model, 4, alpha=3, targets=("output", "up")))
    assert save_adapter(model, "mine", base="base").as_posix() == "models/mine"
    told = json.loads((tmp_path / "models/mine/adapter_config.json").read_text(encoding="utf-8"))
    assert told["base_model_name_or_path"] == "models/base" and told["target_modules"] == ["o_proj", "up_proj"]
    opened, _ = load_model("mine", "cpu")
    torch.testing.assert_close(logits(opened), logits(model), rtol=1e-4, atol=1e-4)
    again = load_adapter(load_model("base", "cpu")[0], "mine")
    assert torch.equal(logits(again), logits(model))
    assert {n for n, p in again.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "models").rename(tmp_path / "elsewhere" / "models")
    torch.testing.assert_close(logits(load_model("elsewhere/models/mine", "cpu")[0]), logits(opened))
    (tmp_path / "elsewhere/models/base/config.json").unlink()
    with pytest.raises(FileNotFoundError, match="belongs to the model 'models/base'"):
        load_model("elsewhere/models/mine", "cpu")


def test_in_half_precision_the_file_is_half_as_large_and_peft_computes_the_same(base, tmp_path):
    model, folder = base
    shaken(add_lora(model, 16))
    whole, half = (save_adapter(model, tmp_path / str(d), base=folder, dtype=d) for d in (None, torch.bfloat16))
    sizes = [(place / "adapter_model.safetensors").stat().st_size for place in (whole, half)]
    assert 0.5 < sizes[1] / sizes[0] < 0.6
    opened = logits(load_model(half, "cpu")[0])
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), half).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(IDS).logits, opened, rtol=1e-4, atol=1e-4)
    assert 0 < (opened - logits(model)).abs().max() < 0.05 * logits(model).abs().max()  # rounded, not lost


@pytest.fixture
def adapter(base, tmp_path):
    model, folder = base
    return save_adapter(shaken(add_lora(model, 4)), tmp_path / "models" / "adapter", base=folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"peft_type": "IA3"}, "type 'IA3'"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights=pissa"),
        ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights=pissa"),
        ({"init_lora_weights": "olora"}, "init_lora_weights=olora"),
        ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, "loftq_config, init_lora_weights=loftq"),
        ({"init_lora_weights": "corda", "corda_config": {"a": 1}}, "corda_config, init_lora_weights=corda"),
        ({"init_lora_weights": ["pissa"]}, "init_lora_weights"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"trainable_token_indices": [5, 6]}, "trainable_token_indices"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens"),
        ({"lora_bias": True}, "lora_bias"),
        ({"a_kind_of_tomorrow": True}, "a_kind_of_tomorrow"),
        ({"r": None}, "r and lora_alpha"),
        ({"r": True}, "r and lora_alpha"),
        ({"r": 4.0}, "r and lora_alpha"),
        ({"lora_alpha": "8"}, "r and lora_alpha"),
        ({"lora_alpha": float("nan")}, "r and lora_alpha"),
        ({"r": 8}, "has shape"),
        ({"r": 10**12}, "has shape"),
        ({"peft_type": ["LORA"]}, "type"),
        ({"base_model_name_or_path": 5}, "base_model_name_or_path=5: it must name a model"),
        ({"base_model_name_or_path": ["base"]}, "it must name a model"),
        ({"base_model_name_or_path": {"a": 1}}, "it must name a model"),
        ({"use_qalora": False, "velora_config": None, "bias": "none", "r": 8}, "has shape"),
    ],
)
def test_adapters_that_are_not_computed_here(adapter, changes, told):
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | changes), encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        load_model(adapter, "cpu")


def test_broken_adapters(adapter, make_model, tokenizer, base):
    path = adapter / "adapter_model.safetensors"
    whole = load_file(path)
    other = make_model(num_blocks=1, num_kv_heads=2)
    with pytest.raises(ValueError, match=r"layers\.1\..*no adapter of a matrix of this model"):
        load_adapter(other, adapter)
    assert not has_lora(other) and all(p.requires_grad for p in other.parameters()), "left as it was"
    save_file(dict(list(whole.items())[1:]), path)
    with pytest.raises(ValueError, match="each needs A and B"):
        load_model(adapter, "cpu")
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match="cannot be read"):
        load_model(adapter, "cpu")
    (adapter / "adapter_config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match="JSON object"):
        load_model(adapter, "cpu")
    with pytest.raises(FileExistsError, match="holds a whole model"):
        save_adapter(add_lora(make_model(), 2), base[1], base="x")


@pytest.mark.parametrize("key", ["hello", "base_model.model.lm_head.lora_A.weight", "q_proj.lora_A.default.weight", ""])
def test_tensors_that_are_of_no_matrix(adapter, key):
    path = adapter / "adapter_model.safetensors"
    save_file(load_file(path) | {key: torch.zeros(4, 4)}, path)
    with pytest.raises(ValueError, match="no adapter of a matrix of this model"):
        load_model(adapter, "cpu")


def test_numbers_that_are_quantised(adapter):
    path = adapter / "adapter_model.safetensors"
    save_file({name: tensor.to(torch.int8) for name, tensor in load_file(path).items()}, path)
    with pytest.raises(ValueError, match=r"numbers of type torch\.int8"):
        load_model(adapter, "cpu")


def test_a_base_that_was_trained_anew_is_told_in_a_line(adapter, base, make_model, tokenizer, capsys):
    folder = base[1]
    load_model(adapter, "cpu")
    assert capsys.readouterr().err == ""
    save_model(make_model(seed=5, num_kv_heads=2), tokenizer, folder)
    load_model(adapter, "cpu")
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"note: {folder} was changed since the adapter in {adapter}" in told
    load_adapter(load_model(folder, "cpu")[0], adapter)
    assert "was changed" in capsys.readouterr().err
    path = adapter / "adapter_model.safetensors"
    save_file(load_file(path), path)  # one that notes nothing, as PEFT's
    load_model(adapter, "cpu")
    assert capsys.readouterr().err == ""


def test_first_correction_is_drawn_as_in_peft(make_model):
    """A is uniform up to 1/√in (PEFT's kaiming_uniform with a = √5), B zero."""
    layer = add_lora(make_model(), 16).blocks[0].mlp.down
    bound = 1 / math.sqrt(layer.in_features)
    assert layer.lora_B.weight.count_nonzero() == 0
    assert 0.95 * bound < layer.lora_A.weight.abs().max() <= bound
