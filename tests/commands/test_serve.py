"""What these tests protect: other programs can ask a model, and get the words that we get, and nothing around them."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from ai4india_lib import Sampling, add_lora, generate, load_model, save_adapter, save_model
from ai4india_lib.__main__ import main
from ai4india_lib.basics import extras
from ai4india_lib.commands import serve
from ai4india_lib.formats.folders import is_chat_model
from ai4india_lib.text.chat import RESPONSE_TEMPLATE, encode_request, stop_ids
from ai4india_lib.text.tokenizer import encode_prompt


@pytest.mark.parametrize("missing", ["transformers.cli.serve", "openai uvicorn fastapi"])
def test_what_lacks_is_named(monkeypatch, capsys, missing):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in missing else object())
    assert main(["serve", "--model", "kahani-hi"]) == 1
    told = capsys.readouterr().err
    assert 'pip install -e ".[serving]"' in told and told.count("\n") == 1
    assert ("openai, uvicorn, fastapi" in told) == ("openai" in missing)


def test_an_older_transformers_is_told(monkeypatch, capsys):
    """It has no part `cli` at all, and Python says so by an error."""

    def find(name):
        if name.startswith("transformers."):
            raise ModuleNotFoundError(name)
        return object()

    monkeypatch.setattr(extras, "find_spec", find)
    assert main(["serve", "--model", "kahani-hi"]) == 1 and "needs transformers 5" in capsys.readouterr().err


def test_a_port_that_cannot_be_is_told(monkeypatch, capsys):
    monkeypatch.setattr(extras, "find_spec", lambda name: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port, why in ((taken.getsockname()[1], "is taken by another program"), (70000, "between 1 and 65535")):
            assert main(["serve", "--model", "kahani-hi", "--port", str(port)]) == 1
            told = capsys.readouterr().err
            assert f"--port {port}" in told and why in told and told.count("\n") == 1


def test_what_is_served_says_how_an_answer_is_found(make_model, tokenizer, tmp_path):
    """An adapter merged, an older folder written anew; the learner's own folder is never changed."""
    told = save_model(make_model(), tokenizer, tmp_path / "told")
    save_adapter(add_lora(make_model(), 2), tmp_path / "adapter", base=told)
    older = save_model(make_model(), tokenizer, tmp_path / "older", chats=True)
    settings = json.loads((older / "tokenizer_config.json").read_text(encoding="utf-8"))
    del settings["response_template"]
    (older / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    for name, chats, its_own in (("told", False, True), ("adapter", True, False), ("older", True, False)):
        source = tmp_path / name
        before = {path.name: path.read_bytes() for path in source.iterdir()}
        with serve.served_folder(str(source)) as (folder, talks):
            assert (folder == source.resolve(), talks, folder.name) == (its_own, chats, name)
            assert is_chat_model(folder) == chats and (folder / "model.safetensors").is_file()
            knows = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
            assert knows["response_template"] == RESPONSE_TEMPLATE
        assert folder.exists() == its_own
        assert before == {path.name: path.read_bytes() for path in source.iterdir()}


def test_a_name_that_the_server_would_read_otherwise_is_refused(make_model, tokenizer, tmp_path):
    save_model(make_model(), tokenizer, tmp_path / "me@home")
    with pytest.raises(ValueError, match="me@home"), serve.served_folder(str(tmp_path / "me@home")):
        pass


@pytest.mark.parametrize("chats", [True, False])
def test_the_line_to_paste_asks_what_it_says(chats):
    """In a shell; and in Windows' Command Prompt, where it is ASCII."""
    line = serve.curl_line("http://127.0.0.1:8000", "it's mine", chats=chats, windows=False)
    curl, url, _, kind, _, body = shlex.split(line)
    asked = json.loads(body)
    assert (curl, kind, asked["model"]) == ("curl", "Content-Type: application/json", "it's mine")
    assert url == "http://127.0.0.1:8000/v1/" + ("chat/completions" if chats else "completions")
    assert ("messages" in asked, "prompt" in asked) == (chats, not chats)
    there = serve.curl_line("http://127.0.0.1:8000", "it's mine", chats=chats, windows=True)
    quoted = there.partition(' -d "')[2].removesuffix('"')
    assert there.isascii() and json.loads(quoted.replace('\\"', '"')) == asked


def free_port():
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


@contextmanager
def served(name):
    """What the command prints, and a client, while the server runs; then Ctrl-C, which ends all of it."""
    openai = pytest.importorskip("openai", reason="needs the extra serving")
    for package in ("uvicorn", "fastapi", "transformers.cli.serve"):
        pytest.importorskip(package, reason="needs the extra serving")
    port = free_port()
    command = [sys.executable, "-m", "ai4india_lib", "serve", "--model", str(name), "--port", str(port)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "env": dict(os.environ)}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, a shell has it ignored
    with subprocess.Popen([*command, "--device", "cpu"], **pipes) as process:
        signal.signal(signal.SIGINT, before)
        try:
            lines = [process.stdout.readline()]
            while lines[-1] and not lines[-1].startswith("curl"):
                lines.append(process.stdout.readline())
            assert any(f"http://127.0.0.1:{port}/v1" in line for line in lines), process.stderr.read()[-2000:]
            yield lines, openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=60)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                errors = process.communicate(timeout=30)[1]
            finally:
                process.terminate()  # one that did not end would be waited for without end
    assert process.returncode == 130 and errors.endswith("stopped\n") and "Traceback" not in errors
    with socket.socket() as tried:
        assert tried.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.slow
def test_the_words_are_ours():
    """Completions, a chat and a stream of it, of an adapter: greedily, the answer alone."""
    model, tokenizer = load_model("kahani-hi-chat", "cpu")
    messages, greedy = [{"role": "user", "content": "मीना बाज़ार गई। मीना कहाँ गई?"}], Sampling(temperature=0)
    rows = [encode_request(tokenizer, messages), encode_prompt(tokenizer, "एक दिन मीना")]
    answers = [
        tokenizer.decode(generate(model, [ids], max_new_tokens=40, sampling=greedy, stop_ids=stop_ids(tokenizer))[0],
                         skip_special_tokens=True)
        for ids in rows
    ]  # fmt: skip
    with served("kahani-hi-chat") as (lines, client):
        assert "is an adapter" in lines[0]
        asked = json.loads(shlex.split(lines[-1])[-1])
        name, more = asked["model"], {"temperature": 0, "max_tokens": 40}
        chat = client.chat.completions.create(model=name, messages=messages, **more)
        assert answers[0].strip() and chat.choices[0].message.content.strip() == answers[0].strip()
        assert chat.choices[0].finish_reason == "stop"
        stream = client.chat.completions.create(model=name, messages=messages, stream=True, **more)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(pieces).strip() == answers[0].strip() and sum(map(bool, pieces)) > 1
        text = client.completions.create(model=name, prompt="एक दिन मीना", **more).choices[0].text
        assert len(text) > 20 and text == answers[1]


def test_a_server_that_ends_is_told(monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    began = time.monotonic()
    with pytest.raises(OSError, match="ended with status 3"):
        serve._wait_until_it_answers(ended, f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - began < 30
