"""Reads a story backwards: finds every sequence of choices that leads to a given text.

The engine promises that different choices give different texts. This module can prove it, text by text: it follows all
ways through the frames that agree with the text so far, and returns those that reach its end. One derivation: the bits
of the story are -log2 p of its text. None: the generator cannot say this text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .engine import Language, Story, Telling, Word
from .frames import Call, OneOf, Part, Slot

Script = tuple[int, ...]  # the choices of a telling so far


class _Mismatch(Exception):
    """The story has left the text that it should follow."""


class _Open(Exception):
    """A slot needs a word that is not drawn yet."""


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


class Trial(Telling):
    """A telling that fills one slot with the words it is given, and keeps no record."""

    def __init__(self, language: Language, plot: str, drawn: dict[str, Word]):
        self.language, self.plot, self.drawn = language, language.plots[plot], drawn

    def fill(self, slot: str) -> str | None:
        """The squeezed text of a slot, or None if it needs other words, too."""
        try:
            return squeeze(self.language.grammar.fill(slot, self))
        except _Open:
            return None

    def word(self, name: str) -> Word:
        if name not in self.drawn:
            raise _Open(name)
        return self.drawn[name]

    def show(self, name: str, form: str) -> str:
        return form


class _Following(Telling):
    """A telling that makes only choices which may go on as a text does, and stops as soon as it leaves the text.

    Its first choices are those of a script. After that it takes the first choice that may go on, and leaves in `later`
    the scripts of the others.
    """

    def __init__(self, language: Language, text: str, script: Script, later: list[Script]):
        self.text, self.rest, self.later = text, iter(script), later
        self.script: list[int] = []
        self.position = 0  # so much of the text is said
        self.slot = ""  # the one that is being filled
        self.said: dict[str, str | None] = {}  # slot → its text with the words drawn so far
        self.fitting: Iterable[int] | None = None  # the options that may go on, where not all can
        super().__init__(language, self.take)

    def take(self, options: int) -> int:
        """The script's next choice, or the first that may go on."""
        taken = next(self.rest, None)
        if taken is None:
            fitting = list(range(options) if self.fitting is None else self.fitting)
            if not fitting:
                raise _Mismatch
            taken, *others = fitting
            self.later.extend((*self.script, other) for other in others)
        self.script.append(taken)
        return taken

    def word(self, name: str) -> Word:
        """The word behind a name. As every drawn word must show, one that the text nowhere has is not tried."""
        if name not in self.drawn:
            source = self.plot.sources[name]
            if source.owner:
                self.word(source.owner)
            options = self.language.options(source, self)
            self.fitting = (n for n, word in enumerate(options) if may_show(word, self.text) and self.fits(name, word))
            super().word(name)
            self.fitting = None
            self.said.clear()
        return self.drawn[name]

    def fits(self, name: str, word: Word) -> bool:
        """Whether the slot that is being filled may go on as the text does if a name stands for this word."""
        said = Trial(self.language, self.plot.name, {**self.drawn, name: word}).fill(self.slot)
        return said is None or self.text.startswith(said, self.position)

    def way(self, part: OneOf) -> int:
        self.fitting = (n for n, option in enumerate(part.options) if self.goes_on(option, self.position))
        taken = super().way(part)
        self.fitting = None
        return taken

    def goes_on(self, parts: tuple[Part, ...], position: int) -> bool:
        """Whether parts of a line may stand at a position of the text. No words are drawn to find out."""
        for part in parts:
            if isinstance(part, OneOf):
                return any(self.goes_on(option, position) for option in part.options)
            if isinstance(part, Call):
                lines = self.language.block(part.block, self.plot, self.place).lines
                return any(self.goes_on(line, position) for line in lines.options)
            said = self.trial(part.text) if isinstance(part, Slot) else squeeze(part)
            if said is None:
                return True
            if not self.text.startswith(said, position):
                return False
            position += len(said)
        return True

    def trial(self, slot: str) -> str | None:
        """What a slot says with the words drawn so far, or None if it needs more."""
        if slot not in self.said:
            self.said[slot] = Trial(self.language, self.plot.name, self.drawn).fill(slot)
        return self.said[slot]

    def fill_slot(self, slot: str) -> str:
        self.slot = slot
        return super().fill_slot(slot)

    def write(self, piece: str) -> None:
        super().write(piece)
        squeezed = squeeze(piece)
        if not self.text.startswith(squeezed, self.position):
            raise _Mismatch
        self.position += len(squeezed)


def derivations(language: Language, text: str) -> list[Story]:
    """All stories of the language with exactly this text (under half a second on one core)."""
    found = []
    scripts: list[Script] = [()]
    squeezed = squeeze(text)
    while scripts:
        try:
            story = _Following(language, squeezed, scripts.pop(), scripts).story()
        except _Mismatch:
            continue
        if story.text == text:
            found.append(story)
    return found
