"""Protects evaluation.likelihood: probabilities are those of `transformers`, shares those of the hand."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from ai4india_lib.evaluation import likelihood
from ai4india_lib.evaluation import questions as questions_module
from ai4india_lib.evaluation.likelihood import bits_per_byte, document_bits, token_log_probabilities
from ai4india_lib.evaluation.minimal_pairs import (
    Pair,
    judge_pairs,
    minimal_pair_accuracy,
    read_pairs,
    sentence_log_probabilities,
)
from ai4india_lib.evaluation.questions import (
    Question,
    answer_questions,
    normalise_answer,
    question_accuracy,
    question_prompt,
    read_questions,
)
from ai4india_lib.evaluation.reliability import calibrate, calibration
from ai4india_lib.formats.pretrained import save_model
from ai4india_lib.text.corpus import CorpusError
from ai4india_lib.text.ngrams import NgramModel
from ai4india_lib.text.packing import WholeDocumentDataset
from ai4india_lib.text.resumable import TextLoader
from ai4india_lib.training.loss import compute_loss_and_perplexity

LINES = ["मीरा ने किताब पढ़ी।", "रहीम ने चाय पी और घर गया।", "एक दिन"]


# Probabilities


def test_log_probabilities_are_those_of_transformers(make_model, tokenizer, tmp_path):
    """Rows of different lengths in one batch; the loss of `transformers`, one row at a time, is the reference."""
    model = make_model()
    save_model(model, tokenizer, tmp_path / "m")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    rows = [tokenizer(line)["input_ids"] for line in LINES]
    for ids, told in zip(rows, token_log_probabilities(model, rows), strict=True):
        with torch.no_grad():
            loss = theirs(torch.tensor([ids]), labels=torch.tensor([ids])).loss
        assert len(told) == len(ids) - 1 and -told.mean().item() == pytest.approx(loss.item(), rel=1e-4)


def test_rows_come_back_in_order_whatever_the_batches(make_model, monkeypatch):
    rows = [[5] * n + [7, 9] for n in (3, 40, 1, 12, 40, 2)] + [[4], [], [8, 8]]
    model = make_model()
    whole = token_log_probabilities(model, rows)
    assert [len(row) for row in whole] == [4, 41, 2, 13, 41, 3, 0, 0, 1]
    monkeypatch.setattr(likelihood, "TOKENS_AT_ONCE", 30)
    for a, b in zip(whole, token_log_probabilities(model, rows), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_a_long_row_is_read_in_pieces(make_model):
    model = make_model(context_size=16)
    row = [i % 300 + 7 for i in range(40)]
    [told] = token_log_probabilities(model, [row])
    pieces = token_log_probabilities(model, [row[:17], row[16:33], row[32:]])
    torch.testing.assert_close(told, torch.cat(pieces), atol=1e-4, rtol=0)


def test_training_mode_is_left_as_it_was(make_model):
    model = make_model().train()
    token_log_probabilities(model, [[1, 2, 3]])
    assert model.training


# Bits per byte


def test_bits_per_byte_is_what_training_reports_when_no_row_holds_two_documents(make_model, tokenizer):
    model = make_model(context_size=40)
    lines = [line * 2 for line in LINES[:2]]
    loader = TextLoader(WholeDocumentDataset(lines, tokenizer, 40, batch_size=2))
    rows = sum(len(inputs) for inputs, _ in loader)
    assert rows >= 2  # else documents share a row
    bits, sizes = document_bits(model, tokenizer, lines)
    assert sizes.tolist() == [len(line.encode()) + 1 for line in lines]
    tokens = sum(int((targets != -100).sum()) for _, targets in loader)
    loss, _ = compute_loss_and_perplexity(model, loader, "cpu")
    assert bits.sum().item() == pytest.approx(loss * tokens / math.log(2), rel=1e-4)
    assert bits_per_byte(model, tokenizer, iter(lines)) == pytest.approx(float(bits.sum() / sizes.sum()))


def test_a_model_that_knows_nothing_needs_log2_of_the_vocabulary_per_token(make_model, tokenizer):
    model = make_model()
    with torch.no_grad():
        model.embedding.weight.zero_()
    tokens = len(tokenizer(LINES[0])["input_ids"]) + 1  # and the end token
    assert document_bits(model, tokenizer, LINES[:1])[0].item() == pytest.approx(tokens * math.log2(384), rel=1e-5)


def test_no_lines_are_told(make_model, tokenizer):
    with pytest.raises(ValueError, match="no documents"):
        bits_per_byte(make_model(), tokenizer, [])


# Minimal pairs


def test_pairs_are_judged_by_the_whole_sentence(make_model, tokenizer):
    """Against `transformers`-checked log-probabilities, summed: the longer half is not favoured by its mean."""
    model = make_model()
    pairs = [Pair("a", LINES[0], LINES[1]), Pair("a", LINES[1], LINES[0]), Pair("b", LINES[2], LINES[2])]
    sums = [float(row.sum()) for row in token_log_probabilities(model, [tokenizer(t)["input_ids"] for t in LINES])]
    assert sentence_log_probabilities(model, tokenizer, LINES).tolist() == pytest.approx(sums, abs=1e-3)
    first = float(sums[0] > sums[1])
    assert judge_pairs(model, tokenizer, pairs) == [first, 1 - first, 0.5]
    assert minimal_pair_accuracy(model, tokenizer, pairs) == {"a": 0.5, "b": 0.5, "mean": 0.5}


def test_a_counting_model_knows_the_agreement_it_has_counted(tokenizer):
    counted = NgramModel.from_lines(["मीरा आई।", "रहीम आया।"] * 5, tokenizer, 5)
    pairs = [{"phenomenon": "verb", "right": "मीरा आई।", "wrong": "मीरा आया।"},
             {"phenomenon": "verb", "right": "रहीम आया।", "wrong": "रहीम आई।"},
             {"phenomenon": "turned", "right": "रहीम आई।", "wrong": "रहीम आया।"}]  # fmt: skip
    found = minimal_pair_accuracy(counted, tokenizer, pairs)
    assert found == {"verb": 1.0, "turned": 0.0, "mean": pytest.approx(2 / 3)}


def test_an_untrained_model_guesses(make_model, tokenizer):
    pairs = [Pair("x", *((a, b) if n % 2 else (b, a)))
             for n in range(100) for a, b in [(f"मीरा {n} आई।", f"मीरा {n} आया।")]]  # fmt: skip
    assert minimal_pair_accuracy(make_model(), tokenizer, pairs)["mean"] == pytest.approx(0.5, abs=0.15)


def test_pairs_are_read_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"phenomenon": "ne", "right": "a", "wrong": "b", "note": 1}) + "\n", encoding="utf-8")
    assert read_pairs(path) == [Pair("ne", "a", "b")]
    path.write_text('{"phenomenon": "ne", "right": "a", "wrong": "b"}\n{"right": "a"}\n', encoding="utf-8")
    with pytest.raises(CorpusError, match="number 2, has no text as phenomenon, wrong"):
        read_pairs(path)
    with pytest.raises(ValueError, match="no items"):
        minimal_pair_accuracy(None, None, [])


# Questions


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


# Calibration


def test_calibration_by_hand():
    """0.2 and 0.3 lie in the lower of two bins, with one right of two: gap 0.25; 0.9 in the upper, wrong: gap 0.9."""
    found = calibrate(torch.tensor([0.2, 0.3, 0.9]), torch.tensor([True, False, False]), bins=2)
    assert found.count.tolist() == [2, 1]
    assert found.confidence.tolist() == pytest.approx([0.25, 0.9]) and found.accuracy.tolist() == [0.5, 0.0]
    assert found.error == pytest.approx((2 * 0.25 + 1 * 0.9) / 3)


def test_edges_of_bins():
    """A bin holds its upper edge; 0 and 1 have a bin."""
    found = calibrate(torch.tensor([0.0, 0.25, 0.5, 1.0]), torch.ones(4, dtype=torch.bool), bins=4)
    assert found.count.tolist() == [2, 1, 0, 1]


def test_honest_coins_are_well_calibrated_and_boasters_are_not():
    torch.manual_seed(0)
    confidence = torch.rand(20_000)
    correct = torch.rand(20_000) < confidence
    assert calibrate(confidence, correct).error < 0.02
    assert calibrate(confidence.sqrt(), correct).error > 0.1


@torch.no_grad()
def test_calibration_of_a_model_counts_each_token_once(make_model, tokenizer):
    model = make_model()
    found = calibration(model, tokenizer, LINES, bins=5)
    rows = [[2, *tokenizer(line)["input_ids"], 2] for line in LINES]
    assert int(found.count.sum()) == sum(len(row) - 1 for row in rows)
    right = total = 0.0
    for row in rows:
        p, token = model(torch.tensor([row[:-1]]))[0].softmax(-1).max(-1)
        right += float((token == torch.tensor(row[1:])).sum())
        total += float(p.sum())
    assert float((found.accuracy * found.count).sum()) == pytest.approx(right)
    assert float((found.confidence * found.count).sum()) == pytest.approx(total, rel=1e-4)
