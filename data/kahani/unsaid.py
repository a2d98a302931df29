"""Walks all ways of a plot and finds the line that speaks of what has not been told on that way.

What a language knows about its plots stands in `checks.txt` of its folder, one rule a line::

    known: संख्या दिन अध्यापक          names that need no telling: numbers, days, people whom every school has
    both: राज राज़                     two words, and not two spellings of one (see `check.py`)
    inside: … में | … के नीचे            where a thing may be, which is no such thing itself (see `check.py`)

    == school_bus                     the plots that the lines below hold for; `all` for every plot
    तारीफ़ की <- बस चल पड़ी | बस निकल आई   the first is said only after one of the others
    {उसका:साथी} <-! @साथी              the first is never said after one of the others
    end <- बस चल पड़ी | बस निकल आई       every story of these plots tells one of these
    लटक रहा था >< गाजर | मूली            no name of a line that says the first may stand for these words
    पूँछ हिलाकर <- -                   this is never said
    new: एक दिन {जानवर}               a name that is shown here is new, and need not have been told
    known: पेड़                         as above, in these plots only

What stands there is a piece of a line, just as it stands in the file; `…` passes over anything, and `@साथी` is any
word that shows this name. Round brackets are opened before a piece is looked for, so write one way through them.
Within a line, what comes first is told first.

Without any rule the names are walked: where one way shows a name before a line that speaks of it, and another way does
not, then every way should tell it, or the line is `new`, or the name is `known`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .engine import Language, Telling, Word
from .frames import Block, Call, FrameError, OneOf, Part, Place, Plot, Slot, read_lines

GAP = re.compile(r"\{([^{}]*)\}|\[([^\[\]]*)\]")  # a slot, a call
RULE = re.compile(r"(?P<said>.+?) (?P<sign><-!|<-|><) (?P<others>.+)")


@dataclass(frozen=True)
class Rule:
    """One line of `checks.txt`: what is said, the sign, and the other pieces or words."""

    said: re.Pattern | str | None  # a piece, a name, or None: the end of the story
    sign: str
    others: tuple[str, ...]
    patterns: tuple[re.Pattern | str, ...]
    place: Place


@dataclass
class Rules:
    """All that `checks.txt` says: rules by plot, names that need no telling, words that may have two spellings."""

    plots: dict[str, list[Rule]]
    known: dict[str, set[str]]
    new: dict[str, list[re.Pattern]]
    both: set[str] = field(default_factory=set)
    inside: list[str] = field(default_factory=list)


class Event(NamedTuple):
    """Something that happens in a line: names are shown, or pieces are said that some rule looks for."""

    what: frozenset
    place: Place
    new: bool = False  # shown as something new


Way = tuple["Event | Inner", ...]  # what happens in a line, in order
Path = tuple[Place, ...]  # one line of each block, as far as a story has come


@dataclass(eq=False)
class Inner:
    """All ways of a called block, and all that happens on any of them."""

    ways: set[Way]
    what: frozenset


def happening(way: Way) -> frozenset:
    """All that happens on a way."""
    return frozenset().union(*(event.what for event in way))


def _pattern(piece: str) -> re.Pattern | str:
    if piece.startswith("@"):
        return piece[1:]
    return re.compile(".*?".join(re.escape(part.strip()) for part in piece.split("…")))


def read_rules(language: Language) -> Rules:
    """Reads `checks.txt`, which a language may lack. Raises FrameError with the line that is not understood."""
    path, plots = language.folder / "checks.txt", list(language.plots)
    rules = Rules({name: [] for name in plots}, {name: set() for name in plots}, {name: [] for name in plots})
    here: list[str] = []
    for number, raw in enumerate(read_lines(path) if path.exists() else [], 1):
        line, place = raw.strip(), Place(path.name, number, raw.strip())
        if not line or line.startswith("#"):
            continue
        if line.startswith("=="):
            here = plots if line[2:].split() == ["all"] else line[2:].split()
            if unknown := set(here) - set(plots):
                raise FrameError(f"{place}: no plot is called {' '.join(sorted(unknown))!r}")
        elif line.startswith("both:"):
            rules.both.update(line.removeprefix("both:").split())
        elif line.startswith("inside:"):
            rules.inside += [piece.strip() for piece in line.removeprefix("inside:").split(" | ")]
            if wrong := [piece for piece in rules.inside if piece.count("…") != 1]:
                raise FrameError(f"{place}: {wrong[0]!r} needs one …, where the thing stands")
        elif line.startswith("known:"):
            for name in here or plots:
                rules.known[name].update(line.removeprefix("known:").split())
        elif line.startswith("new:") and here:
            for name in here:
                rules.new[name] += [_pattern(piece.strip()) for piece in line.removeprefix("new:").split(" | ")]
        elif here and (match := RULE.fullmatch(line)):
            others = tuple(other.strip() for other in match["others"].split(" | ") if other.strip() != "-")
            if match["sign"] == "><" and match["said"].startswith(("@", "end")):
                raise FrameError(f"{place}: before >< stands a piece of a line")
            patterns = tuple(map(_pattern, others)) if match["sign"] != "><" else ()
            for piece in match["said"].split(" | "):
                said = None if piece == "end" else _pattern(piece.strip())
                for name in here:
                    rules.plots[name].append(Rule(said, match["sign"], others, patterns, place))
        else:
            raise FrameError(f"{place}: expected `known: names`, `== plots` or `this <- that | that`, not {line!r}")
    return rules


class Filling(Telling):
    """A telling that fills single slots with the words it is given, else with the first, and notes what it shows."""

    def __init__(self, language: Language, plot: Plot, place: Place, drawn: dict[str, Word] | None = None):
        self.language, self.plot, self.place, self.drawn = language, plot, place, dict(drawn or {})
        self.shown: dict[str, list[str]] = {}
        self.choices = []

    def choose(self, what: str, options: int) -> int:
        """The first of the options."""
        return 0


class Walker:
    """Finds the events of a plot's lines, and walks all ways through them."""

    def __init__(self, language: Language, plot: Plot, patterns: set[re.Pattern], new: list[re.Pattern]):
        self.language, self.plot, self.patterns, self.new = language, plot, patterns, new
        self.filled: dict[str, Filling] = {}
        self.called: dict[str, Inner] = {}

    def _fill(self, slot: str, place: Place) -> Filling:
        if slot not in self.filled:
            self.filled[slot] = Filling(self.language, self.plot, place)
            self.filled[slot].fill_slot(slot)
        return self.filled[slot]

    def shown(self, slot: str, place: Place) -> tuple[str, ...]:
        """The names that a slot shows."""
        return tuple(self._fill(slot, place).shown)

    def drawn(self, slot: str, place: Place) -> tuple[str, ...]:
        """The names whose words a slot needs."""
        return tuple(self._fill(slot, place).drawn)

    def texts(self, parts: tuple[Part, ...]) -> list[str]:
        """A line's ways through its round brackets, slots and calls as they stand in the file."""
        ways = [""]
        for part in parts:
            if isinstance(part, OneOf):
                pieces = [text for option in part.options for text in self.texts(option)]
            elif isinstance(part, Slot | Call):
                pieces = [f"{{{part.text}}}" if isinstance(part, Slot) else f"[{part.block}]"]
            else:
                pieces = [part]
            ways = [way + piece for way in ways for piece in pieces]
        return ways

    def ways(self, block: Block, inside: Path = ()) -> list[set[Way]]:
        """For each line of a block its ways."""
        if block.places[0] in inside:
            raise FrameError(f"{block.places[0]}: the block ++ {block.name} calls itself")
        inside = (*inside, block.places[0])
        return [
            {self._way(text, place, inside) for text in self.texts(parts)}
            for parts, place in zip(block.lines.options, block.places, strict=True)
        ]

    def inner(self, name: str, place: Place, inside: Path) -> Inner:
        """The ways of a block that a line calls."""
        if name not in self.called:
            ways = set().union(*self.ways(self.language.block(name, self.plot, place), inside))
            self.called[name] = Inner(ways, frozenset().union(*map(happening, ways)))
        return self.called[name]

    def _way(self, text: str, place: Place, inside: Path) -> Way:
        at: list[tuple[int, Event | Inner]] = []
        said: dict[int, set[re.Pattern]] = {}
        for pattern in self.patterns:
            for match in pattern.finditer(text):
                said.setdefault(match.start(), set()).add(pattern)
        at += [(start, Event(frozenset(patterns), place)) for start, patterns in said.items()]
        new = [match.span() for pattern in self.new for match in pattern.finditer(text)]
        for match in GAP.finditer(text):
            if match[1] is not None:
                fresh = any(start <= match.start() < end for start, end in new)
                for name in self.shown(match[1], place):
                    at.append((match.start(), Event(frozenset([name]), place, fresh)))
            else:
                at.append((match.start(), self.inner(match[2], place, inside)))
        return tuple(happens for _, happens in sorted(at, key=lambda one: one[0]))


