"""What all lessons have in common: their bones, their setup cell, stored outputs, and no drift from the library."""

import ast
import base64
import importlib
import inspect
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hindi_parts import without_hindi
from PIL import Image

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("[0-9][0-9]_*.ipynb"))
BUILDING_LESSONS = [path for path in LESSONS if not path.name.startswith("00")]
SETUP = (ROOT / "notebooks" / "assets" / "setup_cell.py").read_text(encoding="utf-8").rstrip("\n")


def cells_of(path, kind=None):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [{**cell, "text": "".join(cell["source"])} for cell in notebook["cells"]]
    return [cell for cell in cells if kind in (None, cell["cell_type"])]


def tags_of(cell):
    return cell["metadata"].get("tags", [])


def prose_of(path):
    return "\n\n".join(cell["text"] for cell in cells_of(path, "markdown"))


def by_name(paths):
    return pytest.mark.parametrize("path", paths, ids=[f"{p.parent.name}/{p.stem}" for p in paths])


@by_name(LESSONS + SOLUTIONS)
def test_setup_cell_is_the_same_everywhere(path):
    assert cells_of(path, "code")[0]["text"] == SETUP


@by_name(LESSONS)
def test_first_cell_leads_to_this_lesson_on_colab_in_words(path):
    """As a picture it would be a broken one where there is no network."""
    repository = re.search(r'REPOSITORY = "https://github.com/(.+)"', SETUP)[1]
    wanted = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{path.name}"
    assert f"[Open in Colab]({wanted})" in cells_of(path)[0]["text"]


@by_name(LESSONS + SOLUTIONS)
def test_no_picture_comes_from_the_network(path):
    assert re.findall(r"""!\[[^\]]*\]\(https?:|<img[^>]+src=["']https?:""", prose_of(path)) == []


@by_name(sorted((ROOT / "notebooks" / "assets").glob("*.svg")))
def test_a_diagram_brings_its_white_paper(path):
    """Dark lines on nothing cannot be seen in a dark theme. The first shape is the paper, as large as the diagram."""
    root = ElementTree.parse(path).getroot()
    defined = {element for defs in root.findall(".//{*}defs") for element in defs.iter()}
    names = ("rect", "path", "text", "line", "circle", "polygon", "polyline", "ellipse")
    drawn = (element for element in root.iter() if element.tag.split("}")[-1] in names and element not in defined)
    paper = dict(next(drawn).attrib)
    fill = paper.get("fill") or paper["style"].removeprefix("fill:").strip()
    width, height = map(float, root.get("viewBox").split()[2:])
    numbers = [float(number) for number in re.findall(r"[\d.]+", paper.get("d", ""))]  # a path, as matplotlib draws it
    size = (float(paper["width"]), float(paper["height"])) if not numbers else (max(numbers[::2]), max(numbers[1::2]))
    assert fill in ("#fff", "#ffffff") and size == (width, height)


@by_name(LESSONS + SOLUTIONS)
def test_a_stored_figure_brings_its_own_paper(path):
    """As above: its corners are opaque."""
    shown = [output.get("data", {}) for cell in cells_of(path, "code") for output in cell["outputs"]]
    pictures = [data["image/png"] for data in shown if "image/png" in data]
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA")
        right, bottom = image.width - 1, image.height - 1
        corners = [image.getpixel(place) for place in ((0, 0), (right, 0), (0, bottom), (right, bottom))]
        assert all(alpha == 255 for *_, alpha in corners)


@by_name(LESSONS + SOLUTIONS)
def test_no_progress_bar_is_stored(path):
    """It stands there at 0% for ever."""
    outputs = json.dumps([cell["outputs"] for cell in cells_of(path, "code")])
    assert re.findall(r"\d%\|.{0,20}\| *\d+/\d+", outputs) == []


@by_name(BUILDING_LESSONS)
def test_exercises_lead_to_their_solutions(path):
    exercises = prose_of(path).split("## Exercises", 1)[1]
    assert f"(solutions/{path.name})" in exercises


