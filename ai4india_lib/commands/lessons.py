"""python -m ai4india_lib lessons: copies of the lessons to write in, so that the course's own stay as they came."""

import argparse
import json
import os
import re
from pathlib import Path

from ..basics.files import replaced_file

COPIES = "my"  # a folder that git ignores
JUPYTER = "jupyter lab --LabApp.default_url=/lab/tree/{}"  # the folder in which it starts is the root of its files
_RELATIVE = re.compile(r"""(\]\(|\bsrc=["'])(?!\w+:|[#/])([^)\s"'#]+)""")  # links and pictures within the course


def project_folder() -> Path:
    """The folder of the course that this library stands in. Raises FileNotFoundError where it stands alone."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "notebooks" / "00_start_here.ipynb").is_file():
        alone = f"the library is installed in {root} without the course"
        raise FileNotFoundError(f"{alone}: go to the course's folder, or install it there with pip install -e .")
    return root


def copy_of_lesson(lesson: Path) -> str:
    """The notebook's text, with links that still lead to where they led, for a folder beside `notebooks`."""

    def led_back(link: re.Match) -> str:
        is_a_lesson = re.fullmatch(r"\d\d_\w+\.ipynb", link[2])  # has its copy beside this one
        elsewhere = is_a_lesson or not (lesson.parent / link[2]).exists()
        return link[0] if elsewhere else f"{link[1]}../{lesson.parent.name}/{link[2]}"

    notebook = json.loads(lesson.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            lines = cell["source"].splitlines(keepends=True) if isinstance(cell["source"], str) else cell["source"]
            cell["source"] = [_RELATIVE.sub(led_back, line) for line in lines]
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def copy_lessons(root: Path) -> tuple[list[str], list[str]]:
    """Copy the lessons of the course in `root` that are not in `my/` yet: names of the new copies, and of those there.

    Raises FileExistsError if `my` is a file. What is there is never replaced.
    """
    folder = root / COPIES
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: a folder of that name is to hold your copies, so move it away")
    folder.mkdir(exist_ok=True)
    new, kept = [], []
    for lesson in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        copy = folder / lesson.name
        if os.path.lexists(copy):
            kept.append(copy.name)
            continue
        with replaced_file(copy) as beside:
            beside.write_text(copy_of_lesson(lesson), encoding="utf-8", newline="\n")
        new.append(copy.name)
    return new, kept


def run(options: argparse.Namespace) -> None:
    """Copy what is missing, and say how to open it."""
    root = project_folder()
    new, kept = copy_lessons(root)
    print(f"{root / COPIES}: {len(new)} lessons copied, {len(kept)} were there and are kept as they are")
    print("to begin one anew, rename its copy and run this command again")
    if Path.cwd() != root:
        print(f"now go there: cd {root}")
    print(f"now try: {JUPYTER.format(f'{COPIES}/{min(new + kept)}')}")
