"""What these tests protect: a GGUF file is read by llama.cpp itself, which writes on it what we write."""

import json
import unicodedata
from dataclasses import replace
from itertools import islice

import pytest
import requests
import torch

from ai4india_lib import Sampling, add_lora, generate, load_model, train_and_test_lines, train_tokenizer
from ai4india_lib.formats.folders import SHIPPED
from ai4india_lib.model.decoder import rope_frequencies
from ai4india_lib.text.chat import encode_request, stop_ids
from ai4india_lib.text.tokenizer import encode_prompt

gguf = pytest.importorskip("gguf", reason="needs the package gguf: the extra shipping")
from ai4india_lib.formats.gguf import is_ours, ollama_modelfile, save_gguf  # noqa: E402

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
    xllamacpp = pytest.importorskip("xllamacpp", reason="needs llama.cpp: the extra shipping")
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.verbosity = str(path), context, -1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(settings)


def write(server, prompt, count):
    asked = {"prompt": prompt, "n_predict": count, "temperature": 0, "ignore_eos": True, "top_k": 1}
    return server.handle_completions(asked)


def ids_in_llama_cpp(server, text):
    asked = {"content": text, "add_special": True, "parse_special": False}
    return requests.post(f"{server.listening_address}/tokenize", json=asked, timeout=20).json()["tokens"]


@pytest.mark.parametrize("name", SHAPES)
def test_llama_cpp_writes_what_we_write(make_model, tokenizer, tmp_path, name):
    model, prompt = make_model(spread=0.1, **SHAPES[name]), [1, 300, 20, 150]
    server = server_of(save_gguf(model, tokenizer, tmp_path / "model.gguf"), 64)
    (ids,) = generate(model, [prompt], max_new_tokens=40, sampling=Sampling(temperature=0))
    written = write(server, prompt, 40)["choices"][0]["text"]
    ids = ids[: next((n for n, i in enumerate(ids) if i < 7), len(ids))]  # special tokens are not shown
    assert len(ids) > 3 and written.startswith(tokenizer.decode(ids).rstrip("\ufffd"))


HARD = [
    *(
        "क़िताब फ़र्क़",
        "\u093fकि अ",
        "श्रीमान् क्षत्रिय ज्ञान",
        "क्\u200dष",
        "क्\u200cष",
        "\u200dx",
        "a\u0301",
        "தமிழ் తెలుగు ਪੰਜਾਬੀ",
    ),
    *(
        "اُردو میں",
        "12345",
        "१२३४५",
        "७ 12 ३४५६",
        "सन 2026 में",
        "उसका५वाँ",
        "❤️ 👩‍💻 है",
        "😀😀",
        "  दो   स्थान ",
        "\tटैब\n\nनई",
    ),
    *("\r\n", "   a", "it's they'll don’t", "…।॥₹ 5", "<|end|>", "(सुनो) “हाँ”", "x-y_z u.s.a.", "।❤️ै", "  \n  x"),
]


@pytest.mark.parametrize("name", ["kahani-hi-draft", "kahani-en"])
def test_llama_cpp_reads_the_same_ids(tmp_path, name):
    """300 stories, and marks, joiners, digits, emoji and spaces, in NFC, to which llama.cpp does not bring a text."""
    model, tokenizer = load_model(name, "cpu")
    server = server_of(save_gguf(model, tokenizer, tmp_path / "model.gguf", precision="q4_0"), 64)
    stories = islice(train_and_test_lines(f"data/kahani-{'en' if name == 'kahani-en' else 'hi'}.tar.gz")[1], 300)
    for text in [*stories, *(unicodedata.normalize("NFC", text) for text in HARD)]:
        assert ids_in_llama_cpp(server, text) == encode_prompt(tokenizer, text), text


@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_of_the_course_writes_the_same(tmp_path, name):
    """In f32; of an adapter the model with the adapter merged into it."""
    model, tokenizer = load_model(name, "cpu")
    server, prompt = server_of(save_gguf(model, tokenizer, tmp_path / "model.gguf"), 256), "एक दिन मीना"
    if name == "kahani-en":
        prompt = "One day Meena"
    ids = encode_prompt(tokenizer, prompt)
    assert ids_in_llama_cpp(server, prompt) == ids
    (ours,) = generate(model, [ids], max_new_tokens=40, sampling=Sampling(temperature=0))
    theirs = write(server, prompt, 40)["choices"][0]["text"]
    assert len(theirs) > 80 and theirs == tokenizer.decode(ours, skip_special_tokens=True).rstrip("\ufffd")


def test_a_chat_model_answers_the_same(tmp_path):
    """By the chat template in the file, up to the end of the answer and no further."""
    model, tokenizer = load_model("kahani-hi-chat", "cpu")
    server = server_of(save_gguf(model, tokenizer, tmp_path / "chat.gguf"), 256)
    talks = [[{"role": "user", "content": q}] for q in ("नमस्ते!", "मीना बाज़ार गई। मीना कहाँ गई?")]
    for messages in talks:
        ids, stops = encode_request(tokenizer, messages), stop_ids(tokenizer)
        (ours,) = generate(model, [ids], max_new_tokens=60, sampling=Sampling(temperature=0), stop_ids=stops)
        asked = {"messages": messages, "temperature": 0, "top_k": 1, "max_tokens": 60}
        answer = server.handle_chat_completions(asked)
        assert answer["usage"]["prompt_tokens"] == len(ids)
        said = tokenizer.decode(ours, skip_special_tokens=True)
        assert said.strip() and answer["choices"][0]["message"]["content"].strip() == said.strip()


