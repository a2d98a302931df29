"""Protects the folder for a classroom without a network: whole or not at all, never packed into itself, for the system
that is named, and its installer works and keeps what is there. Pip is a stand-in: nothing is fetched."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ai4india_lib.__main__ import main
from ai4india_lib.commands import usb
from ai4india_lib.commands.usb_scripts import WINDOWS_INSTALLER, unix_installer

ROOT = Path(__file__).parents[2]
GITIGNORE = "models/*\n!models/README.md\n!models/shipped/\nmodels/*/training/\nmodels/*/*.gguf\n"


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A small course with a learner's things in it, and a pip that notes its commands and leaves a wheel of each."""
    project = tmp_path / "course"
    for name in ("ai4india_lib/a.py", "data/d.txt", "models/README.md", "models/shipped/w", "notebooks/n", "LICENSE"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("ours", encoding="utf-8")
    own = "my/n own.txt wheels/big data/downloads/x data/.encoded/x models/mine/w models/shipped/training/x .git/x "
    for name in (
        own + "models/shipped/s-f16.gguf .venv/pyvenv.cfg notebooks/env/pyvenv.cfg ai4india_lib/__pycache__/x"
    ).split():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("the learner's", encoding="utf-8")
    (project / ".gitignore").write_text(GITIGNORE, encoding="utf-8")
    (project / "requirements.txt").write_text("# pins\ntorch==2.0\nregex==1\n-e .[tests]\n", encoding="utf-8")
    (project / "pyproject.toml").write_text('[build-system]\nrequires = ["setuptools>=77"] # why\n', encoding="utf-8")
    commands, failures = [], []

    def run(command, cwd):
        commands.append(command)
        wheels = Path(command[command.index("--dest") + 1])
        (wheels / f"{len(commands)}.whl").write_bytes(b"wheel")
        if failures:
            raise failures[0]
        return SimpleNamespace(returncode=int("broken==1" in command))

    monkeypatch.setattr(usb, "project_folder", lambda: project)
    monkeypatch.setattr(usb.subprocess, "run", run)
    monkeypatch.setattr(usb, "check_space", lambda *_: None)
    monkeypatch.setattr(usb, "this_system", lambda: "linux")
    return SimpleNamespace(project=project, commands=commands, failures=failures, stick=tmp_path / "stick" / "new")


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_course_goes_and_the_learners_things_stay(course):
    assert main(["usb", str(course.stick)]) == 0
    ours = "ai4india_lib/a.py data/d.txt models/README.md models/shipped/w notebooks/n LICENSE .gitignore"
    ours += " requirements.txt pyproject.toml"
    assert files_of(course.stick / "ai4india") == set(ours.split())
    assert {path.name for path in course.stick.iterdir()} == {"wheels", "ai4india", "install.sh", "README.txt"}
    assert [path.name for path in course.stick.parent.iterdir()] == ["new"]


def test_all_that_git_keeps_of_the_course_goes(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    usb.copy_project(ROOT, tmp_path / "copy")
    gone = {name for name in listed.split("\0") if name and (ROOT / name).exists()} - files_of(tmp_path / "copy")
    assert gone == set()


def test_pip_is_asked_for_the_pins_and_what_builds_the_course_never_for_the_folder_itself(course):
    assert main(["usb", str(course.stick)]) == 0
    torch, rest = course.commands
    assert torch[-4:] == ["--no-deps", "--index-url", usb.CPU_TORCH, "torch==2.0"]
    assert rest[-3:] == ["torch==2.0", "regex==1", "setuptools>=77"] and "-e" not in rest and "-r" not in rest
    assert rest[rest.index("--find-links") + 1] == rest[rest.index("--dest") + 1]  # torch for the CPU is taken again


@pytest.mark.parametrize(
    ("options", "calls"), [(["--gpu"], 1), (["--system", "windows"], 1), (["--system", "linux-arm"], 2)]
)
def test_only_linux_needs_the_smaller_torch(course, options, calls):
    assert main(["usb", str(course.stick), *options]) == 0
    assert len(course.commands) == calls
    assert (course.stick / "install.bat").exists() == ("windows" in options)


@pytest.mark.parametrize("system", usb.SYSTEMS)
def test_another_system_and_python_are_named_to_pip_and_to_its_markers(course, system):
    """The program that runs pip so is tried with pip itself."""
    command = usb.pip_command(system, "3.99")
    assert command[command.index("--python-version") + 1] == "3.99" and usb.SYSTEMS[system][0] in command
    asks = "from pip._vendor.packaging.markers import Marker; print("
    asks += "[n for n in ('Linux', 'Windows', 'Darwin') if Marker(f\"platform_system == '{n}'\").evaluate()],"
    asks += " Marker(\"python_version == '3.99'\").evaluate())"
    program = command[2].replace('runpy.run_module("pip", run_name="__main__")', asks)
    assert program != command[2]
    ran = subprocess.Popen([sys.executable, "-c", program, command[3]], stdout=subprocess.PIPE, text=True)
    wanted = {"windows": "Windows", "macos": "Darwin"}.get(system, "Linux")
    assert ran.communicate()[0].strip() == f"['{wanted}'] True"
    assert json.loads(command[3]) == usb.MARKERS[system] | {"python_version": "3.99", "python_full_version": "3.99.0"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no pip"), None], ids=repr)
def test_nothing_half_written_remains_and_the_next_try_works(course, error):
    pins = course.project / "requirements.txt"
    before = pins.read_text(encoding="utf-8")
    if error is None:
        pins.write_text(before.replace("regex==1", "broken==1"), encoding="utf-8")
    else:
        course.failures.append(error)
    assert main(["usb", str(course.stick)]) in (1, 130)
    assert list(course.stick.parent.iterdir()) == []
    course.failures.clear()
    pins.write_text(before, encoding="utf-8")
    left = course.stick.parent / ".part-new"  # as a killed process leaves it
    left.mkdir()
    (left / "old").write_text("half", encoding="utf-8")
    assert main(["usb", str(course.stick)]) == 0 and not (course.stick / "old").exists() and not left.exists()


@pytest.mark.parametrize("where", ["new", "data/new", "../course/x/../new", "."])
def test_a_folder_in_the_course_is_refused(course, monkeypatch, capsys, where):
    monkeypatch.chdir(course.project)
    before = files_of(course.project)
    assert main(["usb", where]) == 1
    assert "lies in the course's own folder" in capsys.readouterr().err
    assert files_of(course.project) == before and course.commands == []


@pytest.mark.parametrize("kind", ["folder", "file", "behind a file"])
def test_what_is_there_is_kept(course, capsys, kind):
    course.stick.parent.mkdir()
    notes = course.stick / "notes" if kind == "folder" else course.stick
    notes.parent.mkdir(exist_ok=True)
    notes.write_text("mine", encoding="utf-8")
    assert main(["usb", str(course.stick / "x" if kind == "behind a file" else course.stick)]) == 1
    assert "name a new folder" in capsys.readouterr().err or kind == "behind a file"
    assert notes.read_text(encoding="utf-8") == "mine" and course.commands == []


@pytest.mark.parametrize("python", ["3", "2.7", "3.10", "three", "3.12.1"])
def test_a_python_that_cannot_be_is_told(course, capsys, python):
    assert main(["usb", str(course.stick), "--python", python]) == 1
    assert "--python" in capsys.readouterr().err and course.commands == []


@pytest.fixture
def stick(tmp_path):
    """A folder as `usb` makes it, with a Python that notes what it is asked to do: a venv, then pip."""
    if os.name == "nt":
        pytest.skip("needs a shell of Unix")
    (tmp_path / "stick" / "ai4india" / "ai4india_lib").mkdir(parents=True)
    (tmp_path / "stick" / "install.sh").write_text(unix_installer("3.12"), encoding="utf-8")
    python = tmp_path / "bin" / "python3.12"
    python.parent.mkdir()
    note = f'#!/bin/sh\n[ "$1" = -c ] && echo 3.12 && exit\necho "$@" >> {tmp_path}/asked\n'
    venv = '[ "$2" != venv ] || { mkdir -p .venv/bin; cp "$0" .venv/bin/; mv .venv/bin/python3.12 .venv/bin/python; }\n'
    python.write_text(note + venv, encoding="utf-8")
    python.chmod(0o755)

    def install(*arguments, **environment):
        path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
        script = [shutil.which("sh"), str(tmp_path / "stick" / "install.sh"), *arguments]
        return subprocess.run(
            script,
            env=os.environ | {"PATH": path, "HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
        )

    return SimpleNamespace(folder=tmp_path, install=install)


def test_the_installer_installs_from_the_wheels_alone_and_keeps_what_was_written(stick):
    for _ in range(2):
        ran = stick.install()
        assert ran.returncode == 0, ran.stderr
        (stick.folder / "ai4india" / "mine.txt").write_text("mine", encoding="utf-8")
    asked = (stick.folder / "asked").read_text(encoding="utf-8").splitlines()
    pip = f"-m pip install --no-index --find-links {stick.folder}/stick/wheels -r requirements.txt"
    assert asked == ["-m venv .venv", pip] * 2
    assert (stick.folder / "ai4india" / "mine.txt").exists() and "jupyter lab" in ran.stdout


def test_the_installer_refuses_another_python_and_another_folder(stick):
    assert "this computer has: none" in stick.install(PYTHON="false").stderr
    (stick.folder / "other").mkdir()
    ran = stick.install(str(stick.folder / "other"))
    assert ran.returncode == 1 and "it is not the course" in ran.stderr
    assert not (stick.folder / "asked").exists()


def test_the_installer_of_windows_is_plain_and_jumps_only_to_what_is_there():
    assert WINDOWS_INSTALLER.isascii() and WINDOWS_INSTALLER.count("\r\n") == WINDOWS_INSTALLER.count("\n")
    lines = WINDOWS_INSTALLER.split("\r\n")
    assert all(f":{line.split('goto ')[1]}" in lines for line in lines if "goto " in line)
    assert WINDOWS_INSTALLER.replace("3.xx", "3.12").count("py -3.12") == 2
