"""A third language, Marathi with two plots in `mr/`, needs nothing outside its folder: commands, facts, tests.

Its texts show stems (साताऱ्यात), so they tell whether dictionary forms are kept beside the shown ones.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

kahani = pytest.importorskip("data.kahani", reason="the story generator stands in data/, beside the library")
pytest.importorskip("tomllib", reason="the story generator needs Python 3.11; the archives need no generator")

from data.kahani import check as checks  # noqa: E402
from data.kahani import engine  # noqa: E402
from data.kahani.__main__ import main  # noqa: E402
from data.kahani.questions import Asker  # noqa: E402

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent


@pytest.fixture
def marathi(monkeypatch, tmp_path):
    """As if `mr` stood in data/kahani."""
    shutil.copytree(HERE / "mr", tmp_path / "mr")
    monkeypatch.setattr(kahani, "__path__", [*kahani.__path__, str(tmp_path)])
    monkeypatch.setattr(engine, "HERE", tmp_path)
    yield kahani.load_language("mr")
    for name in [name for name in sys.modules if name.startswith("data.kahani.mr")]:
        del sys.modules[name]


def test_it_is_real(marathi):
    """Two plots, some ninety words; a text has one derivation; stories differ and say their facts."""
    assert kahani.languages() == ["mr"]
    assert len(marathi.plots) == 2 and 85 <= len(marathi.words) <= 110
    stories = [marathi.tell(seed) for seed in range(40)]
    assert len({story.text for story in stories}) == 40
    for story in stories[:10]:
        assert kahani.derivations(marathi, story.text) == [story]


def test_it_passes_the_check(marathi, capsys):
    assert checks.check("mr") == []
    assert main(["--language", "mr", "--check"]) == 0
    assert capsys.readouterr().out == "no faults\n"


def test_facts_hold_the_dictionary_form_beside_the_shown_one(marathi):
    """सातारा is the city of a story that only says साताऱ्यात."""
    stems = 0
    for seed in range(60):
        facts, text = (story := marathi.tell(seed)).facts, story.text
        city = marathi.words[facts["city"]]
        stem = city.features.get("stem", city.text)
        assert f"{stem}त" in text
        assert facts.get("city_shown") == (stem if stem != city.text else None)
        stems += stem != city.text
    assert stems > 20


def test_questions_answer_in_the_dictionary_form(marathi):
    """`answers = dictionary` in questions.txt: पुणे is asked for and answered, though the story says पुण्यात."""
    asker, answers = Asker(marathi, random.Random(3)), {}
    for _ in range(80):
        telling, text = asker.tell()
        for one in asker.questions(telling, text, 5):
            if one["kind"] == "where":
                answers[one["answer"]] = text
    assert answers["पुणे"].count("पुण्यात") >= 1 and "पुणे " not in answers["पुणे"]
    assert set(answers) <= {word.text for word in marathi.tagged("शहर")}


def test_commands_work(marathi, tmp_path, capsys):
    """--show, and the archive; what it lacks is told in one sentence."""
    assert main(["--language", "mr", "--show", "2"]) == 0
    assert '"city": ' in capsys.readouterr().out
    made = tmp_path / "kahani-mr.tar.gz"
    assert main(["--language", "mr", "--stories", "30", "--test-stories", "5", "--output", str(made)]) == 0
    assert "floor of the test stories" in capsys.readouterr().out
    assert main(["--language", "mr", "--make", "pairs"]) == 2
    assert "is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_the_tests_find_it_by_themselves(tmp_path):
    """In a copy of the repository that has the folder, and is changed nowhere else: its tests run, and pass."""
    copied = shutil.ignore_patterns("*.tar.gz", "__pycache__", "*.jsonl")
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=copied)
    shutil.copytree(HERE, tmp_path / "tests" / "data", ignore=copied)
    shutil.copytree(HERE / "mr", tmp_path / "data" / "kahani" / "mr")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    arguments = [
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-rs",
        "-k",
        "mr or same_names",
        "tests/data/test_kahani.py",
    ]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "tests/data/test_check.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert "KeyError" not in run.stdout
    passed = int(run.stdout.rsplit(" passed", 1)[0].split()[-1].strip(","))
    assert passed >= 12, run.stdout[-2000:]
