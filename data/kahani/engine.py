"""The story engine: makes random choices, remembers each with its probability, and so knows how likely its story was.

It knows no language. A language is a folder with words (`*.toml`), frames (`plots/*.txt` and `shared.txt`, see
`frames.py`) and a module `grammar.py` with two functions::

    fill(slot, telling) -> str     the text of one slot, drawing words with telling.word(name)
    finish(text) -> str            the last touch to a whole story: spaces, capitals

Every choice is uniform: one of n options, p = 1/n, log2(n) bits. All of them go through `Telling.choose`, which writes
them down; nothing else is random. A word is drawn when a sentence first needs it, so no choice is made that does not
show, and `Telling.story` fails if one was. Hence the story's -log2 p is the sum of log2(n), and as long as two
different derivations never give the same text (`reader.py` can prove that for any text), it is -log2 p of the text.
"""

from __future__ import annotations

import importlib
import math
import random
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .frames import Block, Call, FrameError, OneOf, Part, Place, Plot, Slot, Source, read_lines, read_plot

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Word:
    """One entry of the lexicon. Tags say what it is; features serve the grammar (gender) and plots (what it eats)."""

    text: str
    tags: frozenset[str] = frozenset()
    features: dict = field(default_factory=dict, hash=False, compare=False)


class Choice(NamedTuple):
    """One random choice: what was chosen, among how many equally likely options, and which was taken (from 0)."""

    what: str
    options: int
    taken: int


@dataclass(frozen=True)
class Story:
    """A story with all that is known about it: -log2 of its probability, its facts, and the choices behind it.

    `facts["city"]` is the word as it stands in the lexicon; `facts["city_shown"]`, which is there only where the text
    never shows that form, is one that it shows (पुण्यात shows the stem of पुणे).
    """

    text: str
    bits: float
    facts: dict[str, str]
    choices: tuple[Choice, ...]


class Telling:
    """One story while it is being told. `pick(n)` must give an integer in [0, n): a random one, or a scripted one."""

    place: Place | None = None  # of the line that is being said

    def __init__(self, language: Language, pick: Callable[[int], int]):
        self.language = language
        self.pick = pick
        self.choices: list[Choice] = []
        self.pieces: list[str] = []
        self.drawn: dict[str, Word] = {}
        self.shown: dict[str, list[str]] = {}  # variable -> the forms in which the text shows it
        self.facts: dict[str, str] = {}
        names = list(language.plots)
        self.plot = language.plots[names[self.choose("plot", len(names))]]
        for block in self.plot.told:
            self.say_block(block)
            self.write(" ")

    def choose(self, what: str, options: int) -> int:
        """Makes one choice and records it. A choice with one option is none."""
        if options == 1:
            return 0
        taken = self.pick(options)
        self.choices.append(Choice(what, options, taken))
        return taken

    def word(self, name: str) -> Word:
        """The word behind a name of the plot; drawn at its first use, the same ever after."""
        if name not in self.drawn:
            options = self.language.options(self.plot.sources[name], self)
            if not options:
                raise ValueError(f"the plot {self.plot.name!r} has no word left for {name!r}: all are in use")
            self.drawn[name] = options[self.choose(f"{self.plot.name}.{name}", len(options))]
        return self.drawn[name]

    def show(self, name: str, form: str) -> str:
        """Notes that the text shows this word, in this form."""
        self.shown.setdefault(name, []).append(form)
        return form

    def write(self, piece: str) -> None:
        """Adds a piece to the text. `reader.py` overrides it to follow a given text."""
        self.pieces.append(piece)

    def say(self, parts: tuple[Part, ...]) -> None:
        """Says the parts of a line one after the other."""
        for part in parts:
            if isinstance(part, str):
                self.write(part)
            elif isinstance(part, Slot):
                self.write(self.fill_slot(part.text))
            elif isinstance(part, Call):
                self.say_block(self.language.block(part.block, self.plot, self.place))
            else:
                self.say(part.options[self.way(part)])

    def way(self, part: OneOf) -> int:
        """Chooses one of several ways to go on. `marking.py` overrides it to take only those that fit a text."""
        return self.choose(part.what, len(part.options))

    def fill_slot(self, slot: str) -> str:
        """The text of a slot. Raises FrameError, with the place, for one that the grammar cannot fill."""
        try:
            return self.language.grammar.fill(slot, self)
        except FrameError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else error
            raise FrameError(f"{self.place or self.plot.name}: the slot {{{slot}}} cannot be filled: {why}") from error

    def say_block(self, block: Block) -> None:
        """Says one line of a block, and files it under the block's fact if it has one."""
        start, before = len(self.pieces), self.place
        taken = self.way(block.lines)
        self.place = block.places[taken]
        self.say(block.lines.options[taken])
        self.place = before
        if block.fact and (said := self.language.grammar.finish("".join(self.pieces[start:]))):
            self.facts[block.fact] = said

    def story(self) -> Story:
        """The finished story."""
        chosen = {choice.what for choice in self.choices}
        hidden = [name for name in self.drawn if name not in self.shown and f"{self.plot.name}.{name}" in chosen]
        if hidden:
            raise ValueError(
                f"the plot {self.plot.name!r} drew {', '.join(hidden)} but never showed it: say it or drop it"
            )
        facts = {"plot": self.plot.name}
        for name, fact in self.plot.facts.items():
            if name in self.shown:
                word, forms = self.drawn[name], self.shown[name]
                facts[fact] = word.text
                if word.text not in forms:
                    facts[f"{fact}_shown"] = forms[0]
                if "gender" in word.features:
                    facts[f"{fact}_gender"] = word.features["gender"]
        text = self.language.grammar.finish("".join(self.pieces))
        bits = sum(math.log2(choice.options) for choice in self.choices)
        return Story(text, bits, facts | self.facts, tuple(self.choices))


