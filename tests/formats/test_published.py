"""Protects formats.published and .weights: a stranger's model opens exactly as in `transformers`, or is refused in one
sentence, before anything large is read or built."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from ai4india_lib import load_model, save_model
from ai4india_lib.basics import memory
from ai4india_lib.formats.published import read_config
from ai4india_lib.model.config import DecoderConfig
from ai4india_lib.model.decoder import DecoderLanguageModel
from ai4india_lib.text.tokenizer import save_tokenizer

CONTEXT = 32
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3["original_max_position_embeddings"] = 16

# what a config may say beside its sizes; whether it opens is found out, and then it must be exact
WISHES = [
    {}, {}, {}, {"hidden_act": "silu"}, {"hidden_act": "gelu"}, {"hidden_act": "relu"}, {"attention_bias": True},
    {"mlp_bias": True}, {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
    {"rope_parameters": {**LLAMA3, "rope_theta": 500.0}}, {"rope_scaling": LLAMA3, "rope_theta": 700.0},
    {"rope_scaling": LLAMA3, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}, "rope_theta": 90.0},
    {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
    {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
    {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}},
    {"sliding_window": 4}, {"sliding_window": CONTEXT}, {"sliding_window": 4, "use_sliding_window": True},
    {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 1}, {"rms_norm_eps": 0.1},
    {"sliding_window": CONTEXT, "use_sliding_window": True, "max_window_layers": 0},
    {"layer_types": ["full_attention"] * 2}, {"tie_word_embeddings": True}, {"pretraining_tp": 2},
    {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4, "use_sliding_window": True},
    {"attention_dropout": 0.5}, {"initializer_range": 0.5}, {"residual_multiplier": 2.0}, {"logits_scaling": 8.0},
    {"logit_scale": 1.0}, {"partial_rotary_factor": 1.0}, {"final_logit_softcapping": 30.0},
    {"attention_multiplier": 1},
]  # fmt: skip


def random_settings(number):
    """Sizes, some of them odd, and one or two of the wishes."""
    draw = random.Random(number)
    heads, head_dim = draw.choice([(4, 8), (4, 12), (6, 4), (3, 10)])
    sizes = {"num_attention_heads": heads, "head_dim": head_dim, "hidden_size": draw.choice([24, 36, 48])}
    sizes |= {"num_key_value_heads": draw.choice([1, heads]), "intermediate_size": draw.choice([20, 50])}
    sizes |= {
        "num_hidden_layers": 2,
        "vocab_size": 384,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": None,
        "rms_norm_eps": 1e-6,
    }
    wishes = {**WISHES[number % len(WISHES)], **draw.choice(WISHES)}
    return draw.choice([LlamaConfig, Qwen3Config]), {**sizes, **wishes}


@pytest.mark.parametrize("number", range(2 * len(WISHES)))
def test_exactly_as_in_transformers_or_refused(tokenizer, tmp_path, number):
    config_class, settings = random_settings(number)
    torch.manual_seed(number)
    theirs = (LlamaForCausalLM if config_class is LlamaConfig else Qwen3ForCausalLM)(config_class(**settings)).eval()
    for weight in theirs.parameters():
        weight.data.copy_(torch.randn_like(weight) * 0.3 + (weight.dim() == 1))
    theirs.save_pretrained(tmp_path)
    told = {"model_type": config_class.model_type, **settings}  # as by hand, not as transformers mends it
    (tmp_path / "config.json").write_text(json.dumps(told), encoding="utf-8")
    save_tokenizer(tokenizer, tmp_path)
    try:
        ours, _ = load_model(tmp_path, "cpu")
    except ValueError as error:
        assert str(tmp_path / "config.json") in str(error) and "\n" not in str(error)
        return
    ids = torch.randint(1, 384, (2, CONTEXT))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 8, 9, 10, 11, 16, 19, 20, 21, 22, 23, 25, 26, 29, 30])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_these_open(tmp_path, number, kind):
    """So that "exact or refused" does not hold because all is refused."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"vocab_size": 384, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6, "model_type": kind}
    (tmp_path / "config.json").write_text(json.dumps(sizes | WISHES[number]), encoding="utf-8")
    read_config(tmp_path / "config.json")


