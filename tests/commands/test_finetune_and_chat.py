"""Protects the commands finetune and chat: what they save, what they refuse, and that they talk."""

import io
import json

import pytest
from talks import TALKS

from ai4india_lib.__main__ import main
from ai4india_lib.formats.pretrained import save_model


@pytest.fixture
def at_work(make_model, tokenizer, tmp_path, monkeypatch):
    """A folder to stand in, with models/base and chai.jsonl."""
    monkeypatch.chdir(tmp_path)
    save_model(make_model(spread=0.05), tokenizer, "base")
    lines = "".join(json.dumps(talk, ensure_ascii=False) + "\n" for talk in TALKS)
    (tmp_path / "chai.jsonl").write_text(lines, encoding="utf-8")
    text = tmp_path / "text"
    text.mkdir()
    for part in ("train", "test"):
        (text / f"{part}.txt").write_text("एक दिन मीरा आई।\n" * 20, encoding="utf-8")
    return tmp_path


FAST = ["--data", "chai.jsonl", "--device", "cpu", "--max-steps", "4", "--context-size", "64", "--batch-size", "4"]


@pytest.mark.parametrize("lora", [[], ["--lora", "2"], ["--lora", "2", "--half"]], ids=["whole", "lora", "half"])
def test_finetune_command(at_work, capsys, lora):
    command = ["finetune", "--model", "base", "--replay", "text", *FAST, *lora]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert (
        "48" not in told.split("examples")[0]
        and "bits per byte before" in told
        and "chat --model base-chat-mine" in told
    )
    folder = at_work / "models" / "base-chat-mine"
    assert (folder / "adapter_config.json").is_file() == bool(lora) != (folder / "config.json").is_file()
    assert (folder / "history.json").is_file()
    if not lora:
        stops = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
        assert stops == [2, 6]
    assert main(command) == 1 and "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert main(["generate", "एक", "--model", "base-chat-mine", "--max-length", "3", "--device", "cpu"]) == 0
    further = ["finetune", "--model", "base-chat-mine", "--name", "further", *FAST]
    assert main(further) == 0
    assert (at_work / "models" / "further" / "adapter_config.json").is_file() == bool(lora)
    if lora:
        assert main([*further, "--overwrite", "--lora", "3"]) == 1
        assert "leave --lora out" in capsys.readouterr().err


def test_what_may_be_asked_goes_with_the_model(at_work, capsys, monkeypatch):
    """From about.json of the conversations to the model's folder, and into its chats; also when trained further."""
    talks = at_work / "talks"
    talks.mkdir()
    for part in ("train", "test"):
        (talks / f"{part}.jsonl").write_bytes((at_work / "chai.jsonl").read_bytes())
    (talks / "about.json").write_text('{"may_be_asked": "it knows where मीरा went"}', encoding="utf-8")
    for name, model, data in (("one", "base", ["chai.jsonl", "talks"]), ("two", "one", ["chai.jsonl"])):
        command = ["finetune", "--model", model, "--name", name, *FAST[2:], "--data", *data]
        assert main([*command, *(["--lora", "2"] if model == "base" else [])]) == 0
        note = json.loads((at_work / "models" / name / "chat.json").read_text(encoding="utf-8"))
        assert note == {"may_be_asked": "it knows where मीरा went"}
        capsys.readouterr()
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert main(["chat", "--model", name, "--device", "cpu"]) == 0
        assert capsys.readouterr().out.startswith(f"{name}: it knows where मीरा went\n/reset begins")
    assert main(["finetune", "--model", "base", "--name", "two", "--overwrite", *FAST]) == 1  # an adapter stays one
    assert main(["finetune", "--model", "base", "--name", "one", "--overwrite", "--lora", "2", *FAST]) == 0
    note = json.loads((at_work / "models" / "one" / "chat.json").read_text(encoding="utf-8"))
    assert note == {"may_be_asked": None}, "what the last run learned counts"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--name", "base"], "another --name"),
        (["--lora", "0"], "rank=0"),
        (["--half"], "--half is for adapters"),
        (["--replay", "nowhere"], "nowhere"),
    ],
)
def test_finetune_mistakes_leave_nothing(at_work, capsys, more, told):
    assert main(["finetune", "--model", "base", *FAST, *more]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error
    assert [path.name for path in (at_work / "models").iterdir() if (path / "adapter_config.json").exists()] == []
    assert not (at_work / "models" / "base-chat-mine" / "config.json").exists()


def talk(monkeypatch, typed, *more):
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    return main(["chat", "--model", "base", "--device", "cpu", "--max-length", "6", "--seed", "1", *more])


def test_chat_answers_forgets_and_ends(at_work, capsys, monkeypatch):
    assert talk(monkeypatch, "मीरा कौन है?\n\n/reset\nमीरा कौन है?\n/help\n/quit\nनहीं\n") == 0
    lines = capsys.readouterr().out.split("> ")
    assert "/reset begins" in lines[0] and lines[1] == lines[4], "after /reset the same question gets the same answer"
    assert "a new conversation" in lines[3] and "/help is not known" in lines[5] and len(lines) == 7
    assert talk(monkeypatch, "मीरा\n") == 0, "the end of the input ends it"
    assert talk(monkeypatch, f"{'मीरा ' * 99}\nहाँ?\n") == 0
    assert "too long" in capsys.readouterr().out
