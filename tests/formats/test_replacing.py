"""Protects that a folder holds one model or one adapter, replaced as one: whatever lay there, and whenever it is broken
off. What is not a model's stays."""

import json
import os
import signal
import sys
from contextlib import contextmanager, suppress
from fnmatch import fnmatch

import pytest
import torch
from forks import fork
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ai4india_lib import add_lora, load_model, merge_lora, save_adapter, save_model, train_tokenizer
from ai4india_lib.formats.cards import CARD
from ai4india_lib.formats.folders import MODEL_FILES, is_chat_model, newest_model
from ai4india_lib.formats.weights import read_weights

IDS = torch.tensor([[1, 9, 200, 33]])
OPERATIONS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "open", "shutil.rmtree"}


def logits(model):
    with torch.no_grad():
        return model(IDS)


@pytest.fixture(scope="module")
def other_tokenizer():
    return train_tokenizer(["the sun and the moon and the sea"] * 9, 300)


@pytest.fixture
def made(make_model, tokenizer, other_tokenizer, tmp_path):
    """(an older model, a base, its adapter): each with what its folder must give."""
    older, base, tuned = make_model(seed=1), make_model(seed=2), add_lora(make_model(seed=2), 4)
    for name, p in tuned.named_parameters():
        if "lora_" in name:
            p.data.copy_(torch.randn_like(p) * 0.3)
    save_model(base, other_tokenizer, tmp_path / "base")
    return older, base, tuned


def saver(kind, made, tokenizer, other_tokenizer, folder):
    older, base, tuned = made
    return {
        "older": lambda: save_model(older, tokenizer, folder),
        "newer": lambda: save_model(base, other_tokenizer, folder),
        "adapter": lambda: save_adapter(tuned, folder, base=folder.parent / "base", overwrite=True),
    }[kind]


def with_own_files(folder):
    """What a user puts there."""
    (folder / "training" / "step-0000100").mkdir(parents=True)
    for name in ("notes.txt", "history.json", "training/step-0000100/state.json", "model.txt"):
        (folder / name).write_text("mine", encoding="utf-8")
    return ["notes.txt", "history.json", "training/step-0000100/state.json", "model.txt"]


FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process that can be killed needs os.fork")
PAIRS = [("older", "adapter"), ("adapter", "older"), ("older", "newer"), ("adapter", "newer")]


