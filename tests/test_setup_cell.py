"""Protects the first cell of every lesson: after what broke off it is enough to run it again, what is there is found,
what cannot work says what to do. Git and pip are stand-ins: nothing is fetched."""

import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest

ROOT = Path(__file__).parent.parent
CELL = (ROOT / "notebooks" / "assets" / "setup_cell.py").read_text(encoding="utf-8")
FETCH, USE = CELL.split("import torch", 1)


@pytest.fixture
def at_colab(tmp_path, monkeypatch):
    """An empty folder to stand in, no library in reach, and a git and a pip that note what they are asked to do, and
    fail as they are told to: {"git": [errors of its first calls], "pip": [...]}."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AI4INDIA_REPO", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    calls, failures = [], {"git": [], "pip": []}

    def run(command, check):
        tool = "git" if command[0] == "git" else "pip"
        calls.append((tool, command[-2] if tool == "git" else command[-1]))
        if tool == "git" and Path("ai4india").exists():
            raise subprocess.CalledProcessError(128, command)  # git takes no folder that is not empty
        if tool == "git":
            Path("ai4india/.git").mkdir(parents=True)
        if failures[tool]:
            raise failures[tool].pop(0)
        if tool == "git":
            (Path("ai4india") / "ai4india_lib").mkdir()
            (Path("ai4india") / "data").mkdir()

    monkeypatch.setattr(subprocess, "run", run)
    return SimpleNamespace(folder=tmp_path, calls=calls, failures=failures)


def broken(code=1):
    return subprocess.CalledProcessError(code, ["it"])


def test_the_course_is_fetched_and_installed_once(at_colab):
    exec(FETCH, {})
    assert at_colab.calls == [("git", "https://github.com/ai4india/ai4india"), ("pip", "ai4india")]
    assert Path.cwd() == at_colab.folder / "ai4india" and sys.path[0] == str(Path.cwd())
    exec(FETCH, {})  # the cell again
    assert len(at_colab.calls) == 2 and Path.cwd() == at_colab.folder / "ai4india"


@pytest.mark.parametrize("tool", ["git", "pip"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), broken(), broken(128), FileNotFoundError("git")], ids=repr)
@pytest.mark.parametrize("times", [1, 3])
def test_after_a_try_that_broke_off_the_next_one_works(at_colab, tool, error, times):
    at_colab.failures[tool] += [error] * times
    for _ in range(times):
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            exec(FETCH, {})
        assert Path.cwd() == at_colab.folder
    exec(FETCH, {})
    assert [name for name, _ in at_colab.calls].count(tool) == times + 1 and at_colab.calls[-1] == ("pip", "ai4india")
    assert (at_colab.folder / "ai4india" / "ai4india_lib").is_dir()


def test_a_folder_of_that_name_is_not_lost(at_colab):
    (at_colab.folder / "ai4india").mkdir()
    (at_colab.folder / "ai4india" / "notes.txt").write_text("mine", encoding="utf-8")
    exec(FETCH, {})
    [notes] = at_colab.folder.rglob("notes.txt")
    assert notes.read_text(encoding="utf-8") == "mine" and notes.relative_to(at_colab.folder).parts[0].startswith(
        "ai4india-"
    )


@pytest.mark.parametrize("error", [broken(128), FileNotFoundError("git")], ids=["no network", "no git"])
def test_without_a_network_it_says_what_to_copy_where(at_colab, error):
    at_colab.failures["git"] += [error]
    with pytest.raises(RuntimeError) as told:
        exec(FETCH, {})
    assert "Run this cell again" in str(told.value) and "without a network: copy the course (https://" in str(
        told.value
    )


def test_the_address_can_be_given(at_colab, monkeypatch):
    monkeypatch.setenv("AI4INDIA_REPO", "https://mirror.example/course")
    at_colab.failures["git"] += [broken()]
    with pytest.raises(RuntimeError, match=r"copy the course .https://mirror.example/course"):
        exec(FETCH, {})
    assert at_colab.calls == [("git", "https://mirror.example/course")]


@pytest.mark.parametrize("with_data", [True, False])
def test_what_is_installed_is_found_before_anything_is_fetched(at_colab, monkeypatch, with_data):
    """With its data beside it, as after `pip install -e`, the lesson stands there; else where it stood."""
    course, lesson = at_colab.folder / "somewhere", at_colab.folder / "lessons"
    (course / "ai4india_lib").mkdir(parents=True)
    lesson.mkdir()
    if with_data:
        (course / "data").mkdir()
    os.chdir(lesson)
    monkeypatch.setattr(util, "find_spec", lambda name: SimpleNamespace(origin=course / name / "__init__.py"))
    exec(FETCH, {})
    assert at_colab.calls == [] and Path.cwd() == (course if with_data else lesson) and sys.path[0] == str(course)


@pytest.mark.parametrize("folder", ["notebooks/solutions", "notebooks", "my", ""])
def test_a_lesson_in_the_course_finds_it_around_it(at_colab, folder):
    lesson = at_colab.folder / "course" / folder
    lesson.mkdir(parents=True)
    for name in ("ai4india_lib", "data"):
        (at_colab.folder / "course" / name).mkdir()
    os.chdir(lesson)
    exec(FETCH, {})
    assert at_colab.calls == [] and Path.cwd() == at_colab.folder / "course"


def test_an_old_matplotlib_in_memory_is_told(monkeypatch):
    """Colab loads its own before the first cell; the newer one that pip brings comes in with a new kernel only."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(matplotlib, "__version__", "3.10.0")
    with pytest.raises(
        RuntimeError, match="matplotlib is still in memory: restart the runtime, then run this cell again"
    ):
        exec(CELL, {})
    assert USE.index("restart the runtime") < USE.index("plots")  # before anything of the old one is used
