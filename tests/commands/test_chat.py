"""Protects the command `chat`: what is typed is read as meant, Ctrl-C stops an answer, who cannot chat is told."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ai4india_lib
from ai4india_lib import save_model
from ai4india_lib.__main__ import main
from ai4india_lib.commands import chat

QUESTION = "मीरा पटना गई। मीरा कहाँ गई?"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
TURNS = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"


@pytest.fixture
def at_work(tmp_path, monkeypatch, make_model, tokenizer):
    """A folder to stand in, with models/talks, which was taught to chat, and models/tells, which was not."""
    monkeypatch.chdir(tmp_path)
    save_model(make_model(), tokenizer, "talks", chats=True)
    save_model(make_model(), tokenizer, "tells")
    return tmp_path


@pytest.fixture
def say(monkeypatch):
    """say(bytes): what is typed in the next chat."""
    return lambda typed: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="cp1252"))


@pytest.fixture
def heard(monkeypatch):
    """What the model is asked, request by request; it answers each with "हाँ।"."""
    asked = []

    def reply(model, messages, *_, **__):
        asked.append(messages)
        return iter(["हाँ।"])

    monkeypatch.setattr(chat, "stream_reply", reply)
    return asked


def test_what_is_typed_is_read_as_utf_8_whatever_the_console_thinks(at_work, say, heard, capsys):
    say(f"{QUESTION}\n".encode() + b"\xe0\xa4 half a letter\n" + "और?\r\n".encode())
    assert main(["chat", "--model", "talks", "--device", "cpu"]) == 0
    answer = {"role": "assistant", "content": "हाँ।"}
    first = {"role": "user", "content": QUESTION}
    assert heard == [[first], [first, answer, {"role": "user", "content": "और?"}]]
    assert "no text in UTF-8" in capsys.readouterr().out


@pytest.mark.parametrize("said", [["पटना ", "में"], []], ids=["in the midst", "before a word"])
def test_ctrl_c_stops_the_answer_and_not_the_chat(said, at_work, say, monkeypatch, capsys):
    asked = []

    def reply(model, messages, *_, **__):
        asked.append(messages)
        yield from said if len(asked) == 1 else ["हाँ।"]
        if len(asked) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(chat, "stream_reply", reply)
    say(f"{QUESTION}\nऔर?\n".encode())
    assert main(["chat", "--model", "talks", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "".join(said) + " (stopped)\n" in told and "> हाँ।\n" in told
    before = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "पटना में"}] if said else []
    assert asked[1] == [*before, {"role": "user", "content": "और?"}]


@pytest.mark.parametrize(
    ("template", "system", "wanted"),
    [
        (NO_SYSTEM + TURNS, "Be kind.", "refuses a system message (System role not supported): leave --system out"),
        (TURNS, "word " * 99, "--system is too long: with a question it must leave room for an answer in 64 tokens"),
        (None, None, "has no chat template: it cannot chat"),
    ],
    ids=["refused", "too long", "no template"],
)
def test_a_conversation_that_cannot_begin(template, system, wanted, at_work, say, heard, tokenizer, capsys, make_model):
    (at_work / "models" / "talks" / "chat_template.jinja").unlink()
    if template is not None:
        (at_work / "models" / "talks" / "chat_template.jinja").write_text(template, encoding="utf-8")
    say(b"hello\n")
    command = ["chat", "--model", "talks", "--device", "cpu"]
    assert main([*command, *(["--system", system] if system else [])]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and wanted in told and told.count("\n") == 1 and not heard
    if template == NO_SYSTEM + TURNS:
        say(b"hello\n")
        assert main(command) == 0 and len(heard) == 1


def test_a_model_that_was_not_taught_to_answer_is_told(at_work, say, heard, capsys):
    for model, told in (("tells", "seems to be no chat model"), ("talks", "")):
        say(b"hello\n")
        assert main(["chat", "--model", model, "--device", "cpu"]) == 0
        assert told in capsys.readouterr().err if told else not capsys.readouterr().err


def test_a_chat_model_says_what_may_be_asked_where_that_was_noted(at_work, say, heard, capsys):
    """One line before the first question; nothing where nobody noted it, and nothing of a model that does not chat."""
    for name in ("talks", "tells"):
        (at_work / "models" / name / "chat.json").write_text('{"may_be_asked": "it tells stories"}', encoding="utf-8")
    for note, model, told in (
        ('{"may_be_asked": "it tells stories"}', "talks", "talks: it tells stories\n/reset begins"),
        ('{"may_be_asked": null}', "talks", "/reset begins"),
        ('{"may_be_asked": 3}', "talks", "/reset begins"),
        ('{"may_be_asked": "it tells stories"}', "tells", "/reset begins"),
    ):
        (at_work / "models" / model / "chat.json").write_text(note, encoding="utf-8")
        say(b"hello\n")
        assert main(["chat", "--model", model, "--device", "cpu"]) == 0
        assert capsys.readouterr().out.startswith(told)


def test_an_empty_answer_is_no_empty_line(at_work, say, monkeypatch, capsys):
    monkeypatch.setattr(chat, "stream_reply", lambda *_, **__: iter([]))
    say(b"hello\n")
    assert main(["chat", "--model", "talks", "--device", "cpu"]) == 0
    assert "> (it says nothing to this: ask in other words)\n" in capsys.readouterr().out


def test_the_newest_chat_model_is_taken_and_named(at_work, say, heard, capsys):
    os.utime(at_work / "models" / "talks" / "config.json", (5, 5))
    say(b"hello\n")
    assert main(["chat", "--device", "cpu"]) == 0
    assert capsys.readouterr().err == "no --model is given: this is talks\n"


@pytest.mark.slow
def test_a_pipe_where_python_takes_another_encoding_for_the_usual_one(at_work):
    """As on Windows, or with LC_ALL=C: a real process, and a model that answers with what it was asked."""
    script = (
        "import sys\nfrom ai4india_lib.commands import chat\nfrom ai4india_lib.__main__ import main\n"
        "chat.stream_reply = lambda model, asked, *a, **k: iter([asked[-1]['content']])\n"
        "sys.exit(main(['chat', '--model', 'talks', '--device', 'cpu']))"
    )
    place = {**os.environ, "PYTHONPATH": str(Path(ai4india_lib.__file__).parents[1]), "LC_ALL": "C"}
    for more in ({"PYTHONIOENCODING": "cp1252"}, {}):
        command = [sys.executable, "-X", "utf8=0", "-c", script]
        ended = subprocess.run(command, input=f"{QUESTION}\n".encode(), capture_output=True, env=place | more)
        assert ended.returncode == 0 and f"> {QUESTION}\n" in ended.stdout.decode()
