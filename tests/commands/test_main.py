"""The command line, as a learner uses it: what each command prints, writes, and says about mistakes."""

import contextlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from servers import serve_site  # noqa: F401 (the fixture `site`)

from ai4india_lib import FastDecoder, bits_per_byte, encode_prompt, load_model, read_pairs, train_and_test_lines
from ai4india_lib.__main__ import main
from ai4india_lib.evaluation import minimal_pair_accuracy
from ai4india_lib.training.history import History

TINY = ["--preset", "tiny", "--device", "cpu", "--max-steps", "8", "--eval-every", "4", "--checkpoint-every", "4"]
SHORT = [*TINY, "--max-steps", "2"]  # for runs of which only the end matters
PROMPTS = "एक दिन\n\n  मीरा  \nरवि ने चाय\n" * 3


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A small text archive, as a learner would pack it."""
    draw, place = random.Random(0), tmp_path_factory.mktemp("archive")
    words = "एक दिन मीरा रवि चाय किताब नदी पतंग लाल नीली लाई देखा गया".split()
    folder = place / "text"
    folder.mkdir()
    for name, count in (("train", 150), ("test", 30)):
        lines = [" ".join(draw.choices(words, k=12)) + "।" for _ in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "about.json").write_text('{"test_floor_bits_per_byte": 0.25}', encoding="utf-8")
    with tarfile.open(place / "chai.tar.gz", "w:gz") as tar:
        tar.add(folder, "chai")
    return place / "chai.tar.gz"


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """An empty folder to stand in: models go to models/ there."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def first_run(archive, tmp_path_factory):
    """(the folder where `train` was run once, what it printed)."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        assert main(["train", "--data", str(archive), *TINY]) == 0
    return folder, printed.getvalue()


@pytest.fixture
def trained(first_run, at_work):
    """A folder to stand in, with a model of its own in models/chai-mine."""
    shutil.copytree(first_run[0] / "models", at_work / "models")
    return at_work


def test_train_saves_model_plot_and_history_and_generate_writes_on(first_run, trained, capsys):
    told = first_run[1]
    assert "read the text" in told and "× the floor" in told and "models" in told
    folder = trained / "models" / "chai-mine"
    assert (folder / "perplexity.png").read_bytes().startswith(b"\x89PNG")
    history = History.load(folder / "history.json")
    assert history.steps == 8 and history.floor_bits_per_byte == 0.25 and history.test_loss > 0
    model, tokenizer = load_model("chai-mine", "cpu")
    assert len(tokenizer) == model.config.vocab_size

    assert main(["generate", "एक दिन", "--max-length", "8", "--seed", "1", "--device", "cpu"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("एक दिन")
    main(["generate", "एक दिन", "--model", str(folder), "--max-length", "8", "--seed", "1", "--device", "cpu"])
    assert capsys.readouterr().out == first
    main(["generate", "एक दिन", "--count", "3", "--max-length", "4", "--temperature", "0", "--device", "cpu"])
    texts = [text for text in capsys.readouterr().out.split("\n\n") if text]
    assert len(texts) == 3 and len(set(texts)) == 1


GREEDY = ["--model", "kahani-hi", "--max-length", "40", "--temperature", "0", "--device", "cpu"]


@pytest.mark.parametrize("draft", ["kahani-hi-draft", "ngram"])
def test_a_draft_changes_no_greedy_text(draft, capsys):
    command = ["generate", "एक दिन", *GREEDY]
    assert main(command) == 0
    alone = capsys.readouterr().out.strip()
    assert main([*command, "--draft", draft]) == 0
    text, told = capsys.readouterr().out.strip().split("\n")
    assert text == alone
    assert re.fullmatch(r"\(\d+ of \d+ proposals accepted \(\d+%\), \d\.\d\d tokens per pass of the model\)", told)


def test_a_draft_with_another_tokenizer_is_refused_though_its_vocabulary_is_as_large(capsys):
    """Its ids mean other pieces of text: proposals would be noise, and time lost."""
    assert main(["generate", "एक दिन", *GREEDY, "--draft", "kahani-en"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and "the draft kahani-en was trained with another tokenizer than the model" in shown.err


def test_timing_and_int8_are_told_beside_the_text(capsys):
    command = ["generate", "एक दिन", *GREEDY]
    assert main(command) == 0
    exact = capsys.readouterr().out
    assert main([*command, "--timing"]) == 0
    timed = capsys.readouterr()
    assert timed.out == exact  # the figures go to the other stream
    first, speed = re.fullmatch(r"first token after (\d+) ms, then (\d+) tokens/s\n", timed.err).groups()
    assert int(first) > 0 and int(speed) > 0
    assert main([*command, "--int8"]) == 0
    assert capsys.readouterr().out.startswith("एक दिन")
    for together in (["--prompts", "many.txt"], ["--draft", "ngram"]):
        wrong = command[:1] + command[2:] if together[0] == "--prompts" else command
        assert main([*wrong, *together, "--int8"]) == 1
        assert "for single texts" in capsys.readouterr().err


def test_compile_reaches_all_ways_of_writing(tmp_path, monkeypatch, capsys):
    """What a compiled step gives is tested elsewhere; here it is that one is asked for, and the text is as before."""
    prompts, made = tmp_path / "many.txt", []
    prompts.write_text("एक दिन\nराजा\n", encoding="utf-8")

    class Watched(FastDecoder):
        def __init__(self, model, *, int8=False):
            super().__init__(model, int8=int8)
            made.append(model)

    monkeypatch.setattr("ai4india_lib.inference.fast.obstacle", lambda: None)
    monkeypatch.setattr("ai4india_lib.inference.fast.CompiledDecoder", Watched)
    for command in (["एक दिन"], ["--prompts", str(prompts)], ["एक दिन", "--draft", "kahani-hi-draft"]):
        assert main(["generate", *command, *GREEDY]) == 0
        plain = capsys.readouterr().out
        assert not made
        assert main(["generate", *command, *GREEDY, "--compile"]) == 0
        assert capsys.readouterr().out == plain
        assert len(made) == (2 if "--draft" in command else 1)
        made.clear()
    assert main(["generate", "एक दिन", *GREEDY, "--compile", "--int8"]) == 0 and len(made) == 1


@pytest.mark.slow
def test_compile_without_a_compiler_is_told_in_a_sentence(monkeypatch):
    """In a process of its own: what a terminal shows."""
    command = [sys.executable, "-m", "ai4india_lib", "generate", "एक दिन", *GREEDY, "--count", "2"]
    environment = {**os.environ, "CXX": "no-such-compiler", "PYTHONPATH": str(Path(__file__).parents[2])}
    plain, told = (
        subprocess.run([*command, *more], env=environment, capture_output=True, text=True, encoding="utf-8")
        for more in ([], ["--compile"])
    )
    assert told.returncode == 0 and told.stdout == plain.stdout
    expected = r"note: compiled writing needs .*(compiler|torch 2.13|threads).*; going on uncompiled\n"
    assert re.fullmatch(expected, told.stderr)


def test_an_existing_folder_is_not_overwritten_unless_asked(archive, trained, capsys):
    command, weights = ["train", "--data", str(archive), *SHORT], trained / "models" / "chai-mine" / "model.safetensors"
    before = weights.read_bytes()
    assert main(command) == 1
    assert "--resume" in capsys.readouterr().err
    assert weights.read_bytes() == before
    assert main([*command, "--overwrite"]) == 0
    assert weights.read_bytes() != before


def test_resume_of_a_finished_run_gives_the_same_model(archive, trained):
    folder = trained / "models" / "chai-mine"
    before = (folder / "model.safetensors").read_bytes()
    losses = json.loads((folder / "history.json").read_text(encoding="utf-8"))["train_loss"]
    assert main(["train", "--data", str(archive), *TINY, "--resume"]) == 0
    assert (folder / "model.safetensors").read_bytes() == before
    assert json.loads((folder / "history.json").read_text(encoding="utf-8"))["train_loss"] == losses


def test_trains_on_a_folder_with_a_tokenizer_and_changed_settings(archive, trained, capsys):
    command = ["train", "--data", str(archive.parent / "text"), "--name", "second", *SHORT]
    shape = ["--emb-dim", "48", "--qk-norm", "no", "--num-kv-heads", "2"]
    assert main([*command, "--tokenizer", "models/chai-mine", *shape]) == 0
    (first, first_tokenizer), (second, second_tokenizer) = load_model("chai-mine", "cpu"), load_model("second", "cpu")
    assert first_tokenizer.get_vocab() == second_tokenizer.get_vocab()
    assert second.config.emb_dim == 48 and second.config.qk_norm is False and second.config.num_kv_heads == 2
    assert first.config.emb_dim == 32


def test_a_small_model_is_taught_by_a_larger_one_and_drafts_for_it(archive, trained, capsys):
    command = ["train", "--data", str(archive), *SHORT, "--teacher", "chai-mine"]
    assert main([*command, "--name", "small", "--emb-dim", "16", "--half"]) == 0
    assert "taught by chai-mine" in capsys.readouterr().out
    assert main([*command, "--name", "more", "--tokenizer", "models/chai-mine"]) == 1
    assert "leave --tokenizer out" in capsys.readouterr().err and not (trained / "models" / "more").exists()
    stored = load_file(trained / "models" / "small" / "model.safetensors")
    model, tokenizer = load_model("small", "cpu")
    assert {w.dtype for w in stored.values()} == {torch.bfloat16} and model.embedding.weight.dtype == torch.float32
    assert tokenizer.get_vocab() == load_model("chai-mine", "cpu")[1].get_vocab()
    assert (
        main(
            ["generate", "एक दिन", "--model", "chai-mine", "--draft", "small", "--max-length", "20", "--device", "cpu"]
        )
        == 0
    )


def test_trains_from_a_url(archive, at_work, site):
    site.body = archive.read_bytes()
    assert main(["train", "--data", f"{site.url}chai.tar.gz", *SHORT]) == 0
    assert (at_work / "models" / "chai-mine" / "config.json").is_file()


@pytest.fixture
def tests(tmp_path):
    """Minimal pairs and questions about the words of `archive`, as files."""
    differing = (("verb", "लाई", "देखा"), ("order", "गया", "लाई"))
    pairs = [
        {"phenomenon": kind, "right": f"{who} चाय {did}।", "wrong": f"{who} चाय {other}।"}
        for who in ("मीरा", "रवि")
        for kind, did, other in differing
    ]
    asked = [
        {"kind": "who", "question": "चाय कौन लाई?", "answer": "मीरा"},
        {"kind": "what", "question": "?", "answer": "चाय"},
    ]
    for name, lines in (("pairs", pairs), ("questions", [{"story": "मीरा चाय लाई।", "questions": asked}] * 3)):
        text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return ["--pairs", str(tmp_path / "pairs.jsonl"), "--questions", str(tmp_path / "questions.jsonl")]


def test_evaluate_prints_one_table_and_saves_a_chart(archive, tests, trained, capsys):
    """Every measure is in it, with baselines beside the model; the figures are those of the library's functions."""
    command = ["evaluate", "--model", "chai-mine", "--data", str(archive), *tests, "--device", "cpu"]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "30 documents, 4 pairs, 6 questions" in told and "floor 0.25" in told
    header = next(line for line in told.splitlines() if "untrained" in line)
    assert header.split() == ["chai-mine", "5-grams", "untrained"]
    rows = {line.split()[0]: line for line in told.splitlines() if line.startswith("  ")}
    assert {"verb", "order", "mean", "who", "what"} <= set(rows)
    model, tokenizer = load_model("chai-mine", "cpu")
    wanted = bits_per_byte(model, tokenizer, train_and_test_lines(archive)[1])
    assert f"(floor 0.2500)  {wanted:.4f} [" in told
    shares = minimal_pair_accuracy(model, tokenizer, read_pairs(tests[1]))
    assert rows["verb"].split()[1] == f"{100 * shares['verb']:.1f}"
    assert (trained / "models" / "chai-mine" / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    main(command)
    assert capsys.readouterr().out == told


def test_evaluate_compares_two_models_item_by_item(archive, tests, trained, capsys):
    models = trained / "models"
    assert main(["train", "--data", str(archive), "--name", "two", *SHORT, "--seed", "2"]) == 0
    (models / "chai-mine").rename(models / "one")
    capsys.readouterr()
    command = ["evaluate", "--model", "one", "--data", str(archive), *tests[:2], "--no-baselines", "--device", "cpu"]
    assert main([*command, "--against", "two", "--output", "chart.png"]) == 0
    told = capsys.readouterr().out
    assert "one − two" in told and "p = " in told and "5-grams" not in told and "questions" not in told
    assert (trained / "chart.png").is_file() and not (models / "one" / "evaluation.png").exists()
    main([*command, "--against", "one", "--limit", "1"])
    told = capsys.readouterr().out
    assert "1 documents, 2 pairs" in told and "+0.0000 [+0.0000, +0.0000] p = 1.000" in told


def test_evaluate_asks_a_model_that_does_not_chat_only_where_told_to(tests, trained, capsys):
    """The course's questions are for chat models; --no-chat asks them of any model, as the beginning of a text."""
    source, about = trained / "data" / "kahani-questions-hi.tar.gz", trained / "about.json"
    source.parent.mkdir()
    about.write_text('{"story_blind_accuracy": {"all": 0.3, "who": 0.5}}', encoding="utf-8")
    with tarfile.open(source, "w:gz") as tar:
        tar.add(tests[3], "questions/test.jsonl")
        tar.add(about, "questions/about.json")
    command = ["evaluate", "--pairs", tests[1], "--language", "hi", "--no-baselines", "--device", "cpu"]
    assert main(command) == 0
    assert "questions, % right" not in capsys.readouterr().out
    assert main([*command, "--no-chat"]) == 0
    rows = capsys.readouterr().out.split("questions, % right")[1].splitlines()
    assert [row.split("  ")[1] for row in rows[1:4]] == [
        "who (guessed without the story: 50)", "what", "mean (guessed without the story: 30)"
    ]  # fmt: skip


def test_evaluate_judges_the_chats_of_a_chat_model(tests, trained, capsys, monkeypatch):
    """Refusals of what is not told, of what is told, stories with the name asked for: each has its row."""
    refusal, told = "नहीं बताया गया।", "मीरा चाय लाई।"

    def line(kind, asked, answer, **more):
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        return json.dumps({"messages": messages, "kind": kind, **more}, ensure_ascii=False)

    lines = [line("refusal", f"{told} रवि कौन था?", refusal), line("story", "कहानी सुनाओ।", told, wanted=["मीरा"])]
    (trained / "chats.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(
        "ai4india_lib.commands.evaluate.answer_questions", lambda *_, **__: [refusal] * 3 + ["मीरा"] * 3
    )
    monkeypatch.setattr("ai4india_lib.commands.evaluate.answer_chats", lambda *_, **__: [refusal, "वह चाय लाई।"])
    command = ["evaluate", *tests[2:], "--conversations", "chats.jsonl", "--no-baselines", "--device", "cpu"]
    assert main([*command, "--chat"]) == 0
    out = capsys.readouterr().out
    rows = {
        line.rsplit("  ", 1)[0].strip(): line.rsplit("  ", 1)[1].split()[0]
        for line in out.splitlines()[2:-1]
        if "[" in line
    }
    assert "6 questions, 2 chats" in out and "refusal, with" not in out
    assert rows["questions refused though answered in the story, %"] == "50.0"
    assert (rows["refusal"], rows["story, with the name asked for"], rows["mean"]) == ("100.0", "0.0", "16.7")
    assert main(command) == 0
    assert "chats, % right" not in capsys.readouterr().out, "this model does not chat"
    (trained / "none.jsonl").write_text("", encoding="utf-8")
    assert main([*command[:-1], "cpu", "--conversations", "none.jsonl"]) == 1


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (["generate", "एक"], "train one with"),
        (["generate", "एक", "--model", "nobody"], "no model in"),
        (["evaluate", "--model", "nobody"], "no model in"),
        (["evaluate", "--limit", "0"], "--limit 0"),
        (["train", "--data", "nowhere.tar.gz", *TINY], "nowhere.tar.gz"),
        (["train", *TINY, "--batch-size", "0"], "batch_size=0"),
        (["train", *TINY, "--teacher", "nobody"], "no model in"),
        (["train", *TINY, "--device", "cuda:7"], "cuda:7"),
    ],
    ids=[
        "no model yet",
        "unknown model",
        "evaluate unknown",
        "evaluate none",
        "no data",
        "bad setting",
        "unknown teacher",
        "no such device",
    ],
)
def test_mistakes_are_told_in_a_sentence_and_leave_nothing(command, wanted, archive, at_work, capsys):
    if "--data" not in command and command[0] == "train":
        command = [*command, "--data", str(archive)]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and wanted in told and "Traceback" not in told
    assert not list(at_work.rglob("*.safetensors"))


