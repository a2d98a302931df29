"""Protects what `train` and `finetune` write, and when: a start that is refused changes nothing and blocks nothing,
--resume needs no other option and goes on with no other run, --overwrite replaces only what is a model's or a run's."""

import errno
import json
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ai4india_lib import DecoderLanguageModel, add_lora, save_adapter, save_model, save_tokenizer, train_tokenizer
from ai4india_lib.__main__ import main
from ai4india_lib.training.loop import Run

pytestmark = pytest.mark.usefixtures("without_pictures")

TINY = ["--preset", "tiny", "--device", "cpu", "--max-steps", "8", "--eval-every", "4", "--checkpoint-every", "3"]
TRAIN = ["train", "--data", "text", "--name", "mine", *TINY]
TUNE = ["finetune", "--model", "base", "--data", "talks.jsonl", "--name", "answers", "--device", "cpu"]
TUNE += ["--max-steps", "6", "--eval-every", "3", "--checkpoint-every", "2", "--batch-size", "2", "--num-epochs", "50"]
WORDS = "एक दिन मीरा रवि चाय किताब नदी पतंग लाल नीली लाई देखा गया".split()


class PowerCutError(Exception):
    pass


def write_text(folder, seed=0):
    draw = random.Random(seed)
    folder.mkdir()
    for name, count in (("train", 120), ("test", 20)):
        lines = [" ".join(draw.choices(WORDS, k=12)) + "।" for _ in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_talks(path, answer="हाँ"):
    talks = [
        {"messages": [{"role": "user", "content": f"चाय {n}?"}, {"role": "assistant", "content": f"{answer} {n}।"}]}
        for n in range(12)
    ]
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in talks), encoding="utf-8")


def base_model(seed=0):
    """With weights so large that the signs of a chat have places of their own."""
    torch.manual_seed(seed)
    model = DecoderLanguageModel(384, 32, 4, 2, 0, context_size=64)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """A folder with a text, conversations, and a model to start from."""
    folder = tmp_path_factory.mktemp("place")
    write_text(folder / "text")
    write_talks(folder / "talks.jsonl")
    save_model(base_model(), tokenizer, "base", folder=folder / "models")
    return folder