def test_four_bits_are_within_a_step(make_model, tokenizer, tmp_path):
    model = make_model(emb_dim=64)
    path = save_gguf(model, tokenizer, tmp_path / "small.gguf", precision="q4_0")
    settings, tensors = read(path)
    assert settings["general.file_type"] == 2 and tensors["token_embd.weight"].tensor_type.name == "Q8_0"
    stored, ours = tensors["blk.0.ffn_up.weight"], model.blocks[0].mlp.up.weight.detach()
    assert stored.tensor_type.name == "Q4_0"
    gap = (torch.tensor(gguf.quants.dequantize(stored.data, stored.tensor_type)) - ours).abs().unflatten(1, (-1, 32))
    step = ours.unflatten(1, (-1, 32)).abs().amax(-1, keepdim=True) / 8
    assert (gap <= 1.01 * step).all() and (gap > 0.4 * step).any()  # +8 steps are cut to 7


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
    model = make_model(num_kv_heads=2, vocab_size=390, emb_dim=48, head_dim=16)
    settings, tensors = read(save_gguf(model, tokenizer, tmp_path / "story.gguf", precision="q8_0"))
    assert settings["general.architecture"] == "qwen3" and settings["general.name"] == "story"
    assert settings["qwen3.attention.head_count_kv"] == 2 and settings["qwen3.attention.key_length"] == 16
    assert len(settings["tokenizer.ggml.tokens"]) == 390 and settings["tokenizer.ggml.tokens"][385] == "<|unused_385|>"
    assert settings["tokenizer.ggml.token_type"][:8] == [3] * 7 + [1] and settings["tokenizer.ggml.token_type"][-1] == 5
    assert settings["tokenizer.ggml.eos_token_id"] == 2 and settings["tokenizer.ggml.eot_token_id"] == 6
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert kinds["blk.0.attn_output.weight"] == "Q8_0" and kinds["blk.1.attn_q_norm.weight"] == "F32"
    assert kinds["token_embd.weight"] == "F16"  # its rows are no multiple of 32 long
    model = make_model(qk_norm=False, rope_scaling=LLAMA3)
    settings, tensors = read(save_gguf(model, tokenizer, tmp_path / "long.gguf"))
    assert settings["general.architecture"] == "llama"
    plain = rope_frequencies(replace(model.config, rope_scaling=None))
    assert torch.allclose(plain / torch.tensor(tensors["rope_freqs.weight"].data), rope_frequencies(model.config))


def test_what_cannot_be_written(make_model, tokenizer, tmp_path):
    model = make_model()
    with pytest.raises(ValueError, match="precision='q4' is not written here: use f32, f16, q8_0, q4_0"):
        save_gguf(model, tokenizer, tmp_path / "a.gguf", precision="q4")
    with pytest.raises(ValueError, match="does not split text as ours do"):
        save_gguf(model, of_another_kind(), tmp_path / "a.gguf")
    for change in ({"pattern": {"Regex": r"\\w+|\\W"}}, {"pattern": {"String": " "}}):
        with pytest.raises(ValueError, match="as qwen35; with another it would read other ids"):
            save_gguf(model, with_another_split(tokenizer, change), tmp_path / "a.gguf")
    with pytest.raises(ValueError, match="knows no rope_scaling in models with qk_norm=True"):
        save_gguf(make_model(rope_scaling=LLAMA3), tokenizer, tmp_path / "a.gguf")
    add_lora(model, rank=2)
    with pytest.raises(ValueError, match="merge_lora"):
        save_gguf(model, tokenizer, tmp_path / "a.gguf")
    assert not list(tmp_path.iterdir())


def of_another_kind():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"एक": 0, "?": 1}, "?")), unk_token="?")


def with_another_split(tokenizer, change):
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    described = json.loads(tokenizer.backend_tokenizer.to_str())
    described["pre_tokenizer"]["pretokenizers"][0] |= change
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(described)), bos_token="<|begin|>")


def test_numbers_that_are_one_token_are_told(make_model, tmp_path, recwarn):
    """llama.cpp cuts numbers into digits: a vocabulary that joined them is read as other ids there."""
    joined = train_tokenizer(["सन 2026 में"] * 9, 300)
    save_gguf(make_model(vocab_size=300), joined, tmp_path / "a.gguf")
    assert "join digits" in str(recwarn.pop(UserWarning).message)
    save_gguf(make_model(vocab_size=300), train_tokenizer(["सन में"] * 9, 300), tmp_path / "b.gguf")
    assert not [w for w in recwarn if "join digits" in str(w.message)]


def test_whose_file_it_is(make_model, tokenizer, tmp_path):
    assert is_ours(save_gguf(make_model(), tokenizer, tmp_path / "mine.gguf"))
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    (tmp_path / "empty.gguf").touch()
    assert not is_ours(tmp_path / "theirs.gguf") and not is_ours(tmp_path / "empty.gguf")


def test_what_ollama_reads(tokenizer):
    told = ollama_modelfile(tokenizer, "a.gguf", "a", chats=True, context=64)
    assert "FROM ./a.gguf\n" in told and 'PARAMETER stop "<|end_of_turn|>"' in told and "num_ctx 64" in told
    plain = ollama_modelfile(tokenizer, "a.gguf", "a", chats=False, context=64)
    assert 'TEMPLATE """{{ .Prompt }}"""' in plain and "stop" not in plain
