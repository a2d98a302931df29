"""Protects the models that the course ships: they open without this library, and their cards tell the truth."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ai4india_lib.__main__ import make_parser
from ai4india_lib.commands.card import facts_of_folder
from ai4india_lib.commands.train import hyperparameters_of
from ai4india_lib.formats import folders
from ai4india_lib.formats.cards import card_text
from ai4india_lib.formats.pretrained import load_model
from ai4india_lib.text.corpus import read_about
from ai4india_lib.training.history import History

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "models"
CARDS = (MODELS / "README.md").read_text(encoding="utf-8")
SHIPPED = re.findall(r"(?m)^!models/([\w-]+)/$", (ROOT / ".gitignore").read_text(encoding="utf-8"))
TRAINED = [name for name in SHIPPED if (MODELS / name / "config.json").is_file()]  # the others are adapters

OPEN_ALL = """
import json, sys
sys.modules["ai4india_lib"] = None  # an import of it would now fail
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
told = {}
for folder in sys.argv[1:]:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("एक दिन One day", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(ids).logits[0, -1].float()
    told[folder] = {"ids": ids[0].tolist(), "logits": logits[:50].tolist(), "vocabulary": sorted(tokenizer.get_vocab())}
print(json.dumps(told))
"""


def card_of(name):
    """The part of models/README.md about a model: its rows, by their first cell."""
    part = CARDS.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
    return dict(re.findall(r"(?m)^\| ([^|]+?) \| (.+) \|$", part))


def by_name(names):
    return pytest.mark.parametrize("name", names)


def test_what_is_shipped_is_there_has_a_card_and_stays_small():
    assert {"kahani-hi", "kahani-hi-draft", "kahani-hi-small", "kahani-hi-large"} <= set(TRAINED)
    assert sorted(folders.SHIPPED) == sorted(SHIPPED)  # `newest_model` tells the learner's by them
    assert folders.is_chat_model("kahani-hi-chat", folder=MODELS) and not folders.is_chat_model(MODELS / "kahani-hi")
    for name in SHIPPED:
        if (MODELS / name).is_dir():
            assert {"made by", "size", "trained", "result"} <= set(card_of(name)), name
    made_here = ("evaluation.png", "excess.png")  # drawn by `evaluate` and `doctor`, and not in git
    files = [path for name in SHIPPED for path in (MODELS / name).glob("*.*") if path.name not in made_here]
    assert sum(path.stat().st_size for path in files) < 40_000_000
    assert not [path.name for path in files if path.suffix in (".bin", ".pt", ".pkl", ".pth")]


def test_models_open_with_transformers_alone_and_give_the_same_logits(tmp_path):
    """In a process that cannot import ai4india_lib: the promise to every server and tool of that world."""
    folders = [str(MODELS / name) for name in TRAINED]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", OPEN_ALL, *folders], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout.splitlines()[-1])
    import torch

    for name, folder in zip(TRAINED, folders, strict=True):
        model, tokenizer = load_model(MODELS / name, "cpu")
        ids = tokenizer("एक दिन One day")["input_ids"]
        assert told[folder]["ids"] == ids
        with torch.no_grad():
            logits = model(torch.tensor([ids]))[0, -1, :50]
        torch.testing.assert_close(logits, torch.tensor(told[folder]["logits"]), atol=1e-3, rtol=1e-3)


def test_target_and_draft_share_one_tokenizer():
    """Speculation compares ids: one other id, and it accepts nonsense."""
    files = [
        (MODELS / f"kahani-hi{kind}" / "tokenizer.json").read_bytes() for kind in ("", "-draft", "-small", "-large")
    ]
    assert len(set(files)) == 1


@by_name(TRAINED)
def test_the_cards_command_gives_the_shipped_settings(name):
    [command] = re.findall(r"`python -m ai4india_lib (train [^`]+)`", card_of(name)["made by"])
    options = make_parser().parse_args(shlex.split(command))
    h = hyperparameters_of(options)
    assert options.name == name
    assert (ROOT / options.data).is_file() and options.tokenizer in (None, "models/kahani-hi")
    config = json.loads((MODELS / name / "config.json").read_text(encoding="utf-8"))
    told = {"hidden_size": h.emb_dim, "num_attention_heads": h.num_heads, "num_key_value_heads": h.num_kv_heads,
            "num_hidden_layers": h.num_blocks, "max_position_embeddings": h.context_size,
            "vocab_size": h.vocab_size, "model_type": "qwen3" if h.qk_norm else "llama"}  # fmt: skip
    assert {key: config[key] for key in told} == told
    history = History.load(MODELS / name / "history.json")
    assert history.steps <= history.total_steps <= h.max_steps
    assert history.tokens_per_step == h.batch_size * h.context_size * h.accumulation_steps
    assert max(history.learning_rate) == pytest.approx(h.learning_rate)
    assert history.floor_bits_per_byte == read_about(ROOT / options.data)["test_floor_bits_per_byte"]


@by_name(TRAINED)
def test_the_cards_figures_are_those_of_the_run(name):
    card, history = card_of(name), History.load(MODELS / name / "history.json")
    model, _ = load_model(MODELS / name, "cpu")
    assert f"{model.num_parameters() / 1e6:.1f} million parameters" in card["size"]
    assert f"{history.steps:,} steps" in card["trained"] and f"{history.seconds:,.0f} seconds" in card["trained"]
    assert f"{history.steps * history.tokens_per_step / 1e6:.1f} million tokens" in card["trained"]
    assert f"{history.in_bits_per_byte(history.test_loss):.3f} bits per byte" in card["result"]
    assert f"{history.test_loss / history.floor_loss:.2f} times the floor" in card["result"]


@by_name(SHIPPED)
def test_a_folders_own_card_says_what_its_files_say(name, monkeypatch):
    """As `python -m ai4india_lib card` writes it; where it was written, it is not older than the files."""
    monkeypatch.chdir(ROOT)
    folder = Path("models") / name
    facts, history = facts_of_folder(folder), History.load(folder / "history.json")
    assert facts.metrics["bits_per_byte"] == pytest.approx(history.in_bits_per_byte(history.test_loss))
    assert (facts.language, facts.license) == (name.split("-")[1], "mit")
    assert facts.run["limits"] == card_of(name)["limits"] and facts.about in CARDS
    if (folder / "README.md").is_file():
        assert (folder / "README.md").read_text(encoding="utf-8") == card_text(folder, facts)
