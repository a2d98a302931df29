"""Protects certificates: made only when all core exercises are solved, readable in Devanagari, with a code that changes
with every word of the page."""

import dataclasses
import json

import pytest

from ai4india_lib.checks import certificate
from ai4india_lib.checks.certificates import Certificate, draw_certificate, read_certificate
from ai4india_lib.checks.exercises import course_exercises

MADE = Certificate("प्रज्ञा श्रीवास्तव", "2026-11-29", "18/18", "41/54")


@pytest.fixture
def solve(tmp_path, monkeypatch):
    """A function: these exercises are solved."""
    monkeypatch.setenv("AI4INDIA_PROGRESS", str(tmp_path / "progress.jsonl"))

    def solve(names):
        lines = [json.dumps({"exercise": name, "verdict": "right", "said": ""}) for name in names]
        (tmp_path / "progress.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    return solve


def test_only_who_solved_all_core_exercises_gets_one(solve, tmp_path, capsys):
    exercises = course_exercises()
    core = [exercise.name for exercise in exercises.values() if exercise.kind == "core"]
    with pytest.raises(ValueError, match=rf"0 of {len(core)} core exercises are solved; still open: 01.danda, "):
        certificate("मीरा")
    solve([*core[1:], "01.graphemes", "99.unknown"])
    with pytest.raises(ValueError, match=r"still open: 01\.danda$"):
        certificate("मीरा")
    assert not list(tmp_path.glob("certificate*"))
    solve([*core, "01.graphemes", "99.unknown"])
    assert certificate("  मीरा  शर्मा ") == tmp_path / "certificate.svg"
    made, code = read_certificate(tmp_path / "certificate.svg")
    assert made.name == "मीरा शर्मा" and made.core == f"{len(core)}/{len(core)}"
    assert made.solved == f"{len(core) + 1}/{len(exercises)}" and code == made.code()
    assert code in capsys.readouterr().out
    assert (tmp_path / "certificate.pdf").read_bytes().startswith(b"%PDF-")
    assert certificate("Ravi", tmp_path / "new" / "folder").is_file()


def test_a_code_belongs_to_every_word_and_to_the_secret():
    changes = {"name": "प्रज्ञा श्रीवास्तवा", "date": "2026-11-30", "core": "17/18", "solved": "42/54"}
    others = [dataclasses.replace(MADE, **{field: value}) for field, value in changes.items()]
    codes = [made.code(secret) for made in (MADE, *others) for secret in (None, b"mine", b"yours")]
    assert len(set(codes)) == len(codes) == 15
    assert {code[0] for code in codes[::3]} == {"L"} and {code[0] for code in codes[1::3]} == {"T"}
    composed, decomposed = (dataclasses.replace(MADE, name=name) for name in ("José", "José"))
    assert composed.code() == decomposed.code(), "the same letters, spelled in two ways"


@pytest.mark.parametrize("name", ["", "  ", "!!", "x" * 61, "|"])
def test_no_name_no_page(name):
    with pytest.raises(ValueError, match="needs a name of 1 to 60 signs"):
        dataclasses.replace(MADE, name=name)


def test_letters_that_no_font_has_are_told(tmp_path):
    with pytest.raises(ValueError, match="no font here has all letters of '中文'"):
        draw_certificate(dataclasses.replace(MADE, name="中文"), tmp_path / "c.svg")
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_no_markup(tmp_path):
    odd = dataclasses.replace(MADE, name="Meera <b>&amp; \\ $x^2$ {0}")
    draw_certificate(odd, tmp_path / "c.svg", b"mine")
    assert read_certificate(tmp_path / "c.svg") == (odd, odd.code(b"mine"))
    (tmp_path / "other.svg").write_text("<svg/>")
    with pytest.raises(ValueError, match="is no certificate"):
        read_certificate(tmp_path / "other.svg")
