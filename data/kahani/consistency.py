"""Counts two faults of stories that a reader sees at once: a third child turns up, or a thing changes its colour.

It reads stories from outside, told or generated. Which words are children's names, colours and things it knows from the
lexicon, in all forms that the frames can show. How many of them a story may have it learns from stories that the
generator tells: two children, and where each has a kite, two colours of kites. What it finds is a fault; not every
fault is found, as it sees a colour only where it stands right before its thing.
"""

from __future__ import annotations

import json
import math
import random
import re
import tarfile
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from .check import blocks_of, fills, slots_of
from .engine import Language
from .frames import OneOf, Part
from .unsaid import possible_words

TELLINGS = 1_500  # stories from which it learns what may be
CHILDREN = 2  # in a story, unless the generator itself tells of more
FIRST_WORDS = 3  # of a test story, for a model to go on
TOKEN = re.compile(r"[^\s।,!?”“…:;.\"()]+|[।,!?”“…:;.]")  # a sign parts words: “It is red. The kite …”


@dataclass(frozen=True)
class Faults:
    """What is wrong with a story: its children, if they are too many, and things that change, with their colours."""

    children: tuple[str, ...]
    colours: dict[str, tuple[str, ...]]


class StoryReader:
    """Finds the children, and the colours of things, in stories of one language."""

    def __init__(self, language: Language, tellings: int = TELLINGS):
        self.language = language
        self.children: dict[str, str] = {}  # form → word
        self.colours: dict[str, str] = {}
        self.things: dict[str, str] = {}
        self._learn_forms()
        self.longest = max(len(form.split()) for form in self.things)
        self.most_children, self.most_colours = CHILDREN, defaultdict(lambda: 1)
        rng = random.Random(1)
        for _ in range(tellings):
            children, colours = self.read(language.tell(rng).text)
            self.most_children = max(self.most_children, len(children))
            for thing, own in colours.items():
                self.most_colours[thing] = max(self.most_colours[thing], len(own))

    def _learn_forms(self) -> None:
        """All forms of all words, by what they are: as every slot shows them, with every word."""
        language, shared = self.language, self.language.shared
        children = {
            word
            for name, fact in shared.facts.items()
            if fact in ("hero", "friend")
            for word in possible_words(language, shared, name)
        }
        plain: set[str] = set()
        for plot in language.plots.values():
            coloured = {name for name, fact in plot.facts.items() if fact.rpartition("_")[2] == "colour"}
            done: set[str] = set()
            for block in blocks_of(language, plot):
                for parts, place in zip(block.lines.options, block.places, strict=True):
                    plain.update(TOKEN.findall(" ".join([*plain_texts(parts), *slots_of(parts)])))
                    for slot in set(slots_of(parts)) - done:
                        done.add(slot)
                        for filling in fills(language, plot, slot, place):
                            for name, forms in filling.shown.items():
                                word = filling.drawn[name]
                                known = self.children if word in children else self.things
                                known = self.colours if name in coloured else known
                                known.update((form, word.text) for form in forms)
        for word in plain:  # a poem (कविता), or a girl called Kavita: from outside one cannot tell
            self.children.pop(word, None)
        for form in self.colours:
            self.things.pop(form, None)

    def read(self, text: str) -> tuple[set[str], dict[str, set[str]]]:
        """The children in a story, and the colours of each thing. A name in a longer one (Aunt Meena) is no child's."""
        tokens = [token.removesuffix("'s") for token in TOKEN.findall(text)]
        children: set[str] = set()
        colours: dict[str, set[str]] = defaultdict(set)
        at, before = 0, None
        while at < len(tokens):
            length = next((n for n in range(self.longest, 1, -1) if " ".join(tokens[at : at + n]) in self.things), 1)
            form = " ".join(tokens[at : at + length])
            if before is not None and form in self.things:
                colours[self.things[form]].add(before)
            if length == 1 and form in self.children:
                children.add(self.children[form])
            before = self.colours.get(form)
            at += length
        return children, dict(colours)

    def faults(self, text: str) -> Faults:
        """What is wrong with a story."""
        children, colours = self.read(text)
        changed = {thing: tuple(sorted(own)) for thing, own in colours.items() if len(own) > self.most_colours[thing]}
        return Faults(tuple(sorted(children)) if len(children) > self.most_children else (), changed)


def plain_texts(parts: tuple[Part, ...]) -> list[str]:
    """What stands in a line outside its slots and calls."""
    found = [part for part in parts if isinstance(part, str)]
    for part in parts:
        if isinstance(part, OneOf):
            found += [text for option in part.options for text in plain_texts(option)]
    return found


def share(count: int, of: int) -> str:
    """`3 of 200 (1.5%, 95% interval 0.5% to 4.3%)`: the interval of Wilson (1927), which is right for few, too."""
    z, p = 1.96, count / of
    middle, half = p + z * z / (2 * of), z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    low, high = (max(0.0, (middle + sign * half) / (1 + z * z / of)) for sign in (-1, 1))
    return f"{count} of {of} ({p:.1%}, 95% interval {low:.1%} to {high:.1%})"


def stories_of(source: str, language: Language, archive: Path, most: int) -> list[str]:
    """Up to so many stories: of a text file, one a line; of JSON lines, as `ai4india_lib generate` writes them; of a
    story archive, its test part; or told by a model, which goes on after the first words of test stories."""
    path = Path(source)
    if path.suffix == ".jsonl":
        items = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return [one.get("story") or one.get("prompt", "") + one.get("text", "") for one in islice(items, most)]
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as tar:
            name = next((name for name in tar.getnames() if name.rpartition("/")[2] == "test.txt"), None)
            if name is None:
                raise ValueError(f"{path} holds no test.txt")
            return tar.extractfile(name).read().decode("utf-8").splitlines()[:most]
    if path.is_file():
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()][:most]
    return _generated(source, stories_of(str(archive), language, archive, most))


def _generated(model: str, stories: list[str]) -> list[str]:
    from ai4india_lib.__main__ import main  # the stories need no torch, a model does

    with tempfile.TemporaryDirectory() as folder:
        prompts, texts = Path(folder) / "prompts.txt", Path(folder) / "texts.jsonl"
        begun = "".join(" ".join(story.split()[:FIRST_WORDS]) + "\n" for story in stories)
        prompts.write_text(begun, encoding="utf-8")
        written = ["--prompts", str(prompts), "--output", str(texts), "--max-length", "400", "--seed", "1"]
        if main(["generate", "--model", model, *written]):
            raise ValueError(f"{model} told no stories")
        lines = texts.read_text(encoding="utf-8").splitlines()
        return [one["prompt"] + one["text"] for one in map(json.loads, lines)]


def report(language: Language, source: str, archive: Path, most: int) -> str:
    """How many stories have each of the faults, and the first of them with what is wrong."""
    stories = stories_of(source, language, archive, most)
    if not stories:
        raise ValueError(f"{source} holds no stories")
    reader = StoryReader(language)
    found = [(story, reader.faults(story)) for story in stories]
    lines = []
    for kind in ("children", "colours"):
        faulty = [(story, getattr(faults, kind)) for story, faults in found if getattr(faults, kind)]
        what = f"more than {reader.most_children} children" if kind == "children" else "a thing changes its colour"
        lines.append(f"{what}: {share(len(faulty), len(stories))}")
        for story, wrong in faulty[:3]:
            told = (
                ", ".join(wrong) if kind == "children" else "; ".join(f"{t}: {', '.join(c)}" for t, c in wrong.items())
            )
            lines.append(f"    {told}: {story}")
    return "\n".join(lines)