@pytest.fixture(scope="module")
def place_with_runs(place, tmp_path_factory):
    """Interrupted runs too: `mine` of train, `taught` with a teacher, `answers` of an adapter with replay."""
    folder = tmp_path_factory.mktemp("runs") / "place"
    shutil.copytree(place, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cut(patch, TRAIN)
        cut(patch, [*TRAIN, "--name", "taught", "--teacher", "base"])
        cut(patch, [*TUNE, "--lora", "2", "--replay", "text"], 4)
    return folder


def copied(source, tmp_path, monkeypatch):
    shutil.copytree(source, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def at_work(place, tmp_path, monkeypatch):
    """A copy of `place` to stand in."""
    return copied(place, tmp_path, monkeypatch)


@pytest.fixture
def begun(place_with_runs, tmp_path, monkeypatch):
    """A copy of `place_with_runs` to stand in."""
    return copied(place_with_runs, tmp_path, monkeypatch)


def tree(folder):
    """All that is there, byte for byte, but for the ids of a text that are kept beside it to be read sooner."""
    paths = (path for path in folder.rglob("*") if ".encoded" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in paths}


def cut_power(monkeypatch, step, happening=None):
    """The power is cut in the step of this number; else what happens."""
    steps, one = Run._step, happening or PowerCutError

    def step_or_end(run):
        if run.history.steps == step and one is PowerCutError:
            raise PowerCutError
        steps(run)
        if run.history.steps == step and one is not PowerCutError:
            one()

    monkeypatch.setattr(Run, "_step", step_or_end)


def cut(monkeypatch, command, step=5):
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        cut_power(patch, step)
        main(command)


def told(capsys):
    out = capsys.readouterr()
    assert out.err.startswith("error: ") and out.err.count("\n") == 1 and "Traceback" not in out.err
    return out.err


# Starts that are refused

BAD = {
    "device": ["--device", "cuda:7"],
    "odd width": ["--emb-dim", "33"],
    "odd head": ["--emb-dim", "36", "--num-heads", "4"],
    "heads": ["--num-heads", "4", "--num-kv-heads", "3"],
    "no batch": ["--batch-size", "0"],
    "rate": ["--learning-rate", "nan"],
    "epochs": ["--num-epochs", "inf"],
    "optimizer": ["--optimizer", "sgd"],
    "small vocabulary": ["--vocab-size", "10"],
    "no data": ["--data", "nowhere"],
    "no such teacher": ["--teacher", "nobody"],
    "teacher reads less": ["--teacher", "base", "--context-size", "128"],
    "no such tokenizer": ["--tokenizer", "nowhere"],
    "giant": ["--emb-dim", "1048576"],
    "many layers": ["--num-blocks", "100000000"],
    "long": ["--context-size", "10000000"],
    "large batch": ["--batch-size", "1000000000"],
    "large vocabulary": ["--vocab-size", "1000000000"],
    "empty text": ["--data", "hollow"],
    "about": ["--data", "about"],
}


@pytest.mark.parametrize("standing", ["at_work", "begun"])
@pytest.mark.parametrize("bad", BAD)
def test_a_refused_start_changes_nothing_and_its_correction_works(bad, standing, request, capsys):
    folder = request.getfixturevalue(standing)
    for name in ("hollow", "about"):
        shutil.copytree("text", name)
    Path("hollow/train.txt").write_text("\n", encoding="utf-8")
    Path("about/about.json").write_text("[1]", encoding="utf-8")
    command, before = [*TRAIN, "--overwrite"] if standing == "begun" else TRAIN, tree(folder)
    capsys.readouterr()
    assert main([*command, *BAD[bad]]) == 1
    assert told(capsys)
    assert tree(folder) == before
    if bad in ("device", "about"):  # the others are corrected in the same way
        assert main([*command, "--max-steps", "1"]) == 0
        assert (folder / "models" / "mine" / "config.json").is_file()


BAD_TUNING = {
    "device": ["--device", "cuda:7"],
    "rate": ["--learning-rate", "-1"],
    "rank": ["--lora", "0"],
    "alpha": ["--lora", "2", "--lora-alpha", "inf"],
    "share": ["--replay", "text", "--replay-share", "1"],
    "large batch": ["--batch-size", "1000000000"],
    "no data": ["--data", "nowhere.jsonl"],
    "no messages": ["--data", "odd.jsonl"],
    "no model": ["--model", "nobody"],
    "no replay": ["--replay", "nowhere"],
    "context": ["--context-size", "999"],
    "all too long": ["--context-size", "2"],
}


@pytest.mark.parametrize("bad", BAD_TUNING)
def test_a_refused_fine_tuning_changes_nothing(bad, at_work, capsys):
    Path("odd.jsonl").write_text('{"messages": []}\n' * 3, encoding="utf-8")
    before = tree(at_work)
    assert main([*TUNE, *BAD_TUNING[bad]]) == 1
    assert told(capsys)
    assert tree(at_work) == before


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_run_that_ended_before_its_first_checkpoint_blocks_nothing(step, at_work, monkeypatch):
    before = tree(at_work)
    cut(monkeypatch, TRAIN, step)
    assert tree(at_work) == before
    assert main([*TRAIN, "--max-steps", "2"]) == 0


def test_nothing_is_written_where_there_is_no_room(at_work, monkeypatch, capsys):
    before = tree(at_work)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**4, 10**4))
    for command in (TRAIN, TUNE):
        assert main(command) == 1
        assert "a run with checkpoints takes about" in told(capsys)
    assert tree(at_work) == before


# --resume


def finished(at_work, command, name):
    """What a run gives that nobody interrupts: (weights, history)."""
    assert main([*command[:-2], "--name", "whole"] if command[-2] == "--name" else [*command, "--name", "whole"]) == 0
    return results(at_work / "models" / "whole")


def results(folder):
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    [file] = folder.glob("*model.safetensors")  # not its bytes: the order of what stands in its head is left to chance
    return (
        {name: tensor.tolist() for name, tensor in load_file(file).items()},
        history["train_loss"],
        history["eval_loss"],
    )


def test_resume_alone_goes_on_with_the_whole_command(at_work, monkeypatch):
    """Also with a teacher, a device, other settings, in half precision: all stands in the run."""
    command = [*TRAIN, "--teacher", "base", "--emb-dim", "16", "--half", "--seed", "3", "--batch-size", "2"]
    expected = finished(at_work, command, "whole")
    cut(monkeypatch, command)
    assert main(["train", "--name", "mine", "--resume"]) == 0
    assert results(at_work / "models" / "mine") == expected


