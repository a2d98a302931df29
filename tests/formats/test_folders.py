"""Protects formats.folders: a name leads to one folder, and what lies there is told apart."""

import os
import re
from pathlib import Path

import pytest

from ai4india_lib.formats.folders import holds_adapter, holds_model, model_folder, models_in, newest_model


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
