"""How good is a model? Bits per byte, minimal pairs, questions about stories, calibration.

All but the questions rest on one function, `token_log_probabilities`: how likely a model thought each token of a text.
It takes a `DecoderLanguageModel`, or anything with a method of that name, such as `NgramModel`.

Each measure comes twice: item by item (`document_bits`, `judge_pairs`, `answer_questions`), for intervals and fair
comparisons (see `comparison`), and summed up (`bits_per_byte`, `minimal_pair_accuracy`, `question_accuracy`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .corpus import CorpusError, json_lines
from .generation import Sampling, generate
from .model import DecoderLanguageModel
from .tokenizer import encode_documents, encode_lines

TOKENS_AT_ONCE = 4096  # tokens in one pass through the model: bounds the memory that logits take
TIE = 1e-6  # nats: two sentences nearer than this are equally likely


@torch.inference_mode()
def token_log_probabilities(model: nn.Module, rows: list[list[int]]) -> list[Tensor]:
    """For each row of ids the log-probabilities (nats, float64, on the CPU) of its tokens, the first one left out.

    A row longer than the model's `context_size` + 1 is cut into pieces of that length, each read on its own.
    """
    if hasattr(model, "token_log_probabilities"):
        return model.token_log_probabilities(rows)
    found: list[list[Tensor]] = [[] for _ in rows]
    for numbers, logits, targets in _batches(model, rows):
        told = -F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")  # 0 where −100
        for number, row, wanted in zip(numbers, told.double().cpu().view(targets.shape), targets.cpu(), strict=True):
            found[number].append(row[wanted != -100])
    return [torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64) for parts in found]


def _batches(model: nn.Module, rows: list[list[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """(numbers of rows, logits (batch, time, vocab_size), targets (batch, time), −100 behind a row's end), such that
    rows of like length meet, and the pieces of a long row come in order."""
    context = model.config.context_size
    pieces = [
        (number, row[start : start + context + 1])
        for number, row in enumerate(rows)
        for start in range(0, len(row) - 1, context)
    ]
    pieces.sort(key=lambda piece: len(piece[1]), reverse=True)  # stable: a long row's pieces stay in order
    was_training = model.training
    model.eval()
    while pieces:
        width = len(pieces[0][1]) - 1
        batch = pieces[: max(1, TOKENS_AT_ONCE // width)]
        pieces = pieces[len(batch) :]
        inputs = torch.zeros(len(batch), width, dtype=torch.long)  # (batch, time)
        targets = torch.full((len(batch), width), -100)
        for index, (_, ids) in enumerate(batch):
            inputs[index, : len(ids) - 1] = torch.tensor(ids[:-1])
            targets[index, : len(ids) - 1] = torch.tensor(ids[1:])
        yield [number for number, _ in batch], model(inputs.to(model.device)), targets.to(model.device)
    model.train(was_training)


# Bits per byte


def document_bits(model: nn.Module, tokenizer, lines: Iterable[str]) -> tuple[Tensor, Tensor]:
    """(surprise of each document in bits, its size in bytes), both (documents,) float64.

    Each line is read alone, after an end token, and is to be ended. As in a file its newline counts as a byte.
    """
    lines = list(lines)
    if not lines:
        raise ValueError("no documents to measure: lines is empty")
    rows = [[tokenizer.eos_token_id, *ids] for ids in encode_documents(tokenizer, lines)]
    bits = [-float(row.sum()) / math.log(2) for row in token_log_probabilities(model, rows)]
    sizes = [len(line.encode("utf-8")) + 1 for line in lines]
    return torch.tensor(bits, dtype=torch.float64), torch.tensor(sizes, dtype=torch.float64)


def bits_per_byte(model: nn.Module, tokenizer, lines: Iterable[str]) -> float:
    """Surprise of a text per byte of UTF-8: comparable between tokenizers, though not between languages.

    `lines` are documents. Training reports the same measure, but there short documents share a row, and the second one
    is read with the first before it.
    """
    bits, sizes = document_bits(model, tokenizer, lines)
    return float(bits.sum() / sizes.sum())


# Minimal pairs


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in one thing: one is right, the other breaks a rule."""

    phenomenon: str  # the rule
    right: str
    wrong: str


def read_pairs(path: str | Path) -> list[Pair]:
    """Pairs from JSON Lines: `{"phenomenon": …, "right": …, "wrong": …}`."""
    return list(_records(Pair, json_lines(path, "pairs.jsonl"), str(path)))


def sentence_log_probabilities(model: nn.Module, tokenizer, sentences: Sequence[str]) -> Tensor:
    """log p of each sentence as the beginning of a document, in nats: (sentences,) float64.

    That is the sum over all its tokens after the begin token (after the end token where there is no begin token).
    """
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    rows = [[begin, *ids] for ids in encode_lines(tokenizer, sentences)]
    return torch.tensor([float(row.sum()) for row in token_log_probabilities(model, rows)], dtype=torch.float64)


def judge_pairs(model: nn.Module, tokenizer, pairs: Sequence[Pair]) -> list[float]:
    """For each pair 1.0 if the model finds the right sentence likelier, 0.0 if the wrong one, 0.5 for a tie.

    The sentences' whole probabilities are compared, as in BLiMP (Warstadt et al., 2020), not those per token: the two
    halves of a good pair have nearly the same words.
    """
    both = [sentence for pair in pairs for sentence in (pair.right, pair.wrong)]
    told = sentence_log_probabilities(model, tokenizer, both).view(-1, 2) if both else torch.empty(0, 2)
    lead = told[:, 0] - told[:, 1]  # (pairs,)
    return torch.where(lead.abs() < TIE, 0.5, (lead > 0).double()).tolist()


def minimal_pair_accuracy(model: nn.Module, tokenizer, pairs: Sequence[Pair | dict]) -> dict[str, float]:
    """Share of pairs judged rightly, 0 to 1, for each phenomenon, and as "mean" over all pairs. Chance gives 0.5."""
    pairs = list(_records(Pair, pairs, "pairs"))
    return accuracy_by_kind([pair.phenomenon for pair in pairs], judge_pairs(model, tokenizer, pairs))


def accuracy_by_kind(kinds: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """Mean score of each kind, in the order in which the kinds first come, and "mean", the mean of all scores."""
    if not scores:
        raise ValueError("no items to score: the list is empty")
    grouped: dict[str, list[float]] = {}
    for kind, score in zip(kinds, scores, strict=True):
        grouped.setdefault(kind, []).append(score)
    grouped["mean"] = list(scores)
    return {kind: sum(values) / len(values) for kind, values in grouped.items()}


# Questions about a story


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
    found: list[Question] = []
    for line in json_lines(source, name):
        asked = [{**about, "story": line.get("story")} for about in line.get("questions", [line])]
        found += _records(Question, asked, str(source))
        if limit is not None and len(found) >= limit:
            return found[:limit]
    return found


def question_prompt(tokenizer, question: Question, *, chat: bool) -> list[int]:
    """Ids to write the answer on: the story, a blank, the question.

    With `chat` this is one turn of the user, and the assistant's turn begins; without, it is a document's beginning,
    for a model that only knows how to go on.
    """
    asked = f"{question.story} {question.question}"
    if not chat:
        begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        return begin + encode_lines(tokenizer, [asked])[0]
    messages = [{"role": "user", "content": asked}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


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
    stops = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids("<|end_of_turn|>")}
    settings = {"max_new_tokens": max_new_tokens, "sampling": Sampling(temperature=0), "stop_ids": stops - {None}}
    prompts = [question_prompt(tokenizer, question, chat=chat) for question in questions]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # like lengths together: less padding
    answers = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        group = order[start : start + batch_size]
        for number, ids in zip(group, generate(model, [prompts[i] for i in group], **settings), strict=True):
            answers[number] = tokenizer.decode(ids, skip_special_tokens=True).strip()
    return answers if chat else [re.split(r"[।.?!\n]", answer)[0] for answer in answers]


def normalise_answer(text: str) -> str:
    """What two answers must have in common to be the same: NFC, small letters, one blank between words, and none of
    the signs । . , ; : ? ! and quotation marks around it."""
    words = unicodedata.normalize("NFC", text).casefold().split()
    return " ".join(words).strip(" ।.,;:?!\"'“”‘’")


def question_accuracy(
    model: DecoderLanguageModel, tokenizer, questions: Sequence[Question | dict], *, chat: bool = True, **more
) -> dict[str, float]:
    """Share of questions answered exactly (after `normalise_answer`), 0 to 1, for each kind, and as "mean" over all.

    `more` goes to `answer_questions`.
    """
    questions = list(_records(Question, questions, "questions"))
    answers = answer_questions(model, tokenizer, questions, chat=chat, **more)
    return accuracy_by_kind([q.kind for q in questions], score_answers(questions, answers))


def score_answers(questions: Sequence[Question], answers: Sequence[str]) -> list[float]:
    """For each question 1.0 if the answer is the right one after `normalise_answer`, else 0.0."""
    told = zip(questions, answers, strict=True)
    return [float(normalise_answer(answer) == normalise_answer(question.answer)) for question, answer in told]


def _records(kind: type, found: Iterable, source: str) -> Iterator:
    """Dicts (or finished records) as records of `kind`; names what is missing."""
    names = list(kind.__dataclass_fields__)
    for number, told in enumerate(found, 1):
        if isinstance(told, kind):
            yield told
            continue
        if absent := [name for name in names if not isinstance(told.get(name), str)]:
            raise CorpusError(f"{source}, number {number}, has no text as {', '.join(absent)}: each needs {names}")
        yield kind(**{name: told[name] for name in names})


# Calibration


@dataclass(frozen=True)
class Calibration:
    """Predictions sorted into bins by confidence: does a model that says 80% come true in 80 of 100 cases?"""

    count: Tensor  # (bins,) predictions in each bin
    confidence: Tensor  # (bins,) mean probability given to the predicted token; 0 in an empty bin
    accuracy: Tensor  # (bins,) share of right predictions; 0 in an empty bin

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al., 2017): mean gap of confidence and accuracy, weighted by count."""
        return float((self.count * (self.confidence - self.accuracy).abs()).sum() / self.count.sum())


def calibrate(confidence: Tensor, correct: Tensor, *, bins: int = 10) -> Calibration:
    """Sort predictions into `bins` equally wide bins: confidence (n,) from 0 to 1, correct (n,) true or false.

    A bin holds confidences above its lower edge and up to its upper one.
    """
    if confidence.shape != correct.shape or not confidence.numel():
        raise ValueError(
            f"confidence {tuple(confidence.shape)} and correct {tuple(correct.shape)} must match, not empty"
        )
    place = ((confidence.double() * bins).ceil().long() - 1).clamp(0, bins - 1)  # (n,)
    count = torch.bincount(place, minlength=bins)
    sums = [torch.bincount(place, weights=x.double(), minlength=bins) for x in (confidence, correct)]
    return Calibration(count, *(total / count.clamp(min=1) for total in sums))


@torch.inference_mode()
def calibration(model: DecoderLanguageModel, tokenizer, lines: Iterable[str], *, bins: int = 10) -> Calibration:
    """How far the probability of a model's likeliest next token can be believed, over all tokens of some documents."""
    rows = [[tokenizer.eos_token_id, *ids] for ids in encode_documents(tokenizer, lines)]
    confidence, correct = [], []
    for _, logits, targets in _batches(model, rows):
        real = targets != -100  # (batch, time)
        highest, token = logits.float().softmax(-1).max(-1)  # (batch, time) each
        confidence.append(highest[real].cpu())
        correct.append((token == targets)[real].cpu())
    if not confidence:
        raise ValueError("no documents to measure: lines is empty")
    return calibrate(torch.cat(confidence), torch.cat(correct), bins=bins)
