"""A third language, Marathi in `data/kahani/mr`, needs nothing outside its folder: commands, facts, pairs, tests.

Its texts show stems (साताऱ्यात), so they tell whether dictionary forms are kept beside the shown ones.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

kahani = pytest.importorskip("data.kahani", reason="the story generator stands in data/, beside the library")
pytest.importorskip("tomllib", reason="the story generator needs Python 3.11; the archives need no generator")

from data.kahani.__main__ import main  # noqa: E402
from data.kahani.mr.grammar import agree, joined  # noqa: E402
from data.kahani.pairs import make_pairs  # noqa: E402
from data.kahani.questions import Asker  # noqa: E402

ROOT = Path(__file__).parents[2]
PACK = ROOT / "data" / "kahani" / "mr"


@pytest.fixture(scope="module")
def marathi():
    return kahani.load_language("mr")


@pytest.fixture(scope="module")
def told(marathi):
    """Four hundred stories."""
    rng = random.Random(4)
    return [marathi.tell(rng) for _ in range(400)]


def test_it_is_of_the_size_that_the_walk_through_names(marathi):
    """`ADDING.md` counts plots and words."""
    page = (ROOT / "data" / "kahani" / "ADDING.md").read_text(encoding="utf-8")
    plots, words = re.search(r"(\d+) plots and (\d+) words", page).groups()
    assert (len(marathi.plots), len(marathi.words)) == (int(plots), int(words))


def test_marathi_agrees():
    """By hand: three genders, both numbers; what does not end in -ा stays."""
    assert [agree("निळा", gender) for gender in "mfn"] == ["निळा", "निळी", "निळे"]
    assert [agree("पिकला होता", gender, plural=True) for gender in "mfn"] == ["पिकले होते", "पिकल्या होत्या", "पिकली होती"]
    assert agree("लाल", "f") == "लाल" and agree("तयार झाला", "n") == "तयार झाले"


def test_a_postposition_joins_the_stem(marathi):
    words = marathi.words
    asked = [("पुणे", "त"), ("स्वाती", "ने"), ("आजोबा", "ने"), ("मामा", "ला")]
    shown = {joined(words[text], postposition) for text, postposition in asked}
    assert shown == {"पुण्यात", "स्वातीने", "आजोबांनी", "मामांना"}


def test_people_agree_in_the_stories(marathi, told):
    """Who is a girl does नाचत घरी परतली; two girls are दोघी; an elder man is spoken of in the plural."""
    seen = set()
    for story in told:
        facts, text = story.facts, story.text
        wrong = f"{facts['hero']} {{}} घरी परतल" + {"m": "ी", "f": "ा"}[facts["hero_gender"]]
        assert not any(wrong.format(how) in text for how in ("नाचत", "उड्या मारत", "गात"))
        both_girls = facts["hero_gender"] == facts["friend_gender"] == "f"
        for form in re.findall(r"दोघ(?:े|ी|ां\w*|ीं\w*)(?= )", text):
            assert (form[3] == "ी") == both_girls, text
            seen.add(both_girls)
        if facts.get("elder") in ("आजोबा", "बाबा", "मामा"):
            assert f"{facts['elder']} म्हणाला" not in text and f"{facts['elder']}ने" not in text
    assert seen == {True, False}


def test_pairs_are_right_and_wrong(marathi, told):
    """The half that is right keeps the agreement of a word list written here; the other half breaks it."""
    feminine = {"छत्री", "टोपी", "पिशवी", "बाहुली", "शिट्टी"}
    found = make_pairs(marathi, [story.text for story in told])
    assert len({pair["phenomenon"] for pair in found}) >= 6
    looked_at = 0
    for pair in found:
        if pair["phenomenon"] == "possessive_gender" and feminine & set(pair["right"].split()):
            assert re.match(r"\S+ची ", pair["right"]) and not re.match(r"\S+ची ", pair["wrong"]), pair
            looked_at += 1
    assert looked_at > 20


def test_facts_hold_the_dictionary_form_beside_the_shown_one(marathi):
    """सातारा is the city of a story that only says साताऱ्यात."""
    stems = 0
    for seed in range(60):
        facts, text = (story := marathi.tell(seed)).facts, story.text
        city = marathi.words[facts["city"]]
        stem = city.features.get("stem", city.text)
        assert f"{stem}त" in text and facts["city_shown"] == f"{stem}त"
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
    assert set(answers) <= set(marathi.words)


def test_commands_work(tmp_path, capsys, monkeypatch):
    """--show, --check, the archive, questions and pairs; what it lacks is told in one sentence."""
    monkeypatch.setattr("data.kahani.__main__.DATA", tmp_path)
    (tmp_path / "kahani").mkdir()
    assert main(["--language", "mr", "--show", "2"]) == 0
    assert '"city": ' in capsys.readouterr().out
    assert main(["--language", "mr", "--check"]) == 0
    assert capsys.readouterr().out == "no faults\n"
    assert main(["--language", "mr", "--stories", "300", "--test-stories", "5"]) == 0
    assert "floor of the test stories" in capsys.readouterr().out
    assert main(["--language", "mr", "--make", "questions", "--stories", "20", "--test-stories", "5"]) == 0
    assert main(["--language", "mr", "--make", "pairs"]) == 0
    made = (tmp_path / "kahani" / "pairs-mr.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(made) == 1200 and set(json.loads(made[0])) == {"phenomenon", "right", "wrong"}
    capsys.readouterr()
    assert main(["--language", "mr", "--make", "chat", "--output", str(tmp_path / "chat")]) == 2
    assert "chats.txt is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_the_tests_find_a_new_folder_by_themselves(tmp_path):
    """In a copy of the repository with one folder more, changed nowhere else: its tests run, and pass."""
    copied = shutil.ignore_patterns("*.tar.gz", "__pycache__", "*.jsonl")
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=copied)
    shutil.copytree(Path(__file__).parent, tmp_path / "tests" / "data", ignore=copied)
    shutil.copytree(PACK, tmp_path / "data" / "kahani" / "kok", ignore=copied)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-rs", "-k", "kok or same_names"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/data/test_kahani.py", "tests/data/test_check.py"],
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
