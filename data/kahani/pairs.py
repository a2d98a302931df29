"""Minimal pairs: two sentences that differ in one word, of which one is right.

A language's `pairs.txt` names the words it draws, as a plot does (see `frames.py`), and then says for each phenomenon
how its sentences go. One word of each stands in angle brackets, first the right one, then one or more wrong ones::

    चीज़ = चीज़
    सीपी = समुद्र की चीज़ where gender = f      only words with this feature

    == adjective_gender
    {नायक के} पास एक <{रंग:चीज़}|{रंग:लड़का}|{रंग:लड़की}> {चीज़} {था:चीज़}।

A wrong word that happens to look like the right one (लाल is both) is passed over, and where none is left, the sentence
is made anew. No right sentence stands in the training stories.
"""

from __future__ import annotations

import json
import random
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .engine import Language, Telling, Word
from .frames import FrameError, OneOf, Part, Place, Plot, Slot, parse_line, parse_source, read_lines

DECLARATION = re.compile(r"(?P<name>[^=]+?)\s*=\s*(?P<source>.+?)(?:\s+where\s+(?P<feature>\w+)\s*=\s*(?P<value>\w+))?")
SENTENCE = re.compile(r"(?P<before>[^<>]*)<(?P<words>[^<>]+)>(?P<after>[^<>]*)")
ENDS = re.compile(r"(?<=[।!?.])[”’]?\s+")
PAIRS, SEED = 200, 6001


@dataclass
class Frame:
    """One way to make a pair: what stands before and after, and in between the right word and the wrong ones."""

    before: tuple[Part, ...]
    words: list[tuple[Part, ...]]
    after: tuple[Part, ...]
    place: Place


@dataclass
class PairBook:
    """What `pairs.txt` says: sources of words, features they must have, and the frames of each phenomenon."""

    plot: Plot
    wanted: dict[str, tuple[str, str]] = field(default_factory=dict)
    frames: dict[str, list[Frame]] = field(default_factory=dict)


class Sentence(Telling):
    """A telling of one sentence. It draws words as a story does, but keeps no record of its choices."""

    def __init__(self, language: Language, book: PairBook, rng: random.Random):
        self.language, self.plot, self.wanted, self.rng = language, book.plot, book.wanted, rng
        self.drawn: dict[str, Word] = {}

    def choose(self, what: str, options: int) -> int:
        return int(self.rng.random() * options)

    def show(self, name: str, form: str) -> str:
        return form

    def word(self, name: str) -> Word:
        if name not in self.drawn:
            options = self.language.options(self.plot.sources[name], self)
            if name in self.wanted:
                feature, value = self.wanted[name]
                options = [word for word in options if str(word.features.get(feature)) == value]
            self.drawn[name] = options[self.choose(name, len(options))]
        return self.drawn[name]

    def text(self, parts: tuple[Part, ...]) -> str:
        """The text of a line's parts."""
        said = []
        for part in parts:
            if isinstance(part, Slot):
                said.append(self.fill_slot(part.text))
            elif isinstance(part, OneOf):
                said.append(self.text(part.options[self.choose(part.what, len(part.options))]))
            else:
                said.append(part)
        return "".join(said)

    def pair(self, frame: Frame) -> tuple[str, str] | None:
        """The right sentence and a wrong one, or None where all forms look alike."""
        self.place = frame.place
        before = self.text(frame.before)
        right, *wrong = [self.text(parts) for parts in frame.words]
        after = self.text(frame.after)
        wrong = sorted({word for word in wrong if word != right})
        if not wrong:
            return None
        other = wrong[self.choose("wrong", len(wrong))]
        finish = self.language.grammar.finish
        return finish(before + right + after), finish(before + other + after)


def read_pairs(language: Language) -> PairBook:
    """Reads `pairs.txt` of a language. Raises FrameError with the line that is not understood."""
    path = language.folder / "pairs.txt"
    book = PairBook(Plot("pairs"))
    here: list[Frame] | None = None
    for number, raw in enumerate(read_lines(path), 1):
        line, what = raw.strip(), Place(path.name, number, raw.strip())
        if not line or line.startswith("#"):
            continue
        if line.startswith("=="):
            here = book.frames.setdefault(line[2:].strip(), [])
        elif here is not None and (match := SENTENCE.fullmatch(line)):
            words = [parse_line(word, str(what)) for word in match["words"].split("|")]
            here.append(
                Frame(parse_line(match["before"], str(what)), words, parse_line(match["after"], str(what)), what)
            )
        elif here is None and (match := DECLARATION.fullmatch(line)):
            book.plot.sources[match["name"]] = parse_source(match["source"])
            if match["feature"]:
                book.wanted[match["name"]] = (match["feature"], match["value"])
        else:
            raise FrameError(
                f"{what}: expected `name = source`, `== phenomenon` or a sentence with <right|wrong>: {line}"
            )
    return book


def training_text(language: Language, folder: Path) -> list[str]:
    """All stories that a model may have trained on: those of the story archive and of the questions, in `folder`."""
    stories: list[str] = []
    for archive in (f"kahani-{language.code}", f"kahani-questions-{language.code}"):
        path = folder / f"{archive}.tar.gz"
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: pairs must not stand in it, so make it first")
        with tarfile.open(path) as tar:
            name = next(name for name in tar.getnames() if "/train." in name)
            lines = tar.extractfile(name).read().decode("utf-8").splitlines()
        stories += [json.loads(line)["story"] for line in lines] if name.endswith(".jsonl") else lines
    return stories


def sentences_told(wanted: Iterable[str], stories: Iterable[str]) -> set[str]:
    """Those of the wanted sentences (or short texts), of three words or more, that stand in one of the stories."""
    by_end: dict[str, list[str]] = defaultdict(list)  # looked up by the last words: a search for each takes minutes
    for text in wanted:
        by_end[_end(ENDS.split(text)[-1])].append(text)
    found: set[str] = set()
    for story in stories:
        for sentence in ENDS.split(story):
            if candidates := by_end.get(_end(sentence)):
                found.update(candidate for candidate in candidates if candidate in story)
    return found


def _end(sentence: str) -> str:
    return " ".join(sentence.rsplit(maxsplit=3)[-3:])


def make_pairs(
    language: Language, stories: Iterable[str], *, pairs: int = PAIRS, seed: int = SEED
) -> list[dict[str, str]]:
    """For each phenomenon `pairs` pairs {"phenomenon", "right", "wrong"}, its frames in turn, none told in `stories`.

    Raises ValueError if a phenomenon's frames cannot give so many different sentences.
    """
    book, rng = read_pairs(language), random.Random(seed)
    candidates: dict[str, dict[str, str]] = {}
    for phenomenon, frames in book.frames.items():
        made: dict[str, str] = {}
        for attempt in range(100 * pairs):
            both = Sentence(language, book, rng).pair(frames[attempt % len(frames)])
            if both and both[0] not in made:
                made[both[0]] = both[1]
            if len(made) == 2 * pairs:
                break
        candidates[phenomenon] = made
    told = sentences_told((right for made in candidates.values() for right in made), stories)
    found = []
    for phenomenon, made in candidates.items():
        new = [(right, wrong) for right, wrong in made.items() if right not in told][:pairs]
        if len(new) < pairs:
            raise ValueError(f"the frames of {phenomenon!r} give only {len(new)} new sentences of {pairs}: write more")
        found += [{"phenomenon": phenomenon, "right": right, "wrong": wrong} for right, wrong in new]
    return found
