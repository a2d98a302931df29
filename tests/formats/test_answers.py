"""What these tests protect: other programs stop where a chat model's answer ends, and find the answer alone."""

import json

import pytest

from ai4india_lib import add_lora, load_model, save_adapter, save_model
from ai4india_lib.formats.folders import is_chat_model
from ai4india_lib.text.chat import RESPONSE_TEMPLATE


def test_the_stop_of_a_chat_model_is_kept(make_model, tokenizer, tmp_path):
    """Whoever saves it: with the model and tokenizer of a chat model, of an adapter, and of a storyteller."""
    save_model(make_model(), tokenizer, tmp_path / "told")
    save_model(make_model(), tokenizer, tmp_path / "talks", chats=True)
    save_adapter(add_lora(make_model(), 2), tmp_path / "adapter", base=tmp_path / "told")
    for name, chats in (("told", False), ("talks", True), ("adapter", True)):
        model, its_tokenizer = load_model(tmp_path / name, "cpu")
        again = save_model(model, its_tokenizer, tmp_path / f"{name}-again")
        assert is_chat_model(again, its_tokenizer) == chats
        assert json.loads((again / "tokenizer_config.json").read_text())["response_template"] == RESPONSE_TEMPLATE
    model, its_tokenizer = load_model(tmp_path / "talks", "cpu")
    assert not is_chat_model(save_model(model, its_tokenizer, tmp_path / "no", chats=False), its_tokenizer)


def test_an_answer_is_found_in_what_is_written(tokenizer):
    parsing = pytest.importorskip("transformers.utils.chat_parsing", reason="needs transformers 5")
    parser = parsing.ResponseParser(RESPONSE_TEMPLATE, prefix="<|begin|><|user|> क्या?<|end_of_turn|><|assistant|>")
    parser.feed(" हाँ।<|end_of_turn|>")
    assert parser.finalize()[0] == {"role": "assistant", "content": "हाँ।"}