class Walk:
    """Walks all ways of a story at once, to see whether something of `needs` comes before or after one of `gives`.

    `found` is (block, event) with something of `needs` → {has something of `gives` happened before? → a way there};
    with `first`, of each line only its first such event counts. `ends` is {has something of `gives` happened in the
    whole story? → a way through it}.
    """

    def __init__(self, plot: Plot, told: list[list[set[Way]]], needs: set, gives: set, *, first: bool = False):
        self.needs, self.gives, self.first = needs, gives, first
        self.found: dict[tuple[str, Event], dict[bool, Path]] = {}
        self.ends: dict[bool, Path] = {False: ()}
        for block, lines in zip(plot.told, told, strict=True):
            after: dict[bool, Path] = {}
            for place, ways in zip(block.places, lines, strict=True):
                for given, before in self.ends.items():
                    here = (block.name, (*before, place))
                    for way in ways:
                        for now, _ in self._through(way, {(given, False)}, here):
                            after.setdefault(now, here[1])
            self.ends = after

    def _through(self, way: Way, states: set[tuple[bool, bool]], here: tuple[str, Path]) -> set[tuple[bool, bool]]:
        """The states (given, needed in this line) after a way that was begun in these."""
        for happens in way:
            needs, gives = happens.what & self.needs, happens.what & self.gives
            if not (needs or gives):
                continue
            if isinstance(happens, Inner):
                states = set().union(*(self._through(inner, states, here) for inner in happens.ways))
                continue
            for given, needed in states:
                if needs and not (self.first and needed):
                    self.found.setdefault((here[0], happens), {}).setdefault(given, here[1])
            states = {(given or bool(gives), needed or bool(needs)) for given, needed in states}
        return states


