"""The minutes of the lessons, by the rules that notebooks/TEACHING.md states.

python tests/lesson_minutes.py              to read, and for the exercises, as the notebooks stand
python tests/lesson_minutes.py --run 06 07  and the seconds that all cells take on this machine
"""

import argparse
import json
import os
import re
import time
from pathlib import Path

from hindi_parts import without_hindi

from ai4india_lib.checks.exercises import exercises_of

LESSONS = sorted((Path(__file__).parents[1] / "notebooks").glob("[0-9][0-9]_*.ipynb"))
WORDS_A_MINUTE, LINES_A_MINUTE, PREDICTION = 120, 10, 2
EXERCISE = {"warm-up": 10, "core": 15, "stretch": 20}
LATER = 5  # more for each exercise from lesson 09 on


def cells_to_read(lesson: Path) -> list[dict]:
    """Without what the exercises take the time of, and without the setup cell."""
    cells, exercises = [], False
    for cell in json.loads(lesson.read_text(encoding="utf-8"))["cells"]:
        heading = re.search(r"(?m)^## (Exercises|Questions|Summary)\b", "".join(cell["source"]))
        if cell["cell_type"] == "markdown" and heading:
            exercises = heading[1] == "Exercises"
        if not exercises and cell.get("id") != "setup":
            cells.append(cell)
    return cells


def minutes_to_read(lesson: Path) -> float:
    """English only; who reads the Hindi reads it instead."""
    cells = cells_to_read(lesson)
    prose = "\n".join(without_hindi("".join(cell["source"])) for cell in cells if cell["cell_type"] == "markdown")
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    words = len(re.sub(r"(?s)## सारांश.*?(?=\n## |\Z)", "", prose).split())
    lines = sum(1 for line in code.splitlines() if line.strip())
    return words / WORDS_A_MINUTE + lines / LINES_A_MINUTE + PREDICTION * prose.count("**Predict first")


def minutes_of_exercises(lesson: Path) -> int:
    later = LATER if lesson.name[:2] >= "09" else 0
    return sum(EXERCISE[exercise.kind] + later for exercise in exercises_of(lesson))


def seconds_to_run(lesson: Path) -> float:
    """All cells in a kernel of their own, its start included."""
    import nbformat
    from nbclient import NotebookClient

    os.environ |= {"AI4INDIA_PROGRESS": "off", "TQDM_DISABLE": "1"}
    notebook = nbformat.read(lesson, as_version=4)
    began = time.perf_counter()
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(lesson.parent)}}).execute()
    return time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="numbers, as 06; all of them if none is named")
    parser.add_argument("--run", action="store_true", help="run the cells, too")
    asked = parser.parse_args()
    for lesson in LESSONS:
        if not asked.lessons or lesson.name[:2] in asked.lessons:
            ran = f", run {seconds_to_run(lesson):.0f} s" if asked.run else ""
            print(f"{lesson.stem}: read {minutes_to_read(lesson):.0f}, exercises {minutes_of_exercises(lesson)}{ran}")
