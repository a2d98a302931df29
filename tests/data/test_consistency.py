"""The counting of third children and changing colours: none in told stories, and each that is planted is found."""

from __future__ import annotations

import json
import random
from functools import partial

import pytest

kahani = pytest.importorskip("data.kahani", reason="the story generator stands in data/, beside the library")
pytest.importorskip("tomllib", reason="the story generator needs Python 3.11; the archives need no generator")

from data.kahani import consistency  # noqa: E402
from data.kahani.__main__ import main  # noqa: E402
from data.kahani.consistency import Faults, StoryReader, share  # noqa: E402


@pytest.fixture(scope="module", params=kahani.languages())
def reader(request):
    return StoryReader(kahani.load_language(request.param))


@pytest.fixture(scope="module")
def stories(reader):
    rng = random.Random(77)
    return [reader.language.tell(rng).text for _ in range(300)]


def test_told_stories_are_consistent(reader, stories):
    """300 told stories: no third child, no thing of another colour; and the reader does see children and colours."""
    assert [story for story in stories if reader.faults(story) != Faults((), {})] == []
    read = [reader.read(story) for story in stories]
    assert sum(len(children) == 2 for children, _ in read) > 150
    assert sum(bool(colours) for _, colours in read) > 150


def test_a_third_child_is_found(reader, stories):
    """A child's name in the place of another, once, in every story with two."""
    rng, planted = random.Random(5), 0
    for story in stories[:100]:
        children, _ = reader.read(story)
        if len(children) < reader.most_children:
            continue
        third = rng.choice(sorted(set(reader.children.values()) - children))
        assert third in reader.faults(f"{story} {third}.").children
        planted += 1
    assert planted > 30


def test_another_colour_is_found(reader, stories):
    """The same thing again, in more colours than it may have."""
    rng, planted = random.Random(6), 0
    for story in stories[:100]:
        for thing, own in reader.read(story)[1].items():
            more = sorted(set(reader.colours.values()) - own)
            others = rng.sample(more, reader.most_colours[thing])
            forms = [next(form for form, word in reader.colours.items() if word == other) for other in others]
            shown = next(form for form, word in reader.things.items() if word == thing)
            again = story + "".join(f" {form} {shown}." for form in forms)
            assert reader.faults(again).colours[thing], (thing, again)
            planted += 1
    assert planted > 50


def test_the_share_has_the_interval_of_wilson():
    """Against figures that were worked out by hand: 0 and 3 of 200, 200 of 200."""
    assert share(0, 200) == "0 of 200 (0.0%, 95% interval 0.0% to 1.9%)"
    assert share(3, 200) == "3 of 200 (1.5%, 95% interval 0.5% to 4.3%)"
    assert share(200, 200) == "200 of 200 (100.0%, 95% interval 98.1% to 100.0%)"


def test_the_command_counts(tmp_path, capsys, monkeypatch):
    """Of a text and of JSON lines as `generate` writes them; a file without stories is told in a sentence."""
    monkeypatch.setattr(consistency, "StoryReader", partial(StoryReader, tellings=50))
    language = kahani.load_language("hi")
    stories = [language.tell(seed).text for seed in range(20)]
    names = sorted(word.text for word in language.tagged("बच्चा"))[:40]
    stories[0] += f" {' '.join(names)}।"
    text, lines, empty = tmp_path / "t.txt", tmp_path / "t.jsonl", tmp_path / "empty.txt"
    text.write_text("\n".join(stories) + "\n", encoding="utf-8")
    told = [{"prompt": story[:9], "text": story[9:]} for story in stories]
    lines.write_text("".join(json.dumps(one) + "\n" for one in told), encoding="utf-8")
    empty.touch()
    outputs = []
    for path in (text, lines):
        assert main(["--language", "hi", "--consistency", str(path)]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert "more than 2 children: 1 of 20 (5.0%" in outputs[0]
    assert "a thing changes its colour: 0 of 20 (0.0%" in outputs[0]
    assert main(["--language", "hi", "--consistency", str(empty)]) == 2
    assert "holds no stories" in capsys.readouterr().err
