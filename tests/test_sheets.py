"""Protects the paper sheets: answers are right, computed here in another way; words are there in both languages."""

import importlib.util
import math
import re
import sys
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
from hindi_parts import wandering_words

from ai4india_lib.inference.speculative import accept

FOLDER = Path(__file__).parent.parent / "notebooks" / "sheets"


@pytest.fixture(scope="module")
def sheets():
    spec = importlib.util.spec_from_file_location("sheets", FOLDER / "sheets.py")
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_each_sheet_lies_there_in_both_languages_as_it_would_be_made_now(sheets):
    fingerprint = sheets.fingerprint()
    for sheet in sheets.DRAWN:
        for language in sheets.LANGUAGES:
            made = sheets.file_of(sheet, language).read_bytes()
            assert made.startswith(b"%PDF") and len(made) < 100_000, sheet
            assert len(re.findall(rb"/Type /Page\b", made)) == 2, "the sheet and its answers"
            assert fingerprint.encode() in made, f"{sheet}: run python notebooks/sheets/sheets.py"
    assert len(list(FOLDER.glob("*.pdf"))) == len(sheets.DRAWN) * len(sheets.LANGUAGES)


def test_words_are_there_in_english_and_in_hindi(sheets):
    for sheet, texts in sheets.WORDS.items():
        for name, pair in texts.items():
            assert len(pair) == 2, f"{sheet}.{name}"
            english, hindi = (" ".join(side) if isinstance(side, list) else side for side in pair)
            assert english and re.search("[ऀ-ॿ]", hindi), f"{sheet}.{name} lacks its Hindi"
            assert re.findall(r"\{\w+\}", english) == re.findall(r"\{\w+\}", hindi), f"{sheet}.{name}"


def test_their_hindi_keeps_to_the_words_of_the_glossary(sheets):
    pairs = [pair for texts in sheets.WORDS.values() for pair in texts.values()]
    hindi = [" ".join(side) if isinstance(side, list) else side for _, side in pairs]
    assert [(text, wrong) for text in hindi if (wrong := wandering_words(text))] == []


def test_the_sheet_keeps_the_answers_back_and_the_answer_page_shows_them(sheets):
    empty, full = (sheets.draw("beam", "hi", answers=answers) for answers in (False, True))
    texts = [{text.get_text() for text in page.axes.texts} for page in (empty, full)]
    sheets.plt.close("all")
    assert texts[1] >= texts[0] - {empty.axes.texts[0].get_text()}
    assert "0.324" in texts[1] and not any("0.324" in text for text in texts[0])


def test_merges_are_those_that_a_child_finds_and_no_two_pairs_are_equally_frequent(sheets):
    tasks = sheets.tasks
    words = [list(word) for word in tasks.WORDS]
    assert len(words) == 10
    for left, right, count in tasks.merges():
        counts = Counter(pair for word in words for pair in pairwise(word)).most_common(2)
        assert counts[0] == ((left, right), count) and counts[0][1] > counts[1][1], "a tie would need a rule"
        for word in words:
            while (left, right) in (pairs := list(pairwise(word))):
                place = pairs.index((left, right))
                word[place : place + 2] = [left + right]
    assert words == tasks.spelled()[-1] and len(tasks.merges()) == tasks.NUM_MERGES
    assert "".join(tasks.replay("नमकमल")) == "नमकमल" and tasks.replay("नमकमल") == ["नम", "कमल"]


def test_attention_weights_by_a_plain_loop(sheets):
    tasks = sheets.tasks
    told = tasks.attention()
    for t in range(4):
        scores = [
            sum(q * k for q, k in zip(tasks.QUERIES[t].tolist(), tasks.KEYS[s].tolist(), strict=True)) / 2
            for s in range(t + 1)
        ]
        powers = [math.exp(score) for score in scores]
        weights = [power / sum(powers) for power in powers]
        assert told["weights"][t, : t + 1].tolist() == pytest.approx(weights) and not told["weights"][t, t + 1 :].any()
        received = [sum(w * float(tasks.VALUES[s, c]) for s, w in enumerate(weights)) for c in range(2)]
        assert told["result"][t].tolist() == pytest.approx(received)
    assert {float(score) for score in told["scores"].flatten()} == {0, 1, 2}, "the sheet gives e to these powers"


