"""python -m ai4india_lib class collect FOLDER: the works of a class are marked, and told in one table."""

from __future__ import annotations

import argparse
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ...basics.files import replaced_file
from ...checks.exercises import Exercise, course_exercises, exercises_of, lesson_files
from ..lessons import project_folder
from .alike import Form, Likeness, form_of, is_published, likenesses, own_sources
from .answers import Attempt, Program, attempts_of
from .marker import Mark, Marker
from .secret import read_secret
from .submissions import Learner, Work, cells_of, read_class
from .table import write_csv, write_page

ODD = re.compile(
    r"_EXERCISES|checks\.lesson_\d\d|\bos\.(?:_exit|kill|fork|system|remove)\b|\brmtree\b|\bsubprocess\b|\bctypes\b"
    r"|_getframe|\bgc\.|addaudithook|setrlimit|/proc/|\binspect\.|__subclasses__|\bsocket\b|notebooks/solutions"
)
BEST = ("right", "not yet", "time", "memory", "stopped", "changed", "no Python", "not done")  # of several attempts


@dataclass
class Row:
    """A learner's line of the table."""

    learner: Learner
    marks: dict[str, Mark] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)  # exercises whose answer is the published one

    @property
    def name(self) -> str:
        return self.learner.name

    def tries(self, exercise: str) -> int | None:
        """In how many tries, by the learner's own progress file; None where it does not say."""
        tried = self.learner.tried.get(exercise)
        return tried.tries if tried else None

    def solved(self) -> list[str]:
        return [name for name, mark in self.marks.items() if mark.verdict == "right"]


@dataclass
class Table:
    """What is known of a class."""

    rows: list[Row]
    exercises: dict[str, Exercise]  # those of the lessons that somebody handed in
    alike: list[Likeness]
    ignored: list[tuple[str, str]]


def run(options: argparse.Namespace) -> None:
    """Mark a folder, write marks.csv and marks.html, and say the most important."""
    course, started = project_folder(), time.monotonic()
    folder, output = Path(options.folder), Path(options.output)
    if options.seconds <= 0 or options.memory <= 0:
        raise ValueError("--seconds and --memory must be above 0")
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"--output {output} is a file: name a folder")
    secret = read_secret(options.secret) if options.certificates else b""
    table = collect(folder, course, seconds=options.seconds, memory=int(options.memory * 1e9), tell=_show)
    output.mkdir(parents=True, exist_ok=True)
    with replaced_file(output / "marks.csv") as beside:
        write_csv(beside, table)
    with replaced_file(output / "marks.html") as beside:
        write_page(beside, table, folder.resolve().name)
    solved = sum(len(row.solved()) for row in table.rows)
    print(f"{len(table.rows)} learners, {solved} right answers to {len(table.exercises)} exercises, ", end="")
    print(f"{len(table.alike)} pairs of answers alike, {len(table.ignored)} files passed over: ", end="")
    print(f"{time.monotonic() - started:.0f} s")
    if options.certificates:
        _certificates(table, output / "certificates", secret)
    print(f"now look at {output / 'marks.html'}; the same for a spreadsheet: {output / 'marks.csv'}")


def collect(folder: Path, course: Path, *, seconds: float = 10.0, memory: int = 2_000_000_000, tell=None) -> Table:
    """Read, mark and compare all works of a folder. `tell` is called with each learner's name and number."""
    from .worker import known_names

    files = lesson_files(course)
    learners, ignored = read_class(folder, [path.stem for path in files])
    exercises, known, lessons = course_exercises(course), set(known_names()), _Lessons(files)
    rows = [Row(learner) for learner in learners]
    answers = {row.name: _answers(row, exercises, lessons, known, ignored) for row in rows}
    asked = {attempt.exercise.split(".")[0] for found in answers.values() for attempt in found}
    asked |= {exercises[name].lesson for row in rows for name in row.learner.tried if name in exercises}
    exercises = {name: exercise for name, exercise in exercises.items() if exercise.lesson in asked}
    solutions = _solutions(course, exercises, known)
    with Marker(asked, folder, seconds=seconds, memory=memory) as marker:
        for number, row in enumerate(rows, 1):
            if tell:
                tell(row.name, number, len(rows))
            marker.fresh()
            _mark(row, answers[row.name], marker, exercises, lessons, solutions)
    forms: dict[str, dict[str, Form]] = {}
    for row in rows:
        for exercise, form in row.forms.items():
            forms.setdefault(exercise, {})[row.name] = form
    given = {name: [solutions[name], *_forms_in(lessons[exercises[name].lesson])] for name in forms}
    return Table(rows, exercises, likenesses(forms, given), ignored)


