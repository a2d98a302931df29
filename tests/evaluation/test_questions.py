"""Protects evaluation.questions: each answer belongs to its question, and only the right one counts."""

import json

import pytest

from ai4india_lib.evaluation import questions as questions_module
from ai4india_lib.evaluation.questions import (
    Question,
    answer_questions,
    normalise_answer,
    question_accuracy,
    question_prompt,
    read_questions,
)


@pytest.fixture
def questions(tmp_path):
    story = {"story": "मीरा पटना में रहती है।"}
    asked = [{"kind": "where", "question": "मीरा कहाँ रहती है?", "answer": "पटना"},
             {"kind": "who", "question": "कौन रहती है?", "answer": "मीरा"}]  # fmt: skip
    lines = [{**story, "questions": asked}, {**story, "questions": asked[:1]}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return read_questions(tmp_path)


def test_questions_are_read_one_by_one(questions, tmp_path):
    assert [q.kind for q in questions] == ["where", "who", "where"]
    assert questions[0] == Question("where", "मीरा पटना में रहती है।", "मीरा कहाँ रहती है?", "पटना")
    assert read_questions(tmp_path, limit=1) == questions[:1]


def test_a_question_is_the_users_turn_or_the_beginning_of_a_text(tokenizer, questions):
    asked = "मीरा पटना में रहती है। मीरा कहाँ रहती है?"
    chat = tokenizer.decode(question_prompt(tokenizer, questions[0], chat=True))
    assert chat == f"<|begin|><|user|> {asked}<|end_of_turn|><|assistant|>"
    assert tokenizer.decode(question_prompt(tokenizer, questions[0], chat=False)) == f"<|begin|>{asked}"


@pytest.mark.parametrize(
    ("text", "same"),
    [(" पटना।", "पटना"), ("“लाल  पतंग!”", "लाल पतंग"), ("Patna", "patna"), ("क\u093cलम", "\u0958लम"), ("", "।")],
)
def test_answers_that_mean_the_same_are_the_same(text, same):
    assert normalise_answer(text) == normalise_answer(same)
    assert normalise_answer("लाल") != normalise_answer("लाली") and normalise_answer("पाँच") != normalise_answer("पाच")


def answers_of(monkeypatch, tokenizer, texts):
    """Let the model "write" these texts, in the order of the questions."""
    asked = []

    def write(model, prompts, **settings):
        asked.append(settings)
        return [tokenizer(texts[tuple(ids)], add_special_tokens=False)["input_ids"] for ids in prompts]

    monkeypatch.setattr(questions_module, "generate", write)
    return asked


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_answers_belong_to_their_questions_and_are_scored_exactly(monkeypatch, tokenizer, questions, batch_size):
    prompts = [tuple(question_prompt(tokenizer, q, chat=True)) for q in questions]
    texts = {prompts[0]: "पटना।<|end_of_turn|>", prompts[1]: "मीरा दीदी<|end_of_turn|>"}
    asked = answers_of(monkeypatch, tokenizer, texts)
    assert answer_questions(None, tokenizer, questions, batch_size=batch_size) == ["पटना।", "मीरा दीदी", "पटना।"]
    found = question_accuracy(None, tokenizer, questions, batch_size=batch_size)
    assert found == {"where": 1.0, "who": 0.0, "mean": pytest.approx(2 / 3)}
    assert asked[0]["sampling"].temperature == 0
    assert set(asked[0]["stop_ids"]) == {0, 2, 6}  # padding, end, end of turn


def test_a_base_models_answer_ends_with_its_first_sentence(monkeypatch, tokenizer, questions):
    texts = {tuple(question_prompt(tokenizer, q, chat=False)): " पटना। फिर वह" for q in questions}
    answers_of(monkeypatch, tokenizer, texts)
    assert answer_questions(None, tokenizer, questions[:1], chat=False) == ["पटना"]


def test_a_real_model_answers_the_same_alone_and_beside_others(make_model, tokenizer, questions):
    model = make_model(context_size=256)
    together = answer_questions(model, tokenizer, questions, max_new_tokens=5)
    alone = [answer_questions(model, tokenizer, [q], max_new_tokens=5)[0] for q in questions]
    assert together == alone and any(together)
