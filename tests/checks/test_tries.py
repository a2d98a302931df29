"""Protects a learner's own file of tries: one line a try, whole or not at all, never in the way of a check; and the map
that is read from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ai4india_lib import check, checks
from ai4india_lib.checks import tries
from ai4india_lib.checks.exercises import course_exercises, lesson_titles
from ai4india_lib.checks.tries import keep_try, progress_file, read_tries

ROOT = Path(__file__).parents[2]
RIGHT = "06.causal_mask: right. Row t is True in its first t + 1 places: the words that have been said.\n"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A learner's file, and a kernel that has just started."""
    monkeypatch.setenv("AI4INDIA_PROGRESS", str(tmp_path / "my" / "progress.jsonl"))
    monkeypatch.setattr(tries, "_latest", {})
    return tmp_path / "my" / "progress.jsonl"


def mask(time):
    import torch

    return torch.ones(time, time).tril().bool()


def test_exercises_are_read_from_the_lessons():
    found = course_exercises()
    assert set(found) == {name for name in found if name in checks._EXERCISES or name.split(".")[0] in lesson_titles()}
    assert found["06.attention"].kind == "core" and found["06.attention"].answer == "attention"
    assert found["19.pack"].answer == "(pack, unpack)" and found["19.pack"].points == 3
    assert found["06.causal_mask"].title == "the causal mask" and lesson_titles()["06"] == "Attention"


def test_each_check_is_one_try(own, capsys):
    check("06.causal_mask", lambda time: ...)  # not done: no try
    assert not own.exists()
    for _ in range(2):  # the same cell run twice is one try
        check("06.causal_mask", lambda time: ~mask(time))
    check("06.causal_mask", lambda time: mask(time).float())
    check("06.causal_mask", mask)
    check("06.causal_mask", lambda time: ~mask(time))  # after it was right nothing is lost
    tried = read_tries(own.read_text(encoding="utf-8"))["06.causal_mask"]
    assert (tried.tries, tried.solved, len(tried.hints)) == (3, True, 2)
    capsys.readouterr()
    checks.progress()
    shown = capsys.readouterr().out
    assert "✓ 3         ·           ·" in shown.split("06 Attention")[1].splitlines()[0]
    assert f"1 of {len(course_exercises())} in all" in shown
    assert "You read 2 hints." in shown and f"Kept in {own}" in shown


def test_where_it_is_kept_is_ignored_by_git(monkeypatch):
    assert progress_file() is None, "conftest.py switches it off: exercises that tests solve are no learner's"
    monkeypatch.delenv("AI4INDIA_PROGRESS")
    assert progress_file() == ROOT / "my" / "progress.jsonl"
    assert "my/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_nothing_hinders_a_check(own, monkeypatch, capsys):
    def refused(*given):
        raise PermissionError("read-only")

    own.parent.write_text("a file where the folder should be")
    assert check("06.causal_mask", mask)
    for hindrance in ("ftruncate", "mkdir"):
        monkeypatch.setattr(os, hindrance, refused)
    monkeypatch.setattr(tries, "_append", refused)
    monkeypatch.setattr(tries, "_latest", {})
    assert check("06.causal_mask", mask)
    assert capsys.readouterr().out == 2 * RIGHT


def test_a_try_that_does_not_fit_leaves_the_file_as_it_was(own, monkeypatch):
    """A disk that is full in the middle of a line."""
    keep_try("06.rope", False, "first")
    before, opened = own.read_bytes(), Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, line):
            self.file.write(line[:20])
            self.file.flush()
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda path, mode: Full(opened(path, mode)))
    keep_try("06.rope", False, "second")
    assert own.read_bytes() == before


def test_a_torn_line_costs_only_itself(own):
    own.parent.mkdir()
    torn = '{"exercise": "06.rope", "verd'
    own.write_text(f'5\n[]\n{{"a": 1}}\n{"[" * 100_000}\n{torn}', encoding="utf-8")
    keep_try("06.rope", True, "found\u2028it")
    assert own.read_text(encoding="utf-8").split("\n")[-3] == torn
    found = read_tries(own.read_text(encoding="utf-8"))
    assert set(found) == {"06.rope"} and found["06.rope"].solved


def test_it_does_not_grow_without_end(own):
    own.parent.mkdir()
    own.write_bytes(b"\n" * (tries.LARGEST + 1))
    keep_try("06.rope", True, "")
    assert own.stat().st_size == tries.LARGEST + 1


WRITER = """
from ai4india_lib.checks.tries import keep_try
for number in range(200):
    keep_try("06.rope", False, f"{%r} {number} " + "लंबा वाक्य " * 20)
"""


@pytest.mark.slow
def test_two_notebooks_at_once_lose_nothing(own):
    names = ("one", "two")
    started = [subprocess.Popen([sys.executable, "-c", WRITER % name], cwd=ROOT) for name in names]
    assert [process.wait() for process in started] == [0, 0]
    lines = [json.loads(line) for line in own.read_text(encoding="utf-8").splitlines()]
    said = [line["said"].split(" लंबा")[0] for line in lines]
    assert sorted(said) == sorted(f"{name} {number}" for name in names for number in range(200))
