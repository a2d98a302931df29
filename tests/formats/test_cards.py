"""Protects cards: they tell the truth about a model, as the hub reads it, and replace nobody's words."""

import ast
import re
import shlex

import pytest
from huggingface_hub import ModelCard

from ai4india_lib import add_lora, save_adapter, save_model
from ai4india_lib.formats.cards import Facts, card_text, hub_name, is_our_card, write_card

KNOWN = Facts(
    about="It tells of tea.", language="hi", license="mit", base="older", data=("texts/chai.tar.gz",),
    metrics={"perplexity": 2.5, "bits_per_byte": 0.125}, run={"made by": "`a command`"}, picture="perplexity.png",
    beginning="चाय की",
)  # fmt: skip


def test_saving_alone_writes_what_is_sure_and_no_more(make_model, tokenizer, tmp_path):
    """Nothing that nobody told: no language, licence, data or figures."""
    for name, chats in (("told", False), ("talks", True)):
        model = make_model()
        card = ModelCard.load(save_model(model, tokenizer, tmp_path / name, chats=chats) / "README.md")
        data = card.data.to_dict()
        assert data == {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["ai4india"]}
        shape = f"{model.num_parameters() / 1e6:.1f} million parameters ({model.config.emb_dim} wide"
        assert f"# {name}\n" in card.text and shape in card.text
        assert ("answers in conversations" in card.text) == chats and str(tmp_path) not in card.text
        assert ("ai4india_lib chat" if chats else "ai4india_lib generate") in card.text
        assert "none is chosen yet" in card.text


def test_an_adapter_names_its_model_and_peft(make_model, tokenizer, tmp_path):
    base = save_model(make_model(), tokenizer, tmp_path / "base")
    folder = save_adapter(add_lora(make_model(), 2), tmp_path / "mine", base=base)
    card = ModelCard.load(folder / "README.md")
    assert (card.data.base_model, card.data.library_name) == ("base", "peft")
    assert "AutoPeftModelForCausalLM" in card.text and "rank 2" in card.text and str(tmp_path) not in card.text


def test_what_is_known_stands_in_the_head(make_model, tokenizer, tmp_path):
    folder = save_model(make_model(), tokenizer, tmp_path / "mine")
    (folder / "perplexity.png").write_bytes(b"")
    card = ModelCard.load(write_card(folder, KNOWN))
    found = card.data
    assert (found.language, found.license, found.base_model, found.datasets) == ("hi", "mit", "older", ["chai"])
    assert {result.metric_type: result.metric_value for result in found.eval_results} == KNOWN.metrics
    assert found.metrics == ["perplexity", "bits_per_byte"] and found.eval_results[0].dataset_name == "chai"
    for words in (KNOWN.about, "| made by | `a command` |", "](perplexity.png)", 'generate --model mine "चाय की"'):
        assert words in card.text
    assert "Licence: MIT" in card.text and "none is chosen" not in card.text


@pytest.mark.parametrize("beginning", ['"', "`id`", "$HOME", "a\\b", "wow!", "two\nlines", "-x"])
def test_no_beginning_breaks_the_lines_to_paste(make_model, tokenizer, tmp_path, beginning):
    folder = save_model(make_model(), tokenizer, tmp_path / "mine")
    code, line = re.findall(r"(?s)```(?:python|bash)\n(.*?)```", card_text(folder, Facts(beginning=beginning)))
    assert len(ast.parse(code).body) == 2 and shlex.split(line)[-1] == "…" and "\n" not in line.strip()


def test_a_persons_own_card_is_never_replaced(make_model, tokenizer, tmp_path):
    """Neither one that was there before, nor one of ours that was changed; by no way to save."""
    base = save_model(make_model(), tokenizer, tmp_path / "base")
    own = tmp_path / "own"
    own.mkdir()
    (own / "README.md").write_text("my words", encoding="utf-8")
    changed = save_model(make_model(), tokenizer, tmp_path / "changed")
    words = (changed / "README.md").read_text(encoding="utf-8").replace("none is chosen yet", "ask me")
    (changed / "README.md").write_text(words, encoding="utf-8")
    for folder in (own, changed):
        before = (folder / "README.md").read_bytes()
        save_model(make_model(), tokenizer, folder)
        assert write_card(folder, KNOWN) is None and not is_our_card(folder / "README.md")
        (folder / "config.json").unlink()
        save_adapter(add_lora(make_model(), 2), folder, base=base)
        assert (folder / "README.md").read_bytes() == before


def test_our_card_is_written_anew_also_behind_other_line_ends(make_model, tokenizer, tmp_path):
    """As git writes them on Windows."""
    folder = save_model(make_model(), tokenizer, tmp_path / "mine")
    path = folder / "README.md"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert is_our_card(path)
    write_card(folder, KNOWN)
    assert "It tells of tea." in path.read_text(encoding="utf-8") and is_our_card(path)
    save_model(make_model(), tokenizer, folder)  # another model: what was known of the old one is gone
    assert "It tells of tea." not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/kahani-hi.tar.gz", "kahani-hi"),
        ("C:\\texts\\my own.txt", "my-own"),
        ("https://example.org/a/hi.tar.gz?token=…", "hi"),
        ("https://huggingface.co/datasets/asha/poems/resolve/main/poems.tar.gz", "asha/poems"),
        ("hf://datasets/asha/poems", "asha/poems"),
        ("कहानी.txt", None),
    ],
)
def test_names_of_data_are_such_as_the_hub_takes(source, name):
    assert hub_name(source) == name
