"""python -m ai4india_lib class nbgrader FOLDER: source notebooks for nbgrader, made from lessons and solutions.

An exercise becomes two cells: the stub, whose body is a solution region, and a locked cell with the check, which gives
its points. `nbgrader generate_assignment` takes the regions out again, which leaves the lesson's own dots.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shutil
from pathlib import Path
from textwrap import dedent, indent

from ...basics.files import replace_folder
from ...checks.exercises import Exercise, exercises_of, lesson_files
from ..lessons import project_folder
from .answers import Attempt, Program, attempts_of
from .submissions import Work, cells_of

SECONDS = 300  # a cell may take: lessons that train have cells of a minute, and nbgrader's own limit is 30 seconds
CONFIG = f'''"""How nbgrader works on these notebooks. `nbgrader --help-all` explains each line."""

c = get_config()
c.CourseDirectory.course_id = "ai4india"
# nbgrader ends a cell after 30 seconds. Some cells of lessons 09, 14 and 15 train for a minute, more on an old PC.
c.ExecutePreprocessor.timeout = {SECONDS}
c.ExecutePreprocessor.interrupt_on_timeout = True  # the cells after it are run all the same
# What a learner finds in place of a solution: the dots of the lessons, which `check` calls "not done yet".
c.ClearSolutions.code_stub = {{"python": "..."}}
'''


def run(options: argparse.Namespace) -> None:
    """Write the new folder, and say what to do with it. Raises ValueError for a lesson that is not there."""
    course, target = project_folder(), Path(options.folder)
    if target.exists():
        raise FileExistsError(f"{target} is there already: name a new folder")
    lessons = {path.name[:2]: path for path in lesson_files(course) if exercises_of(path)}
    chosen = options.lessons or list(lessons)
    if unknown := [number for number in chosen if number not in lessons]:
        raise ValueError(f"--lessons {' '.join(unknown)}: there are {', '.join(lessons)}")

    def write(folder: Path) -> None:
        (folder / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8", newline="\n")
        for number in chosen:
            _write_assignment(folder / "source" / lessons[number].stem, lessons[number])

    replace_folder(target, write)
    first = lessons[chosen[0]].stem
    print(f"{target}: {len(chosen)} assignments. In that folder, with nbgrader installed where the course is:")
    print(f"  nbgrader generate_assignment {first}     # writes release/{first}, to hand out")
    print(f"  nbgrader autograde {first}               # marks submitted/NAME/{first}/{first}.ipynb")


def _write_assignment(folder: Path, lesson: Path) -> None:
    """The source notebook of a lesson, with the pictures that it shows."""
    folder.mkdir(parents=True)
    notebook = source_notebook(lesson, lesson.parent / "solutions" / lesson.name)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    (folder / lesson.name).write_text(text, encoding="utf-8", newline="\n")
    for picture in sorted(set(re.findall(r"\]\((assets/[\w.]+)\)", "".join(map(_text, notebook["cells"]))))):
        (folder / "assets").mkdir(exist_ok=True)
        shutil.copyfile(lesson.parent / picture, folder / picture)


def _text(cell: dict) -> str:
    return "".join(cell["source"])


def source_notebook(lesson: Path, solution: Path) -> dict:
    """A lesson with its solutions in regions, and cells that nbgrader marks; outputs are left out."""
    notebook = json.loads(lesson.read_text(encoding="utf-8"))
    exercises = {exercise.name: exercise for exercise in exercises_of(lesson)}
    work = Work(solution.name, cells_of(solution.read_text(encoding="utf-8")))
    empty = {name.split(".")[0]: Program([]) for name in exercises}
    answers = {attempt.exercise: attempt for attempt in attempts_of(work, exercises, empty, {"torch", "check"})}
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
        asked = [exercise for exercise in exercises.values() if exercise.source == _text(cell)]
        cells += _two_cells(cell, asked[0], answers[asked[0].name]) if asked else [cell]
    return notebook | {"cells": cells}


def _two_cells(cell: dict, exercise: Exercise, answer: Attempt) -> list[dict]:
    """The cell that a learner fills, and the locked one that is marked."""
    name = exercise.name.replace(".", "-")
    shared = {"schema_version": 3, "task": False}
    asked = shared | {"grade_id": name, "grade": False, "solution": True, "locked": False}
    tested = shared | {"grade_id": f"{name}-check", "grade": True, "solution": False, "locked": True}
    check = f'from ai4india_lib import check  # whatever the cells above call check\n\nassert check("{exercise.name}", '
    return [
        cell | {"source": _with_regions(exercise.source, answer), "metadata": {"nbgrader": asked}},
        {
            **cell,
            "id": f"{cell['id'][:50]}-check",
            "source": f"{check}{exercise.answer})",
            "metadata": {"nbgrader": tested | {"points": exercise.points}},
        },
    ]


def _with_regions(stub: str, answer: Attempt) -> str:
    """The stub's cell, where the dots of each function are replaced by the solution, between nbgrader's marks."""
    solved = {piece.node.name: piece for piece in answer.pieces if piece.is_definition}
    imports = [piece.text.strip() for piece in answer.pieces if isinstance(piece.node, ast.Import | ast.ImportFrom)]
    lines, tree = stub.split("\n"), ast.parse(stub)
    for node in reversed(tree.body):
        if not isinstance(node, ast.FunctionDef) or node.name not in solved:
            continue
        made = solved[node.name]
        body = [line for line in imports if line not in stub]
        body += [""] if body else []
        if ast.unparse(made.node.args) == ast.unparse(node.args) and not made.node.decorator_list:
            body.append(_body(made.text))
        else:  # other names, a decorator: a function in the function
            given = ", ".join(argument.arg for argument in node.args.args)
            body.append(f"{made.text.strip()}\n\nreturn {node.name}({given})")
        region = "\n".join(["### BEGIN SOLUTION", *body, "### END SOLUTION"])
        dots = node.body[-1]
        lines[dots.lineno - 1 : dots.end_lineno] = indent(region, "    ").split("\n")
    return "\n".join(lines)


def _body(text: str) -> str:
    """The lines of a function below its docstring."""
    own = ast.parse(text.strip()).body[0]
    first = own.body[1] if ast.get_docstring(own) else own.body[0]
    return dedent("\n".join(text.strip().split("\n")[first.lineno - 1 : own.end_lineno]))
