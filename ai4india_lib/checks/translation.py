"""What a check says, in the learner's language.

The checks are written in English. Beside them, in `hindi/`, lies the Hindi of each of their sentences: pairs of
templates such as "Row {0} sums to {1}." and "पंक्ति {0} का योग {1} है।". A message is put together from several
sentences, and what is filled in may be a phrase ("the mask"). So it is taken apart again here: of all ways to read it
as a row of templates, the one that leaves the fewest English words is taken. If one is left, the message stays English.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .language import language

_FOLDER = Path(__file__).parent / "hindi"

# what needs no translation: texts in quotes, code, names with a sign or digit in them, Python's own words
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"[^\"]*\"|“[^”]*”|`[^`]*`")
_PYTHONS = set(
    "tensor list tuple dict set str int float bool bytes complex range function method module generator type object "
    "array of None NoneType True False nan inf".split()
)
_WORD = re.compile(r"(?<![\w.@=])[A-Za-z]{2,}(?:'[a-z]+)?(?![\w(=])(?!\.\w)")


@dataclass(frozen=True)
class Template:
    """One sentence, or a part of one, in English and in Hindi."""

    english: str
    hindi: str
    own: bool = False  # what is filled in is the learner's own, or Python's: it stays as it is

    @property
    def literals(self) -> list[str]:
        """What stands between the gaps, without the first letter: that may be a capital."""
        first, *others = re.split(r"\{\d+\}", self.english)
        return [first[1:], *others]

    def pattern(self) -> re.Pattern[str]:
        """Matches the sentence, with a group for each gap; its first letter may be small or a capital."""
        seen: set[str] = set()
        parts = re.split(r"\{(\d+)\}", self.english)
        for place in range(1, len(parts), 2):
            number, in_code = parts[place], parts[place - 1].endswith("`") and parts[place + 1].startswith("`")
            parts[place] = f"(?P<gap{number}>{'[^`]' if in_code else '.'}+?)"
            if number in seen:
                parts[place] = f"(?P=gap{number})"
            seen.add(number)
        parts[::2] = map(re.escape, parts[::2])
        if self.english[0].isalpha():
            parts[0] = f"[{self.english[0].lower()}{self.english[0].upper()}]" + parts[0][1:]
        return re.compile("".join(parts))


@cache
def templates(name: str) -> tuple[Template, ...]:
    """Those of "shared", or of a lesson ("lesson_06"); none where there is no such file."""
    path = _FOLDER / f"{name}.toml"
    if not path.exists():
        return ()
    with path.open("rb") as file:
        return tuple(Template(m["en"], m["hi"], m.get("own", False)) for m in tomllib.load(file)["message"])


@dataclass
class _Reader:
    """Takes messages of one lesson apart."""

    known: tuple[tuple[Template, re.Pattern[str], list[str]], ...]
    read_before: dict[str, tuple[int, str]] = field(default_factory=dict)

    def read(self, text: str) -> tuple[int, str]:
        """(English words that are left, the text in Hindi) of the best way to read it."""
        if text not in self.read_before:
            best = (_english_words(text), text)
            self.read_before[text] = best  # meanwhile, for a gap that is the whole text
            for way in self._ways(text):
                best = min(best, way, key=lambda way: way[0])
                if best[0] == 0:
                    break
            self.read_before[text] = best
        return self.read_before[text]

    def _ways(self, text: str) -> Iterator[tuple[int, str]]:
        yield from self._as_one(text)
        for cut in re.finditer(r" |(?=,)", text):
            before, gap, after = text[: cut.start()], cut[0], text[cut.end() :]
            if before and after:
                first = min(self._as_one(before), default=None, key=lambda way: way[0])
                if first:
                    rest = self.read(after)
                    yield first[0] + rest[0], first[1] + gap + rest[1]

    def _as_one(self, text: str) -> Iterator[tuple[int, str]]:
        """The text as one template, its gaps read in the same way."""
        for template, pattern, literals in self.known:
            if not (text[1:].startswith(literals[0]) and all(part in text for part in literals)):
                continue  # most of them; a pattern takes longer
            if found := pattern.fullmatch(text):
                gaps = found.groupdict()
                read = {name: (0, gap) if template.own else self.read(gap) for name, gap in gaps.items()}
                filled = [read[f"gap{number}"][1] for number in range(len(read))]
                yield sum(left for left, _ in read.values()), template.hindi.format(*filled)


def _english_words(text: str) -> int:
    words = _WORD.findall(_QUOTED.sub("", text))
    return sum(word not in _PYTHONS and not word.endswith(("Error", "Iteration", "Interrupt")) for word in words)


@cache
def _reader(lesson: str) -> _Reader:
    known = (*templates(f"lesson_{lesson}"), *templates("shared"))
    return _Reader(tuple((template, template.pattern(), template.literals) for template in known))


def in_hindi(message: str, lesson: str) -> str | None:
    """The Hindi of a message of a check of that lesson ("06"), line by line; None if some of it has none."""
    lines = [_reader(lesson).read(line.strip()) for line in message.split("\n")]
    return None if any(left for left, _ in lines) else "\n  ".join(line for _, line in lines)


def in_words(message: str, lesson: str) -> str:
    """A message as the learner should read it: in Hindi if they chose it and it can be said, else as it is."""
    return (in_hindi(message, lesson) if language() == "hi" else None) or message
