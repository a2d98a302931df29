"""`python -m data.kahani --language hi --check`: looks through all files of a language and names each fault's place.

It fills every slot of every line with every word that may stand there, without waiting until that line is drawn; walks
all ways of each plot (see `unsaid.py`); looks for lines that can give the same text, for things that lie inside
themselves, for words in two spellings, and for stories that can be told in two ways. Each fault is one sentence that
begins with file and line.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from .engine import Language, load_language
from .frames import Block, Call, FrameError, OneOf, Part, Place, Plot, Slot, parse_line, read_lines
from .pairs import read_pairs
from .question_book import REQUEST, UNTOLD, YES_NO, read_questions
from .reader import derivations
from .unsaid import GAP, Filling, Walker, possible_words, read_rules, unsaid

NUKTA = re.compile("(?<=[\u0915-\u0920\u0923-\u0939])\u093c")  # not of ड and ढ: these are letters of their own
WORD = re.compile(r"[\w\u0900-\u0963\u200d'-]+")
RETOLD = 2  # stories whose derivations are counted


def slots_of(part: Part | tuple[Part, ...]) -> Iterator[str]:
    """All slots in a part of a line, at any depth."""
    if isinstance(part, Slot):
        yield part.text
    elif not isinstance(part, str):
        for inner in getattr(part, "options", part if isinstance(part, tuple) else ()):
            yield from slots_of(inner)


def blocks_of(language: Language, plot: Plot) -> Iterator[Block]:
    """All blocks that a plot may say: its own, and those of the shared ones that it reaches."""
    waiting, seen = list(plot.told), set()
    while waiting:
        block = waiting.pop()
        if block.places[0] in seen:
            continue
        seen.add(block.places[0])
        yield block
        for name, place in calls_of(block):
            waiting.append(language.block(name, plot, place))


def calls_of(block: Block) -> Iterator[tuple[str, Place]]:
    """The blocks that a block calls, each with the line that does."""
    for parts, place in zip(block.lines.options, block.places, strict=True):
        waiting = list(parts)
        while waiting:
            part = waiting.pop()
            if isinstance(part, OneOf):
                waiting += [inner for option in part.options for inner in option]
            elif isinstance(part, Call):
                yield part.block, place


def fills(language: Language, plot: Plot, slot: str, place: Place) -> Iterator[Filling]:
    """A slot filled with every word of each of its names in turn, the others being the first ones."""
    first = Filling(language, plot, place)
    first.fill_slot(slot)
    yield first
    for name in list(first.drawn):
        for word in possible_words(language, plot, name):
            if plot.sources[name].owner:  # an owner's list goes with the owner
                continue
            filling = Filling(language, plot, place, {name: word})
            filling.fill_slot(slot)
            yield filling


def _sources(language: Language) -> Iterator[str]:
    """Names whose words do not exist."""
    for plot in [*language.plots.values(), language.shared]:
        for name, place in plot.declared.items():
            try:
                if not possible_words(language, plot, name):
                    yield f"{place}: no word can stand for {name!r}: {place.line}"
            except (ValueError, LookupError) as error:
                why = f"there is no {error}" if isinstance(error, LookupError) else error
                yield f"{place}: {name!r} has no words: {why}"


def _slots(language: Language) -> Iterator[str]:
    """Slots that cannot be filled with some word, blocks that do not exist."""
    for plot in language.plots.values():
        done = set()
        try:
            blocks = list(blocks_of(language, plot))
        except FrameError as error:
            yield str(error)
            continue
        for block in blocks:
            for parts, place in zip(block.lines.options, block.places, strict=True):
                for slot in set(slots_of(parts)) - done:
                    done.add(slot)
                    try:
                        for _ in fills(language, plot, slot, place):
                            pass
                    except (FrameError, ValueError, LookupError) as error:
                        yield str(error) if isinstance(error, FrameError) else f"{place}: {{{slot}}}: {error}"


def _tasks(language: Language) -> Iterator[str]:
    """Slots of questions.txt and pairs.txt, where a language has these files."""
    folder = language.folder
    if (folder / "questions.txt").exists():
        done = set()
        for name, entries in read_questions(language).entries.items():
            for entry in entries:
                place = entry.place
                lines = [*entry.asked, *entry.told]
                if entry.kind not in (YES_NO, UNTOLD, REQUEST):
                    lines.append(parse_line(entry.answer, str(place)))
                for slot in {slot for line in lines for slot in slots_of(line)}:
                    if (place, slot) not in done:
                        try:
                            Filling(language, language.plots[name], place).fill_slot(slot)
                        except FrameError as error:
                            done.add((place, slot))
                            yield str(error)
    if (folder / "pairs.txt").exists():
        book = read_pairs(language)
        for frame in (frame for frames in book.frames.values() for frame in frames):
            for slot in {slot for parts in (frame.before, *frame.words, frame.after) for slot in slots_of(parts)}:
                try:
                    Filling(language, book.plot, frame.place).fill_slot(slot)
                except FrameError as error:
                    yield str(error)


def _same_texts(language: Language) -> Iterator[str]:
    """Two lines of a block, or two ways through one line, that give the same text."""
    for plot in [*language.plots.values(), language.shared]:
        walker = Walker(language, plot, set(), [])
        for block in [*plot.told, *plot.blocks.values()]:
            seen: dict[str, Place] = {}
            for parts, place in zip(block.lines.options, block.places, strict=True):
                for text in (texts := walker.texts(parts)):
                    squeezed = language.grammar.finish(text)
                    other = seen.get(squeezed)
                    if other or texts.count(text) > 1:
                        where = f"line {other.number}" if other else "another way through this line"
                        yield f"{place}: gives the same text as {where}: {squeezed}"
                        break
                for text in texts:
                    seen.setdefault(language.grammar.finish(text), place)


def _forms(language: Language) -> dict[str, set[str]]:
    """The forms of each word, as all slots of all plots show them."""
    forms: dict[str, set[str]] = defaultdict(set)
    for plot in language.plots.values():
        slots: dict[str, Place] = {}
        for block in blocks_of(language, plot):
            for parts, place in zip(block.lines.options, block.places, strict=True):
                slots |= dict.fromkeys(slots_of(parts), place)
        for slot, place in slots.items():
            for filling in fills(language, plot, slot, place):
                for name, shown in filling.shown.items():
                    forms[filling.drawn[name].text].update(shown)
    return forms


def _where(text: str, pieces: list[str]) -> set[str]:
    """The words of a text that stand for `…` in one of these pieces; after `in a`, an adjective may come first."""
    words, text = set(), GAP.sub("{}", text)
    for piece in pieces:
        before, after = (re.escape(part.strip()) for part in piece.split("…"))
        if before:
            words.update(*re.findall(rf"(?<!\w){before} ([^\s{{}}]+)(?: ([^\s{{}}]+))?", text))
        else:
            words.update(re.findall(rf"([^\s{{}}]+) {after}(?!\w)", text))
    return {word.strip("।,.!?”“") for word in words}


def _inside(language: Language, pieces: list[str]) -> Iterator[str]:
    """Lines that may put a thing into itself: a bag is found “in a bag”.

    Where it is, say the line's own words or those of another name. A word is known there with up to two signs more
    than a form that some slot shows: पत्थरों for पत्थर. Places, words with `at`, are no things.
    """
    forms = _forms(language) if pieces else {}
    for plot in language.plots.values() if pieces else ():
        walker = Walker(language, plot, set(), [])
        words = {
            name: [word.text for word in possible_words(language, plot, name) if "at" not in word.features]
            for name in plot.sources
        }
        spots = {name: {one for text in texts for one in _where(text, pieces)} for name, texts in words.items()}
        for block in blocks_of(language, plot):
            for parts, place in zip(block.lines.options, block.places, strict=True):
                names = {name for slot in slots_of(parts) for name in walker.shown(slot, place)}
                said = {one for text in walker.texts(parts) for one in _where(text, pieces)}
                for name in sorted(names):
                    there = said.union(*(spots[other] for other in names - {name}))
                    ends = {form.split()[-1]: word for word in words[name] for form in forms.get(word, ())}
                    met = {
                        ends[end] for end in ends for one in there if one.startswith(end) and len(one) < len(end) + 3
                    }
                    if met:
                        yield f"{place}: {{{name}}} may be {', '.join(sorted(met))}, inside itself: {place.line}"


def _spellings(language: Language, both: set[str]) -> Iterator[str]:
    """One word in two spellings, with and without its dot."""
    seen: dict[str, dict[str, Place]] = defaultdict(dict)
    folder = language.folder
    for path in sorted([*folder.glob("*.toml"), *folder.glob("*.txt"), *folder.glob("plots/*.txt")]):
        if path.name == "checks.txt":
            continue
        for number, line in enumerate(read_lines(path), 1):
            if not line.startswith("#"):
                for word in WORD.findall(line):
                    seen[NUKTA.sub("", word)].setdefault(word, Place(path.name, number, line.strip()))
    for words in seen.values():
        if len(words) > 1 and not set(words) <= both:
            (one, place), *others = words.items()
            found = ", ".join(f"{other} ({where})" for other, where in others)
            yield f"{place}: {one} is spelt in another way, too: {found} (else `both: {' '.join(words)}` in checks.txt)"


def _two_ways(language: Language) -> Iterator[str]:
    for seed in range(RETOLD):
        story = language.tell(seed)
        if len(derivations(language, story.text)) > 1:
            yield f"{story.facts['plot']}.txt: this story can be told in two ways: {story.text}"


def check(code: str) -> list[str]:
    """All faults of a language, one sentence each; none: an empty list. Raises ValueError for an unknown language."""
    found: list[str] = []
    try:
        language = load_language(code)
        rules = read_rules(language)
        for look in (_sources, _slots, _tasks):
            found += look(language)
        if not found:  # else the ways cannot be walked
            found += [*_same_texts(language), *unsaid(language), *_inside(language, rules.inside)]
        found += _spellings(language, rules.both)
        found += _two_ways(language) if not found else []
    except FrameError as error:
        found.append(str(error))
    return list(dict.fromkeys(found))