@pytest.fixture
def saved(make_model, tokenizer, tmp_path):
    return save_model(make_model(), tokenizer, tmp_path / "kahani")


def write(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def refused(folder):
    """The one sentence with which it is."""
    with pytest.raises(ValueError) as told:
        load_model(folder, "cpu")
    assert "\n" not in str(told.value) and str(folder) in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("name", "vocab_size hidden_size num_hidden_layers num_attention_heads head_dim".split())
@pytest.mark.parametrize("value", ["32", True, -1, 0, 3.0, [1], {}, float("nan"), 1e308])
def test_sizes_of_a_wrong_type(saved, name, value):
    write(saved, **{name: value})
    assert f"says {name}=" in refused(saved)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"rms_norm_eps": "x"}, "rms_norm_eps='x': it must be a number above 0"),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps=inf"),
        ({"pad_token_id": 3.0}, r"pad_token_id=3.0"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings='yes': it must be true or false"),
        ({"rope_scaling": "linear"}, "rotary positions as 'linear'"),
        ({"rope_scaling": {"full_attention": {"rope_type": "default"}}}, "rotary positions as"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta='x'"),
        ({"rope_parameters": {**LLAMA3, "factor": "8"}}, "factor='8'"),
        ({"rope_parameters": {**LLAMA3, "low_freq_factor": 4.0}}, "low_freq_factor must be below"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"dtype": "int8"}, "dtype 'int8': this library computes in float32"),
        ({"dtype": "nn"}, "dtype 'nn'"),
        ({"dtype": ["float32"]}, "dtype"),
        ({"sliding_window": 63, "use_sliding_window": True}, "sliding_window"),
        ({"sliding_window": "64", "use_sliding_window": True}, "sliding_window"),
        ({"model_type": "llama", "sliding_window": 63}, "sliding_window"),
        ({"layer_types": 5}, "layer_types"),
        ({"layer_types": ["linear_attention"]}, "layer_types"),
        ({"model_type": ["llama"]}, "type ['llama']"),
        ({"query_pre_attn_scalar": 64}, "query_pre_attn_scalar"),
        ({"logit_scale": 0.5, "num_experts": 8}, "num_experts, logit_scale"),
        ({"max_position_embeddings": 10**8}, "context_size=100000000 is above 16777216"),
        ({"max_position_embeddings": 10**12}, "context_size"),
        ({"num_hidden_layers": 3}, "missing ['model.layers.2…']: it says 3 layers"),
    ],
)
def test_what_a_config_says_wrong(saved, changes, told):
    write(saved, **changes)
    assert told in refused(saved)


@pytest.mark.parametrize("content", ["[]", "null", "5", '"x"', "", "{", "[" * 100_000, "\ufeff{}", "{}"])
def test_a_config_that_is_none(saved, content):
    (saved / "config.json").write_text(content, encoding="utf-8")
    assert "config.json" in refused(saved)


@pytest.mark.parametrize(
    "changes, unit",
    [
        ({"num_hidden_layers": 10**6}, "GB"),
        ({"num_hidden_layers": 10**30}, "GB"),
        ({"vocab_size": 10**12}, "GB"),
        ({"intermediate_size": 10**15}, "GB"),
    ],
)
def test_a_model_larger_than_the_memory_is_refused_before_it_is_built(saved, monkeypatch, changes, unit):
    monkeypatch.setattr(memory, "free_memory", lambda device=None: 4e9)
    monkeypatch.setattr(DecoderLanguageModel, "__init__", None)  # cannot be built
    write(saved, **changes)
    assert "of memory, 4.0 GB are free" in refused(saved)


