"""Which cells an answer needs: its own definition, and what that uses, however the notebook was reordered.

Sources are only read here. A statement is taken if an answer, or a statement taken before, uses a name that it makes.
Names that a learner's file does not make come from the lesson itself: so an exercise's cell can be handed in alone.
"""

from __future__ import annotations

import ast
import re
import symtable
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from ...checks.exercises import Exercise, check_calls
from .submissions import Work

SETUP = "REPOSITORY = "  # a line of the cell with which each lesson begins: the marking sets up in its own way
MOST_ATTEMPTS = 3  # cells of one exercise in one file that are tried, the last ones first
_TIMED = re.compile(r"%%(time|timeit|capture|prun)\b.*")
_GOES_ON = re.compile(r"[)\]}#]|(else|elif|except|finally)\b")


@dataclass
class Statement:
    """One statement of a notebook's top level."""

    cell: int
    text: str
    line: int  # how many lines of its cell stand before it
    node: ast.stmt
    makes: set[str]
    uses: set[str]
    changes: set[str]  # names whose content it changes, as in `table[3] = 1`
    of_the_lesson: bool = False

    @property
    def is_definition(self) -> bool:
        return isinstance(self.node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)


@dataclass
class Program:
    """A notebook or script, cut into statements; what is no Python is kept as it is."""

    cells: list[str]
    statements: list[Statement] = field(default_factory=list)
    broken: list[tuple[int, str, str]] = field(default_factory=list)  # (statements before it, source, Python's word)

    @classmethod
    def of(cls, cells: Iterable[str], of_the_lesson: bool = False) -> Program:
        program = cls([_plain(cell) for cell in cells])
        for number, source in enumerate(program.cells):
            if SETUP not in source:
                for first, piece in _pieces(source):
                    program._take(number, first, piece, of_the_lesson)
        return program

    def _take(self, cell: int, first: int, piece: str, of_the_lesson: bool) -> None:
        try:
            found, lines = ast.parse(piece).body, piece.split("\n")
            ends = [0, *(node.end_lineno for node in found)]
            starts = [*map(_first_line, found), len(lines) + 1]
            for number, node in enumerate(found):
                alone = ends[number] < starts[number] and ends[number + 1] < starts[number + 1]
                text = "\n".join(lines[starts[number] - 1 : node.end_lineno]) if alone else ast.unparse(node)
                self.statements.append(_statement(cell, first + starts[number] - 1, text, node, of_the_lesson))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = getattr(error, "lineno", None)
            where = f"line {first + line}: " if isinstance(line, int) else ""
            why = f"{where}{getattr(error, 'msg', None) or type(error).__name__}"
            self.broken.append((len(self.statements), piece, why))

    @cached_property
    def calls(self) -> list[tuple[str, str, int]]:
        """(exercise, answer, place among the statements) of each `check(…)`."""
        return [
            (name, ast.unparse(answer), place)
            for place, statement in enumerate(self.statements)
            for name, answer in check_calls(statement.node)
        ]

    def made(self, name: str, before: int) -> int | None:
        """The place of the statement that makes a name: the last one before a place, else the first one after it."""
        places = self._places["makes"].get(name, [])
        earlier = bisect_left(places, before)
        return places[earlier - 1] if earlier else places[0] if places else None

    def changed(self, names: set[str], after: int, before: int) -> list[int]:
        """The places between two others of statements that change the content of one of these names."""
        places = sorted({place for name in names for place in self._places["changes"].get(name, [])})
        return places[bisect_right(places, after) : bisect_left(places, before)]

    @cached_property
    def _places(self) -> dict[str, dict[str, list[int]]]:
        """For what is made, and for what is changed: name → places."""
        found = {"makes": {}, "changes": {}}
        for place, statement in enumerate(self.statements):
            for what, of_names in found.items():
                for name in getattr(statement, what):
                    of_names.setdefault(name, []).append(place)
        return found

    def why_broken(self, name: str, before: int) -> str:
        """What Python says of a piece that makes a name, and is the last to do so before a place; else ""."""
        pattern = rf"(?m)^\s*(def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*="
        at = self.made(name, before)
        later = (
            why for place, text, why in self.broken if (at is None or at < place <= before) and re.search(pattern, text)
        )
        return next(later, "")


@dataclass
class Attempt:
    """What must be run to judge one answer."""

    exercise: str
    path: str
    answer: str  # the expression that is handed to the check
    pieces: list[Statement]
    cells: list[str]  # of the whole notebook
    last: int  # the number of the cell with the check
    broken: str = ""  # why there is nothing to run

    @property
    def own(self) -> list[Statement]:
        return [piece for piece in self.pieces if not piece.of_the_lesson]


def attempts_of(
    work: Work, exercises: dict[str, Exercise], lessons: dict[str, Program], known: set[str]
) -> list[Attempt]:
    """The answers of a file: for each exercise the last `MOST_ATTEMPTS` that were checked, the last one first.

    Where the call of `check` is gone, the name that the lesson gives the answer is looked for. `known` are names that
    are there without being made.
    """
    program = Program.of(work.cells)
    called = [call for call in program.calls if call[0] in exercises]
    seen: dict[str, list[tuple[str, int]]] = {}
    for name, answer, place in called:
        seen.setdefault(name, []).append((answer, place))
    about = {name.split(".")[0] for name in seen} or _lessons_of(work, exercises, program)
    for name, exercise in exercises.items():
        if name not in seen and exercise.lesson in about and _defines(program, exercise):
            seen[name] = [(exercise.answer, len(program.statements))]
    found = []
    for name, calls in seen.items():
        lesson = lessons[exercises[name].lesson]
        for answer, place in reversed(calls[-MOST_ATTEMPTS:]):
            found.append(_attempt(name, work.path, answer, place, program, lesson, known))
    return found


