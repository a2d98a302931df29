"""python -m ai4india_lib serve: a model behind the web address that programs for OpenAI's models speak to."""

import argparse
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

from ..basics.extras import check_installed, how_to_install, is_installed
from ..basics.files import read_json
from ..formats.folders import holds_adapter, is_chat_model, model_folder
from ..formats.pretrained import load_model, save_model
from ..text.chat import CHAT_TEMPLATE
from . import model_of, tell_model

HOST = "127.0.0.1"  # this computer only: nobody else on the network can ask
START_SECONDS = 180.0  # an old disk takes long to read torch
NEEDED = ("openai", "uvicorn", "fastapi")
ENDS = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # the terminal is closed: as Ctrl-C


@contextmanager
def served_folder(name: str) -> Iterator[tuple[Path, bool]]:
    """The folder that `transformers serve` opens, and whether the model chats.

    That of an adapter, and one that was saved before answers could be found in it, is written anew, to a folder that is
    gone after the block.
    """
    source = model_folder(name)
    if set("@:") & set(source.resolve().name):
        raise ValueError(f"{source.resolve().name} has a sign that `transformers serve` reads otherwise: rename it")
    model, tokenizer = load_model(name, "cpu")  # refuses what cannot be opened, in a sentence
    chats, path = is_chat_model(name, tokenizer), source / "tokenizer_config.json"
    knows = path.is_file() and "response_template" in read_json(path)
    if not holds_adapter(source) and (knows or tokenizer.chat_template != CHAT_TEMPLATE):
        yield source.resolve(), chats
        return
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield save_model(model, tokenizer, Path(folder).resolve() / source.resolve().name, chats=chats), chats


def curl_line(address: str, name: str, *, chats: bool, windows: bool = os.name == "nt") -> str:
    """A command that asks the server, ready to paste into a terminal.

    For Windows' Command Prompt it has ASCII only: `curl` would not get other letters there.
    """
    asked = {"messages": [{"role": "user", "content": "नमस्ते"}]} if chats else {"prompt": "एक दिन"}
    body = json.dumps({"model": name, **asked, "max_tokens": 60}, ensure_ascii=windows)
    door = "chat/completions" if chats else "completions"
    words = ["curl", f"{address}/v1/{door}", "-H", "Content-Type: application/json", "-d", body]
    return subprocess.list2cmdline(words) if windows else shlex.join(words)


def _check(options: argparse.Namespace) -> None:
    check_installed("serve", NEEDED, "serving")
    if not is_installed("transformers.cli.serve"):
        raise ValueError(f"serve needs transformers 5, which has `transformers serve`: {how_to_install('serving')}")
    if not 1 <= options.port <= 65535:
        raise ValueError(f"--port {options.port} must lie between 1 and 65535")
    with socket.socket() as tried:
        if tried.connect_ex((HOST, options.port)) == 0:
            raise ValueError(f"--port {options.port} is taken by another program: give another")


def _wait_until_it_answers(server: subprocess.Popen, address: str) -> None:
    """Raises OSError if the server ends, or does not answer in time."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            raise OSError(f"the server ended with status {server.returncode}: its last lines above say why")
        with suppress(URLError, OSError), urlopen(f"{address}/health", timeout=5):
            return
        time.sleep(0.2)
    raise OSError(f"the server did not answer within {START_SECONDS:.0f} seconds")


@contextmanager
def _server(folder: Path, port: int, device: str) -> Iterator[subprocess.Popen]:
    """`transformers serve`, until the block ends, whatever ends it. Its own words go where messages go.

    Ctrl-C does not reach it: who started it ends it.
    """

    def as_ctrl_c(*_) -> None:
        raise KeyboardInterrupt

    before = {name: signal.signal(getattr(signal, name), as_ctrl_c) for name in ENDS}
    command = [sys.executable, "-P", "-c", "from transformers.cli.transformers import app; app()", "serve"]
    command += [folder.name, "--host", HOST, "--port", str(port), "--device", device]
    alone = {"process_group": 0} if os.name != "nt" else {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    # from the folder's own place, so that those who ask write its name and not its path
    server = subprocess.Popen(command, stdout=2, cwd=folder.parent, env=environment, **alone)
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:  # it still writes an answer
            server.kill()
            server.wait()
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def run(options: argparse.Namespace) -> None:
    """Start the server, say how it is asked, and wait until Ctrl-C ends it."""
    _check(options)
    name, address = model_of(options), f"http://{HOST}:{options.port}"
    with served_folder(name) as (folder, chats):
        tell_model(options, name)
        if holds_adapter(model_folder(name)):
            print(f"{name} is an adapter: it is served merged into its model", flush=True)
        with _server(folder, options.port, options.device or "auto") as server:
            _wait_until_it_answers(server, address)
            print(f"{folder.name} answers at {address}/v1 until Ctrl-C. Ask it from another terminal:")
            print(curl_line(address, folder.name, chats=chats), flush=True)
            if not chats:
                told = f"{name} was not taught to chat: it writes on a beginning (completions)"
                print(f"{told}, and answers no messages; `finetune` teaches that", flush=True)
            server.wait()
            raise OSError(f"the server ended with status {server.returncode}: its last lines above say why")
