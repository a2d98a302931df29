"""What these tests protect: a saved folder is an ordinary Hugging Face model, published folders open here, a broken one
is explained, and nothing that fails harms what was there."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ai4india_lib.evaluation.questions import Question, answer_questions, question_prompt
from ai4india_lib.formats import pretrained
from ai4india_lib.formats.adapters import save_adapter
from ai4india_lib.formats.folders import is_chat_model
from ai4india_lib.formats.pretrained import load_model, save_model
from ai4india_lib.inference.generation import generate, generate_text
from ai4india_lib.inference.sampling import Sampling
from ai4india_lib.model.lora import add_lora
from ai4india_lib.text.chat import end_ids
from ai4india_lib.text.tokenizer import load_tokenizer, save_tokenizer

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def same_weights(one, other):
    ours, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def ids(tokenizer):
    return torch.tensor([tokenizer("एक दिन मीरा चिड़िया से मिली।")["input_ids"]])


@pytest.fixture
def saved(make_model, tokenizer, tmp_path):
    """A model and the folder it was saved in."""
    model = make_model()
    return model, save_model(model, tokenizer, "kahani", folder=tmp_path)


@pytest.mark.parametrize("qk_norm", [False, True], ids=["llama", "qwen3"])
@pytest.mark.parametrize("tie_embeddings", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("more", [{}, {"num_kv_heads": 2, "head_dim": 12, "rope_scaling": LLAMA3, "rope_theta": 500.0}])
def test_opens_in_transformers(make_model, tokenizer, ids, tmp_path, qk_norm, tie_embeddings, more):
    model = make_model(seed=3, qk_norm=qk_norm, tie_embeddings=tie_embeddings, spread=0.2, **more)
    folder = save_model(model, tokenizer, "kahani", folder=tmp_path)
    assert folder == tmp_path / "kahani"
    theirs, their_tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(theirs).__name__ == ("Qwen3ForCausalLM" if qk_norm else "LlamaForCausalLM")
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs.eval()(ids).logits, atol=1e-5, rtol=1e-5)
    for prompt in ("एक दिन", "मीरा ने कहा,", ""):
        start = their_tokenizer(prompt, return_tensors="pt")
        text = their_tokenizer.decode(
            theirs.generate(**start, do_sample=False, max_new_tokens=12)[0], skip_special_tokens=True
        )
        ours = generate_text(model, prompt, tokenizer, "cpu", 12, temperature=0)
        assert ours == text.rstrip("\ufffd")


PUBLISHED = {"rope_scaling": LLAMA3, "rope_theta": 500.0, "norm_eps": 1e-3, "head_dim": 12, "mlp_dim": 50}


@pytest.mark.parametrize(
    "settings",
    [{}, {"tie_embeddings": False, "qk_norm": False, "num_kv_heads": 2, "pad_idx": None}, PUBLISHED],
    ids=["plain", "llama", "all-set"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_there_and_back(make_model, tokenizer, tmp_path, settings, dtype):
    model = make_model(**settings).to(dtype)
    save_model(model, tokenizer, "kahani", folder=tmp_path)
    again, its_tokenizer = load_model("kahani", "cpu", folder=tmp_path)
    assert same_weights(model, again) and again.config == model.config
    assert again.embedding.weight.dtype == dtype and not again.training
    assert torch.equal(again.cos, model.cos) and all(p.requires_grad for p in again.parameters())
    assert (again.head.weight is again.embedding.weight) == model.config.tie_embeddings
    assert its_tokenizer("मीरा गई।")["input_ids"] == tokenizer("मीरा गई।")["input_ids"]


def test_half_the_digits_in_the_file_and_whole_ones_in_use(make_model, tokenizer, ids, tmp_path):
    model = make_model()
    folder = save_model(model, tokenizer, "half", folder=tmp_path, dtype=torch.bfloat16)
    assert {w.dtype for w in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    again, _ = load_model(folder, "cpu")
    for before, after in zip(model.parameters(), again.parameters(), strict=True):
        assert before.dtype == after.dtype == torch.float32 and torch.equal(before.bfloat16().float(), after)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert theirs.dtype == torch.float32
    torch.testing.assert_close(theirs(ids).logits, again(ids), atol=1e-5, rtol=1e-4)


def test_no_pickle_and_no_rubbish(saved):
    _, folder = saved
    assert names_in(folder.parent) == ["kahani"]
    allowed = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    allowed |= {"README.md"}
    assert allowed <= set(names_in(folder)) <= allowed | {"chat_template.jinja", "special_tokens_map.json"}
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")  # tied: stored once


def small_config(kind, **more):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 384, "max_position_embeddings": 64, "pad_token_id": None}
    return kind(**(sizes | more))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "config, how",
    [
        (small_config(LlamaConfig), {}),
        (small_config(LlamaConfig, tie_word_embeddings=True, rms_norm_eps=1e-3), {}),
        (
            small_config(LlamaConfig, rope_parameters={**LLAMA3, "rope_theta": 500.0}, head_dim=16),
            {"max_shard_size": "20KB"},
        ),
        (small_config(Qwen3Config, head_dim=8), {"max_shard_size": "20KB"}),
        (
            small_config(
                Qwen3Config, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e6}
            ),
            {},
        ),
    ],
    ids=["llama", "llama-tied", "llama3-sharded", "qwen3-sharded", "qwen3-tied"],
)
def test_folders_of_transformers_open(tokenizer, ids, tmp_path, config, how, dtype):
    torch.manual_seed(0)
    theirs = (Qwen3ForCausalLM if isinstance(config, Qwen3Config) else LlamaForCausalLM)(config)
    for weight in theirs.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    theirs = theirs.to(dtype).eval()
    theirs.save_pretrained(tmp_path, **how)
    assert (tmp_path / "model.safetensors.index.json").exists() == bool(how)
    save_tokenizer(tokenizer, tmp_path)
    model, _ = load_model(tmp_path, "cpu")
    assert model.embedding.weight.dtype == dtype
    reopened = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)  # its angles were never in bfloat16
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    with torch.no_grad():
        torch.testing.assert_close(model(ids), reopened(ids).logits, atol=tolerance, rtol=tolerance)


def edit_config(folder, **changes):
    path = folder / "config.json"
    told = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in told.items() if v != "absent"}), encoding="utf-8")


def test_older_config_opens(saved):
    """As transformers 4 and older published models wrote it: no rope_parameters, -1 for "no padding token"."""
    _, folder = saved
    edit_config(
        folder, rope_parameters="absent", rope_scaling={**LLAMA3, "type": "llama3"}, rope_theta=50.0, pad_token_id=-1
    )
    config = load_model(folder, "cpu")[0].config
    assert config.rope_theta == 50.0 and config.pad_idx is None and config.rope_scaling["factor"] == 8.0
    edit_config(folder, rope_scaling=None, rope_theta="absent", num_key_value_heads="absent", head_dim=8)
    config = load_model(folder, "cpu")[0].config
    assert config.rope_theta == 10_000.0 and config.rope_scaling is None and config.num_kv_heads == 4


def test_missing_model_lists_those_there(saved, tmp_path):
    (tmp_path / "unfinished").mkdir()
    (tmp_path / ".left.part").mkdir()
    (tmp_path / ".left.part" / "config.json").touch()
    with pytest.raises(FileNotFoundError, match=r"no model in .*kahni .*has: kahani$"):
        load_model("kahni", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="has none yet"):
        load_model("kahani", folder=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"model_type": "gpt2"}, "type 'gpt2': this library computes llama and qwen3"),
        ({"model_type": "absent"}, "type None"),
        ({"attention_bias": True}, "asks for attention_bias"),
        ({"mlp_bias": True, "use_sliding_window": True}, "mlp_bias, use_sliding_window"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "type 'yarn'"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_scaling lacks"),
        ({"hidden_size": "absent", "rms_norm_eps": "absent"}, "does not say hidden_size, rms_norm_eps"),
        (
            {"hidden_size": 64, "head_dim": 8},
            r"embed_tokens.weight in .* shape \(384, 32\), its config.json says \(384, 64\)",
        ),
        ({"num_hidden_layers": 3}, r"missing \['model.layers.2"),
        ({"num_hidden_layers": 1}, r"not expected \['model.layers.1"),
        ({"model_type": "llama"}, r"not expected \['model.layers.0.self_attn.k_norm.weight"),
        ({"tie_word_embeddings": False}, r"missing \['lm_head.weight'\]"),
    ],
)
def test_unfit_config(saved, changes, told):
    _, folder = saved
    edit_config(folder, **changes)
    with pytest.raises(ValueError, match=told):
        load_model(folder, "cpu")


def test_other_kind_of_model(tmp_path):
    GPT2Config(n_layer=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type 'gpt2'"):
        load_model(tmp_path, "cpu")


def test_broken_config(saved):
    _, folder = saved
    (folder / "config.json").write_text('{"model_type": "lla', encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json is not readable as JSON"):
        load_model(folder, "cpu")


@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_damaged_weights(saved, damage):
    path = saved[1] / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": b"\xff" * 1000}[damage])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read .*missing or damaged"):
        load_model(saved[1], "cpu")


def test_missing_weights(saved):
    _, folder = saved
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors in .*other formats"):
        load_model(folder, "cpu")


def test_missing_tensor(saved):
    path = saved[1] / "model.safetensors"
    weights = load_file(path)
    del weights["model.norm.weight"]
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"do not fit its config\.json: missing \['model\.norm\.weight'\]"):
        load_model(saved[1], "cpu")


def test_missing_shard(tokenizer, tmp_path):
    LlamaForCausalLM(small_config(LlamaConfig)).save_pretrained(tmp_path, max_shard_size="20KB")
    save_tokenizer(tokenizer, tmp_path)
    min(tmp_path.glob("model-*.safetensors")).unlink()
    with pytest.raises(ValueError, match=r"model-00001-of-\d+\.safetensors cannot be read"):
        load_model(tmp_path, "cpu")


def test_existing_model_is_kept_or_replaced(saved, make_model, tokenizer, tmp_path):
    model, folder = saved
    other = make_model(seed=9)
    with pytest.raises(FileExistsError, match=r"kahani already holds a model: .*overwrite=True"):
        save_model(other, tokenizer, "kahani", folder=tmp_path, overwrite=False)
    assert same_weights(load_model(folder, "cpu")[0], model)
    (folder / "history.json").write_text("{}", encoding="utf-8")
    save_model(other, tokenizer, "kahani", folder=tmp_path)
    assert same_weights(load_model(folder, "cpu")[0], other)
    assert "history.json" in names_in(folder) and names_in(tmp_path) == ["kahani"]
    save_model(other, tokenizer, "another", folder=tmp_path, overwrite=False)


@pytest.mark.parametrize("failing", ["write_safetensors", "save_tokenizer"])
def test_failing_write_changes_nothing(saved, make_model, tokenizer, tmp_path, monkeypatch, failing):
    model, folder = saved
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(*args, **more):
        raise OSError("no space left on device")

    monkeypatch.setattr(pretrained, failing, fail)
    for name in ("kahani", "new"):
        with pytest.raises(OSError, match="no space"):
            save_model(make_model(seed=9), tokenizer, name, folder=tmp_path)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert names_in(tmp_path) == ["kahani"]
    assert same_weights(load_model(folder, "cpu")[0], model)


def test_what_a_killed_process_left_does_not_matter(saved, make_model, tokenizer, tmp_path):
    (tmp_path / ".kahani.part").mkdir()
    (tmp_path / ".kahani.part" / "half").touch()
    save_model(make_model(seed=9), tokenizer, "kahani", folder=tmp_path)
    assert names_in(tmp_path) == ["kahani"] and "half" not in names_in(tmp_path / "kahani")


def test_loaded_weights_do_not_hang_on_the_file(saved, tmp_path):
    """Windows cannot replace a file that is mapped into memory; elsewhere weights could change under the model."""
    model, folder = saved
    loaded, _ = load_model(folder, "cpu")
    path = folder / "model.safetensors"
    path.write_bytes(bytes(path.stat().st_size))  # in place
    assert same_weights(loaded, model)
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(path) not in maps.read_text(encoding="utf-8", errors="replace")


def test_tokenizer_must_fit(make_model, tokenizer, tmp_path):
    small = make_model(vocab_size=300)
    with pytest.raises(ValueError, match="tokenizer has 384 ids, the model only vocab_size=300"):
        save_model(small, tokenizer, "kahani", folder=tmp_path)
    assert names_in(tmp_path) == []


def test_file_in_the_way(make_model, tokenizer, tmp_path):
    (tmp_path / "kahani").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="kahani is a file"):
        save_model(make_model(), tokenizer, "kahani", folder=tmp_path)
    assert (tmp_path / "kahani").read_text(encoding="utf-8") == "mine" and names_in(tmp_path) == ["kahani"]


@pytest.mark.parametrize(
    "generation, config, ends",
    [
        ({"eos_token_id": [9, 2, 11]}, {}, [9, 2, 11]),
        ({"eos_token_id": 9}, {"eos_token_id": 12}, [9]),
        ({}, {"eos_token_id": [12, 2]}, [12, 2]),
        (None, {"eos_token_id": 12}, [12]),
        ({"eos_token_id": [9, 10_000, -1]}, {}, [9]),
        (None, {"eos_token_id": None}, []),
    ],
)
def test_what_ends_a_text_is_told_by_the_model(saved, generation, config, ends):
    """Models of other families end theirs with tokens whose names we do not know."""
    _, folder = saved
    edit_config(folder, **config)
    (folder / "generation_config.json").unlink()
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    _, tokenizer = load_model(folder, "cpu")
    turn = tokenizer.convert_tokens_to_ids("<|end_of_turn|>")
    assert set(end_ids(tokenizer, chat=False)) == {tokenizer.eos_token_id, *ends}
    assert set(end_ids(tokenizer)) == {tokenizer.eos_token_id, *ends, turn}


@pytest.mark.parametrize("value", ["</s>", {"a": 1}, [2, "x"], True, 2.0])
def test_ends_of_a_wrong_type(saved, value):
    _, folder = saved
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": value}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"generation_config\.json says eos_token_id=.*: it must be an id, or a"):
        load_model(folder, "cpu")


def test_answers_end_where_the_model_says(make_model, tokenizer, tmp_path):
    """Also where its end has no name that we know."""
    folder = save_model(make_model(), tokenizer, tmp_path / "kahani")
    model, its_tokenizer = load_model(folder, "cpu")
    asked = [Question("who", "मीरा आई।", "कौन आया?", "मीरा")]
    whole = answer_questions(model, its_tokenizer, asked, max_new_tokens=12)[0]
    prompt = question_prompt(its_tokenizer, asked[0], chat=True)
    written = generate(model, [prompt], max_new_tokens=12, sampling=Sampling(temperature=0))[0]
    ends = {"eos_token_id": [2, written[4]]}
    (folder / "generation_config.json").write_text(json.dumps(ends), encoding="utf-8")
    model, its_tokenizer = load_model(folder, "cpu")
    shorter = answer_questions(model, its_tokenizer, asked, max_new_tokens=12)[0]
    assert len(shorter) < len(whole) and whole.startswith(shorter[:1])


def test_a_published_chat_model_is_known_by_its_template(saved, tokenizer):
    """Its answers end with the end of a document, as those of TinyLlama do; of a base model no template says so."""
    _, folder = saved
    theirs = load_tokenizer(folder)
    assert not is_chat_model(folder, theirs)
    template = "{% for m in messages %}<|user|>{{ m.content }}{{ eos_token }}{% endfor %}"
    theirs.chat_template = template
    assert is_chat_model(folder, theirs)
    theirs.chat_template = "{{ raise_exception('no') }}"
    assert not is_chat_model(folder, theirs)
    theirs.chat_template = None
    assert not is_chat_model(folder, theirs)


def test_a_chat_model_is_known_by_what_ends_its_text(saved, make_model, tokenizer, tmp_path):
    """Ours and published ones; an adapter is taken for one."""
    _, folder = saved
    assert not is_chat_model(folder, tokenizer)
    save_model(make_model(), tokenizer, "talks", folder=tmp_path, chats=True)
    assert is_chat_model("talks", tokenizer, folder=tmp_path)
    for ends, chats in ((tokenizer.convert_tokens_to_ids("<|end_of_turn|>"), True), (2, False), (None, False)):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}), encoding="utf-8")
        assert is_chat_model(folder, tokenizer) == chats
    (folder / "generation_config.json").unlink()
    assert not is_chat_model(folder, tokenizer)
    save_adapter(add_lora(make_model(), 2), tmp_path / "adapter", base=folder)
    assert is_chat_model(tmp_path / "adapter", tokenizer)
