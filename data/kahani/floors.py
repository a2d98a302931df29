"""The floor within a story: how many bits each next part of its text has at the least, and what kind of word it is.

After some of a text, the next characters have the probability P(text so far and them) / P(text so far), where P is the
probability that a story begins so. `begins_with` finds P for all beginnings of a text: it follows every way of telling
that agrees with the text, and notes where it leaves it. So the floor of any token of any tokenizer is a difference of
two numbers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from itertools import accumulate

from .engine import Language, Story, Telling, Word
from .frames import OneOf, Part
from .reader import Script, Trial, squeeze

COMMON = 60  # words of the stories that are taken for function words where a frame says them
WORD = re.compile(r"(?:\w|[\u0900-\u0963\u200c\u200d]|(?<=\w)['’-](?=\w))+")  # with vowel signs, which are no \w
SIGN = re.compile(r"[^\w\s\u0900-\u0963\u200c\u200d]")
KINDS = ("name", "repeated name", "colour", "repeated colour", "agreeing word", "function word", "sign", "other")


class _Left(Exception):
    """The telling has left the text; its argument is how many squeezed characters agree."""


class _Fork(Exception):
    """The script has ended at a choice. Its argument tells of each option where it leaves the text; None: not yet."""


class _Along(Telling):
    """A telling that takes its choices from a script and stops where it leaves a squeezed text."""

    def __init__(self, language: Language, text: str, script: Script):
        self.text, self.rest, self.said, self.slot = text, iter(script), 0, ""
        self.first: Callable[[int], str | None] = lambda taken: None  # what an option says first, if that is known
        super().__init__(language, self.take)

    def take(self, options: int) -> int:
        taken = next(self.rest, None)
        if taken is None:
            raise _Fork([self.leaves(self.first(option)) for option in range(options)])
        return taken

    def leaves(self, words: str | None) -> int | None:
        """Where a telling that says these squeezed words next leaves the text; None: not within them."""
        if words is None or self.text.startswith(words, self.said):
            return None
        there = self.text[self.said : self.said + len(words)]
        return self.said + next((n for n, (a, b) in enumerate(zip(there, words, strict=False)) if a != b), len(there))

    def fill_slot(self, slot: str) -> str:
        self.slot = slot
        return super().fill_slot(slot)

    def word(self, name: str) -> Word:
        if name not in self.drawn:
            options = self.language.options(self.plot.sources[name], self)
            self.first = lambda taken: self.trial({**self.drawn, name: options[taken]})
            super().word(name)
            self.first = lambda taken: None
        return self.drawn[name]

    def trial(self, drawn: dict[str, Word]) -> str | None:
        """What the slot that is being filled says with these words."""
        return Trial(self.language, self.plot.name, drawn).fill(self.slot)

    def way(self, part: OneOf) -> int:
        self.first = lambda taken: squeeze(part.options[taken][0]) if _is_plain(part.options[taken]) else None
        taken = super().way(part)
        self.first = lambda taken: None
        return taken

    def write(self, piece: str) -> None:
        if (left := self.leaves(words := squeeze(piece))) is not None:
            raise _Left(left)
        self.said += len(words)


def _is_plain(option: tuple[Part, ...]) -> bool:
    """Does it begin with words that stand in the frame?"""
    return bool(option) and isinstance(option[0], str)


def begins_with(language: Language, text: str) -> list[float]:
    """-log2 of the probability that a story begins as `text` does, by squeezed characters: len(squeezed) + 1 numbers,
    and as the last the bits of exactly this story."""
    squeezed = squeeze(text)
    left = [0.0] * (len(squeezed) + 2)  # probability of leaving the text after so many characters; last: never
    open_: list[tuple[Script, float]] = [((), 1.0)]
    while open_:
        script, p = open_.pop()
        try:
            told = _Along(language, squeezed, script)
        except _Fork as fork:
            for taken, place in enumerate(fork.args[0]):
                if place is None:
                    open_.append(((*script, taken), p / len(fork.args[0])))
                else:
                    left[place] += p / len(fork.args[0])
        except _Left as end:
            left[end.args[0]] += p
        else:
            left[-1 if told.said == len(squeezed) else told.said] += p
    return [-math.log2(p) for p in reversed(list(accumulate(reversed(left))))]


def floors(language: Language, story: Story, common: set[str]) -> dict:
    """What a line of the floors' file holds of a story.

    `bits`: [characters of the text, bits that they have at the least], where the second grows; the last counts the end,
    too. `marks`: [first character, one after the last, kind, where the same was said last or null].
    """
    text = story.text
    places = [place for place, sign in enumerate(text) if not sign.isspace()]  # of the squeezed characters
    needed = begins_with(language, text)
    bits, before = [], 0.0
    for said, value in enumerate(needed[1:-1]):
        if value > before + 1e-9:
            bits.append([places[said] + 1, round(value, 3)])
            before = value
    bits.append([len(text) + 1, round(needed[-1], 3)])
    return {"text": text, "bits": bits, "marks": marks(language, story, common)}


class _Marking(Telling):
    """A story told again, which notes the place of each piece: squeezed characters, and what was said there."""

    def __init__(self, language: Language, story: Story):
        self.found: list[tuple[int, int, str, str]] = []  # from, to, name of the plot or "", kind
        self.position, self.showing = 0, []
        rest = iter(choice.taken for choice in story.choices)
        super().__init__(language, lambda options: next(rest))

    def show(self, name: str, form: str) -> str:
        self.showing.append((name, form))
        return super().show(name, form)

    def fill_slot(self, slot: str) -> str:
        self.showing = []
        said = super().fill_slot(slot)
        rest, here = squeeze(said), self.position
        for name, form in self.showing:
            start = rest.find(squeeze(form))
            fact = self.plot.facts.get(name, "")
            kind = "name" if fact in ("hero", "friend") else "colour" if fact.endswith("colour") else ""
            if start >= 0 and kind:
                self.found.append((here + start, here + start + len(squeeze(form)), name, kind))
        if ":" in slot and not self.showing:
            self.found.append((here, here + len(rest), "", "agreeing word"))
        return said

    def write(self, piece: str) -> None:
        super().write(piece)
        self.position += len(squeeze(piece))


def marks(language: Language, story: Story, common: set[str]) -> list[list]:
    """The kinds of the words of a story, and where a name or a colour was said before."""
    places = [place for place, sign in enumerate(story.text) if not sign.isspace()]
    told = _Marking(language, story)
    found, last, taken = [], {}, [False] * len(story.text)
    for start, end, name, kind in told.found:
        first, after = places[start], places[end - 1] + 1
        before = last.get(name) if name else None
        found.append([first, after, f"repeated {kind}" if before is not None else kind, before])
        if name:
            last[name] = after
        taken[first:after] = [True] * (after - first)
    for pattern in (WORD, SIGN):
        for match in pattern.finditer(story.text):
            if not any(taken[match.start() : match.end()]):
                plain = "function word" if match[0].casefold() in common else "other"
                found.append([match.start(), match.end(), "sign" if pattern is SIGN else plain, None])
                taken[match.start() : match.end()] = [True] * (match.end() - match.start())
    return sorted(found, key=lambda mark: mark[0])


def common_words(stories: list[Story]) -> set[str]:
    """The words that come most often."""
    counts = Counter(word.casefold() for story in stories for word in WORD.findall(story.text))
    return {word for word, _ in counts.most_common(COMMON)}
