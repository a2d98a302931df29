"""Every prompt of the course is the beginning of some story: a model goes on well only where it has read such texts."""

from __future__ import annotations

import ast
import json
import random
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

kahani = pytest.importorskip("data.kahani", reason="the story generator stands in data/, beside the library")
pytest.importorskip("tomllib", reason="the story generator needs Python 3.11; the archives need no generator")

from ai4india_lib.commands.options import make_parser  # noqa: E402
from data.kahani.marking import begins  # noqa: E402

ROOT = Path(__file__).parents[2]
WRITERS = {"generate_text": 1, "stream_text": 1, "encode_prompt": 1, "opening": 0, "next_logits": 0}  # where it stands
NAMES = re.compile(r"(own_|my_)?(prompts?|starts?|openings?|start_strings?)", re.IGNORECASE)  # as the texts they hold
TYPED = re.compile(r"-m ai4india_lib (generate [^\n`|<>#]*)")
SCRIPTS = {"hi": re.compile("[\u0900-\u097f]"), "en": re.compile("[A-Za-z]")}  # a text is of the first that fits

# Prompts that are no beginnings, each with the reason: what the place is about.
NO_BEGINNINGS = {"एक दिन मीरा अपनी सहेली के साथ नदी के किनारे गई।": "lesson 11 times a cache: what is read does not matter"}


def texts(node: ast.AST | None) -> Iterator[str]:
    """The texts that stand in an expression, also in lists; not those of the calls in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.List | ast.Tuple | ast.IfExp):
        for inner in ast.iter_child_nodes(node):
            yield from texts(inner)


def prompts_in_code(source: str) -> Iterator[str]:
    """The texts that a program gives to what writes on, or keeps under a name such as `prompt` or `starts`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in WRITERS and WRITERS[called] < len(node.args):
                yield from texts(node.args[WRITERS[called]])
            for keyword in node.keywords:
                if NAMES.fullmatch(keyword.arg or ""):
                    yield from texts(keyword.value)
        elif isinstance(node, ast.Assign):
            if any(NAMES.fullmatch(getattr(target, "id", "")) for target in node.targets):
                yield from texts(node.value)
        elif isinstance(node, ast.For | ast.comprehension) and NAMES.fullmatch(getattr(node.target, "id", "")):
            yield from texts(node.iter)
        elif isinstance(node, ast.FunctionDef):
            named = node.args.args[len(node.args.args) - len(node.args.defaults) :]
            for argument, default in zip(named, node.args.defaults, strict=True):
                if NAMES.fullmatch(argument.arg):
                    yield from texts(default)


def prompts_typed(text: str) -> Iterator[str]:
    """The prompts of the `generate` commands in a text, as the program itself reads them."""
    for found in TYPED.finditer(text):
        try:
            prompt = make_parser().parse_args(shlex.split(found[1])).prompt
        except (SystemExit, ValueError):
            continue  # no whole command: part of a sentence
        if prompt:
            yield prompt


def prompts_of(path: Path) -> Iterator[str]:
    """All prompts in a file of the course."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from prompts_typed(text)
        for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            yield from prompts_in_code(block)
    elif path.suffix == ".py":
        yield from prompts_in_code(text)
    else:
        for cell in json.loads(text)["cells"]:
            lines = "".join(cell["source"]).splitlines()
            yield from prompts_typed("\n".join(lines))
            if cell["cell_type"] == "code":  # a line for the shell becomes an empty block's body
                yield from prompts_in_code("\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines))


FILES = [
    *ROOT.glob("*.md"),
    *(ROOT / "data").glob("*.md"),
    *(ROOT / "models").glob("*.md"),
    *ROOT.glob("notebooks/**/*.ipynb"),
    *ROOT.glob("ai4india_lib/commands/**/*.py"),
]
FOUND = {
    (str(path.relative_to(ROOT)), prompt)
    for path in FILES
    if ".ipynb_checkpoints" not in path.parts
    for prompt in prompts_of(path)
    if any(script.search(prompt) for script in SCRIPTS.values())
}


def language_of(prompt: str) -> str:
    return next(code for code, script in SCRIPTS.items() if script.search(prompt))


def test_prompts_are_beginnings_of_stories():
    """Each is the beginning of some story, to the letter, or stands in `NO_BEGINNINGS` with its reason."""
    known = {code: kahani.load_language(code) for code in SCRIPTS}
    told = {prompt: begins(known[language_of(prompt)], prompt) for _, prompt in FOUND}
    wrong = sorted((where, prompt) for where, prompt in FOUND if not told[prompt] and prompt not in NO_BEGINNINGS)
    assert not wrong, "no story begins so, write one that does or choose another prompt: " + "; ".join(
        f"{where}: {prompt!r}" for where, prompt in wrong
    )
    needless = [prompt for prompt in NO_BEGINNINGS if told.get(prompt)]
    assert not needless, f"stories begin so, no reason is needed for {needless}"


def test_prompts_are_found():
    """The collector sees arguments, names, lists, defaults, loops and typed commands, and no other texts."""
    code = """
generate_text(model, "a", tokenizer, "cpu")
PROMPT = "b"
starts = ["c", encode_prompt(tokenizer, "d")]
def play(model, start="e", other="no"): print("no")
for start in ("f", "g"): pass
[h(start) for start in ("h",)]
run(start_string="i", name="no")
"""
    assert sorted(prompts_in_code(code)) == list("abcdefghi")
    typed = 'python -m ai4india_lib generate "एक दिन" --count 2\n`python -m ai4india_lib generate --model x बारिश` …\n'
    assert list(prompts_typed(typed)) == ["एक दिन", "बारिश"]
    assert ("ai4india_lib/commands/generate.py", "एक दिन") in FOUND
    assert len({prompt for _, prompt in FOUND}) >= 10
    assert any(where == "README.md" for where, _ in FOUND)


@pytest.mark.parametrize("code", kahani.languages())
def test_every_cut_of_a_story_is_a_beginning(code):
    """`begins` says yes wherever a story is cut, and no where one letter is another or stands twice."""
    language, rng = kahani.load_language(code), random.Random(3)
    for seed in range(4):
        story = language.tell(seed).text
        cut = rng.randrange(1, 160)
        assert begins(language, story[:cut]), story[:cut]
        assert not begins(language, story[:cut] + "§")
    assert begins(language, "")
    assert not begins(language, "  ")