class _Lessons(dict[str, Program]):
    """ "06" → the lesson's own statements, read when they are first asked for."""

    def __init__(self, files: list[Path]):
        super().__init__()
        self.files = {path.name[:2]: path for path in files}

    def __missing__(self, lesson: str) -> Program:
        self[lesson] = Program.of(cells_of(self.files[lesson].read_text(encoding="utf-8")), True)
        return self[lesson]


def _show(name: str, number: int, of: int) -> None:
    print(f"\r{number} of {of}: {name[:50]:<50}", end="" if number < of else "\n", file=sys.stderr, flush=True)


def _answers(row: Row, exercises: dict, lessons: dict, known: set[str], ignored: list) -> list[Attempt]:
    found = []
    for work in row.learner.works:
        try:
            attempts = attempts_of(work, exercises, lessons, known)
        except RecursionError:
            row.learner.remarks.append(f"{work.path}: its code is nested too deeply to be read")
            continue
        row.learner.remarks += _to_look_at(work, {attempt.exercise for attempt in attempts}, exercises, lessons)
        if not attempts:
            ignored.append((work.path, "no answer to an exercise is in it"))
        found += attempts
    return found


def _to_look_at(work: Work, found: set[str], exercises: dict, lessons: dict) -> list[str]:
    """Words in a learner's own code that no answer needs: said to the teacher, and no verdict."""
    given = "\n".join(text for lesson in {exercises[name].lesson for name in found} for text in lessons[lesson].cells)
    lines = [line for line in work.text.split("\n") if line.strip() not in given]
    words = dict.fromkeys(word for line in lines if not line.lstrip().startswith("#") for word in ODD.findall(line))
    return [f"{work.path} uses {', '.join(words)}: look at it"] if words and found else []


def _solutions(course: Path, exercises: dict[str, Exercise], known: set[str]) -> dict[str, Form]:
    """The form of each published solution."""
    found = {name: form_of([]) for name in exercises}
    for path in sorted((course / "notebooks" / "solutions").glob("[0-9][0-9]_*.ipynb")):
        if path.name[:2] not in {exercise.lesson for exercise in exercises.values()}:
            continue
        sources = {exercise.name: exercise.source for exercise in exercises_of(path)}
        program = Program.of(cells_of(path.read_text(encoding="utf-8")))
        for name in sources.keys() & exercises.keys():
            place = next(at for exercise, _, at in program.calls if exercise == name)
            cell = program.statements[place].cell
            own = [s for s in program.statements if s.cell == cell and s.is_definition]
            found[name] = form_of([statement.text for statement in own])
    return found


def _forms_in(lesson: Program) -> list[Form]:
    """The forms of all functions that a lesson shows."""
    return [form_of([statement.text]) for statement in lesson.statements if statement.is_definition]


def _mark(row: Row, attempts: list[Attempt], marker: Marker, exercises: dict, lessons: dict, solutions: dict) -> None:
    """Judge a learner's attempts; of several at one exercise the best one counts."""
    for attempt in attempts:
        name = attempt.exercise
        if name in row.marks and row.marks[name].verdict == "right":
            continue
        mark = marker.mark(attempt)
        if name in row.marks and BEST.index(mark.verdict) >= BEST.index(row.marks[name].verdict):
            continue
        row.marks[name] = mark
        row.forms.pop(name, None)
        if mark.verdict not in ("not done", "no Python"):
            with suppress(RecursionError):  # nested so deeply that it is compared with nobody's
                row.forms[name] = form_of(own_sources(attempt, lessons[exercises[name].lesson]))
    row.published = [name for name, form in row.forms.items() if is_published(form, solutions[name])]
    for name, tried in row.learner.tried.items():
        if name in exercises and name not in row.marks:
            verdict = "says right" if tried.solved else "says not yet"
            row.marks[name] = Mark(verdict, tried.hints[-1] if tried.hints else "")


def _certificates(table: Table, folder: Path, secret: bytes) -> None:
    """A page for each learner whose answers, marked here, solve all core exercises."""
    from ...checks.certificates import certificate_of, draw_certificate

    for number, row in enumerate(table.rows):
        try:
            made = certificate_of(row.name.rsplit("/", 1)[-1], set(row.solved()))
        except ValueError as missing:
            print(f"no certificate for {row.name}: {missing}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        safe = "".join(sign if sign.isalnum() or ord(sign) > 127 else "-" for sign in row.name)[:60]
        draw_certificate(made, folder / f"{number + 1:02d}-{safe}.svg", secret)
        print(f"{folder}: {row.name} {made.code(secret)}")
