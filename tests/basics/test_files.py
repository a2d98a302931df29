"""Protects basics.files: what is written is whole or as before, and nothing stays beside it."""

import json

import pytest
import torch
from safetensors.torch import save_file

from ai4india_lib.basics.files import read_safetensors, replace_folder, replaced_file, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Stopped(Exception):
    """The writer's failure, in these tests."""


def test_a_new_file_appears_and_an_old_one_is_replaced(tmp_path):
    for text in ("पहला", "दूसरा"):
        with replaced_file(tmp_path / "story.txt") as beside:
            assert beside.parent == tmp_path, "on the same disk, so that one move is enough"
            beside.write_text(text, encoding="utf-8")
        assert (tmp_path / "story.txt").read_text(encoding="utf-8") == text
        assert names(tmp_path) == ["story.txt"]


@pytest.mark.parametrize("old", [None, "old"])
def test_a_writer_that_fails_leaves_all_as_it_was(tmp_path, old):
    path = tmp_path / "story.txt"
    if old is not None:
        path.write_text(old, encoding="utf-8")
    with pytest.raises(Stopped), replaced_file(path) as beside:
        beside.write_text("half", encoding="utf-8")
        raise Stopped
    assert names(tmp_path) == ([] if old is None else ["story.txt"])
    assert old is None or path.read_text(encoding="utf-8") == old


def test_nothing_is_replaced_by_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("old", encoding="utf-8")
    with pytest.raises(FileNotFoundError), replaced_file(str(tmp_path / "a.txt")):
        pass
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("name", ["picture.png", "train.txt.gz", "README"])
def test_the_ending_is_kept(tmp_path, name):
    """Matplotlib, for one, chooses the format by it."""
    with replaced_file(tmp_path / name) as beside:
        assert beside.suffixes == (tmp_path / name).suffixes and beside.name != name
        beside.touch()
    assert names(tmp_path) == [name]


def test_json_is_utf_8_and_ends_its_last_line(tmp_path):
    content = {"language": "हिन्दी", "numbers": [1, 2.5, None]}
    write_json(tmp_path / "about.json", content)
    raw = (tmp_path / "about.json").read_bytes()
    assert json.loads(raw) == content and "हिन्दी".encode() in raw and raw.endswith(b"}\n")
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "about.json", {"tensor": object()})
    assert (tmp_path / "about.json").read_bytes() == raw and names(tmp_path) == ["about.json"]
    write_json(tmp_path / "about.json", content, indent=None)
    assert (tmp_path / "about.json").read_text(encoding="utf-8").count("\n") == 1


def fill(folder, **files):
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def write_half(beside):
        fill(beside, config="half")
        assert not (tmp_path / "in" / "model").exists()
        raise Stopped

    target = tmp_path / "in" / "model"
    with pytest.raises(Stopped):
        replace_folder(target, write_half)
    assert names(tmp_path / "in") == []
    replace_folder(target, lambda beside: fill(beside, config="new", weights="new"))
    assert names(tmp_path / "in") == ["model"] and names(target) == ["config", "weights"]


def test_files_of_an_old_folder_are_replaced_and_its_others_stay(tmp_path):
    target = tmp_path / "model"
    replace_folder(target, lambda beside: fill(beside, weights="old", notes="mine"))

    def fail(beside):
        fill(beside, weights="half")
        raise Stopped

    with pytest.raises(Stopped):
        replace_folder(target, fail)
    assert (target / "weights").read_text(encoding="utf-8") == "old"
    replace_folder(target, lambda beside: fill(beside, weights="new"))
    assert {path.name: path.read_text(encoding="utf-8") for path in target.iterdir()} == {
        "weights": "new", "notes": "mine",
    }  # fmt: skip
    assert names(tmp_path) == ["model"]


def test_what_a_killed_process_left_does_not_get_in(tmp_path):
    (tmp_path / ".model.part").mkdir()
    fill(tmp_path / ".model.part", old="left")
    replace_folder(tmp_path / "model", lambda beside: fill(beside, new="new"))
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["new"]
    with pytest.raises(FileExistsError, match="new is a file: "):
        replace_folder(tmp_path / "model" / "new", lambda beside: None)


def test_safetensors_are_read_or_refused_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(6.0).view(2, 3)}, path)
    read = read_safetensors(path)
    path.unlink()  # as Windows allows it only if nothing of the file is held any more
    assert list(read) == ["a"] and torch.equal(read["a"], torch.arange(6.0).view(2, 3))
    path.write_bytes(b"damaged")
    for bad in (path, tmp_path / "missing.safetensors"):
        with pytest.raises(ValueError, match=rf"{bad.name} cannot be read .*copy or train it anew"):
            read_safetensors(bad)
