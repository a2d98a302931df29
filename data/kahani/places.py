"""Says where in a story each of its words stands: who is named where, and what agrees with whom. And tells it anew.

    story = language.tell(7)
    for mention in mentions(language, story):
        print(story.text[mention.start : mention.end], mention.name, mention.depends)
    retold(language, story, {"नायक": "सलीम"}).text      # the same story, of another hero

Both tell the story once more, by its own choices, and note what each slot says. So they know nothing of a language but
its frames, and work for every story of every language; of a text alone, `derivations` finds the story.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .engine import Language, Story, Telling, Word


class Mention(NamedTuple):
    """A piece of a story, `text[start:end]`, which a slot of its frames said.

    Either it shows the word of `name`; or `name` is None, and its form alone follows from the words of others, as a
    verb's does from its subject. रवि की (पतंग) are two: the first shows नायक, the second depends on पतंग.
    """

    start: int
    end: int
    name: str | None  # as the plot calls it: नायक
    fact: str | None  # as the story's facts call it, if they do: hero
    depends: tuple[str, ...]  # names whose words the slot asks for, and does not show
    slot: str  # as it stands in the frames: रहता था:नायक


class Retelling(Telling):
    """Tells a story again by its choices, but some names with other words; notes what each slot says, and where.

    Raises ValueError for a name that the story does not draw, or that cannot stand for such a word there.
    """

    def __init__(self, language: Language, story: Story, words: Mapping[str, str]):
        self.script, self.words = iter(story.choices), words
        self.instead: int | None = None  # the option that is taken where it is not the story's own
        self.said: list[Mention] = []  # places are counted without spaces: finish() only moves those
        self.length = 0
        self.used: list[str] = []  # the names that the slot being filled asks for
        self.forms: list[tuple[str, str]] = []  # those that it shows, and how
        super().__init__(language, self._again)
        if unknown := set(words) - set(self.drawn):
            raise ValueError(f"this story draws no {', '.join(sorted(unknown))}: it has {', '.join(self.drawn)}")

    def _again(self, options: int) -> int:
        own = next(self.script).taken
        return own if self.instead is None else self.instead

    def word(self, name: str) -> Word:
        self.used.append(name)
        if name not in self.drawn and name in self.words:
            texts = [word.text for word in self.language.options(self.plot.sources[name], self)]
            if self.words[name] not in texts:
                raise ValueError(f"{name} cannot be {self.words[name]!r} here; it can be {', '.join(texts[:12])} …")
            self.instead = texts.index(self.words[name])
        word = super().word(name)
        self.instead = None
        return word

    def show(self, name: str, form: str) -> str:
        self.forms.append((name, form))
        return super().show(name, form)

    def write(self, piece: str) -> None:
        super().write(piece)
        self.length += _length(piece)

    def fill_slot(self, slot: str) -> str:
        self.used, self.forms = [], []
        said = super().fill_slot(slot)
        shown = {name for name, _ in self.forms}
        depends = tuple(dict.fromkeys(name for name in self.used if name not in shown))
        at = 0
        for name, form in self.forms:  # in the order in which they stand
            begin = said.index(form, at)
            self._note(said, at, begin, None, depends, slot)
            at = begin + len(form)
            self._note(said, begin, at, name, depends, slot)
        self._note(said, at, len(said), None, depends, slot)
        return said

    def _note(self, said: str, begin: int, end: int, name: str | None, depends: tuple[str, ...], slot: str) -> None:
        if said[begin:end].strip() and (name or depends):
            start = self.length + _length(said[:begin])
            fact = self.plot.facts.get(name) if name else None
            self.said.append(Mention(start, start + _length(said[begin:end]), name, fact, depends, slot))


def _length(text: str) -> int:
    return sum(not sign.isspace() for sign in text)


def _as_it_is(language: Language, story: Story) -> Retelling:
    """A story told again with its own words. Raises ValueError if this language does not tell it so."""
    try:
        telling = Retelling(language, story, {})
        told = language.grammar.finish("".join(telling.pieces))
    except (StopIteration, IndexError, ValueError):  # its choices are those of other frames
        told = None
    if told != story.text:
        raise ValueError(f"the language {language.code!r} does not tell this story: {story.text[:60]!r}")
    return telling


def mentions(language: Language, story: Story) -> list[Mention]:
    """Where each drawn word of a story is shown, and each form that follows from one, in the order of the text.

    Raises ValueError for a story that the language does not tell.
    """
    places = [place for place, sign in enumerate(story.text) if not sign.isspace()]
    said = _as_it_is(language, story).said
    return [one._replace(start=places[one.start], end=places[one.end - 1] + 1) for one in said]


def retold(language: Language, story: Story, words: Mapping[str, str]) -> Story:
    """The same story with other words for some of its names, such as {"नायक": "सलीम"}; all else stays, but for endings.

    Raises ValueError for a name that the story does not draw, or that cannot stand for such a word there, and for a
    story that the language does not tell.
    """
    own = {name: word.text for name, word in _as_it_is(language, story).drawn.items()}
    return Retelling(language, story, own | dict(words)).story()
