"""Marks a text as a strict teacher does: reads on while the stories' grammar could say it, up to the first mistake.

A mistake is anything that no story has at that place: a wrong ending, a friend under another name, a word of another
plot. `reader.py` asks of a whole story whether it can be told, this module how far a text of any length goes well.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache

from .engine import Language, Telling, Word
from .frames import OneOf, Part
from .reader import Trial, squeeze

Script = tuple[int, ...]  # the choices of a telling so far


class _Fork(Exception):
    """The script has ended at a choice; its argument lists those options that the text does not rule out."""


class _Mismatch(Exception):
    """The telling has left the text."""


class _End(Exception):
    """The telling has reached the end of the text."""


class _Reading(Telling):
    """A telling that takes its choices from a script, and follows a text as far as it agrees with it."""

    def __init__(self, language: Language, script: Script, text: str):
        self.text, self.rest = text, iter(script)
        self.position = 0  # so many characters are said
        self.furthest = 0  # so many agree with some way to go on
        self.slot = ""
        super().__init__(language, self.pick_any)

    def pick_any(self, options: int) -> int:
        return self.pick_one_of(range(options))

    def pick_one_of(self, options) -> int:
        taken = next(self.rest, None)
        if taken is None:
            if self.position == len(self.text):
                raise _End
            raise _Fork(list(options))
        return taken

    def word(self, name: str) -> Word:
        """As `Telling.word`, but of the words that could be drawn only those that go on as the text does."""
        if name not in self.drawn:
            options = self.language.options(self.plot.sources[name], self)
            if len(options) > 1:
                self.drawn[name] = options[self.pick_one_of(self.fitting(name, options))]
            else:
                self.drawn[name] = options[0]
        return self.drawn[name]

    def fill_slot(self, slot: str) -> str:
        self.slot = slot
        return super().fill_slot(slot)

    def way(self, part: OneOf) -> int:
        """As `Telling.way`, but only those whose first words are the text's."""
        if len(part.options) == 1:
            return 0
        return self.pick_one_of(n for n, option in enumerate(part.options) if self.goes_on(_first_words(option)))

    def fitting(self, name: str, options: list[Word]) -> Iterator[int]:
        """Numbers of the words that the name may stand for, if the slot being filled is to go on as the text does."""
        named = _named(self.language, self.plot.name, self.slot)
        others = tuple((other, self.drawn[other]) for other in named if other in self.drawn)
        said = _said(self.language, self.plot.name, self.slot, name, others)
        here = self.text[self.position : self.position + 1]
        for number, word in enumerate(options):
            if id(word) not in said:
                trial = Trial(self.language, self.plot.name, {**self.drawn, name: word})
                said[id(word)] = trial.fill(self.slot)
            words = said[id(word)]  # most begin with another letter: that is seen without a call
            if not words or not here or (words[0] == here and self.goes_on(words)):
                yield number

    def goes_on(self, words: str) -> bool:
        """Does the text go on with these words, or end within them?"""
        there = self.text[self.position : self.position + len(words)]
        agreed = _common(there, words)
        self.furthest = max(self.furthest, self.position + agreed)
        return agreed == len(there)

    def write(self, piece: str) -> None:
        words = squeeze(piece)
        if not self.goes_on(words):
            raise _Mismatch
        if self.position + len(words) > len(self.text):
            raise _End
        self.position += len(words)


@lru_cache(maxsize=2**16)
def _said(
    language: Language, plot: str, slot: str, name: str, others: tuple[tuple[str, Word], ...]
) -> dict[int, str | None]:
    """A place to keep what a slot says for each word of a name, where `others` are drawn: by `id` of the word."""
    return {}


@cache
def _named(language: Language, plot: str, slot: str) -> tuple[str, ...]:
    """The names of the plot that stand in a slot, and perhaps some that are a part of one."""
    return tuple(name for name in language.plots[plot].sources if name in slot)


def _common(a: str, b: str) -> int:
    """How many characters two texts have in common at their beginning."""
    if b.startswith(a):
        return len(a)
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _first_words(option: tuple[Part, ...]) -> str:
    return squeeze(option[0]) if option and isinstance(option[0], str) else ""


def _follow(language: Language, text: str, scripts: list[Script]) -> tuple[int, list[Script]]:
    """(how many of the squeezed text's characters can be told, the scripts that tell all of it)."""
    scripts, best, whole = list(scripts), 0, []
    while scripts:
        script = scripts.pop()
        reading = _Reading.__new__(_Reading)
        try:
            reading.__init__(language, script, text)
        except _Fork as fork:
            scripts.extend((*script, taken) for taken in fork.args[0])
        except _Mismatch:
            pass
        except _End:
            whole.append(script)
        else:
            if reading.position == len(text):  # else the story is over before the text is
                whole.append(script)
        best = max(best, reading.furthest)
    return best, whole


def begins(language: Language, text: str) -> bool:
    """Whether some story of the language begins with this text, to the letter. All ways to tell it are searched."""
    for script in _follow(language, squeeze(text), [()])[1]:
        rest = iter(script)
        telling = Telling(language, lambda options, rest=rest: next(rest, 0))  # after the script, any way will do
        if language.grammar.finish("".join(telling.pieces)).startswith(text):
            return True
    return False


class Teacher:
    """Marks texts of one language. It remembers its reading of each prompt, since many texts may go on after one."""

    def __init__(self, language: Language):
        self.language = language
        self.read_prompt = lru_cache(maxsize=4096)(self._read_prompt)

    def _read_prompt(self, prompt: str) -> list[Script]:
        return _follow(self.language, squeeze(prompt), [()])[1]

    def first_mistake(self, text: str, prompt: str = "") -> int:
        """How many characters of `text`, going on after `prompt`, are right: `len(text)` if all of them are.

        Raises ValueError for a prompt that no story begins with.
        """
        scripts = self.read_prompt(prompt)
        if not scripts:
            raise ValueError(f"no story begins with {prompt[:60]!r}: give the beginning of one")
        read, whole = _follow(self.language, squeeze(prompt + text), scripts)
        return len(text) if whole else self._place(text, read - len(squeeze(prompt)))

    @staticmethod
    def _place(text: str, characters: int) -> int:
        """Where in `text` so many characters, blanks not counted, are over."""
        seen = 0
        for place, character in enumerate(text):
            if not character.isspace():
                if seen >= characters:
                    return place
                seen += len(squeeze(character))
        return len(text)
