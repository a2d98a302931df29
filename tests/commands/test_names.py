"""Protects what commands read, write and advise by name: --output replaces nothing but a file of its own, questions
come in every form that the help names, and an advised command can be pasted into a terminal."""

import gzip
import json
import os
import shlex
import shutil
import tarfile

import pytest
from servers import serve_site  # noqa: F401 (the fixture `site`)

from ai4india_lib import read_about, read_questions, save_model
from ai4india_lib.__main__ import main, make_parser
from ai4india_lib.commands import quoted, with_model

pytestmark = pytest.mark.usefixtures("without_pictures")

QUESTIONS = [
    {"kind": "who", "question": "चाय कौन लाई?", "answer": "मीरा"},
    {"kind": "what", "question": "?", "answer": "चाय"},
]


@pytest.fixture
def at_work(tmp_path, monkeypatch, make_model, tokenizer):
    """A folder to stand in, with a model, prompts, pairs, questions, and a small text to train on."""
    monkeypatch.chdir(tmp_path)
    save_model(make_model(), tokenizer, "mine")
    (tmp_path / "p.txt").write_text("एक दिन\nमीरा\n", encoding="utf-8")
    pair = {"phenomenon": "verb", "right": "मीरा चाय लाई।", "wrong": "मीरा चाय गया।"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair), encoding="utf-8")
    line = json.dumps({"story": "मीरा चाय लाई।", "questions": QUESTIONS}, ensure_ascii=False)
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "test.jsonl").write_text(line, encoding="utf-8")
    return tmp_path


def pack(source, target, **more):
    with tarfile.open(target, "w:gz") as tar:
        for name, path in {"q/test.jsonl": source, **more}.items():
            tar.add(path, name)
    return target


