"""A made-up class, made from the lessons and their solutions: right, half, wrong, hostile and copied answers, handed in
as real classes do it. `python tests/made_class.py FOLDER` writes it, to look at."""

import ast
import io
import json
import sys
import zipfile
from pathlib import Path
from textwrap import dedent, indent

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
LESSONS = {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("0[246]_*.ipynb"))}
STUBS = {
    "shift": "02.shift", "pack_stream": "02.pack", "shuffle_buffer": "02.shuffle_buffer",
    "perplexity": "04.perplexity", "bigram_probability": "04.bigram_probability", "interpolate": "04.interpolate",
    "causal_mask": "06.causal_mask", "attention": "06.attention", "rope_at": "06.rope",
}  # fmt: skip
EXERCISES = list(STUBS.values())
OF_06 = ("06_causal_mask", "06_attention", "06_rope")
HALF = EXERCISES[1::2]
WRONG = {
    "02.shift": "return ids[:-1], ids[1:]",
    "02.pack": "for ids in documents:\n    one = torch.tensor(ids[: context_size + 1])\n    yield one[:-1], one[1:]",
    "02.shuffle_buffer": "for file in files:\n    yield from file",
    "04.perplexity": "return (-p.log2()).mean()",
    "04.bigram_probability": "counts += k\nreturn counts / counts.sum(1, keepdim=True)",
    "04.interpolate": "return counts / counts.sum(1)",
    "06.causal_mask": "return torch.ones(time, time).bool()",
    "06.attention": "return (q @ k.mT).masked_fill(~mask, -torch.inf).softmax(-1) @ v",
    "06.rope": "return x * positions[:, None].cos()",
}
OWN_ROPE = """
    n = x.shape[-1] // 2
    turned = torch.empty_like(x)
    for i in range(n):
        angle = positions / theta ** (i / n)
        c, s = torch.cos(angle), torch.sin(angle)
        turned[..., i] = x[..., i] * c - x[..., i + n] * s
        turned[..., i + n] = x[..., i + n] * c + x[..., i] * s
    return turned
"""
COPIED_ROPE = """
    # for each pair of numbers
    half_width = x.shape[-1] // 2

    out = torch.empty_like(x)
    for pair in range(half_width):
        phi = positions / theta ** (pair / half_width)
        cosine, sine = torch.cos(phi), torch.sin(phi)
        out[..., pair] = x[..., pair] * cosine - x[..., pair + half_width] * sine
        out[..., pair + half_width] = x[..., pair + half_width] * cosine + x[..., pair] * sine
    return out
"""
OWN_PACK = """
    every_id = []
    for one in documents:
        every_id.extend(one)
    number = (len(every_id) - 1) // context_size
    for block in range(number):
        begin = block * context_size
        taken = every_id[begin : begin + context_size + 1]
        yield torch.tensor(taken[:context_size]), torch.tensor(taken[1:])
"""
# what the answer to 06.attention does → its lines, the verdict that is due; {folder} and so on are places of this class
HOSTILE = {
    "loops for ever": ("while True:\n    pass", "time"),
    "sleeps for ever": ("import time\ntime.sleep(10**6)", "time"),
    "prints without end": ("while True:\n    print('x' * 10**6)", "time"),
    "asks for 80 GB": ("return [0] * 10**10", "not yet"),
    "takes memory bit by bit": ("kept = []\nwhile True:\n    kept.append(bytearray(50_000_000))", "not yet"),
    "exit()": ("exit()", "stopped"),
    "os._exit": ("import os\nos._exit(0)", "stopped"),
    "crashes": ("import faulthandler\nfaulthandler._sigsegv()", "stopped"),
    "forks": ("import os\nwhile True:\n    os.fork()", "not yet"),
    "starts programs": ("import subprocess\nsubprocess.run(['rm', '-rf', '.'])", "not yet"),
    "kills its parent": ("import os\nos.kill(os.getppid(), 9)", "not yet"),
    "reads the keyboard": ("return input('mask?')", "not yet"),
    "calls itself": ("return attention(q, k, v, mask)", "not yet"),
    "fills the disk": ("with open('big', 'wb') as file:\n    while True:\n        file.write(b'x' * 10**7)", "not yet"),
    "deletes the class": ("import shutil\nshutil.rmtree({folder!r})", "not yet"),
    "writes its marks": ("open({folder!r} + '/marks.csv', 'w').write('all right')", "not yet"),
    "reads a neighbour": ("return open({neighbour!r}).read()", "not yet"),
    "reads the solution": ("return open({solution!r}).read()", "not yet"),
    "changes the course": ("open({library!r}, 'a').write('# mine')", "not yet"),
    "changes torch": ("torch.isclose = lambda *given, **named: torch.tensor(True)\nreturn v", "changed"),
    "changes the check": (
        "import ai4india_lib.checks.lesson_06 as c\nc.expect_close = lambda *given, **named: None\nreturn v",
        "changed",
    ),
    "returns what equals everything": (
        """
        class Everything(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                got = super().__torch_function__(function, types, args, kwargs or {{}})
                is_mask = isinstance(got, torch.Tensor) and got.dtype == torch.bool
                return torch.ones_like(got.as_subclass(torch.Tensor)) if is_mask else got
        return torch.zeros_like(v).as_subclass(Everything)
        """,
        "not yet",
    ),
    "writes verdicts": (
        """
        import os
        for number in range(3, 60):
            try:
                os.write(number, b'{{"verdict": "right", "said": "", "failed": ""}}')
            except OSError:
                pass
        os._exit(0)
        """,
        "changed",
    ),
}
SLOW = ("sleeps for ever", "prints without end", "takes memory bit by bit", "fills the disk")


