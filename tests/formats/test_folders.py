"""Protects formats.folders: a name leads to one folder, and what lies there is told apart."""

import json
import os
import re
from pathlib import Path

import pytest

from ai4india_lib.formats.folders import SHIPPED, holds_adapter, holds_model, model_folder, models_in, newest_model


def make_folder(path, *files):
    """A folder that looks like a model's."""
    path.mkdir(parents=True)
    for name in files or ("config.json",):
        (path / name).touch()


@pytest.mark.parametrize(
    "name, place",
    [
        ("kahani-hi", "models/kahani-hi"),
        ("कहानी", "models/कहानी"),
        ("kahani-hi/", "models/kahani-hi"),
        ("v1.2", "models/v1.2"),
        ("./mine", "mine"),
        ("../mine", "../mine"),
        ("out/mine", "out/mine"),
        ("models/mine", "models/mine"),
        ("/tmp/mine", "/tmp/mine"),
    ],
)
def test_place_of_a_name(monkeypatch, tmp_path, name, place):
    monkeypatch.chdir(tmp_path)
    assert model_folder(name) == Path(place)
    assert model_folder(Path("out") / "mine") == Path("out/mine")


def test_home_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert model_folder("~/mine") == tmp_path / "mine"


def test_model_folder_by_its_name_alone(monkeypatch, tmp_path):
    """In the folder that holds it, a model is found without ./, unless models/ has one of that name."""
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "kahani")
    assert model_folder("kahani") == Path("kahani")
    make_folder(tmp_path / "models" / "kahani")
    assert model_folder("kahani") == Path("models/kahani")


@pytest.mark.parametrize("name", ["", "  ", ".", "..", "/", "models/..", "./"])
def test_names_that_name_no_folder(name):
    with pytest.raises(ValueError, match=re.escape(repr(name)) + " names no folder"):
        model_folder(name)


@pytest.mark.skipif("\\" in str(Path("a/b")), reason="on Windows a backslash parts folders")
@pytest.mark.parametrize("name", ["models\\mine", "C:\\models\\mine", "..\\mine"])
def test_backslashes_outside_windows(name):
    with pytest.raises(ValueError, match="has a backslash: write /"):
        model_folder(name)


def test_kinds_of_folders_and_the_newest(tmp_path):
    make_folder(tmp_path / "whole")
    make_folder(tmp_path / "adapter", "adapter_config.json")
    make_folder(tmp_path / "both", "config.json", "adapter_config.json")
    make_folder(tmp_path / "text", "train.txt")
    make_folder(tmp_path / ".left.part")
    assert [path.name for path in models_in(tmp_path)] == ["adapter", "both", "whole"]
    assert [holds_adapter(tmp_path / name) for name in ("adapter", "both", "whole", "text")] == [True, *[False] * 3]
    assert not holds_model(tmp_path / "text")
    for name, moment in (("whole/config.json", 5), ("adapter/adapter_config.json", 9), ("both/config.json", 7)):
        os.utime(tmp_path / name, (moment, moment))
    os.utime(tmp_path / "both" / "adapter_config.json", (8, 8))
    assert newest_model(tmp_path) == "adapter"
    with pytest.raises(FileNotFoundError, match="train one with"):
        newest_model(tmp_path / "text")


def make_models(place, **moments):
    """Folders that look like models: those with "chat" in their names were taught to chat."""
    for name, moment in moments.items():
        folder = place / name.replace("_", "-")
        make_folder(folder)
        added = {"added_tokens": [{"id": 5, "content": "<|end_of_turn|>"}, {"id": 2, "content": "<|end|>"}]}
        (folder / "tokenizer.json").write_text(json.dumps(added), encoding="utf-8")
        ends = {"eos_token_id": [2, 5] if "chat" in name else 2}
        (folder / "generation_config.json").write_text(json.dumps(ends), encoding="utf-8")
        for file in folder.iterdir():
            os.utime(file, (moment, moment))


COURSE = {name.replace("-", "_"): 1.7e9 for name in SHIPPED}


@pytest.mark.parametrize(
    ("models", "wanted"),
    [  # where none is named: the model for any use, for chats, for stories
        (COURSE, ("kahani-hi", "kahani-hi-chat", "kahani-hi")),
        ({**COURSE, "kahani_hi_draft": 1.8e9}, ("kahani-hi", "kahani-hi-chat", "kahani-hi")),
        ({**COURSE, "mine": 1e9}, ("mine", "kahani-hi-chat", "mine")),
        ({**COURSE, "mine": 1e9, "my_chat": 1.1e9}, ("my-chat", "my-chat", "mine")),
        ({**COURSE, "mine": 1.1e9, "my_chat": 1e9}, ("mine", "my-chat", "mine")),
        ({**COURSE, "my_chat": 1e9}, ("my-chat", "my-chat", "kahani-hi")),
        ({"one": 5, "two": 5}, ("one", "one", "one")),
        ({"kahani_en": 9}, ("kahani-en", "kahani-en", "kahani-en")),
        ({"a_chat": 5}, ("a-chat", "a-chat", "a-chat")),
    ],
    ids=["a fresh copy", "a copy of odd times", "one's own", "and one that chats", "older", "only that", *"abc"],
)
def test_which_model_is_meant_where_none_is_named(models, wanted, tmp_path):
    """Of the course's the times say nothing: they are those of a clone, of a ZIP, of a stick."""
    make_models(tmp_path, **models)
    assert (newest_model(tmp_path), newest_model(tmp_path, chat=True), newest_model(tmp_path, chat=False)) == wanted


def test_a_model_that_cannot_be_read_is_no_chat_model_and_stops_nobody(tmp_path):
    make_models(tmp_path, mine=9, other_chat=5, third_chat=4)
    (tmp_path / "mine" / "generation_config.json").write_text("[", encoding="utf-8")
    (tmp_path / "other-chat" / "tokenizer.json").write_text('{"added_tokens": [7]}', encoding="utf-8")
    assert newest_model(tmp_path, chat=True) == "third-chat" and newest_model(tmp_path) == "mine"