@pytest.fixture
def source(request, at_work, site):
    """The same questions in one of the forms."""
    file = at_work / "q" / "test.jsonl"
    if request.param == "file":
        return str(file)
    if request.param == "another name":
        return str(shutil.copy(file, at_work / "ASKED.JSONL"))
    if request.param == "packed file":
        (at_work / "asked.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
        return "asked.jsonl.gz"
    if request.param == "folder":
        return "q"
    if request.param == "several about.json":
        for place in ("q/one", "q/two"):
            (at_work / place).mkdir()
            (at_work / place / "about.json").write_text("{}", encoding="utf-8")
        return "q"
    if request.param == "archive":
        return str(pack(file, at_work / "asked.tar.gz"))
    site.body = pack(file, at_work / "sent.tar.gz").read_bytes() if request.param == "url" else file.read_bytes()
    return site.url + ("asked.tar.gz" if request.param == "url" else "asked.jsonl")


FORMS = ["file", "another name", "packed file", "folder", "several about.json", "archive", "url", "url of a file"]


@pytest.mark.parametrize("source", FORMS, indirect=True)
def test_questions_come_in_every_form_that_the_help_names(source, at_work, capsys):
    assert main(["evaluate", "--model", "mine", "--questions", source, "--no-baselines", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "2 questions" in told and "questions, % right" in told
    assert [q.answer for q in read_questions(source)] == ["मीरा", "चाय"] and read_about(source) == {}


def test_what_guessing_reaches_is_read_where_it_is_known(at_work):
    (at_work / "about.json").write_text('{"story_blind_accuracy": null}', encoding="utf-8")
    archive = pack(at_work / "q" / "test.jsonl", at_work / "asked.tar.gz", **{"q/about.json": at_work / "about.json"})
    assert main(["evaluate", "--model", "mine", "--questions", str(archive), "--no-baselines", "--device", "cpu"]) == 0


@pytest.mark.parametrize("option", ["--questions", "--pairs"])
def test_an_empty_file_measures_nothing_and_says_so(option, at_work, capsys):
    (at_work / "none.jsonl").touch()
    assert main(["evaluate", "--model", "mine", option, "none.jsonl", "--device", "cpu"]) == 1
    assert "none.jsonl is empty" in capsys.readouterr().err


def everything_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("generate --prompts p.txt --output p.txt", "would replace what --prompts reads"),
        ("generate --prompts p.txt --output ./q/../p.txt", "would replace what --prompts reads"),
        ("generate --prompts p.txt --output link.jsonl", "would replace what --prompts reads"),
        ("generate --prompts p.txt --output q", "cannot be a file (it is a folder)"),
        ("generate --prompts p.txt --output .", "cannot be a file (it is a folder)"),
        ("generate --prompts p.txt --output /dev/null", "is a device or a pipe"),
        ("generate --prompts p.txt --output /dev/stdout", "is a device or a pipe"),
        ("generate --prompts p.txt --output fifo", "is a device or a pipe"),
        ("generate --prompts p.txt --output p.txt/o.jsonl", "p.txt is a file, and no folder"),
        (f"generate --prompts p.txt --output {'अ' * 84}", "cannot be a file ("),
        ("evaluate --pairs pairs.jsonl --output pairs.jsonl", "would replace what --pairs reads"),
        ("evaluate --questions q/test.jsonl --output q/test.jsonl", "would replace what --questions reads"),
        ("evaluate --pairs pairs.jsonl --output q", "cannot be a file (it is a folder)"),
        ("evaluate --pairs pairs.jsonl --output /dev/null", "is a device or a pipe"),
    ],
)
def test_an_output_that_can_be_no_file_is_refused_before_anything_is_done(command, wanted, at_work, capsys):
    (at_work / "link.jsonl").symlink_to("p.txt")
    os.mkfifo(at_work / "fifo")
    before = everything_in(at_work)
    assert main([*command.split(), "--model", "nobody"]) == 1  # a model is not even looked for
    told = capsys.readouterr().err
    assert wanted in told and told.startswith("error: --output") and told.count("\n") == 1
    assert everything_in(at_work) == before


def test_texts_go_where_a_link_leads_and_into_new_folders(at_work):
    (at_work / "texts.jsonl").symlink_to("q/kept.jsonl")
    for output in ("texts.jsonl", "new/folder/o.jsonl"):
        command = ["generate", "--prompts", "p.txt", "--output", output, "--model", "mine", "--max-length", "3"]
        assert main([*command, "--device", "cpu"]) == 0
        assert len((at_work / output).read_text(encoding="utf-8").splitlines()) == 2
    assert (at_work / "texts.jsonl").is_symlink() and (at_work / "q" / "kept.jsonl").is_file()


@pytest.mark.parametrize(
    "name", ["mine", "my stories", "-mine", "a'b", 'a"b', "$HOME", "a&b", "a;b", "कहानी", "x!y z", "~"]
)
def test_an_advised_name_can_be_pasted(name):
    assert make_parser().parse_args(["chat", *shlex.split(with_model(name))]).model == name
    assert shlex.split(quoted(name)) == [name]


def test_plain_names_are_not_quoted_and_others_as_every_terminal_reads_them():
    assert with_model("models/kahani-hi") == "--model models/kahani-hi" and quoted("एक दिन") == '"एक दिन"'


@pytest.mark.parametrize("place", [".", "./", "../my text", "my text"])
def test_the_command_that_train_advises_works(place, at_work, monkeypatch, capsys):
    text = at_work / "my text"
    text.mkdir()
    for name, count in (("train", 60), ("test", 10)):
        (text / f"{name}.txt").write_text("-मीरा ने चाय पी। एक दिन रवि गया।\n" * count, encoding="utf-8")
    monkeypatch.chdir(at_work if place == "my text" else text)
    short = ["--preset", "tiny", "--max-steps", "900", "--num-epochs", "0.5", "--device", "cpu"]
    assert main(["train", "--data", place, *short]) == 0
    told = capsys.readouterr().out
    assert "the text has parts for a vocabulary of" in told and "not of 512" in told
    assert "--max-steps 900 is not reached: in" in told and "read 0.5 times; a larger --num-epochs gives more" in told
    advised = told.splitlines()[-1].removeprefix("now try: python -m ai4india_lib ")
    assert '--model "my text-mine"' in advised
    command, *words = shlex.split(advised)
    assert main([command, "--max-length", "3", "--device", "cpu", *words]) == 0
    assert capsys.readouterr().out.startswith("-मीरा ने")


def test_bytes_that_are_no_text_are_told(at_work, capsys):
    assert main(["generate", "एक \udce0", "--model", "mine"]) == 1
    assert capsys.readouterr().err.startswith("error: the prompt is no text in UTF-8")
