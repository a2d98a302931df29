"""Protects evaluation.memorisation: it finds what a plain search for the words finds, and nothing more."""

import math
import random

import pytest

from ai4india_lib.evaluation.memorisation import TrainingText

LINES = ["मीरा ने एक लाल पतंग उड़ाई ।", "रहीम ने चाय पी ।"]


def naive(lines, words, n):
    """Each run of `words`, looked for in each line."""
    known = {tuple(line.split()[i : i + n]) for line in lines for i in range(len(line.split()) - n + 1)}
    return [tuple(words[i : i + n]) in known for i in range(len(words) - n + 1)]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 9])
def test_finds_what_a_plain_search_finds(n):
    """Few different words, so that most short runs are found and most long ones are not."""
    draw = random.Random(n)
    lines = [" ".join(draw.choices("कखगघ", k=draw.randrange(1, 30))) for _ in range(40)]
    known = TrainingText(lines)
    for _ in range(10):
        words = draw.choices("कखगघङ", [9, 9, 9, 9, 1], k=draw.randrange(25))
        found = known.found(words, n).tolist()
        assert found == naive(lines, words, n)
        longest = max((k for k in range(1, len(words) + 1) if any(naive(lines, words, k))), default=0)
        run = known.longest_run(" ".join(words))
        assert len(run) == longest and (not run or any(naive(lines, run, longest)))


def test_by_hand():
    known = TrainingText(LINES)
    text = "रहीम ने एक लाल पतंग देखी"  # of its five pairs, the first four stand there
    assert known.share(text, 2) == pytest.approx(4 / 5)
    assert known.longest_run(text) == ["ने", "एक", "लाल", "पतंग"]
    assert known.share(LINES[0], 7) == 1.0 and known.longest_run(LINES[0]) == LINES[0].split()
    assert known.longest_run("कुछ और") == [] and math.isnan(known.share("दो शब्द", 8))


def test_no_run_reaches_into_the_next_line():
    assert not TrainingText(LINES).found(["।", "रहीम"], 2).any()


def test_order_counts():
    """A hash that only added the words up would take these for the same."""
    assert not TrainingText(["क ख ग"]).found(["ख", "क", "ग"], 3).any()


@pytest.mark.parametrize(("call", "told"), [(lambda: TrainingText([" "]), "no words"),
                                            (lambda: TrainingText(["क"]).found(["क"], 0), "n=0")])  # fmt: skip
def test_mistakes_are_told(call, told):
    with pytest.raises(ValueError, match=told):
        call()
