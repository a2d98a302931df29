"""Protects the questions: one right choice, which no look at the lengths gives away, and reasons for all, in both
languages; answers by number and by click; and that each lesson shows its own."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hindi_parts import wandering_words

from ai4india_lib import checks
from ai4india_lib.checks import quiz, tries
from ai4india_lib.checks.tries import read_tries

ROOT = Path(__file__).parents[2]
LESSONS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
ASKED = {lesson: quiz.read_questions_of(lesson) for lesson in quiz.lessons_with_questions()}
QUESTIONS = [question for asked in ASKED.values() for question in asked]
CHOICES = [choice for question in QUESTIONS for choice in question.choices]


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("AI4INDIA_LANGUAGE", "en")


def cells_of(lesson):
    return json.loads(LESSONS[lesson].read_text(encoding="utf-8"))["cells"]


def right_choice(question):
    return next(place for place, choice in enumerate(question.choices, 1) if choice.right)


def test_each_lesson_has_five():
    assert set(LESSONS) <= set(ASKED) and len(QUESTIONS) == 100
    assert {len(asked) for asked in ASKED.values()} == {5}


def test_each_question_has_one_right_choice_and_two_or_three_wrong_ones():
    for question in QUESTIONS:
        assert 3 <= len(question.choices) <= 4 and sum(choice.right for choice in question.choices) == 1
        for code in ("en", "hi"):
            assert len({choice.text[code] for choice in question.choices}) == len(question.choices), question.text


def test_nothing_is_left_out_or_said_twice():
    for code in ("en", "hi"):
        texts = [question.text[code] for question in QUESTIONS] + [choice.reason[code] for choice in CHOICES]
        assert min(map(len, texts)) > 15 and max(Counter(texts).values()) == 1
        assert all(text == " ".join(text.split()) for text in texts)


def test_hindi_is_hindi():
    """In Devanagari, but for a choice that is a number or a piece of code; and आप throughout, as in the summaries."""
    for text in [question.text["hi"] for question in QUESTIONS] + [choice.reason["hi"] for choice in CHOICES]:
        assert len(re.findall(r"[\u0900-\u097f]", text)) > 0.4 * len(re.sub(r"`[^`]*`|\W", "", text)), text
        assert wandering_words(text) == [], text
    for choice in CHOICES:
        if not re.search(r"[\u0900-\u097f]", choice.text["hi"]):
            assert choice.text["hi"] == choice.text["en"], choice.text
            assert not re.search(r"[a-z]{3}", re.sub(r"`[^`]*`", "", choice.text["en"])), choice.text


@pytest.mark.parametrize("code", ["en", "hi"])
def test_lengths_and_places_do_not_give_the_answer_away(code):
    longest = shortest = 0
    places = Counter()
    for question in QUESTIONS:
        right = len(question.choices[right_choice(question) - 1].text[code])
        wrong = [len(choice.text[code]) for choice in question.choices if not choice.right]
        longest += right > max(wrong)
        shortest += right < min(wrong)
        places[right_choice(question)] += len(question.choices) == 3
    assert longest < 0.45 * len(QUESTIONS) and shortest < 0.45 * len(QUESTIONS)
    assert min(places[place] for place in (1, 2, 3)) > 0.2 * places.total()
    for asked in ASKED.values():
        assert max(Counter(map(right_choice, asked)).values()) <= 3


@pytest.mark.parametrize("lesson", LESSONS)
def test_wrong_choices_lead_back_to_sections_that_are_there(lesson):
    prose = "\n\n".join("".join(cell["source"]) for cell in cells_of(lesson) if cell["cell_type"] == "markdown")
    there = {int(n) for n in re.findall(r"(?m)^## (\d+) · ", prose)}
    for question in ASKED[lesson]:
        named = Counter()
        for choice in question.choices:
            english, hindi = (
                [int(n) for group in re.findall(pattern, choice.reason[code]) for n in re.findall(r"\d+", group)]
                for code, pattern in (("en", r"[Ss]ections? (\d+(?: and \d+)?)"), ("hi", r"भाग (\d+)"))
            )
            assert set(english) == set(hindi) <= there, choice.reason
            named.update({choice.right: len(english)})
        assert named[False] >= len(question.choices) - 1, f"a wrong choice names no section: {question.text['en']}"


def test_they_take_about_five_minutes():
    """As TEACHING.md says: all their words, and all reasons, at 120 a minute."""
    for lesson, asked in ASKED.items():
        words = [
            text for q in asked for text in (q.text["en"], *(f"{c.text['en']} {c.reason['en']}" for c in q.choices))
        ]
        assert 3.5 <= sum(len(text.split()) for text in words) / 120 <= 5.5, lesson
    assert "about five minutes more" in (ROOT / "notebooks" / "TEACHING.md").read_text(encoding="utf-8")


# --- answers ---


def test_every_choice_is_answered_with_its_reason(capsys):
    for code, verdicts in (("en", ("not yet.", "right.")), ("hi", ("अभी नहीं।", "सही।"))):
        checks.language(code)
        for lesson, asked in ASKED.items():
            shown = checks.questions(lesson)
            for number, question in enumerate(asked, 1):
                for place, choice in enumerate(question.choices, 1):
                    assert checks.answer(number, place) is choice.right
                    said = capsys.readouterr().out
                    assert said.endswith(f" {number}: {verdicts[choice.right]} {choice.reason[code]}\n")
            assert shown.right == {1, 2, 3, 4, 5}


def test_answers_belong_to_the_lesson_that_was_shown_last():
    checks.questions("03")
    checks.questions("06")
    place = right_choice(ASKED["06"][0])
    assert checks.answer(1, place)
    assert quiz.Quiz("03").answer(1, right_choice(ASKED["03"][0]))


@pytest.mark.parametrize(
    "given", [(0, 1), (6, 1), (-1, 1), (1, 0), (1, 5), ("1", 2), (1, "2"), (True, 1), (1.0, 1), (1, None)]
)
def test_other_numbers_are_told(given, capsys):
    checks.questions("06")
    with pytest.raises(ValueError, match=r"(question|choice) .+ is not there: .+ has (question|choice)s 1 to \d"):
        checks.answer(*given)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("lesson", ["6", "20", "", "06_attention", 6, None, "../quiz"])
def test_other_lessons_are_told(lesson):
    with pytest.raises(ValueError, match="has no questions: write its two digits, such as '06'"):
        checks.questions(lesson)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("why_hi", "why_hindi", "'why_hi' is missing"),
        ("[question.right]", "[question.rihgt]", "'right' is missing"),
        ('en = "', "en = ", "Invalid value"),
        ("question", "quest", "'question' is missing"),
    ],
)
def test_a_file_that_was_changed_badly_is_named(tmp_path, monkeypatch, old, new, said):
    text = (quiz.FOLDER / "06.toml").read_text(encoding="utf-8")
    (tmp_path / "06.toml").write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(quiz, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=rf"06\.toml cannot be read: .*{said}"):
        quiz.read_questions_of.__wrapped__("06")


def test_an_answer_before_any_question_is_told(monkeypatch):
    monkeypatch.setattr(quiz, "_latest", None)
    with pytest.raises(ValueError, match=r'run checks.questions\("06"\) first'):
        checks.answer(1, 1)


def test_answers_stand_in_the_progress(tmp_path, monkeypatch, capsys):
    own = tmp_path / "progress.jsonl"
    monkeypatch.setenv("AI4INDIA_PROGRESS", str(own))
    monkeypatch.setattr(tries, "_latest", {})
    right = right_choice(ASKED["06"][2])
    shown = checks.questions("06")
    shown.answer(3, right % 3 + 1)
    shown.answer(3, right)
    shown.answer(1, right_choice(ASKED["06"][0]))
    tried = read_tries(own.read_text(encoding="utf-8"))
    assert {name: (one.tries, one.solved) for name, one in tried.items()} == {
        "06.question_3": (2, True),
        "06.question_1": (1, True),
    }
    capsys.readouterr()
    checks.progress()
    mapped = capsys.readouterr().out
    assert mapped.split("06 Attention")[1].splitlines()[0].endswith(" 2 of 5")
    assert mapped.split("07 ")[1].splitlines()[0].endswith(" ·")
    assert "Also tried" not in mapped and "You read 0 hints" in mapped


# --- shown ---


def test_clicks_are_answers(capsys):
    widgets = pytest.importorskip("ipywidgets")
    shown = quiz.Quiz("06")
    *parts, tally = quiz.buttons(shown).children
    rows = [part for part in parts if isinstance(part, widgets.HBox)]
    said = [part for part in parts if isinstance(part, widgets.HTML)][1::2]
    assert [len(row.children) for row in rows] == [len(question.choices) for question in ASKED["06"]]
    for number, (row, question) in enumerate(zip(rows, ASKED["06"], strict=True), 1):
        for button, choice in zip(row.children, question.choices, strict=True):
            assert button.tooltip == choice.text["en"]
            button.click()
            assert quiz._marked(choice.reason["en"]) in said[number - 1].value
            assert button.button_style == ("success" if choice.right else "danger")
        assert tally.value == f"{number} of 5 answered rightly."
    assert capsys.readouterr().out == "", "what is said stands beside the buttons"


def test_buttons_speak_hindi():
    pytest.importorskip("ipywidgets")
    checks.language("hi")
    *parts, tally = quiz.buttons(quiz.Quiz("06")).children
    parts[1].children[0].click()
    assert parts[2].value.startswith('<p aria-live="polite">प्रश्न 1: ') and tally.value.endswith("उत्तर सही।")


VIEW = quiz._VIEW


def test_a_program_that_runs_a_notebook_gets_no_widget(monkeypatch):
    """Its name differs in each run, and the stored outputs must not. In JupyterLab there is one."""
    pytest.importorskip("ipywidgets")
    interactive = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert not checks.questions("06").click, "no IPython"
    monkeypatch.setattr("IPython.get_ipython", interactive)
    assert VIEW not in checks.questions("06")._repr_mimebundle_()
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/06_attention.ipynb")
    bundle = checks.questions("06")._repr_mimebundle_()
    assert bundle["text/plain"] == repr(checks.questions("06"))
    by_widgets = quiz.buttons(checks.questions("06"))._repr_mimebundle_()  # as ipywidgets 8 itself shows them
    assert bundle[VIEW] | {"model_id": ""} == by_widgets[VIEW] | {"model_id": ""} and bundle[VIEW]["model_id"]
    assert VIEW not in checks.questions("06", click=False)._repr_mimebundle_()


def test_signs_of_a_page_are_shown_and_not_obeyed():
    page = checks.questions("14")._repr_html_()
    assert "<code>&lt;|assistant|&gt;</code>" in page and "<|" not in page
    assert "<em>" in quiz._marked(next(c.reason["en"] for c in CHOICES if "*" in c.reason["en"]))


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_lesson_shows_its_questions_before_the_summary(lesson):
    """As the library has them: whoever changes a question runs the lesson again. No answer stands in the lesson."""
    cells = cells_of(lesson)
    sources = ["".join(cell["source"]) for cell in cells]
    place = sources.index(f'from ai4india_lib import checks\n\nchecks.questions("{lesson}")')
    assert sources[place - 1].startswith("## Questions\n") and "## Summary" in sources[place + 1]
    (output,) = cells[place]["outputs"]
    stored = {kind: "".join(text) for kind, text in output["data"].items()}
    assert stored == quiz.Quiz(lesson, click=False)._repr_mimebundle_(), "stored outputs are those of plain runs"
    whole = json.dumps(cells, ensure_ascii=False)
    reasons = [choice.reason[code] for q in ASKED[lesson] for choice in q.choices for code in ("en", "hi")]
    assert [reason for reason in reasons if reason in whole] == []
