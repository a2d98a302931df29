"""Questions about stories: does a model find the answer?"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..basics.arguments import at_least
from ..inference.generation import generate
from ..inference.sampling import Sampling
from ..model.decoder import DecoderLanguageModel
from ..text.chat import encode_request, stop_ids
from ..text.corpus import json_lines
from ..text.reading import Record
from ..text.tokenizer import encode_prompt
from .items import accuracy_by_kind, items_from


@dataclass(frozen=True)
class Question:
    """A question whose answer stands in a story."""

    kind: str
    story: str
    question: str
    answer: str


def read_questions(source: str | Path, name: str = "test.jsonl", *, limit: int | None = None) -> list[Question]:
    """Questions from JSON Lines: `{"story": …, "questions": [{"kind": …, "question": …, "answer": …}, …]}`.

    `source` is the file, or a folder or archive that holds `name`. With `limit` the first so many questions.
    """
    at_least(1, limit=limit)
    lines = ((line, line.get("questions", [line])) for line in json_lines(source, name))
    records = (
        Record({**about, "story": line.get("story")}, line.where) for line, questions in lines for about in questions
    )
    return list(islice(items_from(records, Question, str(source)), limit))


def question_prompt(tokenizer, question: Question, *, chat: bool) -> list[int]:
    """Ids to write the answer on: story, space, question. With `chat` they are the user's turn, and the assistant's
    begins; without, they begin a document, for a model that only knows how to go on."""
    asked = f"{question.story} {question.question}"
    return encode_request(tokenizer, [{"role": "user", "content": asked}]) if chat else encode_prompt(tokenizer, asked)


def answer_questions(
    model: DecoderLanguageModel,
    tokenizer,
    questions: Sequence[Question],
    *,
    chat: bool = True,
    batch_size: int = 64,
    max_new_tokens: int = 16,
) -> list[str]:
    """What the model writes on each question, greedily. An answer ends with its turn or document.

    Without `chat` nothing tells a model to stop after the answer: there it ends with its first sentence.
    """
    prompts = [question_prompt(tokenizer, question, chat=chat) for question in questions]
    answers = written_answers(model, tokenizer, prompts, batch_size=batch_size, max_new_tokens=max_new_tokens)
    return answers if chat else [re.split(r"[।.?!\n]", answer)[0] for answer in answers]


def written_answers(
    model: DecoderLanguageModel, tokenizer, prompts: Sequence[list[int]], *, batch_size: int, max_new_tokens: int
) -> list[str]:
    """What the model writes on each prompt, greedily, up to the end of its turn or document."""
    at_least(1, batch_size=batch_size)
    settings = {"sampling": Sampling(temperature=0), "stop_ids": stop_ids(tokenizer), "max_new_tokens": max_new_tokens}
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # like lengths together: less padding
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        group = order[start : start + batch_size]
        for number, ids in zip(group, generate(model, [prompts[i] for i in group], **settings), strict=True):
            answers[number] = tokenizer.decode(ids, skip_special_tokens=True).strip()
    return answers


def normalise_answer(text: str) -> str:
    """What two answers must have in common to be the same: NFC, small letters, one space between words, and none of
    the signs । . , ; : ? ! and quotation marks around it."""
    words = unicodedata.normalize("NFC", text).casefold().split()
    return " ".join(words).strip(" ।.,;:?!\"'“”‘’")


def score_answers(questions: Sequence[Question], answers: Sequence[str]) -> list[float]:
    """For each question 1.0 if the answer is the right one after `normalise_answer`, else 0.0."""
    answered = zip(questions, answers, strict=True)
    return [float(normalise_answer(answer) == normalise_answer(question.answer)) for question, answer in answered]


def question_accuracy(
    model: DecoderLanguageModel, tokenizer, questions: Sequence[Question | dict], *, chat: bool = True, **more
) -> dict[str, float]:
    """Fraction of questions answered exactly (after `normalise_answer`), for each kind, and as "mean" over all.

    `more` goes to `answer_questions`.
    """
    questions = list(items_from(questions, Question, "questions"))
    answers = answer_questions(model, tokenizer, questions, chat=chat, **more)
    return accuracy_by_kind([q.kind for q in questions], score_answers(questions, answers))
