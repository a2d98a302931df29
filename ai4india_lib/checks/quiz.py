"""Five questions a lesson, with several choices each: clicked or answered by number, and each choice gets its reason.

The texts stand in `questions/NN.toml`, in English and Hindi, so that a notebook holds no answers. Each question there
has one `right` choice and two or three `wrong` ones; in what order they are shown follows from its number alone.
"""

from __future__ import annotations

import html
import os
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from .language import language
from .tries import keep_try

FOLDER = Path(__file__).parent / "questions"
_WIDTH = 88  # characters in a line of the plain text
_VIEW = "application/vnd.jupyter.widget-view+json"  # the same of ipywidgets 7 (Colab) and 8
_SAID = {  # with {0}, {1}: what is filled in
    "en": {
        "right": "Question {0}: right. {1}",
        "wrong": "Question {0}: not yet. {1}",
        "tally": "{0} of {1} answered rightly.",
        "click": "Click the number of a choice.",
        "number": "Answer in a cell of its own: `checks.answer(3, 2)` is choice 2 of question 3.",
    },
    "hi": {
        "right": "प्रश्न {0}: सही। {1}",
        "wrong": "प्रश्न {0}: अभी नहीं। {1}",
        "tally": "{1} में से {0} उत्तर सही।",
        "click": "किसी विकल्प की संख्या पर क्लिक कीजिए।",
        "number": "उत्तर एक नए सेल में लिखिए: `checks.answer(3, 2)` यानी प्रश्न 3 का विकल्प 2।",
    },
}


@dataclass(frozen=True)
class Choice:
    """One choice of a question; `text` and `reason` say it in each language: {"en": …, "hi": …}."""

    text: dict[str, str]
    reason: dict[str, str]
    right: bool


@dataclass(frozen=True)
class Question:
    """A question and its choices, in the order in which they are shown. One choice is right."""

    text: dict[str, str]
    choices: tuple[Choice, ...]


def lessons_with_questions() -> list[str]:
    """The numbers of the lessons that have questions: ["00", "01", …]."""
    return sorted(path.stem for path in FOLDER.glob("[0-9][0-9].toml"))


def question_names(lesson: str) -> list[str]:
    """The names under which a lesson's questions stand in a learner's progress: ["06.question_1", …]."""
    return [f"{lesson}.question_{number}" for number in range(1, len(read_questions_of(lesson)) + 1)]


@cache
def read_questions_of(lesson: str) -> tuple[Question, ...]:
    """The questions of a lesson such as "06". Raises ValueError for a lesson that has none, and for a broken file."""
    if lesson not in lessons_with_questions():
        known = ", ".join(lessons_with_questions())
        raise ValueError(f"lesson {lesson!r} has no questions: write its two digits, such as '06'; there are {known}")
    file = FOLDER / f"{lesson}.toml"
    try:
        return _read(lesson, tomllib.loads(file.read_text(encoding="utf-8"))["question"])
    except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        wrong = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{file} cannot be read: {wrong}. Compare it with another lesson's file") from None


def _read(lesson: str, found: list[dict]) -> tuple[Question, ...]:
    places = _shuffled(range(3), f"{lesson} first") + _shuffled(range(3), f"{lesson} then")  # none more than twice
    return tuple(_question(one, f"{lesson}.{n}", places[(n - 1) % 6]) for n, one in enumerate(found, 1))


def _question(written: dict, name: str, place: int) -> Question:
    """A question as it stands in a file, with the right choice at this place, counted from 0."""
    choices = [_choice(wrong, False) for wrong in _shuffled(written["wrong"], name)]
    if len(choices) == 3:  # the fourth place must not stay empty
        place = _shuffled(range(4), name)[place]
    choices.insert(place, _choice(written["right"], True))
    return Question({code: written[code] for code in ("en", "hi")}, tuple(choices))


def _choice(written: dict, right: bool) -> Choice:
    texts, reasons = ({code: written[start + code] for code in ("en", "hi")} for start in ("", "why_"))
    return Choice(texts, reasons, right)


def _shuffled(items: Iterable, seed: str) -> list:
    """By sums and not by `random`, whose order might change with Python: the notebooks' stored outputs must not."""
    drawn = [(sha256(f"{seed} {number}".encode()).digest(), item) for number, item in enumerate(items)]
    return [item for _, item in sorted(drawn, key=lambda pair: pair[0])]


