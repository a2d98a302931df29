"""Reads the frame files: plain text files in which every line is one way to say something.

A plot file looks like this (`#` starts a comment line)::

    नायक (hero) = बच्चा                 a name for something that this story is about, and where it comes from
    साथी (friend) = बच्चा - नायक         the same kind, but never the same word as नायक

    == शुरुआत                           a block: the story says one of its lines, each equally likely
    एक दिन {नायक} (बाज़ार|मेले) में {आया:नायक}।
    {नायक} घर में {था:नायक}। [मौसम]

    ++ मौसम                            a block that is said only where [मौसम] stands
    (तेज़|हल्की) हवा चल रही थी।
    -

Inside a line:  `{…}` is a slot, which the language's grammar fills;  `(a|b|c)` says one of its parts, each equally
likely, and a part may be empty;  `[name]` says one line of the block `++ name`, of this file or of `shared.txt`;
a line that is only `-` says nothing.
A word in brackets after a name, as in `(hero)`, files the word or the sentence under that name in the story's facts.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

NAME = r"(?P<name>[^()=]+?)\s*(?:\((?P<fact>\w+)\))?"
DECLARATION = re.compile(NAME + r"\s*=\s*(?P<source>.+)")
HEADER = re.compile(r"(?P<mark>==|\+\+)\s*" + NAME)
TOKEN = re.compile(r"\{(?P<slot>[^{}]*)\}|\[(?P<block>[^\[\]]*)\]|(?P<sign>[(|)])|(?P<text>[^{}\[\]()|]+)")


class FrameError(ValueError):
    """A frame file is not well formed; the message names the file and the line."""


@dataclass(frozen=True)
class Slot:
    """A gap that the grammar fills, for example `नायक ने`."""

    text: str


@dataclass(frozen=True)
class Call:
    """A place where one line of another block is said."""

    block: str


@dataclass(frozen=True)
class OneOf:
    """Several ways to go on, each a tuple of parts and each equally likely. `what` names the choice."""

    what: str
    options: tuple[tuple[Part, ...], ...]


class Place(NamedTuple):
    """Where something stands: the file's name, the line's number, and the line."""

    file: str
    number: int
    line: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


Part = str | Slot | Call | OneOf


@dataclass(frozen=True)
class Source:
    """Where a word is drawn from: the words with these tags, or the list under a feature of the word of `owner`.

    Never a word that one of the names in `different_from` has already.
    """

    tags: tuple[str, ...]
    owner: str | None
    feature: str | None
    different_from: tuple[str, ...]


@dataclass
class Block:
    """All lines that may be said at one point of a story, and where each of them stands."""

    name: str
    fact: str | None
    lines: OneOf
    places: list[Place]


@dataclass
class Plot:
    """One plot: what it draws, the blocks it says in order (`told`), and those that it says on call (`blocks`)."""

    name: str
    sources: dict[str, Source] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    told: list[Block] = field(default_factory=list)
    blocks: dict[str, Block] = field(default_factory=dict)
    declared: dict[str, Place] = field(default_factory=dict)  # where each name is declared

    def keep_apart(self) -> None:
        """Makes `a - b` hold both ways: whichever of the two is drawn later, is never the word of the other."""
        for name, source in list(self.sources.items()):
            for other in source.different_from:
                if other not in self.sources:
                    raise FrameError(
                        f"{self.declared[name]}: {name!r} is to differ from {other!r}, which is not declared"
                    )
                partner = self.sources[other]
                if name not in partner.different_from:
                    self.sources[other] = replace(partner, different_from=(*partner.different_from, name))


@cache
def parse_line(line: str, what: str) -> tuple[Part, ...]:
    """Turns one line of a frame file into its parts. `what` names the line in the record of choices."""
    tokens = list(TOKEN.finditer(line))
    if "".join(token.group() for token in tokens) != line:
        raise FrameError(f"{what}: a bracket is open or closed too often in: {line}")
    position = 0
    groups = 0

    def sequence(depth: int) -> tuple[Part, ...]:
        nonlocal position
        parts: list[Part] = []
        while position < len(tokens):
            token = tokens[position]
            if token["sign"] in ("|", ")"):
                if depth == 0:
                    raise FrameError(f"{what}: {token['sign']!r} outside round brackets in: {line}")
                break
            position += 1
            if token["sign"] == "(":
                parts.append(group(depth + 1))
            elif token["slot"] is not None:
                parts.append(Slot(token["slot"]))
            elif token["block"] is not None:
                parts.append(Call(token["block"]))
            else:
                parts.append(token["text"])
        return tuple(parts)

    def group(depth: int) -> OneOf:
        nonlocal position, groups
        groups += 1
        name = f"{what}.{groups}"
        options = [sequence(depth)]
        while position < len(tokens) and tokens[position]["sign"] == "|":
            position += 1
            options.append(sequence(depth))
        if position == len(tokens):
            raise FrameError(f"{what}: a round bracket is not closed in: {line}")
        position += 1
        if len(set(options)) < len(options):
            raise FrameError(f"{what}: the same part stands twice in one round bracket in: {line}")
        return OneOf(name, tuple(options))

    return sequence(0)


def parse_source(text: str) -> Source:
    """`खाना + मीठा - a b` is words with both tags that are not a or b; `जानवर.eats` is the list that जानवर carries."""
    wanted, _, unwanted = text.partition(" - ")
    different_from = tuple(unwanted.split())
    if "." in wanted:
        owner, feature = wanted.strip().split(".")
        return Source((), owner, feature, different_from)
    return Source(tuple(tag.strip() for tag in wanted.split("+")), None, None, different_from)


def read_plot(path: Path) -> Plot:
    """Reads one frame file. Its name without `.txt` is the plot's name, the same in every language.

    Raises FrameError, which names file and line, for what is not well formed.
    """
    plot = Plot(path.stem)
    headers: list[tuple[re.Match, dict[tuple[Part, ...], Place]]] = []
    for number, raw in enumerate(read_lines(path), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        place = Place(path.name, number, line)
        if match := HEADER.fullmatch(line):
            headers.append((match, {}))
        elif not headers:
            _declare(plot, place)
        else:
            match, lines = headers[-1]
            try:
                parts = () if line == "-" else parse_line(line, f"{path.stem}/{match[0]}/{len(lines) + 1}")
            except FrameError as error:
                raise FrameError(f"{place}: {error}") from None
            if parts in lines:
                raise FrameError(f"{place}: this line stands twice in its block: {line}")
            lines[parts] = place
    for match, lines in headers:
        if not lines:
            raise FrameError(f"{path.name}: the block {match['name']!r} has no lines")
        options = OneOf(f"{path.stem}/{match['name']}", tuple(lines))
        block = Block(match["name"], match["fact"], options, list(lines.values()))
        if match["mark"] == "==":
            plot.told.append(block)
        elif block.name in plot.blocks:
            raise FrameError(f"{lines[options.options[0]]}: there are two blocks ++ {block.name}")
        else:
            plot.blocks[block.name] = block
    return plot


def read_lines(path: Path) -> list[str]:
    """The lines of a file, in NFC. Raises FrameError if it is missing or no UTF-8."""
    try:
        return unicodedata.normalize("NFC", path.read_text(encoding="utf-8")).splitlines()
    except FileNotFoundError:
        raise FrameError(
            f"{path.parent.name}/{path.name} is missing: see “Adding a language” in data/README.md"
        ) from None
    except UnicodeDecodeError as error:
        raise FrameError(f"{path.name} is not in UTF-8: {error}") from None


def _declare(plot: Plot, place: Place) -> None:
    """Takes in a line such as `नायक (hero) = बच्चा`."""
    match = DECLARATION.fullmatch(place.line)
    if match is None:
        raise FrameError(f"{place}: expected `name (fact) = source` before the first block, not {place.line!r}")
    try:
        plot.sources[match["name"]] = parse_source(match["source"])
    except ValueError:
        raise FrameError(f"{place}: a source is tags, or name.feature, and not {match['source']!r}") from None
    plot.declared[match["name"]] = place
    if match["fact"]:
        plot.facts[match["name"]] = match["fact"]
