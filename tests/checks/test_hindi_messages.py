"""Protects that checks speak Hindi: each sentence has its Hindi, with the same gaps, in the course's words."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from hindi_parts import wandering_words

from ai4india_lib import check, checks
from ai4india_lib.checks import translation

FOLDER = Path(checks.__file__).parent
SHARED = ("calling", "comparing")
LESSONS = sorted(path.stem for path in FOLDER.glob("lesson_??.py"))
CATALOGUES = ["shared", *LESSONS]

# what is said by `check` itself, and single words that are filled into gaps
SAID_ELSEWHERE = {
    "not done yet. Replace the dots with your own code, then run this cell again.", "not yet.", "right.",
}  # fmt: skip
# texts of exercises, names of types and texts of errors: a learner reads them as they are
NOT_SAID = {
    "not implemented for", "{0} of {1}", "{0}, time={1}", "ls | wc", "Ram | राम | Rahim", "Ram | राम। Rahim",
    "size of tensor a ({0})",
    "चुप<|end_of_turn|><|assistant|>मैं बोला", "<|{0}|> {1}<|end_of_turn|>", "data: x", "one. two. three",
}  # fmt: skip


def with_gaps(node):
    """The text of a string in the code, with {0}, {1} … where something is filled in."""
    if isinstance(node, ast.Constant):
        return node.value
    gaps = iter(range(100))
    return "".join(part.value if isinstance(part, ast.Constant) else f"{{{next(gaps)}}}" for part in node.values)


def sentences_of(text):
    """A message without the messages that are put into it, before, behind or between its sentences."""
    text = re.sub(r"\{(\d+)\}(?: ?\{\d+\})+", r"{\1}", text.strip())
    for sentence in re.split(r"(?<=[.?!:]) ?\{\d+\} ?(?=[A-Z`(])|\s*\n\s*", text):
        before = None
        while sentence != before:
            before, sentence = sentence, re.sub(r"^\{\d+\} (?=[A-Z`(])|(?<=[.?!:]) ?\{\d+\}$", "", sentence).strip()
        gaps = dict.fromkeys(re.findall(r"\{\d+\}", sentence))
        for number, gap in enumerate(gaps):
            sentence = sentence.replace(gap, f"{{<{number}>}}")
        yield sentence.replace("{<", "{").replace(">}", "}")


def said_in(module):
    """All sentences and phrases (two words or more) in the code of a module of checks."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))
    skipped, found = set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            skipped.add(node.body[0].value)
        elif isinstance(node, ast.JoinedStr):
            skipped |= {part for part in node.values if isinstance(part, ast.Constant)}
            formats = [part.format_spec for part in node.values if isinstance(part, ast.FormattedValue)]
            skipped |= {part for spec in formats if spec for part in ast.walk(spec)}
    for node in ast.walk(tree):
        if node not in skipped and (isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)):
            found += [text for text in sentences_of(with_gaps(node)) if re.search(r"[A-Za-z]{2}", text) and " " in text]
    is_pattern = re.compile(r"\\[dsS([.]|\w\|\w")  # of an error's text, or of a text
    return {text for text in found if not is_pattern.search(text)} - NOT_SAID


@cache
def said(catalogue):
    """What the modules of a catalogue say, in all."""
    modules = SHARED if catalogue == "shared" else [p.stem for p in sorted(FOLDER.glob(f"{catalogue}*.py"))]
    return set().union(*map(said_in, modules))


def told(catalogue):
    """English as the code has it → the template."""
    return {sentence: t for t in translation.templates(catalogue) for sentence in sentences_of(t.english)}


by_catalogue = pytest.mark.parametrize("catalogue", CATALOGUES)


@by_catalogue
def test_no_sentence_is_missing_and_none_is_left_over(catalogue):
    ours = set(told(catalogue)) | (set(told("shared")) if catalogue != "shared" else set())
    assert said(catalogue) - ours == set(), "write its Hindi into ai4india_lib/checks/hindi/"
    over = {text for text in set(told(catalogue)) - said(catalogue) if " " in text}
    assert over - SAID_ELSEWHERE == set(), "no check says this"
    assert len(told(catalogue)) == len(translation.templates(catalogue)), "twice the same"


