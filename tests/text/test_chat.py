"""Protects text.chat: what is no conversation is told in a sentence, and a long one is shortened to fit."""

import pytest

from ai4india_lib.text.chat import check_messages, encode_request, fit_messages, question_messages


def test_chat_keeps_what_fits(tokenizer):
    messages = [{"role": "system", "content": "सच बोलो।"}]
    for n in range(6):
        messages += [{"role": "user", "content": f"सवाल {n}"}, {"role": "assistant", "content": f"जवाब {n}"}]
    messages = messages[:-1]
    fit = fit_messages(tokenizer, messages, 100)
    length = len(tokenizer.apply_chat_template(fit, add_generation_prompt=True, return_dict=False))
    assert length <= 88 < length + 40 and fit[0] == messages[0] and fit[1:] == messages[-len(fit) + 1 :]
    assert fit[1]["role"] == "user" and 3 < len(fit) < len(messages)
    assert fit_messages(tokenizer, messages, 10_000) == messages
    assert fit_messages(tokenizer, messages, 20) is None


ASKED = {"role": "user", "content": "कौन?"}


@pytest.mark.parametrize(
    "given", ["कौन?", ["कौन?"], [], {}, ASKED, [{"content": "कौन?"}], None, [["user", "कौन?"]]], ids=str
)
def test_what_is_no_conversation_is_not_asked(tokenizer, given):
    with pytest.raises(ValueError, match=r'messages must be \[\{"role": "user", "content": "…"\}\], or several; got'):
        encode_request(tokenizer, given)


def test_nothing_is_left_to_answer_behind_an_answer(tokenizer):
    with pytest.raises(ValueError, match="the last message is the assistant's own: end with one of the user's"):
        encode_request(tokenizer, [ASKED, {"role": "assistant", "content": "मीरा"}])


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ({"role": "user"}, '"messages" must be a list of {"role": …, "content": …}; got {'),
        ([ASKED, {"role": "assistant", "content": " "}], "message 2, the assistant's, is empty"),
        ([ASKED, {"role": "gpt", "content": "मीरा"}], "message 2 has the role 'gpt': use system, user, assistant"),
        ([ASKED, {"role": ["assistant"], "content": "मीरा"}], "message 2 has the role ['assistant']"),
        ([{"role": "user", "content": [{"type": "text"}]}], "no text as content, but [{"),
        ([{"role": "user", "content": None}], 'but None: write {"role": "user", "content": "…"}'),
    ],
)
def test_what_cannot_be_learned_is_told(messages, told):
    with pytest.raises(ValueError) as error:
        check_messages(messages)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("story", "questions", "told"),
    [(5, [], '"story" must be text; got 5'), ("x", "कौन?", '"questions" must be a list of {"question"'),
     ("x", None, "it has None"), ("x", [{"question": 5, "answer": "y"}], "{'question': 5"), ("x", ["y"], "has 'y'")],
)  # fmt: skip
def test_questions_of_another_shape_are_told(story, questions, told):
    with pytest.raises(ValueError) as error:
        question_messages(story, questions)
    assert told in str(error.value)
