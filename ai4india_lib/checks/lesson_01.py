"""Feedback for the exercises of lesson 01, Text and scripts."""

from __future__ import annotations

from collections import Counter

import regex

from . import NotYet, call, exercise, expect_text, recognise


@exercise("01.graphemes")
def first_graphemes(answer) -> str:
    for text, n in (
        ("नमस्ते", 3),
        ("नमस्ते", 2),
        ("वणक्कम் வணக்கம்", 6),
        ("एक क्षत्रिय।", 4),
        ("سَلام", 1),
        ("खेल 🏏👩\u200d🌾!", 5),
        ("हाँ", 9),
        ("किताब", 0),
    ):
        seen = f"For {text!r}, n={n}"
        clusters = regex.findall(r"\X", text)
        wanted = "".join(clusters[:n])
        got = expect_text(call(answer, text, n), seen=seen)
        if got == wanted:
            continue
        seen += f" it returns {got!r}."
        if n == 0:
            raise NotYet(f"{seen} No graphemes were asked for. What is the text of none?")
        if got == text:
            raise NotYet(f"{seen} That is the whole text: where do you stop?")
        letters = regex.findall(r"\P{M}\p{M}*", text)  # each with its marks
        mistakes = [
            (text[:n], "That is n code points: a letter may lose its mark. Which pattern keeps them together?"),
            (text.encode()[:n].decode(errors="ignore"), "That is what n bytes hold. A Hindi letter alone has three."),
            ("".join(clusters[: n + 1]), "That is one grapheme too many."),
            ("".join(clusters[: n - 1]), "That is one grapheme too few."),
            (clusters[n] if n < len(clusters) else None, "That is one grapheme, the one after those asked for."),
            ("".join(clusters[-n:]), "These are the last graphemes. The first ones were asked for."),
            ("".join(clusters[:n][::-1]), "The graphemes stand in the wrong order."),
            (" ".join(clusters[:n]), "Something stands between the graphemes that was not in the text."),
            ("".join(letters[:n]), "You count a letter with its marks. A virama or a joiner ties the next letter on."),
        ]
        recognise(got, wanted, mistakes, seen=seen)
        if not text.startswith(got):
            raise NotYet(f"{seen} The text does not begin so: something was lost or changed: a space, a sign?")
        count = len(regex.findall(r"\X", got))
        raise NotYet(f"{seen} That is {count} graphemes, but {len(clusters[:n])} were asked for.")
    return "So a phone shortens a long message without tearing a letter: cut at graphemes, not at code points."


@exercise("01.danda")
def mend_danda(answer) -> str:
    for text, wanted in (
        ("वह आई | हम चले।फिर", "वह आई। हम चले। फिर"),
        ("बस रुक गया|", "बस रुक गया।"),
        ("सन् १९४७ |", "सन् १९४७।"),
        ("घर बड़ा  है   ।   वह   गया।", "घर बड़ा  है। वह   गया।"),
        ("“रुको ।” (वह रुका।)", "“रुको।” (वह रुका।)"),
        ("ls | wc", "ls | wc"),
        ("Ram | राम | Rahim", "Ram | राम। Rahim"),
        ("एक । दो । तीन । चार", "एक। दो। तीन। चार"),
        ("आओ !", "आओ !"),
        ("", ""),
    ):
        got = expect_text(call(answer, text), seen=f"For {text!r}")
        if got != wanted:
            raise NotYet(f"{text!r} becomes {got!r}. {_danda_fault(text, wanted, got)}")
    return "One more repair for your own text: now a sentence has one kind of end."


def _danda_fault(text: str, wanted: str, got: str) -> str:
    if got.count("|") < wanted.count("|"):
        return "A | between Latin words is no danda, and must stay. What stands before a true one?"
    if regex.search(r"\p{M}\s*\|", got):
        return "A | is left after a vowel sign. Which kinds of characters may end a Hindi word?"
    if regex.search(r"\p{N}\s*\|", got):
        return "A | is left after a Hindi digit. A sentence may end in a number."
    if got.count("|") > wanted.count("|"):
        return "A | that ends a Hindi sentence is left. May spaces stand before it?"
    if regex.search(r"\s।", got):
        many = "all of them" if text.count("।") > 2 else "it"
        return f"A space still stands before a danda. Do you take away {many}?"
    if regex.sub(r"\s", "", got) != regex.sub(r"\s", "", wanted):
        return "Something other than spaces and | has changed. Only these two need mending."
    if regex.search(r"।[^\s”)]", got):
        return "After a danda the next sentence begins at once: it needs a space."
    if regex.search(r"। +[”)]", got):
        return "A space was put between the danda and the sign that closes a quote or bracket."
    if got.endswith("। "):
        return "A space was added at the end of the line, where nothing follows."
    if regex.search(r"।\s{2,}", got):
        return "More than one space stands after a danda."
    return "Spaces were changed that have nothing to do with a danda."


@exercise("01.script_of")
def script_of(answer) -> str:
    for word in (
        "नमस्ते",
        "வணக்கம்",
        "“किताब”",
        "سَلام",
        "আমি।।",
        "ই।।",
        "COVIDवाला",
        "नमस्तेji",
        "T-शर्ट",
        "१९४७",
        "क़िला",
        "2024",
        "॥",
        "📚",
    ):
        wanted = _script_of(word)
        got = expect_text(call(answer, word), seen=f"For {word!r}")
        if got != wanted:
            raise NotYet(f"For {word!r} it returns {got!r}. {_script_fault(word, wanted, got)}")
    return "With such a function you can sort a mixed text by script before you clean it."


SCRIPTS = ("Devanagari", "Bengali", "Tamil", "Telugu", "Malayalam", "Gurmukhi", "Arabic", "Latin")


def _script_of(word: str) -> str:
    counts = Counter({script: len(regex.findall(rf"\p{{Script={script}}}", word)) for script in SCRIPTS})
    script, count = counts.most_common(1)[0]
    return script if count else "Common"


def _script_fault(word: str, wanted: str, got: str) -> str:
    if got not in (*SCRIPTS, "Common"):
        found = [script for script in SCRIPTS if script.lower() in got.lower()]
        if found:
            return f"Names are written as in SCRIPTS: {found[0]}."
        return "That is not in SCRIPTS. For a word without any of them the answer is Common."
    if wanted == "Common":
        return "No script of the list has this character: digits 0 to 9, danda and emoji serve many scripts."
    if "।" in word:
        return "The danda has a Hindi name, but Bengali and Tamil use it too: its Script property is Common."
    if got == "Common":
        if regex.match(r"[^\p{L}\p{N}]", word):
            return "Do you ask only one character? The quotation marks belong to no script."
        if not regex.search(r"\p{L}", word):
            return "Do you count letters only? Some digits belong to one script."
        return "It does have letters of a script in the list. Do you ask every character?"
    if regex.match(rf"\p{{Script={got}}}", word) and regex.search(rf"\p{{Script={wanted}}}", word):
        return "The first character does not decide. Which script do most of them belong to?"
    if regex.search(rf"\p{{Script={got}}}", word):
        return f"Some characters are {got}, but more are {wanted}: count them all before you answer."
    return f"No character of it is {got}."
