"""What a check says, in the learner's language.

The checks are written in English. Beside them, in `hindi/`, lies the Hindi of each of their sentences: pairs of
templates such as "Row {0} sums to {1}." and "पंक्ति {0} का योग {1} है।". A message is put together from several
sentences, and what is filled in may be a phrase ("the mask"). So it is taken apart again here: of all ways to read it
as a row of templates, the one that leaves the fewest English words is taken. If one is left, the message stays English.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .language import language

_FOLDER = Path(__file__).parent / "hindi"

# what needs no translation: texts in quotes, code, names with a sign or digit in them, Python's own words
_QUOTED = re.compile(r"<[^<>]*>|'(?:[^'\\]|\\.)*'|\"[^\"]*\"|“[^”]*”|`[^`]*`")
_PYTHONS = set(
    "tensor list tuple dict set str int float bool bytes complex range function method module generator type object "
    "array ids of None NoneType True False nan inf".split()
)
_WORD = re.compile(r"(?<![\w.@=])[A-Za-z]{2,}(?:'[a-z]+)?(?![\w(=[])(?!\.\w)")
_LITTLE = 0.001  # less than a word


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

    def stays(self, gap: int) -> bool:
        """Whether what is filled into this gap stays as it is."""
        return self.own or f"`{{{gap}}}`" in self.english

    def patterns(self) -> list[re.Pattern[str]]:
        """Match the sentence, with a group for each gap: as short as can be, and where that differs, as long."""
        number_of_gaps = self.english.count("{")
        return [re.compile(self._pattern(more)) for more in (("?", "")[: min(number_of_gaps, 2)] or "?")]

    def _pattern(self, more: str) -> str:
        parts, seen = re.split(r"\{(\d+)\}", self.english), set()
        for place in range(1, len(parts), 2):
            number, before, after = parts[place], parts[place - 1], parts[place + 1]
            letter = "[^`]" if before.endswith("`") and after.startswith("`") else "."
            some = "*" if before[-1:].isalnum() else "+"  # "the first{0} is": there it may be nothing
            gap = f"(?P<gap{number}>{letter}{some}{more})"
            parts[place] = f"(?P=gap{number})" if number in seen else gap
            seen.add(number)
        parts[::2] = map(re.escape, parts[::2])
        if self.english[0].isalpha():  # small or a capital
            parts[0] = f"[{self.english[0].lower()}{self.english[0].upper()}]" + parts[0][1:]
        return "".join(parts)


@cache
def templates(name: str) -> tuple[Template, ...]:
    """Those of "shared", or of a lesson ("lesson_06"); none where there is no such file."""
    path = _FOLDER / f"{name}.toml"
    if not path.exists():
        return ()
    with path.open("rb") as file:
        return tuple(Template(m["en"], m["hi"], m.get("own", False)) for m in tomllib.load(file)["message"])


class _Reader:
    """Takes messages of one lesson apart."""

    def __init__(self, known: Iterable[Template]):
        self._by_start: dict[str, list[tuple[Template, str, list[re.Pattern[str]]]]] = defaultdict(list)
        for template in known:
            start = template.literals[0][:3]
            entry = (template, max(template.literals, key=len), template.patterns())
            self._by_start[start if len(start) == 3 else ""].append(entry)
        self._read: dict[str, tuple[float, str]] = {"": (0, "")}

    def read(self, text: str) -> tuple[float, str]:
        """(English words that are left, the text in Hindi) of the best way to read it."""
        if text not in self._read:
            best = self._read[text] = (_english_words(text), text)  # meanwhile, for a gap that is the whole text
            for way in self._ways(text) if best[0] else ():
                best = min(best, way, key=lambda way: way[0])
                if best[0] == 0:
                    break
            self._read[text] = best
        return self._read[text]

    def _fill(self, gap: str) -> tuple[float, str]:
        """As `read`; but rather not, if a whole sentence would stand within another one."""
        left, hindi = self.read(gap)
        return left + _LITTLE * bool(re.search(r"[.?!]( |$)", _QUOTED.sub("", gap))), hindi

    def _ways(self, text: str) -> Iterator[tuple[float, str]]:
        yield from self._as_one(text)
        for before, gap, after in sorted(_cuts(text), key=lambda cut: cut[0][-1] not in ".?!:"):  # sentences first
            first = min(self._as_one(before), default=None, key=lambda way: way[0])
            if first is None and not re.search("[A-Za-z]", before):
                first = (0, before)  # a number before its unit
            if first:
                rest = self.read(after)
                yield first[0] + rest[0], first[1] + gap + rest[1]

    def _as_one(self, text: str) -> Iterator[tuple[float, str]]:
        """The text as one template, its gaps read in the same way."""
        for template, longest, patterns in self._by_start.get(text[1:4], []) + self._by_start[""]:
            if longest not in text:
                continue  # most of them; a pattern takes longer
            for found in filter(None, (pattern.fullmatch(text) for pattern in patterns)):
                gaps = [found[f"gap{number}"] for number in range(len(found.groupdict()))]
                read = [(0, gap) if template.stays(number) else self._fill(gap) for number, gap in enumerate(gaps)]
                yield sum(left for left, _ in read), template.hindi.format(*(hindi for _, hindi in read))
        if text.endswith(":"):  # "The mask: …"
            yield from ((left, f"{hindi}:") for left, hindi in self._as_one(text[:-1]))


def _cuts(text: str) -> Iterator[tuple[str, str, str]]:
    """(before, what stands between, after) wherever a text may be two: at spaces, and on both sides of a comma."""
    outside = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), text)  # nothing is cut in quotes
    for place in (found.start() for found in re.finditer(r"[ ,]", outside)):
        before, after = text[:place], text[place:]
        if before and after.strip(" ,"):
            if after[0] == " ":
                yield before, " ", after[1:]
            else:
                yield before, "", after
                yield before, after[: len(after) - len(after[1:].lstrip())], after[1:].lstrip()


def _english_words(text: str) -> int:
    if re.fullmatch(r"[A-Z]\w*", text):  # the name of a class, or of a script
        return 0
    words = _WORD.findall(_QUOTED.sub("", text))
    return sum(word not in _PYTHONS and not word.endswith(("Error", "Iteration", "Interrupt")) for word in words)


@cache
def _reader(lesson: str) -> _Reader:
    return _Reader((*templates(f"lesson_{lesson}"), *templates("shared")))


def in_hindi(message: str, lesson: str) -> str | None:
    """The Hindi of a message of a check of that lesson ("06"), line by line; None if some of it has none."""
    lines = [_reader(lesson).read(line.strip()) for line in message.split("\n")]
    return None if any(left >= 1 for left, _ in lines) else "\n  ".join(line for _, line in lines)


def in_words(message: str, lesson: str) -> str:
    """A message as the learner should read it: in Hindi if they chose it and it can be said, else as it is."""
    return (in_hindi(message, lesson) if language() == "hi" else None) or message
