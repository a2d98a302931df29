"""The exercises as the lessons have them: name, kind, title, stub. The lessons' own files are read, no list is kept."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COURSE = Path(__file__).resolve().parents[2]
KINDS = ("warm-up", "core", "stretch")
_HEADING = re.compile(r"(?m)^###? (Warm-up|Core|Stretch)\b:?[ \t]*(.*)")


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson, as its notebook asks for it."""

    name: str  # "06.causal_mask"
    kind: str  # one of KINDS
    title: str  # "the causal mask"
    answer: str  # what is handed to `check`: "causal_mask", "(pack, unpack)"
    source: str  # the whole cell: stub and check

    @property
    def lesson(self) -> str:
        return self.name.split(".")[0]

    @property
    def points(self) -> int:
        """Of a teacher's marks: 1 for a warm-up, 2 for a core exercise, 3 for a stretch."""
        return KINDS.index(self.kind) + 1


def check_calls(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """(name of the exercise, what is handed over) of each `check("06.causal_mask", …)` in a piece of Python."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            given = [*node.args, *(word.value for word in node.keywords if word.arg == "answer")]
            if called == "check" and len(given) >= 2 and isinstance(given[0], ast.Constant):
                name = given[0].value
                if isinstance(name, str) and re.fullmatch(r"\d\d\.\w+", name):
                    yield name, given[1]


def exercises_of(lesson: Path) -> list[Exercise]:
    """The exercises of a lesson's notebook, or of its solutions, in their order there."""
    found, kind, title = [], "", ""
    for cell in json.loads(lesson.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and (headings := _HEADING.findall(source)):
            kind, title = headings[-1][0].lower(), headings[-1][1].strip()
        elif cell["cell_type"] == "code" and "check(" in source and kind:
            found += [
                Exercise(name, kind, title, ast.unparse(answer), source)
                for name, answer in check_calls(ast.parse(source))
            ]
    return found


def lesson_files(course: Path = COURSE) -> list[Path]:
    """The notebooks of the lessons, in their order; none where the library stands without them."""
    return sorted((course / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def lesson_titles(course: Path = COURSE) -> dict[str, str]:
    """ "06" → "Attention", from the lessons' first lines."""
    first = (json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"] for path in lesson_files(course))
    found = (re.match(r"# (\d\d) · (.+)", "".join(source)) for source in first)
    return {title[1]: title[2].strip() for title in found if title}


def course_exercises(course: Path = COURSE) -> dict[str, Exercise]:
    """Name → exercise, of all lessons."""
    return {exercise.name: exercise for path in lesson_files(course) for exercise in exercises_of(path)}