def test_a_million_layers_are_not_built_where_there_is_memory_for_them(saved, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device=None: 1e15)
    monkeypatch.setattr(DecoderLanguageModel, "__init__", None)
    write(saved, num_hidden_layers=10**6)
    assert "it says 1000000 layers" in refused(saved)


def test_models_and_caches_ask_for_memory_first(monkeypatch, make_model):
    monkeypatch.setattr(memory, "free_memory", lambda device=None: 1e8)
    with pytest.raises(
        ValueError, match=r"a model of 4,\S+ parameters needs .* GB of memory, 0\.1 GB are free: choose"
    ):
        DecoderLanguageModel(10_000_000, 400, 4, 2, 0)
    with pytest.raises(ValueError, match=r"a cache of 1000000 rows of 64 tokens needs .* fewer rows \(slots\)"):
        make_model().new_cache(10**6, 64)
    with torch.device("meta"):  # takes none
        DecoderLanguageModel(10_000_000, 400, 4, 2, 0)


@pytest.mark.parametrize(
    "settings", [{}, {"num_kv_heads": 2, "tie_embeddings": False}, {"qk_norm": False, "head_dim": 6}]
)
def test_parameters_are_counted_without_a_model(settings):
    config = DecoderConfig(384, 32, 4, 3, None, **settings)
    assert config.num_parameters() == DecoderLanguageModel.from_config(config).num_parameters()


def change_weights(folder, change):
    path = folder / "model.safetensors"
    save_file({name: change(name, tensor) for name, tensor in load_file(path).items()}, path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn], ids=str)
def test_weights_that_are_no_floating_point_numbers(saved, dtype):
    change_weights(saved, lambda name, tensor: tensor.to(dtype) if "mlp.up" in name else tensor)
    assert "mlp.up_proj.weight" in (told := refused(saved)) and "floating point numbers of 16 to 64 bits" in told


@pytest.mark.parametrize(
    "kinds, computed",
    [
        ((torch.float32, torch.bfloat16), torch.float32),
        ((torch.float16, torch.bfloat16), torch.float32),
        ((torch.float64, torch.float64), torch.float32),
        ((torch.bfloat16, torch.bfloat16), torch.bfloat16),
    ],
)
def test_several_precisions_become_one(saved, kinds, computed):
    write(saved, dtype=None, torch_dtype=None)
    change_weights(saved, lambda name, tensor: tensor.to(kinds["mlp" in name]))
    model, _ = load_model(saved, "cpu")
    assert {p.dtype for p in model.parameters()} == {computed}
    assert model(torch.tensor([[1, 2]])).isfinite().all()


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.bias", "hello", "model.layers.7.mlp.up_proj.weight"])
def test_a_foreign_tensor(saved, name):
    path = saved / "model.safetensors"
    save_file(load_file(path) | {name: torch.zeros(32)}, path)
    assert f"not expected ['{name}']" in refused(saved)


def test_a_head_of_its_own_in_a_model_that_says_it_has_none(saved):
    path = saved / "model.safetensors"
    weights = load_file(path)
    save_file(weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}, path)
    load_model(saved, "cpu")
    save_file(weights | {"lm_head.weight": torch.zeros(384, 32)}, path)
    assert "says tie_word_embeddings, but its lm_head.weight is not" in refused(saved)


@pytest.mark.parametrize("content", ["[]", "null", "{", "{}", '{"weight_map": 5}', '{"weight_map": {"a": ["b"]}}'])
def test_an_index_that_lists_nothing(saved, content):
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    assert "model.safetensors.index.json" in refused(saved)


def test_an_index_leads_to_no_file_outside_of_its_folder(saved):
    (saved / "model.safetensors").rename(saved.parent / "secret.safetensors")
    index = {"weight_map": {"model.norm.weight": "../secret.safetensors"}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert "secret.safetensors cannot be read" in refused(saved)