class Language:
    """Everything that one language folder holds. `words` maps a text to its entry, `plots` a name to its plot."""

    def __init__(self, folder: Path):
        self.folder, self.code = folder, folder.name
        self.grammar = importlib.import_module(f"{__package__}.{folder.name}.grammar")
        self.words = read_lexicon(folder)
        self.plots: dict[str, Plot] = {path.stem: read_plot(path) for path in sorted((folder / "plots").glob("*.txt"))}
        self.shared = read_plot(folder / "shared.txt")
        for plot in self.plots.values():  # what shared.txt declares holds in every plot that does not declare it anew
            plot.sources = self.shared.sources | plot.sources
            plot.facts = self.shared.facts | plot.facts
            plot.keep_apart()
        self._tagged: dict[tuple[str, ...], list[Word]] = {}

    def block(self, name: str, plot: Plot, place: Place | None = None) -> Block:
        """The block that `[name]` calls in a plot: its own, or the one that all plots share. Raises FrameError."""
        found = plot.blocks.get(name) or self.shared.blocks.get(name)
        if found is None:
            raise FrameError(f"{place or plot.name}: there is no block ++ {name}, here or in shared.txt")
        return found

    def tagged(self, *tags: str) -> list[Word]:
        """All words that carry all these tags, in the order of the lexicon."""
        if tags not in self._tagged:
            found = [word for word in self.words.values() if word.tags.issuperset(tags)]
            if not found:
                raise ValueError(f"no word in the lexicon of {self.code!r} has the tags {' + '.join(tags)}")
            self._tagged[tags] = found
        return self._tagged[tags]

    def options(self, source: Source, telling: Telling) -> list[Word]:
        """The words that a name may stand for at this point of a story."""
        if source.owner:
            options = [self.words[text] for text in telling.word(source.owner).features[source.feature]]
        else:
            options = self.tagged(*source.tags)
        taken = {telling.drawn[name].text for name in source.different_from if name in telling.drawn}
        if taken:
            options = [word for word in options if word.text not in taken]
        return options

    def tell(self, rng: random.Random | int) -> Story:
        """Tells one story. Give a `random.Random` to tell many in a row, or a seed."""
        rng = random.Random(rng) if isinstance(rng, int) else rng
        # random() is promised to give the same numbers in every Python version; randrange() is not.
        return Telling(self, lambda options: int(rng.random() * options)).story()


def read_lexicon(folder: Path) -> dict[str, Word]:
    """Reads all `*.toml` of a folder. A section is a tag; `tags` and `features` in it hold for all its words.

    A word is `"text" = "gender"` or `"text" = { feature = value, ... }`.

    Raises FrameError for a file that is not well formed, and when a word stands twice: give it several tags instead.
    """
    words: dict[str, Word] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            sections = tomllib.loads("\n".join(read_lines(path)))
        except tomllib.TOMLDecodeError as error:
            raise FrameError(f"{path.name}: this is no TOML: {error}") from None
        for section, entries in sections.items():
            if not isinstance(entries, dict):
                raise FrameError(f"{path.name}: {section!r} stands in no section: write a line [tag] before it")
            tags, common = entries.pop("tags", []), entries.pop("features", {})
            for text, features in entries.items():
                if not isinstance(features, str | dict):
                    raise FrameError(
                        f'{path.name}: [{section}] {text!r} needs "gender" or {{ features }}: {features!r}'
                    )
                features = common | ({"gender": features} if isinstance(features, str) else features)
                if text in words:
                    raise FrameError(
                        f"{path.name}: {text!r} stands twice, in [{section}] and before: give it several tags instead"
                    )
                words[text] = Word(text, frozenset([section, *tags, *features.pop("tags", [])]), features)
    return words


def languages() -> list[str]:
    """The codes of all languages that can tell stories: the folders with a grammar."""
    return sorted(path.parent.name for path in HERE.glob("*/grammar.py"))


def load_language(code: str) -> Language:
    """Loads a language by its code, such as "hi". Raises ValueError with the known codes for any other."""
    if code not in languages():
        raise ValueError(f"there is no language {code!r}: the folders in {HERE.name}/ are {', '.join(languages())}")
    return Language(HERE / code)