def test_help_names_every_hyperparameter(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    for option in ("--data", "--name", "--preset", "--learning-rate", "--num-epochs", "--context-size", "--resume"):
        assert option in told


@pytest.fixture
def with_prompts(trained):
    """`trained`, with a file of nine prompts on lines 1, 3, 4, 5, 7, 8 …"""
    (trained / "prompts.txt").write_text("\ufeff" + PROMPTS, encoding="utf-8")
    return trained


def test_a_file_of_prompts_gives_each_the_text_it_gets_alone(with_prompts, capsys):
    settings = ["--max-length", "9", "--device", "cpu", "--temperature", "1.0"]
    command = ["generate", "--prompts", "prompts.txt", "--slots", "4", *settings, "--seed", "5"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert main([*command, "--output", "texts.jsonl"]) == 0
    assert "9 texts in texts.jsonl" in capsys.readouterr().err
    rows = [json.loads(line) for line in (with_prompts / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["line"], row["prompt"]) for row in rows[:4]] == [
        (1, "एक दिन"), (3, "मीरा"), (4, "रवि ने चाय"), (5, "एक दिन")
    ]  # fmt: skip
    assert len(rows) == 9 and all(row["tokens"] <= 9 and row["ended"] in ("stop", "length") for row in rows)
    assert printed == "".join(f"{row['line']}: {row['prompt']}{row['text']}\n\n" for row in rows)
    for number, row in enumerate(rows):
        main(["generate", row["prompt"], *settings, "--seed", str(5 + number)])
        assert capsys.readouterr().out == row["prompt"] + row["text"] + "\n"
    assert len({row["text"] for row in rows}) > 3
    assert not list(with_prompts.glob("*.part*"))


def test_stories_are_drawn_with_min_p_unless_an_option_says_otherwise(with_prompts, capsys):
    def told(*options: str) -> str:
        assert main(["generate", *"मीरा --seed 5 --max-length 30 --device cpu".split(), *options]) == 0
        return capsys.readouterr().out

    assert told() == told("--temperature", "0.8", "--min-p", "0.1") != told("--min-p", "0")
    assert told("--min-p", "0") == told("--min-p", "0.000001")


def test_a_long_prompt_of_a_file_gets_what_room_there_is(with_prompts, capsys):
    (with_prompts / "long.txt").write_text("मीरा\n" + "चाय " * 50, encoding="utf-8")
    assert main(["generate", "--prompts", "long.txt", "--max-length", "900", "--device", "cpu", "--output", "o"]) == 0
    rows = [json.loads(line) for line in (with_prompts / "o").read_text(encoding="utf-8").splitlines()]
    model, tokenizer = load_model("chai-mine", "cpu")
    for row in rows:
        room = model.config.context_size - len(encode_prompt(tokenizer, row["prompt"]))
        assert row["tokens"] == room if row["ended"] == "length" else row["tokens"] <= room


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--prompts", "nowhere.txt"], "nowhere.txt"),
        (["--prompts", "empty.txt"], "empty.txt has no prompts: write one a line"),
        (["--prompts", "latin.txt"], "latin.txt, line 1, is not UTF-8"),
        (["--prompts", "long.txt"], "line 2 has"),
        (["--prompts", "prompts.txt", "एक"], "choose one"),
        (["--prompts", "prompts.txt", "--slots", "0"], "slots=0"),
        (["--prompts", "prompts.txt", "--max-length", "-1"], "--max-length -1"),
        (["--prompts", "prompts.txt", "--temperature", "-1"], "temperature=-1"),
        (["एक", "--output", "texts.jsonl"], "--output goes with --prompts"),
    ],
)
def test_mistakes_with_a_file_of_prompts(with_prompts, capsys, options, wanted):
    (with_prompts / "empty.txt").write_text("\n \n", encoding="utf-8")
    (with_prompts / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (with_prompts / "long.txt").write_text("मीरा\n" + "चाय " * 3000, encoding="utf-8")
    output = [] if "--output" in options else ["--output", "o.jsonl"]
    assert main(["generate", *options, *output, "--device", "cpu"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and wanted in told and "Traceback" not in told
    assert not list(with_prompts.glob("*.jsonl*"))
