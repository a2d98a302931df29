"""Protects a learner's copies of the lessons: never replaced, with links that lead somewhere, and opened as is said."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from ai4india_lib.__main__ import main
from ai4india_lib.commands import lessons

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of three lessons, with what they lead to."""
    notebooks = tmp_path / "course" / "notebooks"
    (notebooks / "assets").mkdir(parents=True)
    (notebooks / "assets" / "curve.png").write_bytes(b"")
    (notebooks / "GLOSSARY.md").write_text("", encoding="utf-8")
    links = "[a](GLOSSARY.md#loss) ![b](assets/curve.png) [c](01_b.ipynb) [d](https://x.example/GLOSSARY.md) [e](#top)"
    text = {"cell_type": "markdown", "source": [links, '<img src="assets/curve.png">'], "metadata": {}}
    code = {"cell_type": "code", "source": ["'[a](GLOSSARY.md)'"], "metadata": {}, "outputs": []}
    for name in ("00_start_here", "01_b", "02_c"):
        (notebooks / f"{name}.ipynb").write_text(json.dumps({"cells": [text, code]}), encoding="utf-8")
    monkeypatch.setattr(lessons, "project_folder", lambda: notebooks.parent)
    return notebooks.parent


def test_copies_are_made_once_and_never_replaced(course, capsys):
    assert main(["lessons"]) == 0
    assert "3 lessons copied, 0 were there" in capsys.readouterr().out
    mine = course / "my" / "01_b.ipynb"
    mine.write_text("my answers", encoding="utf-8")
    (course / "my" / "02_c.ipynb").unlink()
    assert main(["lessons"]) == 0
    told = capsys.readouterr().out
    assert "1 lessons copied, 2 were there" in told and f"cd {course}" in told
    assert told.splitlines()[-1] == "now try: jupyter lab --LabApp.default_url=/lab/tree/my/00_start_here.ipynb"
    assert mine.read_text(encoding="utf-8") == "my answers"
    assert sorted(path.name for path in (course / "my").iterdir()) == [
        "00_start_here.ipynb",
        "01_b.ipynb",
        "02_c.ipynb",
    ]


def test_a_link_that_leads_nowhere_is_a_copy_too(course):
    (course / "my").mkdir()
    link = course / "my" / "01_b.ipynb"
    try:
        link.symlink_to(course / "gone.ipynb")
    except OSError:
        pytest.skip("no links on this system")
    assert main(["lessons"]) == 0
    assert link.is_symlink() and not (course / "gone.ipynb").exists()


def test_links_lead_to_where_they_led(course):
    main(["lessons"])
    text, code = json.loads((course / "my" / "01_b.ipynb").read_text(encoding="utf-8"))["cells"]
    back = "../notebooks"
    wanted = f"[a]({back}/GLOSSARY.md#loss) ![b]({back}/assets/curve.png) [c](01_b.ipynb) "
    wanted += "[d](https://x.example/GLOSSARY.md) [e](#top)"
    assert text["source"] == [wanted, f'<img src="{back}/assets/curve.png">']
    assert code["source"] == ["'[a](GLOSSARY.md)'"]


@pytest.mark.parametrize("name", NAMES)
def test_every_link_of_a_real_copy_leads_somewhere(name):
    copy = json.loads(lessons.copy_of_lesson(ROOT / "notebooks" / name))
    own = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))
    assert [cell for cell in copy["cells"] if cell["cell_type"] == "code"] == [
        cell for cell in own["cells"] if cell["cell_type"] == "code"
    ]
    prose = "".join("".join(cell["source"]) for cell in copy["cells"] if cell["cell_type"] == "markdown")
    links = set(re.findall(r"""(?:\]\(|src=["'])(?!\w+:|[#/])([^)\s"'#]+)""", prose)) - set(NAMES)
    assert [link for link in links if not Path(os.path.normpath(ROOT / "my" / link)).exists()] == []


def test_a_file_in_the_place_of_the_folder_is_kept(course, capsys):
    (course / "my").write_text("notes", encoding="utf-8")
    assert main(["lessons"]) == 1
    assert "my is a file" in capsys.readouterr().err and (course / "my").read_text(encoding="utf-8") == "notes"


def test_a_library_without_the_course_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lessons, "__file__", str(tmp_path / "ai4india_lib" / "commands" / "lessons.py"))
    assert main(["lessons"]) == 1
    assert "without the course" in capsys.readouterr().err


def test_git_ignores_the_copies():
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    asked = subprocess.run(["git", "check-ignore", "my/00_start_here.ipynb"], cwd=ROOT, capture_output=True)
    assert asked.returncode == 0


def test_the_readme_opens_the_first_lesson_as_the_command_does():
    assert lessons.JUPYTER.format("notebooks/00_start_here.ipynb") in (ROOT / "README.md").read_text(encoding="utf-8")
