"""Protects training.resume: a run goes on only as itself, and damage, a full disk or a name costs nobody's work."""

import copy
import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from training_runs import TEST, TRAIN, ingredients, settings, told, weights

from ai4india_lib import train, train_tokenizer
from ai4india_lib.basics import files
from ai4india_lib.text.packing import PackedTextDataset, WholeDocumentDataset
from ai4india_lib.text.resumable import TextLoader
from ai4india_lib.training.loop import make_model
from ai4india_lib.training.resume import Checkpoints
from ai4india_lib.tuning.dpo import Preference, tune_on_preferences
from ai4india_lib.tuning.finetuning import finetune
from ai4india_lib.tuning.grpo import Group, tune_on_rewards
from ai4india_lib.tuning.rewards import Task

H = settings(max_steps=10, checkpoint_every=4, eval_every=5)
QUIET = {"device": "cpu", "progress": False}


def run(folder, h=H, *, resume=True, progress=False, teacher=None, **more):
    model, *loaders = ingredients(h, **more)
    kept = {"folder": folder, "resume": resume, "device": "cpu", "progress": progress}
    history = train(model, *loaders, h, teacher=teacher, **kept)
    return told(history), weights(model)


def same(one, other):
    return one[0] == other[0] and all(torch.equal(one[1][name], p) for name, p in other[1].items())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(a folder with the checkpoints of steps 4, 8 and 10, of which two were kept; what its run gave)."""
    folder = tmp_path_factory.mktemp("made") / "run"
    return folder, run(folder)


@pytest.fixture
def interrupted(tmp_path):
    """A folder with the checkpoints of steps 4 and 8, as a power cut after step 9 leaves it."""
    folder = tmp_path / "run"
    model, *loaders = ingredients(H)

    class PowerCutError(Exception):
        pass

    def cut(history):
        if history.steps == 10:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train(model, *loaders, H, folder=folder, on_evaluation=cut, **QUIET)
    assert names(folder) == ["step-0000004", "step-0000008"]
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Damage

DAMAGES = {
    "empty": lambda raw: b"",
    "cut": lambda raw: raw[: len(raw) // 2],
    "zeros": lambda raw: bytes(len(raw)),
    "one byte": lambda raw: raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:],
    "page": lambda raw: b"<html>404</html>",
    "UTF-16": lambda raw: raw.decode("utf-8", "replace").encode("utf-16"),
    "list": lambda raw: b"[]",
    "null": lambda raw: b"null",
    "no keys": lambda raw: b"{}",
    "deep": lambda raw: b"[" * 100_000,
    "gone": None,
}
JSON_ONLY = ("list", "null", "no keys", "deep", "UTF-16")


def damages():
    for name in ("state.json", "model.safetensors", "best.safetensors", "optimizers.safetensors"):
        for kind in DAMAGES:
            if name == "state.json" and kind in ("gone", "one byte"):  # no checkpoint; a byte of a figure
                continue
            if name == "state.json" or kind not in JSON_ONLY:
                yield name, kind


@pytest.mark.parametrize(("name", "kind"), list(damages()))
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(name, kind, interrupted, made, capsys):
    damaged = interrupted / "step-0000008" / name
    if kind == "gone":
        damaged.unlink()
    else:
        damaged.write_bytes(DAMAGES[kind](damaged.read_bytes()))
    assert same(run(interrupted, progress=True), made[1])
    said = [line for line in capsys.readouterr().out.splitlines() if "going on from" in line]
    assert len(said) == 1 and str(damaged) in said[0] and "step-0000004, the one before it" in said[0]
    assert names(interrupted)[-1] == "step-0000010"


@pytest.mark.parametrize("kind", [kind for kind in DAMAGES if kind not in ("gone", "one byte")])
def test_where_all_are_damaged_each_is_named_and_nothing_is_changed(kind, interrupted):
    for path in interrupted.glob("step-*/state.json"):
        path.write_bytes(DAMAGES[kind](path.read_bytes()))
    before = content(interrupted)
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read.*step-0000008.*step-0000004"):
        run(interrupted)
    assert content(interrupted) == before


@pytest.mark.parametrize("field", ["hyperparameters", "history", "facts", "positions", "scaler", "files"])
@pytest.mark.parametrize("value", [None, 3, "text"])
def test_a_state_of_other_types_is_damaged(field, value, interrupted, made, capsys):
    path = interrupted / "step-0000008" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), field: value}), encoding="utf-8")
    assert same(run(interrupted, progress=True), made[1])
    assert f"{path} has {value!r} as its {field}" in capsys.readouterr().out


@pytest.mark.parametrize("changed", [{"positions": [{}]}, {"history": {"odd": 1}}, {"scaler": {}, "positions": [3]}])
def test_a_state_that_does_not_fit_is_told_in_a_sentence(changed, interrupted):
    path = interrupted / "step-0000008" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changed}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"the newest checkpoint in .*run does not fit \("):
        run(interrupted)


def test_tensors_of_another_program_are_damage(interrupted, made, capsys):
    path = interrupted / "step-0000008" / "optimizers.safetensors"
    save_file({**load_file(path), "x": torch.ones(2)}, path)
    assert same(run(interrupted, progress=True), made[1])
    assert f"{path} is not as it was written" in capsys.readouterr().out


def test_without_progress_damage_is_warned_of(interrupted):
    (interrupted / "step-0000008" / "state.json").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"state\.json is not readable as JSON.*going on from .*step-0000004"):
        run(interrupted)


# Full disks


def full(*arguments, **more):
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


def full_in_rust(*arguments, **more):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("place", "fails"),
    [
        ("safetensors.torch.save_file", full),
        ("safetensors.torch.save_file", full_in_rust),
        ("ai4india_lib.training.resume.write_json", full),
        ("pathlib.Path.write_text", full),
        ("pathlib.Path.mkdir", full),
        ("pathlib.Path.rename", full),
        ("pathlib.Path.replace", full),
    ],
)
def test_a_full_disk_is_told_and_keeps_what_was_there(place, fails, interrupted, monkeypatch, made):
    before = content(interrupted)
    with monkeypatch.context() as patch:
        patch.setattr(place, fails)
        with pytest.raises(OSError, match=r"the disk is full: .*step-0000010 was not written") as told:
            run(interrupted)
    assert told.value.errno == errno.ENOSPC
    assert content(interrupted) == before and not list(interrupted.glob(".*"))
    assert same(run(interrupted), made[1]), "with room again, it goes on"


def test_no_run_begins_where_its_checkpoints_have_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 10**5, 10**5))
    with pytest.raises(OSError, match=r"a run with checkpoints takes about .* MB, and the disk of .* has 0 MB left"):
        run(tmp_path / "new" / "run")
    assert not list(tmp_path.iterdir())
    files.check_space(tmp_path / "a" / "b", 10**5, "a little")


# What is not a run's own


def test_a_run_deletes_nothing_that_no_run_wrote(tmp_path, made):
    """Folders of such names, with notes, with checkpoints of other programs, with files beside ours, and links."""
    mine = {
        "step-1/notes.txt": "notes", "step-by-step/read.me": "how", "step-0000004/state.json": "{}",
        "step-0000008/model.safetensors": "of another program", "step-0000099/state.json": '{"step": 99}',
        "step-0000077/notes.txt": "only notes", ".step-0000004.part/notes.txt": "hidden", "state.json": "mine",
    }  # fmt: skip
    for name, text in mine.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    shutil.copytree(made[0] / "step-0000008", tmp_path / "step-0000002")
    (tmp_path / "step-0000002" / "notes.txt").write_text("beside ours", encoding="utf-8")
    shutil.copytree(made[0] / "step-0000008", tmp_path / "elsewhere")
    (tmp_path / "step-0000003").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert same(run(tmp_path, resume=False), made[1])
    for name, text in mine.items():
        assert (tmp_path / name).read_text(encoding="utf-8") == text
    assert names(tmp_path / "step-0000002") == ["notes.txt"] and len(names(tmp_path / "elsewhere")) == 4
    with pytest.warns(UserWarning, match=r"step-0000099.state\.json does not say .* another program wrote it"):
        assert same(run(tmp_path), made[1]), "beside all that, its checkpoints are found"
    assert {"step-0000008-1", "step-0000010"} <= set(names(tmp_path))


def test_a_fresh_run_deletes_an_older_one_only_when_it_has_a_checkpoint(interrupted, monkeypatch):
    before = content(interrupted)
    model, *loaders = ingredients(H)
    with torch.no_grad():
        model.norm.gain[0] = torch.nan
    with pytest.raises(FloatingPointError, match="at step 0"):
        train(model, *loaders, H, folder=interrupted, **QUIET)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is full"):
        patch.setattr("ai4india_lib.training.resume.write_json", full)
        run(interrupted, settings(max_steps=4), resume=False)
    assert content(interrupted) == before
    half = interrupted / ".step-0000008.old.part"
    shutil.copytree(interrupted / "step-0000008", half)
    expected = run(None, settings(max_steps=4))
    assert same(run(interrupted, settings(max_steps=4), resume=False), expected), "its first has an old one's name"
    assert names(interrupted) == ["step-0000004"] and same(run(interrupted, settings(max_steps=4)), expected)


def test_what_belongs_to_a_run_is_written_before_its_first_checkpoint(tmp_path):
    seen = []
    model, *loaders = ingredients(H)
    begin = Checkpoints(tmp_path / "run", begin=lambda folder: seen.append(folder.exists()))
    train(model, *loaders, H, folder=begin, **QUIET)
    model, *loaders = ingredients(H)
    train(model, *loaders, H, folder=Checkpoints(tmp_path / "run", begin=seen.append), resume=True, **QUIET)
    assert seen == [True], "once, and not where a run goes on"


# Other runs


def other_tokenizer(h=H):
    """Loaders as those of `ingredients`, with as many tokens in the vocabulary, but others."""
    own = train_tokenizer([line.replace("चाय", "खीर") for line in TRAIN] + TEST, 320)
    text = PackedTextDataset(TRAIN, own, h.context_size, h.batch_size, shuffle_buffer=20)
    return (
        make_model(h, own),
        TextLoader(text),
        TextLoader(WholeDocumentDataset(TEST, own, h.context_size, h.batch_size)),
    )


def swapped(lines):
    """As many lines of the same lengths: the first two have changed places."""
    return [lines[1], lines[0], *lines[2:]]


@pytest.mark.parametrize("part", ["train_lines", "test_lines"])
def test_another_text_with_as_many_lines_is_refused(part, interrupted):
    before, lines = content(interrupted), TRAIN if part == "train_lines" else TEST
    words = "read another text, or in another order" if part == "train_lines" else "was tested on another text"
    with pytest.raises(ValueError, match=f"the run in .* {words}: bring that back to resume it, or start a new run"):
        run(interrupted, **{part: swapped(lines)})
    assert content(interrupted) == before


def test_another_order_of_the_text_is_refused(interrupted):
    model, train_loader, test_loader = ingredients(H)
    train_loader.dataset.shuffle_buffer = 19
    with pytest.raises(ValueError, match="read another text, or in another order: bring that back"):
        train(model, train_loader, test_loader, H, folder=interrupted, resume=True, **QUIET)


def test_another_tokenizer_is_refused(interrupted):
    model, *loaders = other_tokenizer()
    with pytest.raises(ValueError, match="had another tokenizer: bring that back"):
        train(model, *loaders, H, folder=interrupted, resume=True, **QUIET)


def test_another_teacher_of_the_same_tokenizer_is_refused(tmp_path):
    first, other = (make_model(settings(seed=seed), ingredients(H)[1].dataset.tokenizer) for seed in (1, 2))
    expected = run(tmp_path, teacher=first)
    with pytest.raises(ValueError, match="had another teacher: bring that back"):
        run(tmp_path, teacher=other)
    assert same(run(tmp_path, teacher=copy.deepcopy(first)), expected)


def test_an_adapter_is_not_resumed_on_a_base_that_was_trained_anew(make_model, tokenizer, tmp_path):
    talks = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "हाँ।"}]} for n in range(9)
    ]
    h = settings(max_steps=2, eval_every=2, context_size=64)
    kept = {"lora_rank": 2, "folder": tmp_path, "resume": True, **QUIET}
    base = make_model()
    with torch.no_grad():
        base.embedding.weight[3:7] += torch.randn(4, 32)  # so that the signs of a chat have places of their own
    finetune(copy.deepcopy(base), tokenizer, talks, h, **kept)
    finetune(copy.deepcopy(base), tokenizer, talks, h, **kept)
    anew = copy.deepcopy(base)
    with torch.no_grad():
        anew.blocks[0].mlp.up.weight[0, 0] += 1e-3
    with pytest.raises(ValueError, match="trained an adapter of another model: bring that back"):
        finetune(anew, tokenizer, talks, h, **kept)
    with pytest.raises(ValueError, match="read another text"):
        finetune(copy.deepcopy(base), tokenizer, [talks[1], talks[0], *talks[2:]], h, **kept)


def test_other_pairs_and_another_start_are_refused(make_model, tmp_path):
    pairs = [Preference([1, 7 + i], [20 + i, 40 + i], [60 + i]) for i in range(6)]
    h = settings(max_steps=2, eval_every=2)
    kept = {"folder": tmp_path, "resume": True, **QUIET}
    tune_on_preferences(make_model(), pairs, h, **kept)
    tune_on_preferences(make_model(), pairs, h, **kept)
    with pytest.raises(ValueError, match="had other pairs: bring that back"):
        tune_on_preferences(make_model(), [pairs[1], pairs[0], *pairs[2:]], h, **kept)
    with pytest.raises(ValueError, match="began with another model: bring that back"):
        tune_on_preferences(make_model(1), pairs, h, **kept)


def test_other_tasks_and_another_reference_are_refused(make_model, tokenizer, tmp_path):
    tasks, h = [Task([1, token], wanted=f"{token}") for token in range(10, 14)], settings(max_steps=1, eval_every=2)

    def tune(tasks, seed=0):
        group, kept = Group(size=2, max_new_tokens=3), {"folder": tmp_path, "resume": True, **QUIET}
        return tune_on_rewards(make_model(seed), tokenizer, tasks, lambda attempt: len(attempt.text), h, group, **kept)

    tune(tasks)
    tune(tasks)
    for other in ([Task([1, 20]), *tasks[1:]], [Task(tasks[0].prompt, wanted="?"), *tasks[1:]]):
        with pytest.raises(ValueError, match="had other tasks: bring that back"):
            tune(other)
    with pytest.raises(ValueError, match="had another reference: bring that back"):
        tune(tasks, seed=1)


def test_nothing_to_resume_is_said(tmp_path, made, capsys):
    assert same(run(tmp_path / "misspelt", progress=True), made[1])
    assert f"nothing to resume in {tmp_path / 'misspelt'}: starting afresh" in capsys.readouterr().out
    run(None, settings(max_steps=1), progress=True)
    assert "nothing to resume: no folder was given" in capsys.readouterr().out


# Kills


class KilledError(BaseException):
    """Nothing happens after it, as after SIGKILL: no file operation either."""


def killed_at(monkeypatch, number):
    """Let the process be killed before its file operation of this number; the list it gives counts them."""
    done = []

    def watched(operation):
        def perform(*arguments, **more):
            done.append(operation.__name__)
            if len(done) > number:
                raise KilledError
            return operation(*arguments, **more)

        return perform

    for place, name in ((Path, "rename"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (Path, "write_text")):
        monkeypatch.setattr(place, name, watched(getattr(place, name)))
    monkeypatch.setattr(shutil, "rmtree", watched(shutil.rmtree))
    monkeypatch.setattr("safetensors.torch.save_file", watched(save_file))
    return done


def test_a_kill_before_any_file_operation_costs_nothing_but_the_steps_since_the_last_checkpoint(tmp_path, monkeypatch):
    """A new run in the place of an older one: afterwards one of the two goes on bit for bit, or none is there."""
    old, new = (settings(max_steps=4, checkpoint_every=2, eval_every=4, seed=seed) for seed in (1, 2))
    expected, found = {h.seed: run(None, h) for h in (old, new)}, []
    older = tmp_path / "older"
    run(older, old)
    for number in range(99):
        folder = tmp_path / f"run-{number}"
        shutil.copytree(older, folder)
        with monkeypatch.context() as patch:
            killed_at(patch, number)
            try:
                run(folder, new, resume=False)
            except KilledError:
                pass
            else:
                break
        state = Checkpoints(folder).state()
        found.append(state and state["hyperparameters"]["seed"])
        h = old if found[-1] == 1 else new
        assert same(run(folder, h), expected[h.seed])
        assert all(name.startswith("step-000000") for name in names(folder)), "and no half of one stays"
    assert number > 25 and set(found) <= {1, 2, None}
    assert found == sorted(found, key=(1, None, 2).index), "first the older one, then for a moment none, then the new"