def test_resume_alone_of_a_learned_vocabulary_and_of_ctrl_c(at_work, monkeypatch):
    expected = finished(at_work, TRAIN, "whole")
    with monkeypatch.context() as patch:
        cut_power(patch, 4, lambda: signal.raise_signal(signal.SIGINT))
        assert main(TRAIN) == 0
    assert main(["train", "--name", "mine", "--resume", "--preset", "tiny", "--max-steps", "8"]) == 0
    assert results(at_work / "models" / "mine") == expected


@pytest.mark.parametrize("more", [[], ["--lora", "2", "--lora-alpha", "3", "--replay", "text", "--half"]])
def test_fine_tuning_resumes_alone(more, at_work, monkeypatch):
    command = [*TUNE, *more]
    expected = finished(at_work, command, "whole")
    cut(monkeypatch, command, 4)
    assert main(["finetune", "--name", "answers", "--resume"]) == 0
    assert results(at_work / "models" / "answers") == expected


def another_text():
    shutil.rmtree("text")
    write_text(Path("text"), seed=1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["train", "--name", "mine", "--data", "other"], "read another text"),
        (["train", "--name", "mine", "--tokenizer", "models/other"], "has another tokenizer than models/other"),
        (["train", "--name", "mine", "--teacher", "base"], "tokenizer than base"),
        (["train", "--name", "taught", "--teacher", "twin"], "had another teacher"),
        (["train", "--name", "mine", "--emb-dim", "16"], "was started with emb_dim=32"),
        (["train", "--name", "mine", "--max-steps", "9"], "was started with max_steps=8"),
        (["train", "--name", "mine", "--preset", "quick"], "was begun with --preset tiny: leave --preset quick out"),
        (["train", "--name", "mine", "--overwrite"], "leave one of them out"),
        (["train", "--name", "mien"], "nothing to resume: there is no interrupted run in models/mien (there are runs"),
        (["train", "--name", "answers"], "is one of `finetune`, not of `train`"),
        (["finetune", "--name", "mine"], "is one of `train`, not of `finetune`"),
        (["finetune", "--name", "answers", "--model", "twin"], "began with another model than the one that is in"),
        (["finetune", "--name", "answers", "--data", "others.jsonl"], "read another text"),
        (["finetune", "--name", "answers", "--lora", "4"], "was begun with --lora 2: leave --lora 4 out"),
        (["finetune", "--name", "answers", "--lora-alpha", "9"], "was begun without --lora-alpha"),
        (["finetune", "--name", "answers", "--replay", "other"], "read another text"),
        (["finetune", "--name", "answers", "--replay-share", "0.25"], "was begun without --replay-share"),
        (["finetune", "--name", "answers", "--learning-rate", "1"], "was started with learning_rate=0.0065"),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, list) else "",
)
def test_what_contradicts_the_run_is_refused(options, sentence, begun, make_model, tokenizer, capsys):
    write_text(begun / "other", seed=1)
    write_talks(begun / "others.jsonl", answer="नहीं")
    save_model(base_model(1), tokenizer, "twin")
    own = train_tokenizer(["मीरा की चाय।"] * 9, 300)
    save_tokenizer(own, begun / "models" / "other")
    before = tree(begun)
    capsys.readouterr()
    assert main([*options, "--resume"]) == 1
    assert sentence in told(capsys)
    assert tree(begun) == before


def test_what_was_changed_in_its_place_is_refused(begun, make_model, tokenizer, capsys):
    """The command is the same, but not what its names mean now."""
    another_text()
    write_talks(Path("talks.jsonl"), answer="नहीं")
    capsys.readouterr()
    for command, sentence in (
        (["train", "--name", "mine"], "read another text, or in another order"),
        (["finetune", "--name", "answers"], "read another text, or in another order"),
    ):
        assert main([*command, "--resume"]) == 1
        assert sentence in told(capsys)
    save_model(base_model(1), tokenizer, "base")
    for command, sentence in (
        (["train", "--name", "taught"], "had another teacher"),
        (["finetune", "--name", "answers"], "began with another model than the one that is in models/base now"),
    ):
        assert main([*command, "--resume"]) == 1
        assert sentence in told(capsys)


def test_a_text_may_have_moved(begun):
    shutil.move("text", "moved")
    assert main(["train", "--name", "mine", "--resume", "--data", "moved"]) == 0


