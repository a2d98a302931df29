"""Reads a story backwards: finds every sequence of choices that leads to a given text.

The engine promises that different choices give different texts. This module can prove it, text by text: it follows all
ways through the frames that agree with the text so far, and returns those that reach its end. One derivation: the bits
of the story are -log2 p of its text. None: the generator cannot say this text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .engine import Language, Source, Story, Telling, Word


class _Fork(Exception):
    """The script has ended at a choice; these of its options may go on."""

    def __init__(self, options: Iterable[int]):
        self.options = options


class _Mismatch(Exception):
    """The story has left the text that it should follow."""


@lru_cache(maxsize=2**16)  # the same pieces are tried in many ways
def squeeze(text: str) -> str:
    """Drops spaces and capitals, which the finishing touch may change."""
    return "".join(text.split()).casefold()


@lru_cache(maxsize=2**14)
def stem(word: str) -> str:
    """What a word has in common with its other forms: its first part without the last two signs (नया, नई)."""
    first = squeeze(re.split("[- ]", word)[0])
    return first[: max(1, len(first) - 2)]


def may_show(word: Word, text: str) -> bool:
    """Whether a squeezed text may show a word, in the form of the lexicon or in one listed there (mice for mouse)."""
    forms = [word.text, *(form for form in word.features.values() if isinstance(form, str))]
    return any(stem(form) in text for form in forms)


class _Following(Telling):
    """A telling that takes its choices from a script and stops as soon as it leaves the text."""

    def __init__(self, language: Language, script: tuple[int, ...], text: str):
        self.text = text
        self.position = 0
        self.source: Source | None = None  # of the word that is being drawn
        rest = iter(script)

        def pick(options: int) -> int:
            taken = next(rest, None)
            if taken is None:
                raise _Fork(self.possible() if self.source else range(options))
            return taken

        super().__init__(language, pick)

    def word(self, name: str) -> Word:
        """The word behind a name. As every drawn word must show, one that the text nowhere has is not tried."""
        if name in self.drawn:
            return self.drawn[name]
        source = self.plot.sources[name]
        if source.owner:
            self.word(source.owner)
        self.source = source
        try:
            return super().word(name)
        finally:
            self.source = None

    def possible(self) -> list[int]:
        """Of the words that may be drawn now: those that the text may show."""
        options = self.language.options(self.source, self)
        return [at for at, word in enumerate(options) if may_show(word, self.text)]

    def write(self, piece: str) -> None:
        super().write(piece)
        squeezed = squeeze(piece)
        if not self.text.startswith(squeezed, self.position):
            raise _Mismatch
        self.position += len(squeezed)


def derivations(language: Language, text: str) -> list[Story]:
    """All stories of the language with exactly this text (about a tenth of a second on one core)."""
    found = []
    scripts: list[tuple[int, ...]] = [()]
    squeezed = squeeze(text)
    while scripts:
        script = scripts.pop()
        try:
            story = _Following(language, script, squeezed).story()
        except _Fork as fork:
            scripts.extend((*script, taken) for taken in fork.options)
        except _Mismatch:
            continue
        else:
            if story.text == text:
                found.append(story)
    return found
