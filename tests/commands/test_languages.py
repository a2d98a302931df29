"""In which language `evaluate` measures: that of the text that the model was trained on, and never another silently."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from ai4india_lib.__main__ import main
from ai4india_lib.commands.languages import lacking_in_words, language_of, sources_of
from ai4india_lib.commands.options import known_languages, make_parser
from ai4india_lib.training.history import History

TEXT = "एक दोन तीन.\nचार पाच सहा.\n"


def pack_archive(path: str, files: dict[str, str]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data := text.encode())
            tar.addfile(entry, io.BytesIO(data))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder as a learner has it: stories in three languages, in Marathi nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "kahani" / "hi").mkdir(parents=True)
    (tmp_path / "data" / "kahani" / "hi" / "grammar.py").touch()
    for code in ("hi", "mr"):
        about = json.dumps({"language": code, "test_floor_bits_per_byte": 0.5})
        files = {"train.txt": TEXT * 9, "test.txt": TEXT, "about.json": about}
        pack_archive(f"data/kahani-{code}.tar.gz", {f"kahani-{code}/{name}": text for name, text in files.items()})
    pack_archive("own.tar.gz", {"own/train.txt": TEXT * 9, "own/test.txt": TEXT})
    for name in ("data/kahani/pairs-hi.jsonl", "data/kahani-questions-hi.tar.gz"):
        (tmp_path / name).touch()
    return tmp_path


def trained_on(*data: str, name: str = "mine", base: str | None = None) -> str:
    """A model's folder, as far as its language is told there."""
    folder = Path("models") / name
    folder.mkdir(parents=True)
    if base:
        (folder / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": base})
        )
    else:
        (folder / "config.json").write_text("{}")
    History(data=list(data)).save(folder / "history.json")
    return name


def test_the_archive_tells_the_language(here):
    """Its about.json; its name, where it was moved away; before the model's name."""
    assert language_of(trained_on("data/kahani-mr.tar.gz", name="kahani-hi-again")) == "mr"
    assert language_of(trained_on("elsewhere/kahani-mr.tar.gz", name="moved")) == "mr"
    assert language_of(trained_on("own.tar.gz", name="own-hi")) is None
    assert language_of(trained_on(name="kahani-mr-old")) == "mr"  # made before histories noted it
    assert language_of(trained_on(name="unknown")) is None


def test_an_adapter_has_the_language_of_its_model(here):
    trained_on("data/kahani-mr.tar.gz", name="base")
    assert language_of(trained_on("chats.jsonl", name="chat", base="models/base")) == "mr"
    trained_on(name="kahani-mr")  # made before histories noted the text
    assert language_of(trained_on("chats.jsonl", name="my-talker", base="models/kahani-mr")) == "mr"


def test_only_what_is_there_in_that_language_is_taken(here):
    """Marathi has stories and no pairs: it is measured with its stories, and a line says what is lacking."""
    sources = sources_of("x", "mr")
    assert sources == {"data": "data/kahani-mr.tar.gz", "pairs": None, "questions": None, "conversations": None}
    assert lacking_in_words("mr", sources) == "not measured, as Marathi has none: minimal pairs, questions, chats"
    assert sources_of("x", "hi")["pairs"] == "data/kahani/pairs-hi.jsonl"
    own = trained_on("own.tar.gz", name="own")
    assert sources_of(own, None) == dict.fromkeys(sources) | {"data": "own.tar.gz"}


def test_what_answers_is_measured_with_the_text_below_it(here):
    """Conversations and pairs are no texts. A whole model that learned from them has none."""
    Path("talks.jsonl").write_text('{"messages": []}\n', "utf-8")
    Path("pairs.jsonl").write_text('{"prompt": "", "chosen": "", "rejected": ""}\n', "utf-8")
    Path("rows.jsonl").write_text('{"text": "एक"}\n', "utf-8")
    trained_on("rows.jsonl", name="base")
    for number, learned in enumerate(("talks.jsonl", "pairs.jsonl")):
        assert sources_of(trained_on(learned, name=f"a{number}", base="models/base"), None)["data"] == "rows.jsonl"
        assert sources_of(trained_on(learned, name=f"w{number}"), None)["data"] is None
    assert sources_of(trained_on("talks.jsonl", name="lost", base="models/gone"), None)["data"] is None


def test_the_option_offers_the_languages_that_exist(here, capsys):
    assert known_languages() == ["hi", "mr"]
    assert make_parser().parse_args(["evaluate", "--language", "mr"]).language == "mr"
    with pytest.raises(SystemExit):
        make_parser().parse_args(["evaluate", "--language", "ta"])
    assert "hi" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_in_a_third_language_is_measured_in_it(here, capsys):
    """Trained by the command, which notes the text; then evaluated without --language. The floor is that archive's."""
    short = "--preset tiny --device cpu --max-steps 3 --vocab-size 270".split()
    assert main(["train", "--data", "data/kahani-mr.tar.gz", "--name", "hi-there", *short]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--model", "hi-there", "--no-baselines", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Marathi: 2 documents;") and "(floor 0.5000)" in told and "minimal pairs" in told
    assert "Hindi" not in told


def test_a_model_of_an_unknown_text_is_not_measured_against_hindi(here, capsys):
    trained_on(name="riddle")
    assert main(["evaluate", "--model", "riddle", "--device", "cpu"]) == 1
    told = capsys.readouterr().err
    assert "nothing tells on which text riddle was trained: give --language hi or mr" in told
