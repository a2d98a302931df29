"""Protects evaluation.chats: each kind of chat is judged by what it asked for, and a broken line is named."""

import json
from dataclasses import replace

import pytest

from ai4india_lib import CorpusError, answer_chats, read_chats, score_chats
from ai4india_lib.evaluation import chats as chats_module
from ai4india_lib.evaluation import questions as questions_module
from ai4india_lib.evaluation import refusing_answers

TOLD = "रवि का घर पटना में था। रवि और मीरा मेले में गए। “बहुत अच्छे!” मीरा ने कहा।"
REFUSAL, ONLY = "कहानी में यह नहीं बताया गया।", "मुझे सिर्फ़ कहानियाँ आती हैं।"


def line(kind, *said, **more):
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": part} for n, part in enumerate(said)], "kind": kind, **more}


LINES = [
    line("story", "मीरा और रवि की कहानी सुनाओ।", TOLD, wanted=["मीरा", "रवि"]),
    line("refusal", f"{TOLD} रवि कहाँ रहता था?", "पटना", "रवि की बहन कौन थी?", REFUSAL),
    line("other", "भारत की राजधानी क्या है?", ONLY),
    line("greeting", "hello", "नमस्ते! मुझे कहानी सुनाना पसंद है।"),
    line("story", "एक कहानी सुनाओ।", TOLD),
]


@pytest.fixture
def chats(tmp_path):
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, LINES)), encoding="utf-8")
    return read_chats(tmp_path)


def test_the_last_answer_is_what_is_judged(chats, tmp_path):
    assert [chat.kind for chat in chats] == ["story", "refusal", "other", "greeting", "story"]
    assert len(chats[1].messages) == 3 and chats[1].messages[-1]["role"] == "user" and chats[1].answer == REFUSAL
    assert chats[0].wanted == ("मीरा", "रवि") and chats[2].wanted == ()
    assert [chats[n].in_words() for n in (0, 4, 1)] == ["story, with all names asked for", "story", "refusal"]
    assert replace(chats[0], wanted=("मीरा",)).in_words() == "story, with the name asked for"
    assert read_chats(tmp_path, limit=2) == chats[:2]


def test_a_story_must_be_long_enough_and_name_all_that_was_asked_for(chats):
    said = {
        TOLD: 1,
        "मीराबाई और रवि मेले में गए, और वहाँ बहुत देर तक घूमते रहे।": 0,  # another name that begins alike
        "मीरा रवि": 0,  # no story
        REFUSAL: 0,
        "एक दिन “मीरा!” रवि ने कहा, और दोनों मेले में गए।": 1,
    }
    for answer, right in said.items():
        assert score_chats(chats[:1], [answer]) == [right], answer
    assert score_chats(chats[4:], ["एक गाँव में राजू नाम का एक लड़का रहता था।"]) == [1], "no name was asked for"


def test_other_answers_must_be_the_right_one(chats):
    assert score_chats(chats[1:4], [REFUSAL.rstrip("।"), REFUSAL, chats[3].answer]) == [1, 0, 1]
    assert score_chats(chats[1:4], ["पटना", "", TOLD]) == [0, 0, 0]
    assert refusing_answers(chats) == {REFUSAL.rstrip("।"), ONLY.rstrip("।")}


@pytest.mark.parametrize("batch_size", [1, 64])
def test_answers_belong_to_their_chats_and_stories_have_the_whole_context(
    monkeypatch, make_model, tokenizer, chats, batch_size
):
    asked = {}

    def write(model, prompts, **settings):
        texts = [tokenizer.decode(ids) for ids in prompts]
        for ids, text in zip(prompts, texts, strict=True):
            asked[text] = settings["max_new_tokens"], len(ids)
        begins = [text.split("<|user|>")[-1].split("<|")[0][:12] for text in texts]
        return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in begins]

    monkeypatch.setattr(questions_module, "generate", write)
    short = [chats[0], *chats[2:]]
    answers = answer_chats(make_model(context_size=128), tokenizer, short, batch_size=batch_size)
    assert answers == [chat.messages[-1]["content"][:11].strip() for chat in short]
    stories = [about for text, about in asked.items() if "कहानी सुनाओ" in text]
    assert len(stories) == 2 and {most for most, _ in stories} == {128 - max(length for _, length in stories)}
    others = [about for text, about in asked.items() if "कहानी सुनाओ" not in text]
    assert {most for most, _ in others} == {chats_module.LONGEST_ANSWER}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kind": "story"}, '"messages" must be a list'),
        (line("story", "hello"), "no message is the assistant's"),
        (line("story", "hello", "hi", "what?"), "must end with an answer of the assistant"),
        (line(3, "hello", "hi"), '"kind" must be a text'),
        (line("story", "hello", "hi", wanted="मीरा"), '"wanted" must be a list of words'),
    ],
)
def test_what_is_no_chat_is_named_with_its_line(tmp_path, wrong, told):
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, [LINES[2], wrong])), encoding="utf-8")
    with pytest.raises(CorpusError, match="line 2") as caught:
        read_chats(tmp_path)
    assert told in str(caught.value)