@by_name(LESSONS)
def test_formulas_hold_no_indian_letters(path):
    """MathJax sets each sign alone: vowel signs and conjuncts fall apart."""
    formulas = re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$", re.sub(r"`[^`]*`", "", prose_of(path)), re.DOTALL)
    assert not [formula for formula in formulas if re.search(r"[\u0900-\u0dff]", formula)]


@by_name(LESSONS)
def test_lesson_has_its_bones(path):
    first = cells_of(path)[0]["text"]
    assert re.match(rf"# {path.name[:2]} · \S", first)
    assert "you will build" in first and "in the library" in first
    prose = prose_of(path)
    for wanted in ("What can go wrong", "## Summary", "## सारांश", "## Where to go next", "Predict first"):
        assert wanted in prose, f"{path.name} lacks {wanted!r}"
    for title in ("## Summary", "## सारांश"):
        section = prose.split(title, 1)[1].split("\n## ")[0]
        assert len(re.findall(r"(?m)^(?:\d+\.|-) ", section)) == 5, f"{title} of {path.name} should have five points"


@by_name(LESSONS)
def test_answers_to_predictions_are_folded(path):
    """The reader guesses first: what the cells below show is hidden until they open it, down to the next text.

    A cell that draws while it runs stays open: there the reader watches the answer come.
    """
    asked = False
    for cell, following in pairwise(cells_of(path)):
        asked = "**Predict first.**" in cell["text"] if cell["cell_type"] == "markdown" else asked
        if "clear_output(" in following["text"] or following["cell_type"] == "markdown":
            assert "**Predict first.**" not in cell["text"] or following["cell_type"] == "code", cell["text"]
            asked = False
        elif asked:
            assert is_folded(following), f"{following['id']} shows an answer: {following['text'][:60]!r}"


def is_folded(cell):
    """In JupyterLab by its metadata, in the book by its tag: both, or neither."""
    hidden = cell["metadata"].get("jupyter", {}).get("outputs_hidden", False)
    assert hidden == ("hide-output" in tags_of(cell)), f"{cell['id']} is folded in one place only"
    return hidden


def beside_the_fold(cell):
    """What JupyterLab shows of a folded output: the first line that is not empty of the first output's text."""
    output = cell["outputs"][0]
    kinds = ("text/html", "image/svg+xml", "application/pdf", "text/markdown", "text/plain")  # in its order
    text = output.get("text") or next(output["data"][kind] for kind in kinds if kind in output["data"])
    return next(line for line in "".join(text).split("\n") if line)


def labels_of(code):
    """First lines that this code prints whatever it finds: texts without a placeholder, in no branch and no loop."""
    calls = [line.value for line in ast.parse(code).body if isinstance(line, ast.Expr)]
    printed = [call.args for call in calls if isinstance(call, ast.Call) and ast.unparse(call.func) == "print"]
    texts = [args[0].value for args in printed if args and isinstance(args[0], ast.Constant)]
    return [str(text).split("\n")[0] for text in texts]


@by_name(LESSONS)
def test_what_stands_beside_a_fold_is_a_label(path):
    """JupyterLab shows the first line of a folded output beside the fold: it must not be the answer, or a part of it.

    The rule: this line is a label, a heading of what is below. The cell prints it word for word, as a text without a
    placeholder, in no branch and in no loop: so it is the same whatever the result. It is short, since a narrow page
    does not break it. Of a picture JupyterLab shows the size.
    """
    for cell in filter(is_folded, cells_of(path, "code")):
        line = beside_the_fold(cell)
        if "image/png" in cell["outputs"][0].get("data", {}):
            assert re.fullmatch(r"<Figure size \S+ with \d+ Axes>", line)
        else:
            assert line in labels_of(cell["text"]), f"{cell['id']}: beside the fold stands {line!r}"
        assert len(line) <= 50, f"{cell['id']}: {line!r} is long for a page of a phone"


@by_name(LESSONS)
def test_row_of_times_is_honest(path):
    """Run: as the README says. Read: 120 words a minute, six seconds a line of code, two minutes a prediction.

    Exercises have their own minutes, and so have the questions: TEACHING.md says which, `checks/test_quiz.py` counts.
    """
    row = re.search(
        r"\*\*time\*\* \(run / read / exercises\) \| (.+) / (\d+) minutes / (.+) \|", cells_of(path)[0]["text"]
    )
    run = re.search(rf"{path.name}\) \| [^|]* \| ([^|]*) \|", (ROOT / "README.md").read_text(encoding="utf-8"))[1]
    assert row[1] == run
    prose, _, _ = without_hindi(prose_of(path)).partition("## Exercises")  # nobody reads both languages
    code = "\n".join(
        cell["text"] for cell in cells_of(path, "code") if not re.search(r"\bcheck\(|checks\.", cell["text"])
    )
    lines = len([line for line in code.splitlines() if line.strip()])
    minutes = len(prose.split()) / 120 + lines / 10 + 2 * prose.count("**Predict first.**")
    assert abs(minutes - int(row[2])) <= 0.15 * minutes, f"about {minutes:.0f} minutes to read"


@by_name(LESSONS)
def test_row_in_the_library_names_the_true_rooms(path):
    """`room.module`: `name`, `name` · … : each name is defined in that module, not only gathered there."""
    row = re.search(r"\| \*\*in the library\*\* \|(.+)\|", cells_of(path)[0]["text"])[1]
    places = [part.strip() for part in row.split("·") if "python -m" not in part]
    assert places, f"{path.name} names nothing in the library"
    for place in places:
        module_name, names = re.fullmatch(r"`([\w.]+)`: (.+)", place).groups()
        module = importlib.import_module(f"ai4india_lib.{module_name}")
        defined = {node.name for node in ast.parse(inspect.getsource(module)).body if hasattr(node, "name")}
        defined |= set(re.findall(r"(?m)^([A-Z][A-Z_]*) = ", inspect.getsource(module)))
        assert set(re.findall(r"`(\w+)`", names)) <= defined, f"{path.name}: not all of {names} stand in {module_name}"


@by_name(BUILDING_LESSONS)
def test_lesson_has_its_exercises_with_checks_and_solutions(path):
    """One of each kind; some late lessons have more."""
    headings = re.findall(r"(?m)^### (Warm-up|Core|Stretch)\b", prose_of(path))
    each = {"17": (1, 2, 2), "18": (2, 2, 2), "19": (2, 2, 2)}.get(path.name[:2], (1, 1, 1))
    assert headings == [
        kind for kind, times in zip(("Warm-up", "Core", "Stretch"), each, strict=True) for _ in range(times)
    ]
    asked = re.findall(r'check\("(\d\d\.\w+)"', "\n".join(cell["text"] for cell in cells_of(path, "code")))
    solution = ROOT / "notebooks" / "solutions" / path.name
    solved = re.findall(r'check\("(\d\d\.\w+)"', "\n".join(cell["text"] for cell in cells_of(solution, "code")))
    assert len(set(asked)) == sum(each) and set(asked) == set(solved)
    outputs = json.dumps([cell["outputs"] for cell in cells_of(solution, "code")], ensure_ascii=False)
    assert "not yet" not in outputs and "not done" not in outputs


@by_name(LESSONS + SOLUTIONS)
def test_stored_outputs_are_of_one_clean_run(path):
    code = cells_of(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        shows_library = any(tag.startswith("library:") for tag in tags_of(cell))  # there the code is what to look at
        assert cell["outputs"] or shows_library, f"a cell of {path.name} shows nothing: {cell['text'][:60]!r}"
        kinds = [output["output_type"] for output in cell["outputs"]]
        streams = [output.get("name") for output in cell["outputs"]]
        assert "error" not in kinds and "stderr" not in streams, cell["text"][:60]
        assert cell["text"].count("\n") < 30, f"a long cell in {path.name}: {cell['text'][:60]!r}"


@by_name(LESSONS)
def test_most_outputs_are_compared(path):
    code = cells_of(path, "code")
    ignored = [cell for cell in code if "nbval-ignore-output" in tags_of(cell)]
    assert len(ignored) <= 0.3 * len(code), f"{len(ignored)} of {len(code)} code cells are not compared"
    assert "NBVAL_" not in "".join(cell["text"] for cell in code), "use cell tags, not comments"


@by_name(LESSONS + SOLUTIONS)
def test_outputs_hold_no_paths_or_addresses(path):
    for cell in cells_of(path, "code"):
        text = json.dumps(cell["outputs"])
        assert not re.search(r"/home/|/root/|/tmp/|/work|C:\\\\|object at 0x", text), cell["text"][:60]


@by_name(LESSONS + SOLUTIONS)
def test_links_and_pictures_exist(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", prose_of(path)):
        assert (path.parent / target).exists(), f"{path.name} points to {target}, which is not there"


def test_cells_that_show_the_library_show_it_as_it_is():
    for path in LESSONS + SOLUTIONS:
        for cell in cells_of(path, "code"):
            for tag in tags_of(cell):
                if tag.startswith("library:"):
                    module, name = tag.removeprefix("library:").rsplit(".", 1)
                    source = inspect.getsource(getattr(importlib.import_module(module), name)).strip()
                    assert cell["text"].strip() == source, (
                        f"{path.name}: the cell tagged {tag} is not the library's code"
                    )


def test_readme_lists_every_lesson():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in LESSONS if path.name not in readme] == []
