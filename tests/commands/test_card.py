"""What these tests protect: the card of a run tells what the run did, and its command makes the same run again."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from talks import TALKS

from ai4india_lib import get_hyperparameters, save_model
from ai4india_lib.__main__ import main, make_parser
from ai4india_lib.commands import card, hyperparameters_of
from ai4india_lib.text.chat import RESPONSE_TEMPLATE
from ai4india_lib.training.history import History

SHORT = ["--preset", "tiny", "--device", "cpu", "--max-steps", "2", "--eval-every", "1"]
FAST = ["--device", "cpu", "--max-steps", "2", "--context-size", "64", "--batch-size", "4"]


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """A folder to stand in, with a text whose about.json says its language, and conversations."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chai").mkdir()
    for part in ("train", "test"):
        (tmp_path / "chai" / f"{part}.txt").write_text("एक दिन मीरा चाय लाई।\n" * 40, encoding="utf-8")
    (tmp_path / "chai" / "about.json").write_text('{"language": "hi"}', encoding="utf-8")
    lines = "".join(json.dumps(talk, ensure_ascii=False) + "\n" for talk in TALKS)
    (tmp_path / "talks.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


def test_runs_write_cards_and_card_writes_the_same_again(at_work, capsys):
    assert main(["train", "--data", "chai", "--name", "teller", *SHORT]) == 0
    teller = ModelCard.load("models/teller/README.md")
    history = History.load("models/teller/history.json")
    assert (teller.data.language, teller.data.license, teller.data.datasets) == ("hi", None, ["chai"])
    [perplexity, bits] = [result.metric_value for result in teller.data.eval_results]
    assert bits == pytest.approx(history.in_bits_per_byte(history.test_loss), abs=1e-4) and perplexity > 1
    assert "](perplexity.png)" in teller.text and history.result_in_words() in teller.text
    assert 'generate --model models/teller "एक दिन"' in teller.text and history.data == ["chai"]
    assert main(["finetune", "--model", "teller", "--data", "talks.jsonl", "--name", "talker", *FAST]) == 0
    talker = ModelCard.load("models/talker/README.md")
    assert (talker.data.base_model, talker.data.language) == ("teller", "hi")  # the language is that of the start
    assert "answers in conversations" in talker.text and "perplexity.png" not in talker.text
    before = {name: Path(f"models/{name}/README.md").read_text(encoding="utf-8") for name in ("teller", "talker")}
    for name in before:
        Path(f"models/{name}/README.md").unlink()
    capsys.readouterr()
    assert main(["card"]) == 0
    assert capsys.readouterr().out.splitlines() == ["models/talker/README.md", "models/teller/README.md"]
    for name, text in before.items():
        found = Path(f"models/{name}/README.md").read_text(encoding="utf-8")
        assert found.split("## How to use it")[0] == text.split("## How to use it")[0]


@pytest.mark.parametrize(
    "asked",
    [
        "train --data a.txt --name x --max-steps 5",
        "train --name x --minutes 2 --no-compile --qk-norm no --seed 3",
        "train --name x --preset tiny --max-steps none --num-epochs 2 --precision no --clip-norm 0.5",
        "finetune --model m --data a.jsonl b.jsonl --lora 4 --half --name x",
        "finetune --model m --preferences 'my pairs.jsonl' --beta 0.3 --name x --learning-rate 0.01",
    ],
)
def test_the_command_of_a_card_makes_the_same_run(asked):
    options = make_parser().parse_args(shlex.split(asked))
    kind = "dpo" if "--preferences" in asked else "finetune-lora"  # as `finetune` chooses it
    options.preset = options.preset or kind
    h = hyperparameters_of(options)
    written = card.command_line(options, h, Path("models/x")).removeprefix("python -m ai4india_lib ")
    again = make_parser().parse_args(shlex.split(written))
    again.preset = again.preset or kind
    assert hyperparameters_of(again) == h
    assert {name: getattr(again, name, None) for name in card.OPTIONS} == {
        name: getattr(options, name, None) for name in card.OPTIONS
    }


def test_no_secret_and_no_place_of_this_computer_stands_in_a_card(tmp_path):
    source = "https://asha:open-sesame@example.org/hi.tar.gz?token=12345"
    options = make_parser().parse_args(
        ["finetune", "--model", str(tmp_path / "mine"), "--data", source, str(tmp_path / "a|b.jsonl"), "--name", "x"]
    )
    options.preset = "finetune"
    facts = card.facts_of_run(tmp_path / "x", options, get_hyperparameters("finetune"), History(ended="finished"))
    told = str(facts)
    assert "example.org/hi.tar.gz" in told and "a\\\\|b.jsonl" in told and facts.base == "mine"
    assert not any(secret in told for secret in ("sesame", "12345", str(tmp_path)))


def test_the_licence_is_only_said_where_it_is_known(monkeypatch, tmp_path):
    root = tmp_path / "course"
    for name in ("data/kahani-hi.tar.gz", "data/mine.txt", "models/kahani-hi/config.json", "models/mine/config.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("", encoding="utf-8")
    monkeypatch.setattr(card, "project_folder", lambda: root)
    stories, own = str(root / "data/kahani-hi.tar.gz"), str(root / "data/mine.txt")
    shipped, mine = root / "models/kahani-hi", root / "models/mine"
    assert card._license([stories], []) == card._license([stories], [shipped]) == "mit"
    for sources, starts in (
        ([own], []), ([stories, own], []), ([stories], [mine]), ([], []),
        (["https://example.org/data/kahani-hi.tar.gz"], []), ([str(tmp_path / "kahani-hi.tar.gz")], []),
    ):  # fmt: skip
        assert card._license(sources, starts) is None
    (mine / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert card._license([stories], [mine]) == "mit"


def test_a_models_part_of_the_page_beside_it_is_used(make_model, tokenizer, tmp_path, monkeypatch, capsys):
    """So the course's own get theirs; an older folder learns where an answer begins; what a person wrote is kept."""
    monkeypatch.chdir(tmp_path)
    folder = save_model(make_model(), tokenizer, "teller")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    del config["response_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    History(
        ended="finished", bytes_per_token=4.0, eval_loss=[1.0], eval_step=[1], test_loss=1.0, train_loss=[1.0]
    ).save(folder / "history.json")
    page = "# Models\n\n## teller\n\nIt tells.\n\n| | |\n|---|---|\n| made by | `python -m ai4india_lib train --name "
    page += "teller --max-steps 7` (two cores) |\n| limits | it tells no jokes |\n\n## other\n\n| limits | none |\n"
    Path("models/README.md").write_text(page, encoding="utf-8")
    assert main(["card", "teller"]) == 0
    told = ModelCard.load(folder / "README.md").text
    assert "It tells.\n" in told and "| limits | it tells no jokes |" in told and "--max-steps 7" in told
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["response_template"] == RESPONSE_TEMPLATE
    (folder / "README.md").write_text("mine", encoding="utf-8")
    capsys.readouterr()
    assert main(["card"]) == 0 and "kept" in capsys.readouterr().out
    assert (folder / "README.md").read_text(encoding="utf-8") == "mine"
    assert main(["card", "nothing"]) == 1 and "no model in models/nothing" in capsys.readouterr().err


def test_a_card_with_more_than_is_known_now_is_kept(make_model, tokenizer, tmp_path, monkeypatch, capsys):
    """Of a run whose checkpoints were deleted."""
    monkeypatch.chdir(tmp_path)
    folder = save_model(make_model(), tokenizer, "teller")
    options = make_parser().parse_args(["train", "--name", "teller", "--preset", "tiny"])
    h = replace(get_hyperparameters("tiny"), seed=77)
    card.write_run_card(folder, options, h, History(ended="finished"))
    before = (folder / "README.md").read_text(encoding="utf-8")
    assert "--seed 77" in before and main(["card"]) == 0 and "no more is known" in capsys.readouterr().out
    assert (folder / "README.md").read_text(encoding="utf-8") == before