@pytest.mark.parametrize("first, second", PAIRS)
def test_a_folder_holds_one_thing(made, tokenizer, other_tokenizer, tmp_path, first, second):
    folder = tmp_path / "mine"
    saver(first, made, tokenizer, other_tokenizer, folder)()
    own = with_own_files(folder)
    for stale in ("added_tokens.json", "model-00001-of-00002.safetensors", "vocab.json"):
        (folder / stale).write_text("{}", encoding="utf-8")
    saver(second, made, tokenizer, other_tokenizer, folder)()
    saver(second, made, tokenizer, other_tokenizer, alone := tmp_path / "alone")()
    names = {path.name for path in folder.iterdir()} - {"training", "notes.txt", "history.json", "model.txt"}
    assert names == {path.name for path in alone.iterdir()}
    assert all((folder / name).read_text(encoding="utf-8") == "mine" for name in own)
    opened, its_tokenizer = load_model(folder, "cpu")
    expected = logits(made[{"older": 0, "newer": 1, "adapter": 2}[second]])
    torch.testing.assert_close(logits(opened), expected, rtol=1e-4, atol=1e-4)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "base" if second == "adapter" else folder)
    theirs = PeftModel.from_pretrained(theirs, folder) if second == "adapter" else theirs
    torch.testing.assert_close(theirs.eval()(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    assert is_chat_model(folder, its_tokenizer) == (second == "adapter")


def test_an_adapter_never_replaces_its_base_nor_a_model_unasked(made, tokenizer, tmp_path):
    _, base, tuned = made
    for more in ({}, {"overwrite": True}):
        with pytest.raises(FileExistsError, match="base holds a whole model"):
            save_adapter(tuned, tmp_path / "base", base=tmp_path / "base", **more)
    other = save_model(base, tokenizer, tmp_path / "other")
    with pytest.raises(FileExistsError, match="other holds a whole model"):
        save_adapter(tuned, other, base=tmp_path / "base")
    assert torch.equal(logits(load_model(other, "cpu")[0]), logits(base))


_watch = {"left": None, "what": None, "root": "", "set": False}  # an audit hook cannot be taken away: it looks here


def _hook(event, args):
    if _watch["left"] is None or event not in OPERATIONS or not str(args[0]).startswith(_watch["root"]):
        return
    if event == "open" and "r" in str(args[1] or "w"):
        return
    _watch["left"] -= 1
    if _watch["left"] < 0:
        _watch["what"]()


@contextmanager
def broken_off_at(number, root, what):
    """`what()` happens instead of the file operation of this number, from 0 on, in the folder `root`."""
    if not _watch["set"]:
        sys.addaudithook(_hook)
        _watch["set"] = True
    _watch.update(left=number, what=what, root=str(root))
    try:
        yield
    finally:
        _watch["left"] = None


def full():
    _watch["left"] = None  # once
    raise OSError("no space left on device")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt(save, number, root, how):
    """Save, broken off at the file operation of this number: by an error, or by a kill of the process."""
    if how == "error":
        with broken_off_at(number, root, full), suppress(OSError):
            save()
        return
    child = fork()
    if not child:
        with broken_off_at(number, root, die):
            save()
        os._exit(0)
    os.waitpid(child, 0)


def count_operations(save, root):
    """How many there are, when nothing goes wrong."""
    with broken_off_at(10**9, root, full):
        save()
        return 10**9 - _watch["left"]


@pytest.mark.parametrize("how", ["error", pytest.param("kill", marks=FORKS)])
@pytest.mark.parametrize(
    "first, second", [PAIRS[0], *(pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS[1:])]
)
def test_broken_off_at_any_operation_it_is_the_old_or_the_new(
    made, tokenizer, other_tokenizer, tmp_path, first, second, how
):
    save = {kind: saver(kind, made, tokenizer, other_tokenizer, tmp_path / "x" / "mine") for kind in (first, second)}
    (tmp_path / "x" / "base").parent.mkdir()
    (tmp_path / "base").rename(tmp_path / "x" / "base")
    folder = tmp_path / "x" / "mine"
    save[first]()
    own = with_own_files(folder)
    operations = count_operations(save[second], tmp_path)
    assert operations > 8
    wholes = {}
    for kind in (first, second):
        save[kind]()
        model, its_tokenizer = load_model(folder, "cpu")
        wholes[kind] = logits(model), len(its_tokenizer)
    seen = set()
    for number in range(operations):
        save[first]()
        interrupt(save[second], number, tmp_path, how)
        if (folder / "config.json").exists() and (folder / "adapter_config.json").exists():
            pytest.fail(f"two things after operation {number}")
        if (folder / "config.json").exists():  # what other programs would open
            raw = read_weights(folder, made[0].config, None)["model.embed_tokens.weight"]
            size = len(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
            assert torch.equal(raw, made[0].embedding.weight) == (size > 350), f"a mixture after operation {number}"
        if number % 2:  # a look at all models finishes it too
            assert newest_model(tmp_path / "x") in ("mine", "base")
        model, its_tokenizer = load_model(folder, "cpu")
        found = [kind for kind in wholes if torch.equal(logits(model), wholes[kind][0])]
        assert found and len(its_tokenizer) == wholes[found[0]][1], f"neither after operation {number}"
        assert all((folder / name).read_text(encoding="utf-8") == "mine" for name in own)
        seen.add(found[0])
    assert seen == {first, second}, "both must have happened, else nothing was broken off"
    assert {path.name for path in (tmp_path / "x").iterdir()} <= {"mine", "base", ".mine.part", ".mine.new"}


def test_what_only_looks_like_a_replacement_is_left_alone(made, tokenizer, other_tokenizer, tmp_path):
    """A user's own hidden folder; and the empty one that a process killed at its very end leaves."""
    for name in (".mine.new", ".kept.new"):
        (tmp_path / name).mkdir()
    (tmp_path / ".kept.new" / "notes.txt").write_text("mine", encoding="utf-8")
    assert newest_model(tmp_path) == "base"
    for kind in ("older", "newer"):
        saver(kind, made, tokenizer, other_tokenizer, tmp_path / "mine")()
    assert not (tmp_path / ".mine.new").exists() and (tmp_path / ".kept.new" / "notes.txt").exists()
    assert torch.equal(logits(load_model(tmp_path / "mine", "cpu")[0]), logits(made[1]))


def test_a_link_to_another_place_stays_one(made, tokenizer, other_tokenizer, tmp_path):
    real = tmp_path / "drive" / "kept"
    real.mkdir(parents=True)
    try:
        (tmp_path / "mine").symlink_to(real, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    saver("older", made, tokenizer, other_tokenizer, tmp_path / "mine")()
    saver("newer", made, tokenizer, other_tokenizer, tmp_path / "mine")()
    assert (tmp_path / "mine").is_symlink() and (real / "config.json").is_file()
    assert torch.equal(logits(load_model(tmp_path / "mine", "cpu")[0]), logits(made[1]))


def test_all_that_is_written_is_a_models_file(made, tmp_path, tokenizer):
    merged = merge_lora(made[2])
    for path in save_model(merged, tokenizer, tmp_path / "whole", chats=True).iterdir():
        known = (*MODEL_FILES, CARD)  # a card may be a person's: it is no part that is thrown away
        assert any(fnmatch(path.name, pattern) for pattern in known), path.name