def _attempt(
    name: str, path: str, answer: str, place: int, program: Program, lesson: Program, known: set[str]
) -> Attempt:
    there = next((at for exercise, _, at in lesson.calls if exercise == name), len(lesson.statements))
    needed, in_order = {}, []

    def take(source: Program, at: int, called_at: int) -> None:
        """A statement after all that it needs."""
        if (id(source), at) in needed:
            return
        needed[id(source), at] = None
        statement = source.statements[at]
        from_where = called_at if statement.is_definition else at  # a function looks its names up when it is called
        find(statement.uses, source, from_where)
        in_order.append((source, at))
        if isinstance(statement.node, ast.Import | ast.ImportFrom):  # `plt.show()` makes nothing that is needed
            return
        for later in source.changed(statement.makes, at, called_at if at < called_at else len(source.statements)):
            take(source, later, called_at)

    def find(names: set[str], source: Program, before: int) -> None:
        for used in sorted(names):
            at = source.made(used, before)
            if at is not None and not (source is lesson and used in known):
                take(source, at, max(before, at))
            elif source is program and used not in known and (at := lesson.made(used, there)) is not None:
                take(lesson, at, max(there, at))

    stars = [at for at, statement in enumerate(program.statements) if "*" in statement.makes]
    for at in stars:
        take(program, at, at)
    wanted = _names_in(answer)
    find(wanted, program, place)
    broken = next(filter(None, (program.why_broken(used, place) for used in sorted(wanted))), "")
    order = [at for source, at in in_order if source is program]
    if all(at < place for at in order):  # as the notebook has them; else, where it was reordered, each after its needs
        in_order.sort(key=lambda taken: (taken[0] is program, taken[1]))
    pieces = [source.statements[at] for source, at in in_order]
    last = program.statements[place].cell if place < len(program.statements) else len(program.cells) - 1
    return Attempt(name, path, answer, pieces, program.cells, last, broken)


# --- reading Python ---


def _plain(source: str) -> str:
    """A cell without what only IPython understands."""
    source = _TIMED.sub("", source, count=1) if source.lstrip().startswith("%%") else source
    if source.lstrip().startswith("%%"):
        return ""
    return re.sub(r"(?m)^(\s*)[%!?].*$|^(\s*)\w[\w.]*\?\??\s*$", lambda m: f"{m[1] or m[2] or ''}pass", source)


def _pieces(source: str) -> list[tuple[int, str]]:
    """The source as it is, if it is Python; else in pieces that begin at the margin. With the lines before each."""
    try:
        ast.parse(source)
        return [(0, source)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        lines = source.split("\n")
    starts = [
        number
        for number, line in enumerate(lines)
        if line.strip()
        and not line[0].isspace()
        and not _GOES_ON.match(line)
        and not (number and lines[number - 1].startswith("@"))
    ]
    ends = [*starts[1:], len(lines)]
    return [(start, "\n".join(lines[start:end])) for start, end in zip(starts, ends, strict=True)]


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])


def _statement(cell: int, line: int, text: str, node: ast.stmt, of_the_lesson: bool) -> Statement:
    makes, uses = _made_and_used(text)
    return Statement(cell, text, line, node, makes, uses, _changed(node), of_the_lesson)


def _made_and_used(text: str) -> tuple[set[str], set[str]]:
    """Names that a statement makes at the top level ("*" for a star import), and those that it takes from there."""
    top = symtable.symtable(text, "cell", "exec")
    makes = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    uses = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    inside = list(top.get_children())
    while inside:
        table = inside.pop()
        inside += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                uses.add(symbol.get_name())
            if symbol.is_declared_global() and symbol.is_assigned():
                makes.add(symbol.get_name())
    if re.search(r"(?m)^\s*from\s+\S+\s+import\s+\*", text):
        makes.add("*")
    return makes, uses


def _changed(node: ast.stmt) -> set[str]:
    """Names whose content a statement changes: `a[0] = 1`, `a.x = 1`, `a += 1`, `a.append(1)`."""
    changed = set()
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return changed
    for part in ast.walk(node):
        base = None
        if isinstance(part, ast.AugAssign):
            base = part.target
        elif isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store):
            base = part
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            base = part.value.func if isinstance(part.value.func, ast.Attribute) else None
        while isinstance(base, ast.Subscript | ast.Attribute):
            base = base.value
        if isinstance(base, ast.Name):
            changed.add(base.id)
    return changed


def _names_in(expression: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)}


def _defines(program: Program, exercise: Exercise) -> bool:
    wanted = _names_in(exercise.answer)
    return any(wanted & statement.makes for statement in program.statements) or any(
        re.search(rf"(?m)^\s*(def|class)\s+({'|'.join(map(re.escape, wanted))})\b", text)
        for _, text, _ in program.broken
    )


def _lessons_of(work: Work, exercises: dict[str, Exercise], program: Program) -> set[str]:
    """Which lessons a file without any `check` is about: by its name, else by the names that it defines."""
    known = {exercise.lesson for exercise in exercises.values()}
    named = set(re.findall(r"(?<!\d)\d\d(?!\d)", work.path.rsplit("/", 1)[-1])) & known
    if named:
        return named
    hits = {}
    for exercise in exercises.values():
        if _defines(program, exercise):
            hits[exercise.lesson] = hits.get(exercise.lesson, 0) + 1
    return {lesson for lesson, count in hits.items() if count == max(hits.values())}
