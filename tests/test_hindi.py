"""Protects the Hindi of the lessons: all of it is there, in Devanagari, in the glossary's words, and can be folded."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
from hindi_parts import OPENING, hindi_of, wandering_words, without_hindi

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
GLOSSARY = (NOTEBOOKS / "GLOSSARY.md").read_text(encoding="utf-8")
KINDS = {"Warm-up": "हल्का अभ्यास", "Core": "मुख्य अभ्यास", "Stretch": "कठिन अभ्यास"}
SUMMARIES = ("## Summary", "## सारांश")  # each is the other's translation


@cache
def cells_of(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def headings_of(text):
    return [line for line in re.findall(r"(?m)^##+ .+", without_hindi(text)) if line not in SUMMARIES]


def plain(hindi):
    """Without what stays as it is in Hindi, too: code, formulas, addresses, terms in brackets, names of papers."""
    hindi = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|\]\([^)]*\)|\([^)]*\)", " ", hindi, flags=re.DOTALL)
    return re.sub(r"\[\d\d · [^]]*|\*[A-Za-z][^*]*\*", " ", hindi)


def said_in_hindi(path):
    """All Hindi of a lesson, as pieces: the folded parts, and the summary."""
    texts = cells_of(path)
    summary = "\n\n".join(texts).split("## सारांश", 1)[1].split("\n## ")[0].split(OPENING)[0]
    return [hindi for hindi in map(hindi_of, texts) if hindi] + [summary]


by_lesson = pytest.mark.parametrize("path", LESSONS, ids=[path.stem for path in LESSONS])


@by_lesson
def test_each_section_and_each_exercise_is_there_under_its_heading(path):
    for text in cells_of(path):
        headings, hindi = headings_of(text), hindi_of(text) or ""
        told = re.findall(r"(?m)^\*\*([^*]+)\*\*$", hindi)
        assert len(told) == len(headings), f"{path.name}: {headings} against {told}"
        for heading, ours in zip(headings, told, strict=True):
            number, kind = re.match(r"## (\d+ · )?", heading), re.match(r"### (Warm-up|Core|Stretch)\b", heading)
            assert re.search("[ऀ-ॿ]", ours) and ours.startswith((number and number[1]) or ""), heading
            assert not kind or ours.startswith(KINDS[kind[1]] + ": "), heading
        sections = re.split(r"(?m)^\*\*[^*]+\*\*$", hindi)[1:]
        assert all(len(re.findall(r"[ऀ-ॿ]+", section)) >= 4 for section in sections), f"{path.name}: empty in {told}"


@by_lesson
def test_the_promise_and_its_table_are_there(path):
    promise, _, table = (hindi_of(cells_of(path)[0]) or "").partition("\n\n| | |\n|---|---|\n")
    assert len(re.findall(r"[ऀ-ॿ]+", promise)) >= 10
    labels = [re.match(r"\| (.+?) \| ", line)[1] for line in table.split("\n\n")[0].splitlines()]
    bold = ("आप क्या बनाएँगे", "पहले से क्या चाहिए", "समय", "लाइब्रेरी में")
    wanted = [f"**{label}**" for label in bold]
    wanted[2] += " (चलाना / पढ़ना / अभ्यास)"
    assert labels == wanted


@by_lesson
def test_each_prediction_is_asked_in_hindi_too(path):
    for text in cells_of(path):
        asked = without_hindi(text).count("**Predict first.**")
        assert (hindi_of(text) or "").count("**पहले अनुमान लगाइए।**") == asked, text[:60]


@by_lesson
def test_an_exercise_can_be_solved_from_its_hindi_alone(path):
    """Each piece of code that its English text names is named in Hindi, and it is not a mere heading."""
    for text in cells_of(path):
        if re.search(r"(?m)^### (Warm-up|Core|Stretch)\b", text):
            english, hindi = without_hindi(text).split("\n### ")[-1], hindi_of(text)
            named = set(re.findall(r"`([^`]+)`", english))
            assert {name for name in named if name not in hindi} == set(), f"{path.name}: {english[:40]}"
            words = len(english.split())
            assert len(hindi.split()) >= 0.5 * words, f"{path.name}: {english[:40]}"


def test_a_reader_of_hindi_goes_through_lesson_06_in_hindi_alone():
    path = NOTEBOOKS / "06_attention.ipynb"
    assert [text[:60] for text in cells_of(path) if not hindi_of(text)] == []


@by_lesson
def test_it_is_devanagari(path):
    for hindi in said_in_hindi(path):
        letters = re.findall(r"[^\W\d_]|[ऀ-ॿ]", plain(hindi))
        share = sum("ऀ" <= letter <= "ॿ" for letter in letters) / max(1, len(letters))
        assert share > 0.7, f"{path.name}: {share:.0%} of the letters of {hindi[:60]!r}"


@by_lesson
def test_it_can_be_folded_and_is_found_by_its_form(path):
    """Blank lines around it, so that markdown works inside; one part a cell, at its end; nothing left open."""
    for text in cells_of(path):
        assert text.count("हिन्दी</summary>") == text.count('class="hindi"') == (hindi_of(text) is not None), text[:60]
        assert not re.search("</?[a-z]", re.sub(r"`[^`]*`", "", hindi_of(text) or "")), "no tag inside"


@by_lesson
def test_it_keeps_to_the_words_of_the_glossary(path):
    """One word for one thing, and one form of address."""
    for hindi in said_in_hindi(path):
        assert wandering_words(hindi) == [], path.name


def test_the_glossary_is_whole_and_its_links_lead_to_lessons():
    assert len(re.findall(r"(?m)^\| .+ \| \[\d\d\]\(", GLOSSARY)) >= 160
    assert [link for link in re.findall(r"\]\(([^)]+)\)", GLOSSARY) if not (NOTEBOOKS / link).exists()] == []


@cache
def glossary_pairs():
    """English word in small letters → the Hindi words that the glossary gives for it, as far as it names both."""
    pairs = {}
    for english, hindi in re.findall(r"(?m)^\| (.+?) \| (.+?) \| \*", GLOSSARY):
        for word, own in re.findall(r"([ऀ-ॿ][ऀ-ॿ -]*?)(?: \d+)? \(([^)]+)\)", hindi):
            pairs.setdefault(own.lower(), set()).add(word.strip())
        ours, theirs = re.split(r"[,;] ", re.sub(r" \([^)]*\)", "", hindi)), re.split(r"[,;] ", english)
        for word, own in zip(ours, theirs, strict=False):
            pairs.setdefault(re.sub(r" \(.*", "", own).lower(), set()).add(re.sub(r" \d+", "", word))
    return pairs


@by_lesson
def test_a_word_with_its_english_behind_it_is_the_glossary_s(path):
    """ "ढाल (gradient)": the pair stands in the glossary. An ending may be bent: पृष्ठों (pages)."""
    pairs = glossary_pairs()
    for hindi in said_in_hindi(path):
        for before, english in re.findall(r"([ऀ-ॿ][ऀ-ॿ* -]*) \(([A-Za-z][A-Za-z ]+)\)", hindi.replace("`", " ")):
            known = pairs.get(english.lower()) or pairs.get(english.lower().removesuffix("s"))
            assert known, f"{path.name}: {before} ({english}) is not in the glossary"
            stems = {word[: max(2, len(word) - 2)] for word in known}
            last = before.replace("*", "")[-max(map(len, known)) - 4 :]
            assert any(stem in last for stem in stems), f"{path.name}: {before} ({english}) should be {known}"
