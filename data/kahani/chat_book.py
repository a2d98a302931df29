"""Reads a language's `chats.txt`: what is said in chats beside stories and questions about them.

    shown = ask for a story …            what may be asked, as `ai4india_lib chat` shows it when it starts

    == greeting                         a block: all that gets the same answer
    = नमस्ते! …                          the answer; a block without one holds wishes for a story
    - (नमस्ते|नमस्कार)(|!)               ways to say it, with parts to choose from
    - मेरा नाम {बच्चा} है।               here any word of this tag of the lexicon; in `named` a word of the story

The blocks are `other` (what is neither a story nor about one: its answer says so), `story` (a wish for any story),
`named` (a wish for a story about someone), and small talk under any other name. Of `other` every fifth line is kept
for the tests: a model should know a question about the world also when it has never seen it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .engine import Language
from .frames import FrameError, OneOf, Part, Slot, parse_line, read_lines

OTHER, ANY_STORY, NAMED = "other", "story", "named"
KEPT = 5  # every so-manieth line of `other` is for the tests


@dataclass
class TalkBlock:
    """What is said in several ways, and its answer (none: a story)."""

    answer: str | None = None
    lines: list[tuple[Part, ...]] = field(default_factory=list)


@dataclass
class ChatBook:
    """A language's small talk and wishes, and what may be asked of a model that learned them."""

    shown: str
    blocks: dict[str, TalkBlock]

    def small_talk(self) -> list[TalkBlock]:
        """The blocks that are no wish for a story, without `other`."""
        return [block for name, block in self.blocks.items() if name not in (OTHER, ANY_STORY, NAMED)]

    def others(self, *, test: bool) -> list[tuple[Part, ...]]:
        """The lines of `other` to train on, or those kept for tests."""
        lines = self.blocks[OTHER].lines
        return [line for number, line in enumerate(lines, 1) if (number % KEPT == 0) == test]


def read_chat_book(language: Language) -> ChatBook:
    """Reads `chats.txt` of a language. Raises FrameError with the line that is not understood, or what is missing."""
    path = language.folder / "chats.txt"
    shown, block = "", None
    blocks: dict[str, TalkBlock] = {}
    for number, raw in enumerate(read_lines(path), 1):
        line, what = raw.strip(), f"{path.name}:{number}"
        if not line or line.startswith("#"):
            continue
        if line.startswith("=="):
            block = blocks.setdefault(line[2:].strip(), TalkBlock())
        elif block is None and line.startswith("shown ="):
            shown = line.partition("=")[2].strip()
        elif block is not None and line.startswith("="):
            block.answer = line[1:].strip()
        elif block is not None and line.startswith("-"):
            block.lines.append(parse_line(line[1:].strip(), what))
        else:
            raise FrameError(f"{what}: expected `shown = …`, `== block`, `= answer` or `- words`, not {line!r}")
    _check(path.name, shown, blocks)
    return ChatBook(shown, blocks)


def _check(name: str, shown: str, blocks: dict[str, TalkBlock]) -> None:
    if missing := [one for one in (OTHER, ANY_STORY, NAMED) if not blocks.get(one, TalkBlock()).lines]:
        raise FrameError(f"{name}: the block {missing[0]} is missing, or empty")
    if not shown:
        raise FrameError(f"{name}: `shown = …` is missing at the top: what may be asked")
    for block, talk in blocks.items():
        if (talk.answer is None) != (block in (ANY_STORY, NAMED)) or not talk.lines:
            raise FrameError(f"{name}: the block {block} needs lines and, unless it is a wish for a story, an answer")
    if len(blocks[OTHER].lines) < KEPT:
        raise FrameError(f"{name}: the block {OTHER} needs {KEPT} lines or more, of which every fifth is for tests")


def in_words(parts: tuple[Part, ...], language: Language, pick: Callable[[int], int]) -> str:
    """One way to say a line. A gap is filled with any word of its tag."""

    def said(parts: tuple[Part, ...]) -> str:
        texts = []
        for part in parts:
            if isinstance(part, OneOf):
                texts.append(said(part.options[pick(len(part.options))]))
            elif isinstance(part, Slot):
                words = language.tagged(part.text)
                texts.append(words[pick(len(words))].text)
            else:
                texts.append(part)
        return "".join(texts)

    return " ".join(said(parts).split())
