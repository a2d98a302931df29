"""Protects the marking of a class: every answer gets the verdict that is due, whatever the files look like, and no code
of one learner changes the marks or files of others, or the course."""

import ast
import contextlib
import csv
import hashlib
import json
import subprocess
import sys
import time
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from textwrap import indent

import pytest
from made_class import COPIED_ROPE, EXERCISES, HOSTILE, LESSONS, OWN_ROPE, RIGHT, SLOW, WRONG, Class, notebook, text_of

from ai4india_lib.__main__ import main
from ai4india_lib.checks.exercises import COURSE, course_exercises, lesson_files
from ai4india_lib.commands.classroom.alike import form_of, similarity
from ai4india_lib.commands.classroom.answers import Program, attempts_of
from ai4india_lib.commands.classroom.collect import collect
from ai4india_lib.commands.classroom.marker import Marker
from ai4india_lib.commands.classroom.submissions import Work, cells_of, read_class
from ai4india_lib.commands.classroom.table import _kind_of

ROOT = Path(__file__).parents[3]
STEMS = [path.stem for path in lesson_files()]
KNOWN = {"torch", "os", "check"}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere fewer limits hold, see TEACHING.md")


def files_of(folder):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}


def collected(made, output, capsys):
    """Learner → line of the table; it is as due, and nothing was changed."""
    before = files_of(made.folder), files_of(ROOT / "ai4india_lib" / "checks")
    assert main(["class", "collect", str(made.folder), "--seconds", "2", "--output", str(output)]) == 0
    capsys.readouterr()
    assert (files_of(made.folder), files_of(ROOT / "ai4india_lib" / "checks")) == before
    with (output / "marks.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = {line["learner"]: line for line in csv.DictReader(file)}
    got = {name: {exercise: line.get(exercise, "") for exercise in EXERCISES} for name, line in lines.items()}
    assert got == made.due
    return lines


@on_linux
@pytest.mark.slow
def test_a_class_of_thirty(tmp_path, capsys):
    quick = [name for name in HOSTILE if name not in SLOW]
    made = Class(tmp_path / "class").add_hostile(quick[: 30 - 19])
    assert len(made.due) == 30
    lines = collected(made, tmp_path / "out", capsys)
    assert {name: line["answers alike"] for name, line in lines.items() if line["answers alike"]} == {
        "Deepak": "Gita: 06.rope, 02.pack", "Gita": "Deepak: 06.rope, 02.pack",
    }  # fmt: skip
    assert lines["Meera Sharma"]["points"] == lines["Meera Sharma"]["of points"] == "18"
    assert lines["Asha"]["solved"] == "5" and lines["Asha"]["core solved"] == "1"
    assert lines["Nisha"]["06.rope tries"] == "2" and lines["Nisha"]["solved"] == "0"
    assert "06_attention.ipynb: this is no whole notebook" in lines["Broken"]["remarks"]
    assert "uses rmtree: look at it" in lines["deletes the class"]["remarks"]
    assert "02.shuffle_buffer" in lines["Solver"]["published"] and lines["Vikram"]["published"] == ""
    page = (tmp_path / "out" / "marks.html").read_text(encoding="utf-8")
    assert "Every entry is True: that is no mask." in page and "notes.pdf: passed over" in page
    assert "06.rope (but for names)" in page and "<script" not in page and "http" not in page


@on_linux
@pytest.mark.slow
def test_the_other_pranks(tmp_path, capsys):
    made = Class.__new__(Class)
    made.folder, made.due = tmp_path / "class", {}
    made.add_hostile([name for name in HOSTILE if name not in SLOW][11:])
    lines = collected(made, tmp_path / "out", capsys)
    assert "uses os._exit: look at it" in lines["writes verdicts"]["remarks"]


@on_linux
@pytest.mark.slow
@pytest.mark.long
def test_pranks_that_take_their_time(tmp_path, capsys):
    made = Class.__new__(Class)
    made.folder, made.due = tmp_path / "class", {}
    collected(made.add_hostile(SLOW), tmp_path / "out", capsys)


# --- whose a file is ---


def written(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text_of({"cells": [{"cell_type": "code", "source": 'check("06.rope", rope_at)'}]})
        path.write_text(content, encoding="utf-8")
    return [learner.name for learner in read_class(folder, STEMS)[0]]


@pytest.mark.parametrize(
    ("names", "learners"),
    [
        (["Meera/06_attention.ipynb", "Meera/my/04_counting.ipynb", "Ravi/06_attention.ipynb"], ["Meera", "Ravi"]),
        (["06_attention_Meera.ipynb", "Meera 06.ipynb", "MEERA-06-attention (2).ipynb"], ["Meera"]),
        (["06_attention - मीरा शर्मा.ipynb", "Copy of 06_attention रवि.ipynb"], ["मीरा शर्मा", "रवि"]),
        (["lesson 06/Meera.ipynb", "lesson 06/Ravi.ipynb", "04_counting/Meera.ipynb"], ["Meera", "Ravi"]),
        (["class/A/06_attention.ipynb", "class/B/06_attention.ipynb"], ["A", "B"]),
        (["X/A/06.ipynb", "X/B/06.ipynb", "X/C/06.ipynb", "Y/A/06.ipynb", "Y/B/06.ipynb", "Y/C/06.ipynb"],
         ["X/A", "X/B", "X/C", "Y/A", "Y/B", "Y/C"]),
        (["Meera/backup/06_attention.ipynb", "Meera/06_attention_final.ipynb", "Ravi/06.ipynb"], ["Meera", "Ravi"]),
        (["Meera Sharma_12345_assignsubmission_file_/06_attention.ipynb",
          "Ravi_99_assignsubmission_file_06_attention.ipynb"], ["Meera Sharma", "Ravi"]),
        (["submitted/meera/06_attention/06_attention.ipynb", "submitted/ravi/06_attention/06_attention.ipynb"],
         ["meera", "ravi"]),
        (["06_attention.ipynb", "04_counting.ipynb"], ["class"]),
        (["06_attention.ipynb", "06_attention (1).ipynb"], ["06_attention", "06_attention (1)"]),
        (["Meera_06_attention/06_attention.ipynb", "Ravi - lesson 06/x.ipynb"], ["Meera", "Ravi"]),
        (["roll 05/06.ipynb", "roll 06/06.ipynb", "class 10/06.ipynb"], ["class 10", "roll 05", "roll 06"]),
        (["student_05.ipynb", "Student 06.ipynb", "student07_06.ipynb"], ["student_05", "Student 06", "student07"]),
        (["21CS045_06.ipynb", "06_attention_21CS046.ipynb"], ["21CS045", "21CS046"]),
    ],
)  # fmt: skip
def test_whose_a_file_is(tmp_path, names, learners):
    assert written(tmp_path / "class", names) == learners


def test_zips_that_are_none_or_too_much(tmp_path):
    (tmp_path / "Asha.zip").write_bytes(b"PK\x03\x04 torn")
    with zipfile.ZipFile(tmp_path / "Bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("06_attention.ipynb", b"0" * 70_000_000)
    (tmp_path / "Ravi.rar").write_bytes(b"Rar!")
    with suppress(OSError):  # Windows lets not everybody make links
        (tmp_path / "link.py").symlink_to(ROOT / "conftest.py")
    learners, ignored = read_class(tmp_path, STEMS)
    assert {learner.name: learner.remarks[0].split(": ")[1] for learner in learners} == {
        "Asha": "this zip cannot be read (File is not a zip file)", "Bomb": "70 MB are too much",
    }  # fmt: skip
    assert dict(ignored)["Ravi.rar"] == "passed over: unpack it, or make it a .zip"
    assert (
        dict(ignored).get("link.py", "passed over: a link, which may lead anywhere")
        == "passed over: a link, which may lead anywhere"
    )


def test_outputs_are_not_kept_and_a_zip_is_read_as_far_as_it_says(tmp_path):
    output = {"output_type": "stream", "name": "stdout", "text": "x" * 5_000_000}
    text = text_of({"cells": [{"cell_type": "code", "source": 'check("06.rope", rope_at)', "outputs": [output]}]})
    with zipfile.ZipFile(tmp_path / "Asha.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(12):
            archive.writestr(f"06_attention/{number}/06_attention.ipynb", text)
    lying = bytearray((tmp_path / "Asha.zip").read_bytes())
    listed = lying.find(b"PK\x01\x02")
    lying[listed + 24 : listed + 28] = (10).to_bytes(4, "little")  # the size of the first file, as the list has it
    (tmp_path / "Vikram.zip").write_bytes(lying)
    tracemalloc.start()
    learners, _ = read_class(tmp_path, STEMS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(len(learner.works) for learner in learners) == 12 and peak < 40e6, f"{peak / 1e6:.0f} MB"
    (told,) = next(learner.remarks for learner in learners if learner.name == "Vikram")
    assert told.startswith("Vikram.zip: this zip cannot be read (Bad CRC-32")


@on_linux  # Windows takes no such names
def test_names_that_play_tricks_on_the_reader(tmp_path):
    assert written(tmp_path, ["\u202eabc/06.ipynb", "x\ty/06.ipynb", "मीरा\u200d/06.ipynb"]) == [
        "?abc", "x?y", "मीरा\u200d",
    ]  # fmt: skip


def test_without_a_secret_nothing_is_marked_for_certificates(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr("ai4india_lib.commands.classroom.collect.collect", lambda *_, **__: pytest.fail("marked"))
    assert main(["class", "collect", str(tmp_path), "--certificates"]) == 1
    assert "class secret" in capsys.readouterr().err


def test_a_progress_file_may_name_what_is_no_exercise(tmp_path, monkeypatch):
    """Answers to questions, and what somebody wrote there: no checks are looked for that are not there."""
    tried = ("06.rope", "00.question_1", "06.question_2", "99.x", "../../x.y", "")
    lines = [json.dumps({"exercise": name, "verdict": "right", "said": ""}) for name in tried]
    (tmp_path / "Meera").mkdir()
    (tmp_path / "Meera" / "progress.jsonl").write_text("\n".join(lines), encoding="utf-8")
    loaded = []

    class NoMarker(contextlib.nullcontext):
        def __init__(self, lessons, *_, **__):
            loaded.extend(lessons)
            self.enter_result = self

        def fresh(self):
            pass

    monkeypatch.setattr("ai4india_lib.commands.classroom.collect.Marker", NoMarker)
    (row,) = collect(tmp_path, ROOT).rows
    assert loaded == ["06"] and {name: mark.verdict for name, mark in row.marks.items()} == {"06.rope": "says right"}


def test_no_folder_and_an_empty_one_are_told(tmp_path, capsys):
    for folder, said in ((tmp_path / "none", "there is no folder"), (tmp_path, "holds no notebook")):
        assert main(["class", "collect", str(folder)]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["", "[]", "5", '{"cells": 3}', '{"cells": [3]}', '{"cells": [{"cell_type": "code", "source": 3}]}', "[" * 10**5],
)
def test_what_is_no_notebook_is_told(text):
    with pytest.raises(ValueError, match=r"notebook|empty"):
        cells_of(text)


def test_notebooks_of_2014_are_read():
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1\n", "y = 2"]}]}]}
    assert cells_of(json.dumps(old)) == ["x = 1\ny = 2"]


# --- which cells an answer needs ---

LESSON = {"06": Program.of(cells_of(LESSONS["06"].read_text(encoding="utf-8")), True)}
IN_06 = {name: exercise for name, exercise in course_exercises().items() if exercise.lesson == "06"}
CHECK = 'check("06.causal_mask", causal_mask)'
MASK = "def causal_mask(time):\n    return {}"


def needed(*cells):
    """The statements that run for the last attempt at 06.causal_mask."""
    (attempt, *_) = attempts_of(Work("06.ipynb", list(cells)), IN_06, LESSON, KNOWN)
    return [piece.text.strip() for piece in attempt.pieces]


def test_only_what_an_answer_needs_is_run():
    table, train = "table = {}\ntable[3] = 1", "model = train_for_hours()\ntime = 5"
    cells = [
        "import math, slow",
        "%pip install x\n!ls",
        train,
        table,
        MASK.format("table, math.pi, os"),
        "q = 3",
        CHECK,
    ]
    assert needed(*cells) == ["import math, slow", "table = {}", "table[3] = 1", MASK.format("table, math.pi, os")]


def test_the_last_definition_before_the_check_counts():
    one, two, three = (MASK.format(number) for number in (1, 2, 3))
    assert needed(one, two, CHECK, three) == [two]
    assert needed(CHECK, one) == [one]  # cells in another order
    assert needed(f"{one}\n{CHECK}", f"{two}\n{CHECK}") == [two]
    assert needed("answer = mine", CHECK.replace("causal_mask)", "answer)"), two.replace("causal_mask", "mine")) == [
        two.replace("causal_mask", "mine"), "answer = mine",
    ]  # fmt: skip


def test_what_is_no_python_costs_only_itself():
    broken = f"x = (\n\n{MASK.format('helper()')}\n\ndef helper():\n    return 5\n\nif True print(3)\n{CHECK}"
    assert needed(broken) == [MASK.format("helper()"), "def helper():\n    return 5"]
    (attempt,) = attempts_of(Work("06.ipynb", [MASK.format("(")]), IN_06, LESSON, KNOWN)
    assert attempt.broken == "line 2: '(' was never closed"
    loop = "for causal_mask in range(3):\n    pass"  # makes the same name
    (attempt,) = attempts_of(Work("06.ipynb", [loop, MASK.format("("), CHECK]), IN_06, LESSON, KNOWN)
    assert attempt.broken == "line 2: '(' was never closed"
    (attempt,) = attempts_of(Work("06.ipynb", [MASK.format("("), MASK.format("3"), CHECK]), IN_06, LESSON, KNOWN)
    assert attempt.broken == ""


@pytest.mark.parametrize("value", ["+".join(["1"] * 3000), "(" * 500 + "1" + ")" * 500, "'\x00'", "'\ud800'"])
def test_what_python_cannot_read_is_said_to_be_that(value):
    (attempt,) = attempts_of(Work("06.ipynb", [MASK.format(value), CHECK]), IN_06, LESSON, KNOWN)
    assert attempt.broken or attempt.pieces


@pytest.mark.parametrize(("line", "text"), [("x=1\n", "x=1"), ("x=1; ", "x = 1")])
def test_what_is_kept_of_many_statements_grows_with_them_and_not_faster(line, text):
    statements = Program.of([line * 5000]).statements
    assert len(statements) == 5000 and {statement.text for statement in statements} == {text}


def test_an_answer_that_needs_many_lines_of_a_cell_sends_the_cell_once(tmp_path, monkeypatch):
    lines = "\n".join(f"a{number} = {number}" for number in range(2000))
    (attempt,) = attempts_of(
        Work("06.ipynb", [lines, MASK.format("+".join(f"a{n}" for n in range(500))), CHECK]), IN_06, LESSON, KNOWN
    )
    jobs, right = [], {"verdict": "right", "said": "", "failed": ""}
    monkeypatch.setattr(Marker, "_asked", lambda self, job: jobs.append(json.dumps(job)) or right)
    with Marker({"06"}, tmp_path) as marker:
        assert marker.mark(attempt).verdict == "right"
    assert len(attempt.pieces) == 501 and len(jobs[0]) < 100_000
    assert json.loads(jobs[0])["pieces"][499] == ["<cell 1>", "a499 = 499", 499]


def test_a_long_notebook_is_read_in_seconds():
    cells = ["\n".join(f"a{number} = {number}" for number in range(5000)), MASK.format("a1"), CHECK]
    started = time.process_time()
    assert len(needed(*cells)) == 2 and time.process_time() - started < 10


def test_names_that_only_the_lesson_has_come_from_there():
    assert needed(MASK.format("turn(time)"), CHECK)[0].startswith("def turn(")


# --- answers alike ---


def test_likeness_sees_through_names_and_not_through_thoughts():
    own, copied, published = (
        form_of([f"def rope_at(x, positions, theta):\n{indented(text)}"])
        for text in (OWN_ROPE, COPIED_ROPE, RIGHT["06.rope"])
    )
    assert similarity(own, copied) == 1 and similarity(own, published) < 0.8


def indented(text):
    return "\n".join("    " + line.removeprefix("    ") for line in text.splitlines())


def test_mistakes_are_counted_without_their_values():
    said = [
        "Your mask lets position 0 see position 1 (mask[0, 1] is True).",
        "Your mask lets position 2 see position 5 (x).",
    ]
    assert len({_kind_of(text) for text in said}) == 1
    assert _kind_of("It stopped with KeyError in line 3: `x`\n  The error says: 'x'") == "It stopped with KeyError"


def test_a_made_class_holds_what_it_says():
    """The class above would prove nothing if its answers were not those of the lessons."""
    assert set(RIGHT) == set(WRONG) == set(EXERCISES) == {n for n in course_exercises() if n[:2] in LESSONS}
    for lesson in LESSONS:
        assert [ast.parse(cell) for cell in cells_of(text_of(notebook(lesson, RIGHT))) if "check(" in cell]
    assert COURSE == ROOT


# --- the process that marks ---


@pytest.fixture(scope="module")
def marker(tmp_path_factory):
    with Marker({"06"}, tmp_path_factory.mktemp("class"), seconds=3) as marker:
        yield marker


def judged(marker, *cells):
    (attempt, *_) = attempts_of(Work("06.ipynb", list(cells)), IN_06, LESSON, {"torch", "check", "os", "sys"})
    return marker.mark(attempt)


RIGHT_MASK = MASK.format("torch.ones(time, time).tril().bool()")


@pytest.mark.slow
def test_where_the_cells_of_an_answer_do_not_do_the_whole_notebook_runs(marker):
    cells = ['globals()["lower"] = torch.tril', "1 / 0", MASK.format("lower(torch.ones(time, time)).bool()"), CHECK]
    assert judged(marker, *cells).verdict == "right"
    assert "stopped with NameError" in judged(marker, *cells[2:]).said


@on_linux
@pytest.mark.slow
def test_answers_read_the_data_of_the_course_and_write_beside_it(marker):
    body = MASK.format("len(open('data/README.md').read()) and torch.ones(time, time).tril().bool()")
    assert judged(marker, body, CHECK).verdict == "right"
    assert "stopped with PermissionError" in judged(marker, body.replace("README.md'", "mine', 'w'"), CHECK).said
    notes = MASK.format("open('notes', 'w').write('x') and torch.ones(time, time).tril().bool()")
    assert judged(marker, notes, CHECK).verdict == "right"


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "torch.save({}, {path!r})",  # in C++, where Python's guard sees nothing
        "torch.from_file({path!r}, shared=True, size=10).fill_(7)",
        "__import__('safetensors.torch').torch.save_file({{}}, {path!r})",
        "__import__('sqlite3').connect({path!r}).execute('create table a (b)')",
        "__import__('os').mkfifo({path!r} + '2')",
        "__import__('_posixsubprocess').fork_exec(*[b'/bin/rm'] * 22)",
    ],
)
def test_no_library_writes_where_an_answer_may_not(marker, tmp_path, line):
    path = tmp_path / "marks.csv"
    path.write_text("Meera, 18\n" * 10)
    code = line.replace("{}", "{{}}") if "{{}}" not in line else line
    said = judged(marker, MASK.format(f"{code.format(path=str(path))} and 0"), CHECK)
    if not fenced():
        pytest.skip("this kernel has no Landlock")
    assert said.verdict in ("not yet", "stopped")
    assert path.read_text() == "Meera, 18\n" * 10 and [one.name for one in tmp_path.iterdir()] == ["marks.csv"]


def fenced():
    """In a process of its own: a fence stays for ever."""
    code = "import sys; from ai4india_lib.commands.classroom.fence import Path, fence; sys.exit(not fence(Path('.')))"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize(
    "prank",
    [
        "import json\njson.dumps = lambda reply: '{}'",
        "import os\nos.write = os._exit = print",
        "import __main__\n__main__.judge = __main__._changes = lambda *given: {}",
        "import builtins\nbuiltins.isinstance = lambda *given: True",
        "torch.Tensor.__eq__ = lambda *given: torch.tensor(True)",
        "import sys\nsys.exit()",
        "1 / 0",
    ],
)
def test_an_answer_changes_neither_its_verdict_nor_the_next_one(marker, prank):
    answer = f"def causal_mask(time):\n{indent(prank, '    ')}\n    return time"
    assert judged(marker, answer, CHECK).verdict in ("changed", "stopped", "not yet")
    assert judged(marker, RIGHT_MASK, CHECK).verdict == "right"


@pytest.mark.slow
def test_without_forks_a_process_marks_one_learner_and_is_replaced(tmp_path):
    """As on Windows and macOS."""
    with Marker({"06"}, tmp_path, seconds=2) as marker:
        marker.forks = False
        assert judged(marker, RIGHT_MASK, CHECK).verdict == "right"
        first = marker.process.pid
        assert judged(marker, "import os\n" + MASK.format("os._exit(3)"), CHECK).verdict == "stopped"
        assert judged(marker, MASK.format("torch.ones(time, time)"), CHECK).said.startswith(
            "The mask holds torch.float32"
        )
        assert marker.process.pid != first
        assert judged(marker, "def causal_mask(time):\n    torch.equal = 3", CHECK).verdict == "changed"
        assert marker.process is None
        assert judged(marker, "def causal_mask(time):\n    while True:\n        pass", CHECK).verdict == "time"
        assert marker.process is None
    assert not marker.folder.exists()
