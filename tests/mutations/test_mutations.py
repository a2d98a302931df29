"""Protects the proofs in the lessons: a fault in a library piece that a lesson proves is seen *in that lesson*.

Each `NN_name.toml` here belongs to one lesson and plants faults, one at a time::

    [[mutation]]
    what = "the score's scale is forgotten"
    file = "ai4india_lib/model/decoder.py"
    old = "scale=self.head_dim**-0.5"       stands in that file exactly once (with line breaks, if need be)
    new = "scale=1.0"
    cell = "proof-library"                  the lesson's cell that fails then
    says = "attention differs"              what its failure shows, in the error's message or in the compared output

A copy of the tree gets the fault, and pytest runs the lesson there with nbval, as anyone would: the cell, and the
cells before it that make what it uses. Without the fault the same cells pass.

`python tests/mutations/test_mutations.py [NN ...]` runs all, or those of some lessons, and prints the table.
"""

import dis
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from types import CodeType

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLES = sorted(Path(__file__).parent.glob("*.toml"))
MUTATIONS = [(table.stem, row) for table in TABLES for row in tomllib.loads(table.read_text("utf-8"))["mutation"]]
COLORS = re.compile(r"\x1b\[[0-9;]*m")
ERROR = re.compile(r"^\w*(Error|Exception)\b.*", re.MULTILINE | re.DOTALL)  # a traceback's last words


def names(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell makes, and those that it needs from before; of a notebook's commands (`%…`, `!…`) none."""
    plain = "\n".join("" if line.startswith(("%", "!")) else line for line in source.splitlines())
    made, used = set(), set()
    for step in dis.get_instructions(compile(plain, "cell", "exec")):
        if step.opname == "STORE_NAME":
            made.add(step.argval)
        elif step.opname == "LOAD_NAME":
            used |= {step.argval} - made
        elif isinstance(step.argval, CodeType):  # a function: what it uses of the cell's names
            used |= within(step.argval) - made
    return made, used


def within(function: CodeType) -> set[str]:
    """The names that a function, or one within it, uses and does not make itself."""
    steps = list(dis.get_instructions(function))
    used = {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return used.union(*(within(step.argval) for step in steps if isinstance(step.argval, CodeType)))


def needed(cells: list[dict], last: str) -> list[dict]:
    """The cell with the id `last` and, in order, the code cells before it that make what it needs."""
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    [end] = [number for number, cell in enumerate(code) if cell["id"] == last]
    wanted, kept = set(), []
    for number in range(end, -1, -1):
        made, used = names("".join(code[number]["source"]))
        if number in (end, 0) or made & wanted:  # the first cell is the setup
            kept.insert(0, code[number])
            wanted = (wanted - made) | used
    return kept


def copy_of_the_tree(folder: Path) -> None:
    """What a lesson needs, in a folder of its own. Files are linked, not copied; those of the library are copied."""
    shutil.copytree(ROOT / "ai4india_lib", folder / "ai4india_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("data", "models", "notebooks/assets"):
        shutil.copytree(ROOT / name, folder / name, copy_function=link, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)


def link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


def run(folder: Path, lesson: str, cell: str) -> tuple[int, str]:
    """Runs the lesson up to that cell with nbval. The exit status of pytest (0: green), and what it printed."""
    notebook = json.loads((ROOT / "notebooks" / f"{lesson}.ipynb").read_text("utf-8"))
    notebook["cells"] = needed(notebook["cells"], cell)
    (folder / "notebooks" / "lesson.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", "notebooks/lesson.ipynb"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    return done.returncode, COLORS.sub("", done.stdout)


def outcome(folder: Path, lesson: str, row: dict) -> str:
    """Plants one fault, runs, and takes it out again: "caught", or what is wrong with this row."""
    text = (ROOT / row["file"]).read_text("utf-8")
    if text.count(row["old"]) != 1:
        return f"`old` stands {text.count(row['old'])} times in {row['file']}, not once"
    (folder / row["file"]).write_text(text.replace(row["old"], row["new"]), encoding="utf-8")
    status, printed = run(folder, lesson, row["cell"])
    shutil.copy(ROOT / row["file"], folder / row["file"])
    if status == 0:
        return "not caught"
    if status != 1:
        return f"pytest ended with status {status}:\n{printed}"
    seen = printed.partition("\nTraceback:\n")[2]  # an error, or both outputs where they differ; not the cell's source
    error = ERROR.search(seen)
    seen = error.group() if error and "outputs differ" not in printed else seen
    return "caught" if row["says"] in seen else f"caught, but does not say {row['says']!r}:\n{seen}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    copy_of_the_tree(folder)
    return folder


@pytest.mark.parametrize(("lesson", "row"), MUTATIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_fault_has_its_place_and_its_cell(lesson, row):
    assert (ROOT / row["file"]).read_text("utf-8").count(row["old"]) == 1, "`old` stands there exactly once"
    assert row["new"] != row["old"] and row["what"] and row["says"]
    cells = json.loads((ROOT / "notebooks" / f"{lesson}.ipynb").read_text("utf-8"))["cells"]
    assert row["cell"] in [cell["id"] for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("lesson", "cell"), sorted({(lesson, row["cell"]) for lesson, row in MUTATIONS}))
def test_without_a_fault_the_cells_pass(tree, lesson, cell):
    status, printed = run(tree, lesson, cell)
    assert status == 0, printed


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("lesson", "row"), MUTATIONS, ids=[f"{name[:2]}: {row['what']}" for name, row in MUTATIONS])
def test_a_planted_fault_is_caught_in_its_lesson(tree, lesson, row):
    assert outcome(tree, lesson, row) == "caught"


def main(chosen: list[str]) -> int:
    """Prints lesson, fault and outcome as a table. Returns how many faults were not caught."""
    missed = 0
    print("| lesson | planted fault | seen in cell | outcome |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        copy_of_the_tree(Path(name))
        for lesson, row in MUTATIONS:
            if not chosen or lesson[:2] in chosen:
                first, *rest = outcome(Path(name), lesson, row).splitlines()
                missed += first != "caught"
                print(f"| {lesson[:2]} | {row['what']} | {row['cell']} | {first} |", *rest, sep="\n", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