class Quiz:
    """The questions of one lesson, as a notebook shows them: to click at, as a page, or as plain text."""

    def __init__(self, lesson: str, click: bool | None = None):
        self.lesson, self.questions = lesson, read_questions_of(lesson)
        self.click = _can_click() if click is None else click
        self.right: set[int] = set()  # the numbers of questions that were answered rightly

    def answer(self, question: int, choice: int) -> bool:
        """Answer by number, print the reason, and return whether it is right. Raises ValueError for other numbers."""
        right, said = self.judge(question, choice)
        print(said)
        return right

    def judge(self, question: int, choice: int) -> tuple[bool, str]:
        """Whether a choice is right, and the sentence about it; both are counted from 1."""
        _expect_number("question", question, len(self.questions), f"lesson {self.lesson}")
        choices = self.questions[question - 1].choices
        _expect_number("choice", choice, len(choices), f"question {question}")
        chosen, code = choices[choice - 1], language()
        if chosen.right:
            self.right.add(question)
        keep_answer(self.lesson, question, chosen.right, chosen.reason["en"])
        return chosen.right, _SAID[code]["right" if chosen.right else "wrong"].format(question, chosen.reason[code])

    def tally(self) -> str:
        """How many questions have been answered rightly, in a sentence."""
        return _SAID[language()]["tally"].format(len(self.right), len(self.questions))

    def __repr__(self) -> str:
        code, lines = language(), []
        for number, question in enumerate(self.questions, 1):
            lines += [*_wrapped(f"{number}. ", question.text[code])]
            for place, choice in enumerate(question.choices, 1):
                lines += _wrapped(f"   {place}) ", choice.text[code])
            lines.append("")
        return "\n".join([*lines, *_wrapped("", _SAID[code]["number"])])

    def _repr_html_(self) -> str:
        code = language()
        page = _page(self.questions, code)
        if code == "en":
            hindi = _page(self.questions, "hi")
            page += f'\n<details class="hindi" lang="hi"><summary>हिन्दी</summary>\n{hindi}\n</details>'
        return page

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        bundle: dict[str, object] = {"text/plain": repr(self), "text/html": self._repr_html_()}
        if self.click:
            bundle[_VIEW] = {"version_major": 2, "version_minor": 0, "model_id": buttons(self).model_id}
        return bundle


def questions(lesson: str, *, click: bool | None = None) -> Quiz:
    """The five questions of a lesson, such as "06": as the last line of a cell they are shown.

    Where a browser shows widgets, one clicks at the choices; everywhere `answer(3, 2)` answers by number. `click` says
    whether widgets are shown, if the library guesses wrongly. Raises ValueError for a lesson without questions.
    """
    global _latest
    _latest = Quiz(lesson, click)
    return _latest


_latest: Quiz | None = None


def answer(question: int, choice: int) -> bool:
    """Answer a question of the lesson that `questions` showed last; both numbers are counted from 1.

    Prints the reason and returns whether it is right. Raises ValueError where nothing was shown, or for other numbers.
    """
    if _latest is None:
        raise ValueError(
            'no questions were shown yet: run checks.questions("06") first, with the number of your lesson'
        )
    return _latest.answer(question, choice)


def keep_answer(lesson: str, question: int, right: bool, reason: str) -> None:
    """Called with each answer, clicked or written: it stands in the learner's progress as "06.question_3"."""
    keep_try(question_names(lesson)[question - 1], right, reason)


def buttons(quiz: Quiz):
    """The questions as widgets of `ipywidgets`: a row of buttons for each, and below it what is said of the choice."""
    import ipywidgets as widgets

    code, tally = language(), widgets.HTML()
    tally.value = html.escape(_SAID[code]["click"])
    parts = []
    for number, question in enumerate(quiz.questions, 1):
        said = widgets.HTML()
        row = [
            widgets.Button(description=str(place), tooltip=choice.text[code], layout=widgets.Layout(width="4em"))
            for place, choice in enumerate(question.choices, 1)
        ]
        for button in row:
            button.on_click(lambda button, number=number, said=said: _clicked(quiz, number, button, said, tally))
        parts += [widgets.HTML(_page(quiz.questions, code, only=number)), widgets.HBox(row), said]
    return widgets.VBox([*parts, tally])


def _clicked(quiz: Quiz, number: int, button, said, tally) -> None:
    right, sentence = quiz.judge(number, int(button.description))
    button.button_style, button.icon = ("success", "check") if right else ("danger", "times")
    said.value = f'<p aria-live="polite">{_marked(sentence)}</p>'
    tally.value = html.escape(quiz.tally())


def _can_click() -> bool:
    """Whether somebody looks at this kernel in a browser that shows widgets, as far as one can know.

    Programs that run a notebook (nbval, nbconvert) show none, and what they store must be the same each time: a widget
    has another name in each run.
    """
    if find_spec("ipywidgets") is None or "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and (
        "JPY_SESSION_NAME" in os.environ  # JupyterLab and Notebook
        or "google.colab" in sys.modules
        or os.environ.get("KAGGLE_KERNEL_RUN_TYPE") == "Interactive"
        or "__vsc_ipynb_file__" in shell.user_ns  # VS Code
    )


def _expect_number(what: str, number: object, most: int, where: str) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
        raise ValueError(
            f"{what} {number!r} is not there: {where} has {what}s 1 to {most}; answer(3, 2) takes two numbers"
        )


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False)


def _marked(text: str) -> str:
    """A sentence for a page: escaped; what stands between ` signs is code, between * signs it is stressed."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def _page(asked: tuple[Question, ...], code: str, only: int | None = None) -> str:
    """All questions as a numbered list, or only one of them, with its number."""
    items = []
    for number, question in enumerate(asked, 1):
        if only in (None, number):
            choices = "\n".join(f"<li>{_marked(choice.text[code])}</li>" for choice in question.choices)
            items.append(f'<li value="{number}">{_marked(question.text[code])}\n<ol>\n{choices}\n</ol></li>')
    hint = "" if only else f"\n<p>{_marked(_SAID[code]['number'])}</p>"
    return f'<div lang="{code}">\n<ol>\n' + "\n".join(items) + f"\n</ol>{hint}\n</div>"