def _message(place: Place, why: str, way: Path) -> str:
    return f"{place}: {why}: {place.line} (one way there: lines {', '.join(str(one.number) for one in way)})"


def _names(plot: Plot, told: list[list[set[Way]]], names: set[str]) -> Iterator[str]:
    """The lines that speak of a name which some ways there have shown before, and others have not."""
    for name in sorted(names):
        for (_, event), ways in Walk(plot, told, {name}, {name}, first=True).found.items():
            if len(ways) == 2 and not event.new:
                why = f"{{{name}}} is not told before on every way that leads here"
                yield _message(event.place, why, ways[False])


def _pieces(plot: Plot, told: list[list[set[Way]]], rule: Rule) -> Iterator[str]:
    """The lines that break a rule about what is told before, or never before."""
    gives = set(rule.patterns)
    walked = Walk(plot, told, {rule.said}, gives)
    pieces = " | ".join(rule.others)
    if rule.said is None and False in walked.ends:
        yield _message(walked.ends[False][-1], f"a story may end without {pieces} ({rule.place})", walked.ends[False])
    for (_, event), ways in walked.found.items():
        if rule.sign == "<-" and False in ways and not event.what & gives:
            why = f"what it says needs {pieces} before" if pieces else "this is not to be said"
            yield _message(event.place, f"{why} ({rule.place})", ways[False])
        if rule.sign == "<-!" and True in ways:
            yield _message(event.place, f"this may come after {pieces} ({rule.place})", ways[True])


def _meetings(language: Language, plot: Plot, walker: Walker, rule: Rule) -> Iterator[str]:
    """The lines where a name may stand for a word that does not go with what the line says."""
    for block in [*plot.told, *plot.blocks.values(), *language.shared.blocks.values()]:
        for parts, place in zip(block.lines.options, block.places, strict=True):
            for text in walker.texts(parts):
                if not rule.said.search(text):
                    continue
                names = {name for match in GAP.finditer(text) if match[1] for name in walker.drawn(match[1], place)}
                words = {word.text for name in names for word in possible_words(language, plot, name)}
                if wrong := sorted(words & set(rule.others)):
                    yield f"{place}: this does not go with {', '.join(wrong)} ({rule.place}): {place.line}"
                    break


def possible_words(language: Language, plot: Plot, name: str) -> list[Word]:
    """All words that a name of a plot may stand for."""
    source = plot.sources[name]
    if not source.owner:
        return language.tagged(*source.tags)
    owners = possible_words(language, plot, source.owner)
    texts = dict.fromkeys(text for owner in owners for text in owner.features[source.feature])
    return [language.words[text] for text in texts]


def unsaid(language: Language, plots: Iterable[Plot] | None = None) -> list[str]:
    """What is wrong with the plots of a language (or with these, which may be other ones of the same names): one
    sentence each, which names file, line and a way that leads there."""
    rules = read_rules(language)
    found: list[str] = []
    for plot in language.plots.values() if plots is None else plots:
        own = rules.plots[plot.name]
        ordered = [rule for rule in own if rule.sign != "><"]
        patterns = {p for rule in ordered for p in (rule.said, *rule.patterns) if isinstance(p, re.Pattern)}
        walker = Walker(language, plot, patterns, rules.new[plot.name])
        told = [walker.ways(block) for block in plot.told]
        found += _names(plot, told, set(plot.sources) - rules.known[plot.name])
        for rule in own:
            found += _meetings(language, plot, walker, rule) if rule.sign == "><" else _pieces(plot, told, rule)
    return list(dict.fromkeys(found))
