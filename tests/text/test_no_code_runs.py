"""Protects that no code that comes with a model or a tokenizer runs: not when it is opened, not when it is asked."""

import json

import pytest

from ai4india_lib import load_model, load_tokenizer, save_model
from ai4india_lib.text.tokenizer import save_tokenizer

EVIL = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
Path({marker!r}).write_text("ran")
class Config(LlamaConfig): pass
class Model(LlamaForCausalLM): pass
class Tokenizer(PreTrainedTokenizerFast): pass
"""


def plant(folder, marker):
    """Let the folder's files name code that lies in it."""
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)), encoding="utf-8")
    for name, codes in {
        "tokenizer_config.json": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]},
        "config.json": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    }.items():
        path = folder / name
        told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"model_type": "evil"}
        told |= {"auto_map": codes, "tokenizer_class": "Tokenizer"}
        path.write_text(json.dumps(told), encoding="utf-8")


@pytest.fixture(autouse=True)
def says_yes(monkeypatch, tmp_path):
    """Who would be asked whether to run it, says yes; and what would run is kept out of the user's cache."""
    monkeypatch.setattr("builtins.input", lambda *args: "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))


def test_a_tokenizers_code_does_not_run(tokenizer, tmp_path):
    folder, marker = tmp_path / "theirs", tmp_path / "ran.txt"
    folder.mkdir()
    save_tokenizer(tokenizer, folder)
    plant(folder, marker)
    try:
        load_tokenizer(folder)
    except ValueError as error:
        assert "\n" not in str(error)
    assert not marker.exists()


def test_a_models_code_does_not_run(make_model, tokenizer, tmp_path):
    folder, marker = save_model(make_model(), tokenizer, tmp_path / "theirs"), tmp_path / "ran.txt"
    plant(folder, marker)
    try:
        load_model(folder, "cpu")
    except ValueError as error:
        assert "\n" not in str(error)
    assert not marker.exists()
