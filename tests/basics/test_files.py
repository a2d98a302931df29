"""Protects basics.files: what is written is whole or as before, and nothing stays beside it."""

import errno
import json
import os
import shutil

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from ai4india_lib.basics.files import (
    check_space,
    fingerprint_json,
    fingerprint_tensors,
    read_json,
    read_safetensors,
    replace_folder,
    replaced_file,
    write_json,
    write_safetensors,
)


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


BAD_JSON = [b"", b"{", b"[]", b"null", b"3", b'"text"', b"\xff\xfe{\x00}\x00", b"\x00" * 40, b"[" * 100_000, b"<html>"]


@pytest.mark.parametrize("raw", BAD_JSON, ids=lambda raw: repr(raw[:8]))
def test_json_that_is_damaged_is_refused_by_name(tmp_path, raw):
    path = tmp_path / "about.json"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"^.*about\.json is not readable as JSON: ") as refused:
        read_json(path)
    assert "\n" not in str(refused.value)


def test_json_of_an_editor_that_marks_utf_8_is_read_and_keys_are_asked_for(tmp_path):
    path = tmp_path / "about.json"
    path.write_bytes('\ufeff{"नाम": 1}'.encode())
    assert read_json(path, needs=["नाम"]) == {"नाम": 1}
    with pytest.raises(ValueError, match=r"about\.json does not say a, b: it is damaged, or another program wrote it"):
        read_json(path, needs=["a", "नाम", "b"])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        read_json(tmp_path / "nowhere.json")


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    Exception("There is not enough space on the disk. (os error 112)"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_a_full_disk_is_told_whoever_meets_it(tmp_path, error):
    (tmp_path / "story.txt").write_text("old", encoding="utf-8")
    for write in (lambda: replace_folder(tmp_path / "model", fail), lambda: replace_file(tmp_path / "story.txt")):

        def fail(beside):
            fill(beside, half="half")
            raise error

        def replace_file(target):
            with replaced_file(target) as beside:
                beside.write_text("half", encoding="utf-8")
                raise error

        with pytest.raises(
            OSError, match=r"^the disk is full: .* was not written, and what was there before is kept"
        ) as told:
            write()
        assert told.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["story.txt"] and (tmp_path / "story.txt").read_text(encoding="utf-8") == "old"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_who_may_read_a_new_file_may_read_tensors(tmp_path):
    """In a computer room a model that one pupil trained is opened by another. Some safetensors let its writer alone."""
    (tmp_path / "plain").touch()
    write_safetensors(tmp_path / "model.safetensors", {"a": torch.ones(1)})
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_other_errors_of_writing_tensors_name_the_file(tmp_path):
    with pytest.raises(OSError, match=r"nowhere.model\.safetensors cannot be written: "):
        write_safetensors(tmp_path / "nowhere" / "model.safetensors", {"a": torch.ones(1)})


def test_room_on_the_disk_is_asked_for_where_the_folder_will_be(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or shutil._ntuple_diskusage(9, 4, 5))
    check_space(tmp_path / "not" / "yet", 5, "it")
    with pytest.raises(OSError, match=r"it takes about 0 MB, and the disk of .* has 0 MB left: make room first"):
        check_space(tmp_path / "not" / "yet", 6, "it")
    assert asked == [tmp_path, tmp_path]
    monkeypatch.setattr("os.access", lambda path, how: False)
    with pytest.raises(PermissionError, match=r"nothing can be written to .*, where it is to be kept: choose another"):
        check_space(tmp_path / "not" / "yet", 5, "it")


def test_fingerprints_differ_with_each_part():
    def some():
        return {"a": torch.arange(6.0), "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.tensor(3)}

    def changed(name, tensor):
        return fingerprint_tensors((some() | {name: tensor}).items())

    own = fingerprint_tensors(some().items())
    nudged = torch.arange(6.0)
    nudged[5] = 5.0000005
    others = [changed("a", nudged), changed("a", torch.arange(6.0).view(2, 3)), changed("c", torch.tensor(3.0))]
    others += [
        fingerprint_tensors([(name.upper(), tensor) for name, tensor in some().items()]),
        changed("d", torch.ones(0)),
    ]
    assert len({own, *others}) == 6 and len(own) == 32
    assert fingerprint_tensors(some().items()) == own
    assert fingerprint_tensors([("a", torch.arange(12.0).view(2, 6).T[:, 0])]) == fingerprint_tensors(
        [("a", torch.arange(6.0))]
    )
    assert fingerprint_json({"a": [1, object()], "b": 2}) == fingerprint_json({"b": 2, "a": [1, object()]})
    assert fingerprint_json([1, 2]) != fingerprint_json([2, 1])