DAMAGED = ["", "[]", "null", '{"command": 3}', "\x00\x00", '{"command": "train", "options": 1}', "[" * 100_000]
ODD = [(name, value) for name in ("data", "preset", "teacher", "device") for value in ("3", "[1]", "{}", "true")]
DAMAGED += [f'{{"command": "train", "options": {{"{name}": {value}}}}}' for name, value in ODD]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: content[:70])
def test_a_damaged_run_json_is_told_by_name_or_done_without(content, begun, capsys):
    path = begun / "models" / "mine" / "training" / "run.json"
    path.write_text(content, encoding="utf-8")
    capsys.readouterr()
    assert main(["train", "--name", "mine", "--resume", "--data", "text", "--device", "cpu"]) in (0, 1)
    out = capsys.readouterr()
    assert "Traceback" not in out.err and (not out.err or "run.json" in out.err)


# --overwrite


def test_overwrite_replaces_a_run_and_keeps_what_is_not_its_own(begun, capsys):
    folder = begun / "models" / "mine"
    mine = {"notes.txt": "mine", "training/notes.txt": "mine too", "training/step-1/a.txt": "a", "training/more/b": "b"}
    for name, text in mine.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    assert main(TRAIN) == 1
    assert "is there already: --resume goes on" in told(capsys)
    assert main([*TRAIN, "--overwrite", "--seed", "2"]) == 0
    for name, text in mine.items():
        assert (folder / name).read_text(encoding="utf-8") == text
    assert [path.name for path in sorted(folder.glob("training/step-*"))] == ["step-0000006", "step-0000008", "step-1"]


@pytest.mark.parametrize(
    "held",
    [
        {"notes.txt": "mine"},
        {"training/thesis.txt": "mine"},
        {"training/step-0000003/state.json": "{}"},
        {"config.json": '{"port": 8080}'},
        {"config.json": "not even JSON"},
        {"training/run.json": '{"laps": 3}'},
        {"model.safetensors": "of somebody"},
    ],
    ids=str,
)
def test_overwrite_is_refused_where_there_is_no_model_and_no_run(held, at_work, capsys):
    for name, text in held.items():
        path = at_work / "models" / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    before = tree(at_work)
    assert main([*TRAIN, "--overwrite"]) == 1
    assert "take another --name" in told(capsys)
    assert tree(at_work) == before


def test_overwrite_of_a_model_does_not_take_its_folder_of_that_name(at_work, make_model, tokenizer, capsys):
    save_model(make_model(), tokenizer, "mine")
    thesis = at_work / "models" / "mine" / "training" / "tokenizer.json"
    thesis.parent.mkdir()
    thesis.write_text("mine", encoding="utf-8")
    before = tree(at_work)
    assert main([*TRAIN, "--overwrite"]) == 1
    assert "training holds tokenizer.json, which no run wrote: move that folder" in told(capsys)
    assert tree(at_work) == before
    thesis.rename(thesis.with_name("thesis.json"))
    assert main([*TRAIN, "--overwrite"]) == 0
    assert thesis.with_name("thesis.json").read_text(encoding="utf-8") == "mine"


def test_whole_models_and_adapters_do_not_take_each_others_folders(at_work, make_model, tokenizer, capsys):
    save_adapter(add_lora(base_model(), 2), "adapter", base="base")
    save_model(make_model(), tokenizer, "whole")
    before = tree(at_work)
    for more in (["--name", "adapter"], ["--name", "whole", "--lora", "2"]):
        assert main([*TUNE, *more, "--overwrite"]) == 1
        assert "choose another --name" in told(capsys)
    assert tree(at_work) == before


def test_a_file_of_that_name_is_told_first(at_work, capsys):
    (at_work / "models" / "mine").write_text("a file", encoding="utf-8")
    before = tree(at_work)
    for more in ([], ["--name", "models/mine/inner"]):
        assert main([*TRAIN, *more, "--overwrite"]) == 1
        assert "models/mine is a file" in told(capsys)
    assert tree(at_work) == before


@pytest.mark.parametrize("writer", ["safetensors.torch.save_file", "pathlib.Path.write_text", "pathlib.Path.mkdir"])
def test_a_full_disk_ends_a_run_in_a_sentence_and_keeps_all(writer, begun, monkeypatch, capsys):
    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = tree(begun)
    for command in (["train", "--name", "mine", "--resume"], [*TRAIN, "--overwrite"], [*TRAIN, "--name", "new"]):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(writer, full)
            assert main(command) == 1
        assert "the disk is full" in told(capsys)
        assert {name: raw for name, raw in tree(begun).items() if not name.startswith("models/new")} == before
    assert main(["train", "--name", "mine", "--resume"]) == 0
    assert main([*TRAIN, "--name", "new"]) == 0, "an empty folder may have been left: it blocks nothing"