def test_the_bigram_table_by_counting(sheets):
    tasks = sheets.tasks
    pairs = Counter(pair for sentence in tasks.SENTENCES for pair in pairwise(["।", *sentence.split()]))
    assert tasks.bigram_counts() == dict(pairs)
    rows = Counter(history for history, _ in pairs.elements())
    for sentence in (tasks.SEEN, tasks.WRONG, tasks.NEW):
        wanted = [pairs[pair] / rows[pair[0]] for pair in pairwise(["।", *sentence.split()])]
        assert tasks.bigram_probability(sentence) == wanted
    seen, wrong, new = (math.prod(tasks.bigram_probability(s)) for s in (tasks.SEEN, tasks.WRONG, tasks.NEW))
    assert seen == wrong > 0 == new, "what the questions of the sheet are about"
    assert tasks.add_one("मीरा", "खेत") == (1, rows["मीरा"] + len({w for s in tasks.SENTENCES for w in s.split()}))


def test_the_loss_by_logarithms(sheets):
    told, given = sheets.tasks.loss(), sheets.tasks.GIVEN
    bits = [math.log2(1 / p) for p in given]
    assert told["bits"] == bits and told["all"] == sum(bits)
    assert told["mean"] == pytest.approx(sum(bits) / len(bits), abs=1e-6)
    assert told["nats"] == pytest.approx(told["mean"] * math.log(2), abs=1e-6)
    assert told["perplexity"] == pytest.approx(2 ** told["mean"], rel=1e-6)
    assert told["bytes"] == len("मीरा ने लाल पतंग उड़ाई।".encode()) and told["per_byte"] * told["bytes"] == sum(bits)


def test_the_dice_give_what_the_target_wants(sheets):
    tasks = sheets.tasks
    told = tasks.speculation()
    written, refused = Counter(), 0
    for guess, sides in enumerate(
        (tasks.DRAFT * 6).round().int().tolist()
    ):  # all throws of two dice, a third if need be
        for throw, last in product(range(1, 7), range(1, 7)):
            stands = throw <= round(told["stands"][guess] * 6)
            refused += sides * (not stands)
            left = [drink for drink, chance in enumerate(told["else"]) for _ in range(round(chance * 6))]
            written[guess if stands else left[last - 1]] += sides
    assert [written[drink] / 216 for drink in range(3)] == pytest.approx(tasks.TARGET.tolist())
    assert refused / 216 == pytest.approx(told["refused"])
    assert sum(told["expected"]) == pytest.approx(tasks.ROUNDS) and len(tasks.one_game()) == tasks.ROUNDS


def test_the_library_plays_by_the_same_rule(sheets):
    tasks, generator = sheets.tasks, torch.Generator().manual_seed(0)
    games = [accept(torch.stack([tasks.TARGET] * 2), tasks.DRAFT[None], [1], generator) for _ in range(900)]
    stood = sum(accepted for accepted, _ in games) / len(games)
    assert abs(stood - tasks.speculation()["stands"][1]) < 0.06
    made_up = Counter(token for accepted, token in games if not accepted)
    assert made_up[1] == 0 and abs(made_up[0] / made_up.total() - tasks.speculation()["else"][0]) < 0.08


def test_the_beam_finds_what_greedy_loses(sheets):
    tasks = sheets.tasks
    words = {*tasks.NEXT, *(word for following in tasks.NEXT.values() for word in following)} - {""}
    found = {}
    for text in product(words, repeat=3):
        chances = [tasks.NEXT.get(before, {}).get(word, 0) for before, word in pairwise(["", *text])]
        if all(chances):
            found[text] = math.prod(chances)
    assert tasks.all_texts() == pytest.approx(found) and sum(found.values()) == pytest.approx(1)
    best, p = tasks.beam_search()[-1][0]
    assert tuple(best) == max(found, key=found.get) and p == pytest.approx(max(found.values()))
    greedy, q = tasks.beam_search(1)[-1][0]
    assert q < p and greedy[0] == max(tasks.NEXT[""], key=tasks.NEXT[""].get)
    assert all(sum(following.values()) == pytest.approx(1) for following in tasks.NEXT.values())