def published(function):
    """The lines of the published solution of an exercise, and before them the imports of its cell."""
    for path in (NOTEBOOKS / "solutions" / lesson.name for lesson in LESSONS.values()):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if f"def {function}(" in source:
                tree = ast.parse(source)
                imports = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import)]
                made = next(node for node in tree.body if getattr(node, "name", "") == function)
                first = made.body[1] if ast.get_docstring(made) else made.body[0]
                return "\n".join([*imports, dedent("\n".join(source.splitlines()[first.lineno - 1 : made.end_lineno]))])
    raise LookupError(function)


RIGHT = {name: published(function) for function, name in STUBS.items()}


def notebook(lesson, answers, above=()):
    """A lesson, its outputs stripped, with these lines in place of the dots of its exercises, and cells above them."""
    made = json.loads(LESSONS[lesson].read_text(encoding="utf-8"))
    cells = []
    for cell in made["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            asked = [name for name in EXERCISES if f'check("{name}"' in source]
            if asked:
                cells += [cell | {"id": f"above-{i}", "source": text} for i, text in enumerate(above)]
                above = ()
                lines = indent(dedent(answers.get(asked[0], "...")).strip("\n"), "    ")
                cell["source"] = source.replace("    ...\n", lines + "\n").splitlines(keepends=True)
        cells.append(cell)
    return made | {"cells": cells}


def text_of(made):
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def write(path, made):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(made if isinstance(made, str) else text_of(made), encoding="utf-8", newline="\n")


def write_three(folder, answers, above=()):
    """All three lessons of one learner."""
    for lesson, path in LESSONS.items():
        write(folder / path.name, notebook(lesson, answers, above))


class Class:
    """The class in a folder, and `due`: learner → exercise → verdict ("" where nothing was handed in)."""

    def __init__(self, folder):
        self.folder, self.due = folder, {}
        for part in (self.plain, self.odd_files, self.damaged, self.copied):
            part()

    def expect(self, name, verdict="", **single):
        self.due[name] = dict.fromkeys(EXERCISES, verdict) | {key.replace("_", ".", 1): v for key, v in single.items()}

    def plain(self):
        """Right, half right, half done, wrong, untouched."""
        works = {"Meera Sharma": RIGHT, "Asha": RIGHT | {name: WRONG[name] for name in HALF}, "Vikram": WRONG}
        works |= {"Imran": {name: RIGHT[name] for name in EXERCISES if name not in HALF}, "Untouched": {}}
        for name, answers in works.items():
            write_three(self.folder / name, answers)
        marks = {"Meera Sharma": ("right", ""), "Asha": ("right", "not yet"), "Vikram": ("not yet", "")}
        for name, (verdict, half) in (marks | {"Imran": ("right", "not done"), "Untouched": ("not done", "")}).items():
            self.expect(name, verdict)
            self.due[name] |= dict.fromkeys(HALF, half) if half else {}

    def odd_files(self):
        """A zip, Windows' lines, a copy of the whole course, flat names, Colab, reordered, without checks, a script."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for lesson, path in LESSONS.items():
                archive.writestr(f"my work/{path.name}", text_of(notebook(lesson, RIGHT)))
            archive.writestr("../../escaped.ipynb", text_of(notebook("06", {})))
        (self.folder / "Ravi.zip").write_bytes(packed.getvalue())
        (self.folder / "प्रिया वर्मा").mkdir()
        for lesson, path in LESSONS.items():
            text = text_of(notebook(lesson, RIGHT)).replace("\\n", "\\r\\n").replace("\n", "\r\n")
            (self.folder / "प्रिया वर्मा" / path.name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        course = self.folder / "Joseph" / "ai4india-main" / "notebooks"
        write_three(course, {name: RIGHT[name] for name in HALF})
        write_three(course / "solutions", RIGHT)
        for name in ("Ravi", "प्रिया वर्मा"):
            self.expect(name, "right")
        self.expect("Joseph", "not done", **{name.replace(".", "_", 1): "right" for name in HALF})

        write(self.folder / "06_attention_सुनील.ipynb", notebook("06", RIGHT))
        colab = notebook("04", RIGHT | {"04.perplexity": WRONG["04.perplexity"]})
        colab["metadata"] = {"colab": {"provenance": []}, "kernelspec": {"name": "python3"}, "accelerator": "GPU"}
        for cell in colab["cells"]:
            cell.pop("id")
            cell["metadata"] = {"id": "x1", "colab": {"base_uri": "https://localhost:8080/"}}
        pip = {"cell_type": "code", "metadata": {}, "outputs": [], "source": ["!pip install -q x\n", "%cd /content"]}
        write(self.folder / "Copy of 04_counting - Kabir.ipynb", colab | {"cells": [pip, *colab["cells"]]})
        backwards = notebook("06", RIGHT)
        write(self.folder / "Zoya_06.ipynb", backwards | {"cells": backwards["cells"][::-1]})
        bare = notebook("06", RIGHT)
        for cell in bare["cells"]:
            cell["source"] = "".join(line for line in cell["source"] if "check" not in line)
        write(self.folder / "Tenzin" / "my homework.ipynb", bare)
        functions = {"causal_mask": "time", "attention": "q, k, v, mask", "rope_at": "x, positions, theta=1e4"}
        script = "import torch\n\n"
        for name, arguments in functions.items():
            script += f"def {name}({arguments}):\n{indent(RIGHT[STUBS[name]], '    ')}\n\n"
        write(self.folder / "Arjun.py", script + "print(causal_mask(3)\n")  # an error in a line that no answer needs
        for name in ("सुनील", "Zoya", "Tenzin", "Arjun"):
            self.expect(name, **dict.fromkeys(OF_06, "right"))
        self.expect(
            "Kabir", **{"04_perplexity": "not yet", "04_bigram_probability": "right", "04_interpolate": "right"}
        )

    def damaged(self):
        """Half a file, an empty one, a cell that is no Python, only a progress file, files of others."""
        write(self.folder / "Broken" / "06_attention.ipynb", text_of(notebook("06", RIGHT))[:9_000])
        write(self.folder / "Broken" / "02_streaming_data.ipynb", "")
        self.expect("Broken")
        write_three(self.folder / "Farah", RIGHT | {"06.attention": "return softmax(q @ k.mT"})
        self.expect("Farah", "right", **{"06_attention": "no Python"})
        lines = [{"exercise": "06.rope", "verdict": verdict, "said": "Half."} for verdict in ("not yet", "right")]
        write(self.folder / "Nisha" / "progress.jsonl", "\n".join(map(json.dumps, lines)))
        self.expect("Nisha", **{"06_rope": "says right"})
        write(self.folder / "notes.pdf", "%PDF-")
        write(self.folder / ".ipynb_checkpoints" / "06_attention-checkpoint.ipynb", "{}")

    def copied(self):
        """The published solutions handed in; two with the same answers, one right and one wrong, under other names."""
        for path in LESSONS.values():
            write(self.folder / "Solver" / path.name, (NOTEBOOKS / "solutions" / path.name).read_text(encoding="utf-8"))
        self.expect("Solver", "right")
        renamed = OWN_PACK.replace("every_id", "numbers").replace("taken", "part").replace("block", "b")
        for name, rope, pack in (("Deepak", OWN_ROPE, OWN_PACK), ("Gita", COPIED_ROPE, renamed)):
            write_three(self.folder / name, RIGHT | {"06.rope": rope, "02.pack": pack})
            self.expect(name, "right", **{"02_pack": "not yet"})

    def add_hostile(self, names):
        """Learners who are named after what their answer to 06.attention does; their others are right."""
        solution = NOTEBOOKS / "solutions" / LESSONS["06"].name
        places = {"neighbour": self.folder / "Meera Sharma" / LESSONS["06"].name, "solution": solution}
        places |= {"library": ROOT / "ai4india_lib" / "checks" / "__init__.py", "folder": self.folder}
        for name in names:
            answer, verdict = HOSTILE[name]
            lines = answer.format(**{key: str(place) for key, place in places.items()})
            write(self.folder / name / LESSONS["06"].name, notebook("06", RIGHT | {"06.attention": lines}))
            self.expect(name, **dict.fromkeys(OF_06, "right") | {"06_attention": verdict})
        return self


if __name__ == "__main__":
    Class(Path(sys.argv[1])).add_hostile(HOSTILE)
