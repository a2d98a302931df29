"""Protects the teacher's guide: its minutes are those of the lessons, counted by its rules; all that it
names is there, each lesson has a page."""

import json
import re
from pathlib import Path

import pytest
from lesson_minutes import minutes_of_exercises, minutes_to_read

ROOT = Path(__file__).parent.parent
LESSONS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
GUIDE = (ROOT / "notebooks" / "TEACHING.md").read_text(encoding="utf-8")
PAGES = {piece[:2]: piece for piece in re.split(r"(?m)^### (?=\d\d · )", GUIDE.split("\n## Where it fits")[0])[1:]}


def prose_of(number):
    cells = json.loads(LESSONS[number].read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def minutes_of(number):
    """(run, read, exercises) as the lesson's own first cell says them."""
    row = re.search(r"\(run / read / exercises\) \| (.+) / (\d+) minutes / (\d+|–)", prose_of(number))
    return row.groups()


@pytest.mark.parametrize("number", LESSONS)
def test_minutes_are_those_of_the_lesson(number):
    title = re.search(r"# (\d\d) · (.+)", prose_of(number))[2].strip()
    run, read, exercises = minutes_of(number)
    wanted = f"| [{number} {title}]({LESSONS[number].name}) | {run} | {read} | {exercises} |"
    assert wanted in GUIDE, f"the table of minutes in TEACHING.md needs this row: {wanted}"


@pytest.mark.parametrize("number", LESSONS)
def test_minutes_follow_from_words_lines_predictions_and_exercises(number):
    _, read, exercises = minutes_of(number)
    counted = minutes_to_read(LESSONS[number])
    assert abs(int(read) - counted) <= 5, f"{number}: {read} minutes to read are said, {counted:.0f} counted"
    assert int(exercises.replace("–", "0")) == minutes_of_exercises(LESSONS[number]), number


@pytest.mark.parametrize("number", sorted({*LESSONS, *PAGES}))
def test_each_lesson_has_its_page(number):
    page = PAGES[number]
    if number in LESSONS:
        assert page.startswith(re.search(r"# (\d\d · .+)", prose_of(number))[1].strip())
    for part in ("**Goal.** ", "**Open with", "**Skip:** ", "**Board:** "):
        assert page.count(part) == 1, f"{number} lacks {part}"
    rows = re.findall(r"(?m)^\| (“.+) \| (.+) \| (.+) \|$", page)
    assert len(rows) == 3 and all(len(cell) > 3 for row in rows for cell in row), "three misunderstandings"


def numbers_of(words):
    """ "1–3, 7" → {1, 2, 3, 7}"""
    pieces = [piece.split("–") for piece in words.replace(" ", "").split(",")]
    return {n for piece in pieces for n in range(int(piece[0]), int(piece[-1]) + 1)}


def test_sections_that_the_plans_name_are_there():
    named = re.findall(r"\b(\d\d) \((\d[\d, –]*)\)", GUIDE)
    assert len(named) > 30
    for number, words in named:
        if number in LESSONS:
            there = {int(n) for n in re.findall(r"(?m)^## (\d+) · ", prose_of(number))}
            assert numbers_of(words) <= there, f"{number} has no sections {numbers_of(words) - there}"


def test_sections_that_a_lessons_page_names_are_there():
    for number, page in PAGES.items():
        if number in LESSONS:
            there = {int(n) for n in re.findall(r"(?m)^## (\d+) · ", prose_of(number))}
            named = {int(n) for n in re.findall(r"\bsection (\d+)", page)}
            assert named <= there, f"{number} has no section {named - there}"


def test_the_twelve_weeks_hold_every_core_lesson():
    plan = GUIDE.split("### Twelve weeks")[1].split("### Three days")[0]
    rows = re.findall(r"(?m)^\| (\d+) \| (.+) \| (.+) \|$", plan)
    assert [int(row[0]) for row in rows] == list(range(1, 13))
    taught = set(re.findall(r"\b([01]\d)\b", " ".join(f"{first} {second}" for _, first, second in rows)))
    assert {number for number in LESSONS if number <= "11"} <= taught


def test_the_facts_about_curricula_have_sources():
    section = GUIDE.split("## Where it fits")[1]
    rows = re.findall(r"(?m)^\| XI.+\|$", section)
    assert len(rows) >= 8 and all("](https://" in row or "the same" in row for row in rows)
