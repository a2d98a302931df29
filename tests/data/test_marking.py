"""The teacher that marks stories: right stories are read to their end, a mistake is found where it stands."""

import random

import pytest

from data.kahani.engine import load_language
from data.kahani.marking import Teacher
from data.kahani.reader import derivations


@pytest.fixture(scope="module")
def hindi():
    return load_language("hi")


@pytest.fixture(scope="module")
def teacher(hindi):
    return Teacher(hindi)


@pytest.mark.parametrize("seeds", [range(5), pytest.param(range(5, 15), marks=pytest.mark.slow)], ids=str)
def test_right_stories_are_right_to_the_end_and_so_are_their_beginnings(hindi, teacher, seeds):
    rng = random.Random(5)
    for seed in seeds:
        story = hindi.tell(seed).text
        assert teacher.first_mistake(story) == len(story)
        cut = rng.randrange(1, len(story))
        assert teacher.first_mistake(story[:cut]) == cut
        first = story.index("।") + 1
        assert teacher.first_mistake(story[first:cut], story[:first]) == max(cut - first, 0)


@pytest.mark.parametrize(
    ("seeds", "at_least"), [(range(8), 5), pytest.param(range(8, 20), 8, marks=pytest.mark.slow)], ids=str
)
def test_a_changed_word_is_found_and_nothing_before_it(hindi, teacher, seeds, at_least):
    changes = {" था।": " थी।", " थी।": " था।", " गया।": " गई।", " गई।": " गया।", " रहती ": " रहता ", " रहता ": " रहती "}
    found = 0
    for seed in seeds:
        story = hindi.tell(seed).text
        for right, wrong in changes.items():
            if right in story:
                place = story.index(right)
                changed = story[:place] + wrong + story[place + len(right) :]
                assert not derivations(hindi, changed)  # the independent reader agrees that it cannot be told
                assert place < teacher.first_mistake(changed) < place + len(wrong)
                found += 1
                break
    assert found >= at_least


def test_another_name_for_the_hero_is_a_mistake(teacher):
    prompt = "यह बात मंगलुरु में रहने वाली यामिनी की है।"
    assert teacher.first_mistake(" यामिनी का सपना", prompt) == len(" यामिनी का सपना")
    assert teacher.first_mistake(" लिंडा का सपना", prompt) < len(" लिंडा")


def test_a_prompt_that_no_story_begins_with_is_refused(teacher):
    with pytest.raises(ValueError, match="no story begins with"):
        teacher.first_mistake(" और", "आज बाज़ार बंद है।")
