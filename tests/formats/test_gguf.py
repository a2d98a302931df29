"""What these tests protect: a GGUF file is read by llama.cpp itself, which writes on it what we write."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from ai4india_lib import Sampling, add_lora, generate, load_model, train_and_test_lines
from ai4india_lib.model.decoder import rope_frequencies
from ai4india_lib.text.tokenizer import encode_prompt

gguf = pytest.importorskip("gguf", reason="needs the package gguf: pip install ai4india[benchmark]")
from ai4india_lib.formats.gguf import save_gguf  # noqa: E402

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3["original_max_position_embeddings"] = 32
SHAPES = {
    "qwen3": {},
    "llama": {"qk_norm": False},
    "grouped": {"num_kv_heads": 2, "tie_embeddings": False},
    "llama3-rope": {"qk_norm": False, "num_kv_heads": 2, "rope_scaling": LLAMA3},
}


def read(path):
    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items()}, {t.name: t for t in reader.tensors}


def server_of(path, context):
    xllamacpp = pytest.importorskip("xllamacpp", reason="needs llama.cpp: pip install ai4india[benchmark]")
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.verbosity = str(path), context, -1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(settings)


def write(server, prompt, count):
    asked = {"prompt": prompt, "n_predict": count, "temperature": 0, "ignore_eos": True, "top_k": 1}
    return server.handle_completions(asked)


@pytest.mark.parametrize("name", SHAPES)
def test_llama_cpp_writes_what_we_write(make_model, tokenizer, tmp_path, name):
    model, prompt = make_model(spread=0.1, **SHAPES[name]), [1, 300, 20, 150]
    server = server_of(save_gguf(model, tokenizer, tmp_path / "model.gguf"), 64)
    (ids,) = generate(model, [prompt], max_new_tokens=40, sampling=Sampling(temperature=0))
    written = write(server, prompt, 40)["choices"][0]["text"]
    ids = ids[: next((n for n, i in enumerate(ids) if i < 7), len(ids))]  # special tokens are not shown
    assert len(ids) > 3 and written.startswith(tokenizer.decode(ids).rstrip("\ufffd"))


@pytest.mark.parametrize("precision", ["f32", "q8_0"])
def test_a_trained_model_and_its_ids(tmp_path, precision):
    """The same ids for the texts it learned from, and the same story."""
    model, tokenizer = load_model("kahani-hi-draft", "cpu")
    path = save_gguf(model, tokenizer, tmp_path / "new" / "draft.gguf", precision=precision)
    server = server_of(path, 256)
    for text in islice(train_and_test_lines("data/kahani-hi.tar.gz")[1], 20):
        used = write(server, text, 1)["usage"]["prompt_tokens"]
        assert used == len(encode_prompt(tokenizer, text)), text
    ids = encode_prompt(tokenizer, "एक दिन मीना")
    (ours,) = generate(model, [ids], max_new_tokens=30, sampling=Sampling(temperature=0))
    theirs = write(server, "एक दिन मीना", 30)["choices"][0]["text"]
    assert theirs[:40] == tokenizer.decode(ours, skip_special_tokens=True)[:40]


def test_what_the_file_says(make_model, tokenizer, tmp_path):
    model = make_model(num_kv_heads=2, vocab_size=390, emb_dim=48, head_dim=16, rope_scaling=LLAMA3)
    settings, tensors = read(save_gguf(model, tokenizer, tmp_path / "story.gguf", precision="q8_0"))
    assert settings["general.architecture"] == "qwen3" and settings["general.name"] == "story"
    assert settings["qwen3.attention.head_count_kv"] == 2 and settings["qwen3.attention.key_length"] == 16
    assert len(settings["tokenizer.ggml.tokens"]) == 390 and settings["tokenizer.ggml.tokens"][385] == "<|unused_385|>"
    assert settings["tokenizer.ggml.token_type"][:8] == [3] * 7 + [1] and settings["tokenizer.ggml.token_type"][-1] == 5
    assert settings["tokenizer.ggml.eos_token_id"] == 2 and settings["tokenizer.ggml.eot_token_id"] == 6
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert kinds["blk.0.attn_output.weight"] == "Q8_0" and kinds["blk.1.attn_q_norm.weight"] == "F32"
    assert kinds["token_embd.weight"] == "F16"  # its rows are no multiple of 32 long
    plain = rope_frequencies(replace(model.config, rope_scaling=None))
    assert torch.allclose(plain / torch.tensor(tensors["rope_freqs.weight"].data), rope_frequencies(model.config))


def test_what_cannot_be_written(make_model, tokenizer, tmp_path):
    model = make_model()
    with pytest.raises(ValueError, match="precision='q4' is not written here: use f32, f16, q8_0"):
        save_gguf(model, tokenizer, tmp_path / "a.gguf", precision="q4")
    with pytest.raises(ValueError, match="does not split text as ours do"):
        save_gguf(model, of_another_kind(), tmp_path / "a.gguf")
    add_lora(model, rank=2)
    with pytest.raises(ValueError, match="merge_lora"):
        save_gguf(model, tokenizer, tmp_path / "a.gguf")
    assert not list(tmp_path.iterdir())


def of_another_kind():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"एक": 0, "?": 1}, "?")), unk_token="?")