@by_catalogue
def test_hindi_has_the_same_gaps_and_code_in_devanagari(catalogue):
    for template in translation.templates(catalogue):
        english, hindi = template.english, template.hindi
        assert set(re.findall(r"\{\d+\}", english)) == set(re.findall(r"\{\d+\}", hindi)), english
        assert set(re.findall(r"`[^`]+`", english)) == set(re.findall(r"`[^`]+`", hindi)), english
        plain = re.sub(r"`[^`]*`|\{\d+\}|\([^)]*\)", "", english)
        assert re.search("[ऀ-ॿ]", hindi) or not re.search(r"[a-z]{3} [a-z]", plain), english
        questions = [text.count("?") for text in (english, hindi)]
        assert bool(questions[0]) == bool(questions[1]), f"a question stays a question: {english}"


@by_catalogue
def test_its_words_are_the_glossary_s(catalogue):
    assert {
        t.hindi: wandering_words(t.hindi) for t in translation.templates(catalogue) if wandering_words(t.hindi)
    } == {}


@pytest.mark.parametrize(
    "lesson, english, hindi",
    [
        ("06", "not yet. Every entry is True: that is no mask. A word must not see words that come after it. Which "
         "triangle of the matrix should stay?",
         "अभी नहीं। सब कुछ True है: यह मास्क ही नहीं। शब्द अपने बाद आने वाले शब्दों को नहीं देख सकता। मैट्रिक्स का कौन-सा त्रिकोण रहना "
         "चाहिए?"),
        ("06", "not yet. The shape of the mask is (2, 3); it should be (3, 3). Write the shape beside each line: where "
         "does it change?",
         "अभी नहीं। मास्क: आकार (2, 3) है; (3, 3) होना चाहिए। हर पंक्ति के पास आकार लिखिए: वह कहाँ बदलता है?"),
        ("01", "For 'एक. दो', n=3 it returns 'a? B'. That is the whole text: where do you stop?",
         "'एक. दो', n=3 पर लौटा: 'a? B'। यह तो पूरा पाठ है: आप कहाँ रुकते हैं?"),
        ("04", "It stopped with NameError in line 2: `return q, at, n`, at `at`\n  The error says: name 'at' is not "
         "defined. Did you mean: cat?\n  It was called with p (3,) float32, words list of 2",
         "वह इस त्रुटि पर रुक गया: NameError यहाँ: पंक्ति 2: `return q, at, n`, ठीक यहाँ: `at`\n  "
         "त्रुटि कहती है: name 'at' is not defined. Did you mean: cat?\n  उसे इनके साथ बुलाया गया था: p (3,) float32, words "
         "list of 2"),
        ("04", "right. Something that no check says.", None),
        ("06", "not yet. k is not in your result: what was never seen still has probability 0.", None),  # lesson 04's
    ],
)  # fmt: skip
def test_a_message_is_said_whole_or_not_at_all(lesson, english, hindi):
    assert translation.in_hindi(english, lesson) == hindi


def test_check_speaks_the_language_that_was_chosen_and_keeps_its_tries_in_english(capsys, monkeypatch):
    kept = []
    monkeypatch.setenv("AI4INDIA_LANGUAGE", "hi")
    monkeypatch.setattr(checks, "keep_try", lambda *given: kept.append(given))
    assert not check("06.causal_mask", ...) and not check("06.causal_mask", lambda time: print(end=""))
    said = capsys.readouterr().out
    assert said.startswith("06.causal_mask: अभी बाक़ी है। बिंदुओं की जगह अपना कोड लिखिए")
    assert "06.causal_mask: अभी नहीं। आपका फ़ंक्शन चला और उसने कुछ नहीं लौटाया" in said
    assert [(name, passed) for name, passed, _ in kept] == [("06.causal_mask", False)]
    assert kept[0][2].startswith("Your function ran and returned nothing")
    monkeypatch.setenv("AI4INDIA_LANGUAGE", "en")
    check("06.causal_mask", ...)
    assert capsys.readouterr().out.startswith("06.causal_mask: not done yet. ")
