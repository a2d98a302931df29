"""Protects the floor within a story: its parts add up to the story's bits, and words have the kinds that they have."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from data import kahani
from data.kahani.floors import KINDS, begins_with, common_words, floors

DATA = Path(__file__).parents[2] / "data" / "kahani"


@pytest.fixture(scope="module", params=kahani.languages())
def told(request):
    """(language, a story, what `floors` says of it)."""
    language = kahani.load_language(request.param)
    stories = [language.tell(seed) for seed in range(200)]
    return language, stories[3], floors(language, stories[3], common_words(stories))


def test_the_parts_add_up_to_the_story(told):
    _, story, found = told
    places, bits = zip(*found["bits"], strict=True)
    assert bits[-1] == pytest.approx(story.bits, abs=1e-3) and places[-1] == len(story.text) + 1
    assert list(bits) == sorted(bits) and list(places) == sorted(set(places)) and min(bits) > 0


def test_a_beginning_is_as_likely_as_it_is_often(told):
    """Counted in 3,000 stories: how many begin with these letters?"""
    language, story, _ = told
    rng = random.Random(5)
    texts = [language.tell(rng).text for _ in range(3_000)]
    needed = begins_with(language, story.text)
    for length in (1, 2, 3):
        often = sum(text.startswith(story.text[:length]) for text in texts) / len(texts)
        assert 2 ** -needed[length] == pytest.approx(often, abs=4 * (often / len(texts)) ** 0.5 + 1e-3)


def test_words_have_their_kinds(told):
    _, story, found = told
    said = [(story.text[start:stop], kind, before) for start, stop, kind, before in found["marks"]]
    assert {kind for _, kind, _ in said} <= set(KINDS)
    assert not any(a[1] > b[0] for a, b in zip(found["marks"], found["marks"][1:], strict=False)), "marks overlap"
    heroes = [(word, kind) for word, kind, _ in said if kind.endswith("name")]
    first = [word for word, kind in heroes if kind == "name"]
    hero = story.facts["hero"]
    assert any(word.startswith(hero[:3]) for word in first) and len(first) == len(set(first))  # perhaps with an ending
    assert all(before is not None for _, kind, before in said if kind.startswith("repeated"))
    counts = Counter(kind for _, kind, _ in said)
    assert counts["repeated name"] and counts["function word"] and counts["agreeing word"]


@pytest.mark.parametrize("code", ["hi", "en"])
def test_the_file_holds_the_first_test_stories(code):
    language, rng = kahani.load_language(code), random.Random(2024)
    lines = (DATA / f"floors-{code}.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        found, story = json.loads(line), language.tell(rng)
        assert found["text"] == story.text and found["bits"][-1][1] == pytest.approx(story.bits, abs=1e-3)
