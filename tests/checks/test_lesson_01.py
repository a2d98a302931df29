"""Lesson 01's feedback: right answers pass, and each usual mistake gets its own sentence."""

import re
import unicodedata
from collections import Counter

import pytest
import regex


def first_graphemes(text, n):
    return "".join(regex.findall(r"\X", text)[:n])


def parts(text):
    return regex.findall(r"\X", text)


def test_right_graphemes(accepted):
    for answer in (first_graphemes, lambda text, n: regex.match(rf"\X{{0,{n}}}", text)[0]):
        accepted("01.graphemes", answer)


WRONG_GRAPHEMES = [
    (lambda text, n: text[:n], "n code points"),
    (lambda text, n: text.encode()[:n].decode(errors="ignore"), "n bytes"),
    (lambda text, n: "".join(regex.findall(r"\P{M}\p{M}*", text)[:n]), "virama or a joiner"),
    (lambda text, n: first_graphemes(text, n + 1), "one grapheme too many|whole text"),
    (lambda text, n: first_graphemes(text, n - 1), "one grapheme too few"),
    (lambda text, n: parts(text)[:n], "returns a list"),
    (lambda text, n: text, "where do you stop|No graphemes"),
    (lambda text, n: "".join(parts(text)[-n:]), "last graphemes|No graphemes"),
    (lambda text, n: "".join(parts(text)[:n][::-1]), "wrong order"),
    (lambda text, n: " ".join(parts(text)[:n]), "stands between"),
    (lambda text, n: first_graphemes(text.replace(" ", ""), n), "something was lost"),
    (lambda text, n: len(parts(text)[:n]), "returns int"),
    (lambda text, n: first_graphemes(text, n or None), "of none"),
    (lambda text, n: text[n], "one grapheme|code points|does not begin"),
    (lambda text, n: regex.findall(r"\X", text)[n], "does not begin|IndexError"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), WRONG_GRAPHEMES, ids=[words for _, words in WRONG_GRAPHEMES])
def test_wrong_graphemes(refused, answer, words):
    refused("01.graphemes", answer, words)


def mend_danda(text, *, bar=r"(?<=\p{Devanagari})\s*\|", before=r"\s+।", after=r"।\s*(?=[^\s”)।])", put="। "):
    text = regex.sub(bar, "।", text)
    text = regex.sub(before, "।", text)
    return regex.sub(after, put, text)


def without_regex(text):
    """The same with the standard library only."""
    text = re.sub(r"(?<=[\u0900-\u0963\u0966-\u097f]) *\|", "।", text)
    text = re.sub(r" +।", "।", text)
    return re.sub(r"। *(?=[^ ”)।])", "। ", text)


@pytest.mark.parametrize("answer", [mend_danda, without_regex])
def test_right_dandas(accepted, answer):
    accepted("01.danda", answer)


WRONG_DANDAS = [
    (lambda text: mend_danda(text.replace("|", "।")), "between Latin words"),
    (lambda text: mend_danda(text, bar="\0"), "ends a Hindi sentence is left"),
    (lambda text: mend_danda(text, bar=r"(?<=\p{Devanagari})\|"), "May spaces stand before"),
    (lambda text: mend_danda(text, bar=r"(?<=[क-हअ-औ])\s*\|"), "after a vowel sign"),
    (lambda text: mend_danda(text, bar=r"(?<=[\p{L}\p{M}])\s*\|"), "Hindi digit|Latin"),
    (lambda text: mend_danda(text, bar=r"(?<=[क-हअ-औ\p{M}])\s*\|"), "Hindi digit"),
    (lambda text: mend_danda(text, bar=r"(?<=\p{Devanagari}\s*)\|", before="\0"), "space still stands before"),
    (lambda text: regex.sub(r"\s+।", "।", mend_danda(text, before="\0"), count=1), "take away all"),
    (lambda text: mend_danda(text, after="\0"), "next sentence begins at once"),
    (lambda text: mend_danda(text, after=r"।\s*(?=\S)"), "sign that closes"),
    (lambda text: mend_danda(text, after=r"।\s*(?=[^”)]|$)"), "end of the line"),
    (lambda text: mend_danda(text, put="।  "), "More than one space"),
    (lambda text: " ".join(mend_danda(text).split()), "nothing to do with a danda"),
    (lambda text: mend_danda(text).replace("“", '"').replace("”", '"'), "Only these two"),
    (lambda text: regex.split("।", mend_danda(text)), "returns a list"),
    (lambda text: regex.sub(r"\s+([।!])", r"\1", mend_danda(text)), "nothing to do with a danda"),
    (lambda text: text[0] + mend_danda(text[1:]), "IndexError"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), WRONG_DANDAS, ids=[words for _, words in WRONG_DANDAS])
def test_wrong_danda(refused, answer, words):
    refused("01.danda", answer, words)


SCRIPTS = ("Devanagari", "Bengali", "Tamil", "Telugu", "Malayalam", "Gurmukhi", "Arabic", "Latin")


def script_of_one(c):
    return next((script for script in SCRIPTS if regex.match(rf"\p{{Script={script}}}", c)), "Common")


def script_of(word):
    counts = Counter(script for script in map(script_of_one, word) if script != "Common")
    return counts.most_common(1)[0][0] if counts else "Common"


def by_name(word):
    """A usual idea: the first word of the character's name."""
    names = [unicodedata.name(c).split()[0].capitalize() for c in word]
    counts = Counter(name for name in names if name in SCRIPTS)
    return counts.most_common(1)[0][0] if counts else "Common"


def first_in_list(word):
    return next((s for s in SCRIPTS if regex.search(rf"\p{{Script={s}}}", word)), "Common")


def test_right_script_of(accepted):
    accepted("01.script_of", script_of)


WRONG_SCRIPTS = [
    (lambda word: script_of(word[0]), "only one character"),
    (lambda word: script_of_one(regex.search(r"\p{L}|$", word)[0] or word), "first character does not decide"),
    (lambda word: script_of(word[-1]), "only one character"),
    (by_name, "danda has a Hindi name"),
    (first_in_list, "more are Latin"),
    (lambda word: script_of(word).upper(), "written as in SCRIPTS: Devanagari"),
    (lambda word: "Indian", "not in SCRIPTS"),
    (lambda word: script_of("".join(regex.findall(r"\p{L}", word))), "count letters only"),
    (lambda word: script_of(word) if script_of(word) != "Common" else None, "returned nothing"),
    (lambda word: script_of(word) if script_of(word) != "Common" else "Latin", "serve many scripts"),
    (lambda word: "Devanagari", "No character of it"),
    (lambda word: [script_of(word)], "returns a list"),
    (lambda word: max(script_of_one(c) for c in word), "first character does not decide|more are|ask every"),
    (lambda word: Counter(map(script_of_one, word)).most_common(1)[0][0], "ask every character|danda"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), WRONG_SCRIPTS, ids=[words for _, words in WRONG_SCRIPTS])
def test_wrong_script(refused, answer, words):
    refused("01.script_of", answer, words)
