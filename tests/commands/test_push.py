"""What these tests protect: a model goes to the hub only where it was asked for, and of its folder only the model."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
from huggingface_hub import constants

from ai4india_lib import save_model
from ai4india_lib.__main__ import main


class Hub(BaseHTTPRequestHandler):
    """A stand-in for the hub: takes what is sent, and notes it."""

    seen: list  # (path, content)
    status = 200

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.path, body, self.headers.get("Authorization")))
        address = f"http://{self.headers['Host']}/asha/teller"
        answer = {"url": address, "commitUrl": f"{address}/commit/1", "commitOid": "1" * 40}
        if "/preupload/" in self.path:
            files = [file["path"] for file in json.loads(body)["files"]]
            answer = {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]}
        text = json.dumps(answer).encode()
        self.send_response(self.status if self.headers.get("Authorization") else 401)  # as the hub asks for it
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def hub(monkeypatch):
    handler = type("TheHub", (Hub,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(make_model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = save_model(make_model(), tokenizer, "teller")
    (folder / "training").mkdir()
    (folder / "training" / "run.json").write_text("{}", encoding="utf-8")
    (folder / "diary.txt").write_text("mine", encoding="utf-8")
    (folder / "perplexity.png").write_bytes(b"picture")
    return folder


def test_the_model_and_its_card_go_and_nothing_else(model, hub, capsys):
    assert main(["push", "--model", "teller", "--to", "asha/teller"]) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "no licence is chosen" in told and f"{constants.ENDPOINT}/asha/teller" in told
    calls = {path.split("?")[0]: body for path, body, _ in hub.seen}
    made = json.loads(calls["/api/repos/create"])
    assert (made["name"], made["organization"], is_private(made)) == ("teller", "asha", True)
    lines = [json.loads(line) for line in calls["/api/models/asha/teller/commit/main"].splitlines()]
    sent = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
    }
    wanted = {path.name for path in model.iterdir() if path.is_file()} - {"diary.txt"}
    assert set(sent) == wanted and {"model.safetensors", "README.md", "tokenizer.json", "perplexity.png"} <= wanted
    assert all(content == (model / name).read_bytes() for name, content in sent.items())
    assert all(key == "Bearer hf_of_a_test" for path, _, key in hub.seen if "/asha/" in path or "create" in path)


def is_private(made):
    """What a request for a new place asks for, as older and newer versions of `huggingface_hub` write it."""
    return made.get("private") is True or made.get("visibility") == "private"


def test_public_is_said(model, hub):
    assert main(["push", "--model", "teller", "--to", "asha/teller", "--public"]) == 0
    assert not is_private(json.loads(hub.seen[0][1]))


@pytest.mark.parametrize("to", ["teller", "asha/", "asha/a b", "आशा/teller", "../x", "https://huggingface.co/a/b"])
def test_a_place_that_cannot_be_is_told(model, hub, capsys, to):
    assert main(["push", "--model", "teller", "--to", to]) == 1
    assert "USER/NAME" in capsys.readouterr().err and hub.seen == []


def test_what_hinders_is_told_in_one_sentence(model, hub, capsys, monkeypatch):
    asked = ["push", "--model", "teller", "--to", "asha/teller"]
    assert main(["push", "--model", "nobody", "--to", "asha/x"]) == 1
    assert "no model in models/nobody" in capsys.readouterr().err and hub.seen == []
    hub.status = 401
    assert main(asked) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "hf auth login" in told
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.utils._headers, "get_token", lambda: None)
    hub.status = 200
    assert main(asked) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "hf auth login" in told
    hub.status = 500
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    assert main(asked) == 1 and "the hub was not reached" in capsys.readouterr().err
