"""Protects whoever opens a damaged model: one sentence with the name of the folder or file, in every command."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from ai4india_lib import add_lora, save_adapter, save_model
from ai4india_lib.__main__ import main
from ai4india_lib.model.decoder import DecoderLanguageModel

DAMAGES = {
    "empty": lambda raw: b"",
    "cut": lambda raw: raw[: len(raw) // 2],
    "zeros": lambda raw: bytes(len(raw)),
    "page": lambda raw: b"<!doctype html><html>404</html>",
    "list": lambda raw: b"[]",
    "null": lambda raw: b"null",
    "number": lambda raw: b"3.5",
    "text": lambda raw: b'"text"',
    "no keys": lambda raw: b"{}",
    "deep": lambda raw: b"[" * 100_000,
    "UTF-16": lambda raw: raw.decode("utf-8", "replace").encode("utf-16"),
    "Latin-1": lambda raw: b'{"caf\xe9": 1}',
    "keys of null": lambda raw: json.dumps(dict.fromkeys(_keys(raw))).encode(),
    "keys of lists": lambda raw: json.dumps({key: [1] for key in _keys(raw)}).encode(),
    "keys of dicts": lambda raw: json.dumps({key: {"a": {}} for key in _keys(raw)}).encode(),
}
MAY_STILL_OPEN = (
    "no keys",
    "keys of null",
    "keys of lists",
    "keys of dicts",
    "Latin-1",
)  # where nothing needed is lost


def _keys(raw):
    try:
        return json.loads(raw)
    except ValueError:
        return {}


@pytest.fixture(scope="module")
def models(tmp_path_factory, tokenizer):
    """A folder with a model `base`, and an adapter `mine` of it."""
    place = tmp_path_factory.mktemp("place")

    def model():
        return DecoderLanguageModel(384, 32, 4, 2, 0, context_size=64)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        save_model(model(), tokenizer, "base", chats=True)
        save_adapter(add_lora(model(), 2), "mine", base="base")
    return place


def cases():
    for folder, name in (
        ("base", "config.json"), ("base", "generation_config.json"), ("base", "tokenizer.json"),
        ("base", "tokenizer_config.json"), ("base", "model.safetensors"), ("mine", "adapter_config.json"),
        ("mine", "adapter_model.safetensors"),
    ):  # fmt: skip
        for kind in DAMAGES:
            if not (name.endswith("safetensors") and kind.startswith("keys")):
                yield folder, name, kind


@pytest.mark.parametrize(("folder", "name", "kind"), list(cases()))
def test_a_damaged_file_is_told_in_a_sentence(folder, name, kind, models, tmp_path, monkeypatch, capsys):
    shutil.copytree(models, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    path = tmp_path / "work" / "models" / folder / name
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
    status = main(["generate", "एक", "--model", folder, "--max-length", "2", "--device", "cpu"])
    told = capsys.readouterr().err
    if kind not in MAY_STILL_OPEN and name != "generation_config.json":
        assert status == 1
    assert status == 0 or (told.startswith("error: ") and told.count("\n") == 1 and f"models/{folder}" in told)


@pytest.mark.parametrize("kind", DAMAGES)
def test_whether_a_model_chats_is_asked_of_a_damaged_file(kind, models, tmp_path, monkeypatch, capsys):
    shutil.copytree(models, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    path = tmp_path / "work" / "models" / "base" / "generation_config.json"
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
    (tmp_path / "q.jsonl").write_text(
        '{"story": "एक।", "questions": [{"kind": "who", "question": "?", "answer": "एक"}]}', encoding="utf-8"
    )
    command = ["evaluate", "--model", "base", "--questions", str(tmp_path / "q.jsonl"), "--no-baselines"]
    status = main([*command, "--device", "cpu"])
    told = capsys.readouterr().err
    assert status == 0 or (told.startswith("error: ") and told.count("\n") == 1 and "generation_config.json" in told)


@pytest.mark.parametrize(("folder", "name"), [("base", "model.safetensors"), ("mine", "adapter_model.safetensors")])
@pytest.mark.parametrize("change", ["one is gone", "one too many", "other names", "another shape", "none"])
def test_whole_files_of_other_tensors_are_told_in_a_sentence(
    folder, name, change, models, tmp_path, monkeypatch, capsys
):
    shutil.copytree(models, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    path = tmp_path / "work" / "models" / folder / name
    tensors = load_file(path)
    first = next(iter(tensors))
    if change == "one is gone":
        tensors.pop(first)
    elif change == "one too many":
        tensors["x"] = tensors[first].clone()
    elif change == "other names":
        tensors = {f"x.{key}": value for key, value in tensors.items()}
    elif change == "another shape":
        tensors[first] = tensors[first][:-1].clone()
    else:
        tensors = {}
    save_file(tensors, path)
    assert main(["generate", "एक", "--model", folder, "--max-length", "2", "--device", "cpu"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and f"models/{folder}" in told
