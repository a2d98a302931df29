"""What can be asked of a language's stories: its `questions.txt`, read into entries by plot.

The signs of that file are explained at the top of `questions.py`, which asks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .engine import Language
from .frames import FrameError, Part, Place, parse_line, read_lines

ENTRY = re.compile(r"(?P<kind>[a-z_]+)\s*=\s*(?P<answer>.+)")
YES_NO, UNTOLD, REQUEST = "yes_no", "untold", "request"
MOST_WORDS = 3  # in an answer, where the language does not say `most_words = 4`


@dataclass
class Entry:
    """One thing that can be asked: its kind, its answer (or, for yes_no, the name that is exchanged), and how."""

    form: str
    kind: str
    answer: str
    place: Place
    asked: list[tuple[Part, ...]] = field(default_factory=list)
    told: list[tuple[Part, ...]] = field(default_factory=list)


@dataclass
class QuestionBook:
    """All entries of a language by plot, its words for yes and no, and its answer to what a story does not tell.

    `dictionary`: an answer may be the form of the lexicon where the story only shows others.
    """

    yes: str
    no: str
    untold: str
    most_words: int
    entries: dict[str, list[Entry]]
    endings: tuple[str, ...] = ()
    dictionary: bool = False

    def bare(self, answer: str) -> str:
        """An answer without its ending, as it must stand in the story: करण का -> करण."""
        head, _, last = answer.rpartition(" ")
        return head if head and last in self.endings else answer


def read_questions(language: Language) -> QuestionBook:
    """Reads `questions.txt` of a language. Raises FrameError with the line that is not understood."""
    path, plots = language.folder / "questions.txt", list(language.plots)
    words: dict[str, str] = {}
    entries: dict[str, list[Entry]] = {name: [] for name in plots}
    here: list[str] = []
    entry: Entry | None = None
    for number, raw in enumerate(read_lines(path), 1):
        line, what = raw.strip(), Place(path.name, number, raw.strip())
        if not line or line.startswith("#"):
            continue
        if line.startswith("=="):
            names = line[2:].split()
            here = plots if names == ["all"] else names
            if not here or set(here) - set(plots):
                raise FrameError(f"{what}: no plot is called {' '.join(sorted(set(here) - set(plots)))!r}")
            entry = None
        elif line.startswith(("-", "?")) and entry is not None:
            (entry.asked if line[0] == "-" else entry.told).append(parse_line(line[1:].strip(), str(what)))
        elif (match := ENTRY.fullmatch(line)) is None:
            raise FrameError(
                f"{what}: expected `kind = answer`, `? condition`, `- question` or `== plots`, not {line!r}"
            )
        elif here:
            entry = Entry(f"{match['kind']}.{number}", match["kind"], match["answer"], what)
            for name in here:
                entries[name].append(entry)
        else:
            words[match["kind"]] = match["answer"]
    if missing := {"yes", "no", "untold"} - set(words):
        raise FrameError(f"{path.name}: the words for {' and '.join(sorted(missing))} are missing at the top")
    if not (most := words.get("most_words", str(MOST_WORDS))).isdigit():
        raise FrameError(f"{path.name}: most_words = {most} is no number")
    endings, dictionary = tuple(words.get("endings", "").split()), words.get("answers") == "dictionary"
    return QuestionBook(words["yes"], words["no"], words["untold"], int(most), entries, endings, dictionary)
