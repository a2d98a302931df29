"""Protects text.templates: a chat template of a stranger can neither hold up the program nor take its memory, and tells
in one sentence what is wrong; what it writes is what `transformers` would."""

import json
import time

import pytest

from ai4india_lib.text import chat, templates
from ai4india_lib.text.chat import CHAT_TEMPLATE, encode_conversations, encode_request
from ai4india_lib.text.tokenizer import load_tokenizer, save_tokenizer

ASKED = [{"role": "user", "content": "कौन आया?"}]
TALK = [*ASKED, {"role": "assistant", "content": "मीरा आई।"}]


@pytest.fixture
def of_a_stranger(tokenizer, tmp_path):
    """A tokenizer with another chat template."""

    def make(template):
        save_tokenizer(tokenizer, tmp_path)
        other = load_tokenizer(tmp_path)
        other.chat_template = template
        return other

    return make


@pytest.fixture
def narrow(monkeypatch):
    """Bounds that are reached sooner."""
    monkeypatch.setattr(templates, "SECONDS", 1.0)
    monkeypatch.setattr(templates, "BYTES", 2**28)


ENDLESS = {
    "loops": "{% for i in range(90000) %}{% for j in range(90000) %}{% for k in range(90000) %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "one operation that takes for ever": "{{ (10 ** (10 ** 9)) % 7 }}",
    "a text times a number": "{{ 'abc' * 10 ** 10 }}",
    "a text that doubles": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
    "{% endfor %}{{ n.x }}",
    "a list that doubles": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}"
    "{% endfor %}",
    "a wide field": "{{ '%1000000000d' | format(1) }}{{ '%1000000000d' | format(1) }}",
}


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_what_takes_too_much_is_ended(of_a_stranger, narrow, template):
    started = time.monotonic()
    with pytest.raises(
        ValueError, match=r"^the chat template of this tokenizer (takes more than|fails: |ended)"
    ) as told:
        encode_request(of_a_stranger(template), ASKED)
    assert time.monotonic() - started < 20 and "\n" not in str(told.value)
    good = of_a_stranger("{{ messages[0].content }}")
    assert good.decode(encode_request(good, ASKED)) == "कौन आया?", "the next one has a process again"


@pytest.mark.parametrize(
    "template, told",
    [
        ("{% for m in messages %}", "fails: Unexpected end of template"),
        ("{{ 1 / 0 }}", "fails: division by zero"),
        ("{{ messages[0].nothing.at.all }}", "fails: .*no attribute"),
        ("{{ raise_exception('System role not supported') }}", "fails: System role not supported"),
        ("{{ raise_exception('two\nlines') }}", "fails: two lines"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: .*recursion"),
        ("{{ range(1000000) | join }}", "fails: .*ange"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails: "),
        ("{% include '/etc/passwd' %}", "fails: "),
    ],
)
def test_what_fails_is_told_in_a_sentence(of_a_stranger, template, told):
    with pytest.raises(ValueError, match=told) as error:
        encode_request(of_a_stranger(template), ASKED)
    assert "\n" not in str(error.value)


CHATML = "{% for m in messages %}<|user|>{{ m.role }}\n{{ m.content }}<|end_of_turn|>{% endfor %}"
CHATML += "{% if add_generation_prompt %}<|assistant|>{% endif %}"
MARKED = CHAT_TEMPLATE.replace("{{- bos_token }}", "{{- bos_token ~ eos_token }}")


@pytest.mark.parametrize("template", [MARKED, CHAT_TEMPLATE], ids=["a stranger's", "ours"])
def test_the_same_as_in_transformers(of_a_stranger, monkeypatch, template):
    other = of_a_stranger(template)
    if template == CHAT_TEMPLATE:
        monkeypatch.setattr(templates, "_render_apart", None)  # ours needs no process
    assert encode_request(other, ASKED) == other.apply_chat_template(ASKED, add_generation_prompt=True)["input_ids"]
    theirs = other.apply_chat_template([TALK, TALK], return_dict=True, return_assistant_tokens_mask=True)
    expected = list(zip(theirs["input_ids"], theirs["assistant_masks"], strict=True))
    assert encode_conversations(other, [TALK, TALK]) == expected


def test_an_unmarked_one_writes_what_transformers_does(of_a_stranger):
    other = of_a_stranger(CHATML.replace("\n", " "))
    assert encode_request(other, ASKED) == other.apply_chat_template(ASKED, add_generation_prompt=True)["input_ids"]


def test_a_tokenizer_without_a_template(of_a_stranger):
    for call in (lambda t: encode_request(t, ASKED), lambda t: chat.encode_conversation(t, TALK)):
        with pytest.raises(ValueError, match="has no chat template: take one of a model that chats"):
            call(of_a_stranger(None))


def test_a_process_that_nobody_watches_ends_itself(monkeypatch):
    """As after a kill of the program: it must not compute for ever."""
    monkeypatch.setattr(templates, "_PROGRAM", templates._PROGRAM.replace("later(60", "later(1"))
    process = templates._Process()
    loops = ENDLESS["one operation that takes for ever"]
    process.process.stdin.write(json.dumps({"conversations": [ASKED], "chat_template": loops}) + "\n")
    process.process.stdin.flush()
    assert process.process.wait(timeout=30) != 0


def test_memory_is_watched_too(of_a_stranger, narrow, monkeypatch):
    """Long before the time is up."""
    monkeypatch.setattr(templates, "SECONDS", 30.0)
    started = time.monotonic()
    with pytest.raises(ValueError, match="of memory: take another, or repair it"):
        encode_request(of_a_stranger("{% set x = messages[0].role * 10 ** 8 %}" + ENDLESS["loops"]), ASKED)
    assert time.monotonic() - started < 25
