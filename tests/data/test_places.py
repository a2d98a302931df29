"""Protects the places of a story's words: each is where the text shows it; a story told anew differs there alone."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest

kahani = pytest.importorskip("data.kahani", reason="the story generator stands in data/, beside the library")
pytest.importorskip("tomllib", reason="the story generator needs Python 3.11; the archives need no generator")

from data.kahani import derivations, mentions, retold  # noqa: E402


@pytest.fixture(scope="module", params=kahani.languages())
def language(request):
    return kahani.load_language(request.param)


@pytest.fixture(scope="module")
def stories(language):
    rng = random.Random(88)
    return [language.tell(rng) for _ in range(200)]


def as_a_word(name):
    """A name as a whole word: रिया, but not within शुक्रिया."""
    return re.compile(rf"(?<![\w\u0900-\u0963]){name}(?![\w\u0900-\u0963])")


def without_the_hero(language, story):
    """The text with a gap wherever the hero is named."""
    text = story.text
    for one in reversed([one for one in mentions(language, story) if one.fact == "hero"]):
        text = f"{text[: one.start]}_{text[one.end :]}"
    return text


def has_a_child_as_hero(language, story):
    """As most plots have: what shared.txt takes for a hero."""
    name = next(name for name, fact in language.shared.facts.items() if fact == "hero")
    return language.words[story.facts["hero"]].tags.issuperset(language.shared.sources[name].tags)


def test_each_mention_is_a_piece_of_the_text_and_they_come_in_order(language, stories):
    """And where a child is named, the text has that name, in Marathi with its ending."""
    for story in stories:
        found = mentions(language, story)
        assert all(one.start < one.end <= two.start for one, two in pairwise(found))
        for one in found:
            piece = story.text[one.start : one.end]
            assert piece == piece.strip() and (one.name or one.depends)
            if one.fact == "hero" and has_a_child_as_hero(language, story):
                assert piece.startswith(story.facts["hero"])


def test_every_place_of_the_hero_is_found(language, stories):
    """No other word of these stories is a child's name, so that the text itself can be asked."""
    bare = 0
    for story in filter(lambda story: has_a_child_as_hero(language, story), stories):
        named = [(one.start, one.end) for one in mentions(language, story) if one.fact == "hero"]
        if {story.text[start:end] for start, end in named} == {story.facts["hero"]}:  # without endings
            bare += 1
            assert named == [found.span() for found in as_a_word(story.facts["hero"]).finditer(story.text)]
    assert bare > 100 or language.code not in ("hi", "en")


def test_a_story_told_again_is_itself(language, stories):
    assert [retold(language, story, {}) for story in stories] == stories


def test_another_hero_changes_the_name_and_nothing_else(language, stories):
    """For a child of the same gender no ending changes either; its own choices lead to the new story, too."""
    rng = random.Random(9)
    for story in [story for story in stories if has_a_child_as_hero(language, story)][:60]:
        hero = next(one.name for one in mentions(language, story) if one.fact == "hero")
        tags = language.words[story.facts["hero"]].tags
        children = [word for word in language.words.values() if word.tags == tags]
        alike = [word.text for word in children if word.features["gender"] == story.facts["hero_gender"]]
        other = rng.choice([name for name in alike if name not in story.facts.values()])
        new = retold(language, story, {hero: other})
        assert without_the_hero(language, new) == without_the_hero(language, story) and new.text != story.text
        assert new.facts["hero"] == other and new.bits == pytest.approx(story.bits)
    assert new in derivations(language, new.text)


def test_another_gender_changes_what_depends_on_the_name():
    language = kahani.load_language("hi")
    story = language.tell(7)
    new = retold(language, story, {"नायक": "रोहन"})
    assert story.text.startswith("एक लड़की थी। उसका नाम गौरी था।") and new.text.startswith(
        "एक लड़का था। उसका नाम रोहन था।"
    )
    depends = [one for one in mentions(language, story) if one.name is None and "नायक" in one.depends]
    assert [story.text[one.start : one.end] for one in depends] == ["लड़की", "थी", "पूछती थीं"]
    assert [one.slot for one in depends] == ["लड़का/लड़की:नायक", "था:नायक", "पूछता था:नायक+साथी"]


@pytest.mark.parametrize(
    "words, said",
    [({"नायक": "प्रिया"}, "cannot be"), ({"नायक": "कुर्सी"}, "cannot be"), ({"जहाज़": "रवि"}, "draws no जहाज़")],
)
def test_what_cannot_be_told_is_told(words, said):
    language = kahani.load_language("hi")
    with pytest.raises(ValueError, match=said):  # प्रिया is the friend of this story
        retold(language, language.tell(7), words)


def test_a_story_of_another_language_is_refused():
    hindi, english = kahani.load_language("hi"), kahani.load_language("en")
    for seed in range(30):
        with pytest.raises(ValueError, match="'en' does not tell this story"):
            mentions(english, hindi.tell(seed))
    changed = hindi.tell(7)
    changed = kahani.Story(changed.text + " और", changed.bits, changed.facts, changed.choices)
    with pytest.raises(ValueError, match="does not tell"):
        retold(hindi, changed, {})
