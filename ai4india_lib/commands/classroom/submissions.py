"""What a class handed in, whose it is, and the code that stands in it. Nothing of it is run here.

A folder for each learner, zip files, flat files with names in them, one folder a section: any of these.
"""

from __future__ import annotations

import io
import json
import re
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ...checks.tries import Tried, read_tries

LARGEST = 64_000_000  # bytes of one file
MOST_UNPACKED = 1_000_000_000  # bytes of a zip, and of all its files, and
MOST_FILES = 5_000
MOST_INSIDE = 200_000_000  # bytes of a zip inside of another, which must lie in memory
MOST_CODE = 200_000  # characters of one file's code; our longest lesson has 34,000
PASSED_OVER = (
    "__MACOSX",
    ".ipynb_checkpoints",
    "__pycache__",
    ".git",
    ".venv",
    "venv",
    "site-packages",
    "ai4india_lib",
    "tests",
)
_PLACES = re.compile(r"(?i)(submitted|submissions?|my|notebooks|class|release|autograded|ai4india[-\w]*|downloads?)")
_NOISE = r"(?i)\b(copy of|copy ?\d*|final|new|old|backup|v ?\d+|submission|assignment|homework|exercises?|progress)\b"
_NUMBERED = re.compile(
    r"(?i)(student|learner|pupil|candidate|roll|reg|id|no|number|section|class|batch|group|pc)[ .no]*"
)
_MOODLE = re.compile(r"_\d+_assignsubmission_[a-z]+_?")


@dataclass
class Work:
    """One file that was handed in: its cells of code, in order."""

    path: str
    cells: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.cells)


@dataclass
class Learner:
    name: str
    works: list[Work] = field(default_factory=list)
    tried: dict[str, Tried] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """A file with its place: the folders below the class's, a zip counting as one. Of its content, what is needed."""

    place: PurePosixPath
    why: str = ""  # it cannot be read, or is passed over
    lessons: set[str] = field(default_factory=set)  # the numbers of those whose exercises it checks
    cells: list[str] = field(default_factory=list)
    tried: dict[str, Tried] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.place.suffix.lower()


def read_class(folder: Path, stems: list[str]) -> tuple[list[Learner], list[tuple[str, str]]]:
    """All learners of a folder in alphabetical order, and (file, reason) of what was passed over.

    `stems` are the names of the lessons' files, such as "06_attention": what remains of a name is the learner's.
    Raises FileNotFoundError if there is no such folder, and ValueError if nothing in it is a work.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: name the one that holds what the class handed in")
    found = list(_files(folder))
    ignored = [(str(one.place), one.why) for one in found if one.why.startswith("passed over")]
    works = [one for one in found if not one.why.startswith("passed over")]
    if not works:
        raise ValueError(f"{folder} holds no notebook (.ipynb), .py, .zip or progress.jsonl: is it the right folder?")
    names = _names({one.place: one.lessons for one in works}, stems, folder.resolve().name)
    learners: dict[str, Learner] = {}
    for one in works:
        name = "".join(map(_seen, names[one.place]))
        learner = learners.setdefault(_key(name), Learner(name))
        _take(learner, one)
    return sorted(learners.values(), key=lambda learner: _key(learner.name)), ignored


def _seen(sign: str) -> str:
    """A sign of a name, or ? for one that would break lines or turn the direction of what follows."""
    turns = sign in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return "?" if turns or unicodedata.category(sign) in ("Cc", "Cs") else sign


def _take(learner: Learner, one: _Found) -> None:
    """Add a file to a learner's works, tries or remarks."""
    if one.why:
        learner.remarks.append(f"{one.place}: {one.why}")
    elif one.kind != ".jsonl":
        learner.works.append(Work(str(one.place), one.cells))
    for name, tried in one.tried.items():
        if name not in learner.tried or tried.tries > learner.tried[name].tries:
            learner.tried[name] = tried


def _read(place: PurePosixPath, content: bytes) -> _Found:
    """What is needed of a file: pictures and outputs of a class would fill the memory."""
    found = _Found(place)
    try:
        text = _decoded(content)
        if found.kind == ".jsonl":
            found.tried = read_tries(text)
        else:
            found.cells = [text] if found.kind == ".py" else cells_of(text)
        if (code := sum(map(len, found.cells))) > MOST_CODE:
            raise ValueError(f"{code:,} characters of code are too much")
        found.lessons = _lessons_in(content)
    except ValueError as error:
        found.why, found.cells = str(error), []
    return found


def _decoded(content: bytes) -> str:
    """The text of a file, without a mark of byte order, with plain line ends. Raises ValueError if it is none."""
    if not content.strip():
        raise ValueError("the file is empty")
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("this is no text in UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def cells_of(text: str) -> list[str]:
    """The source of each cell of code of a notebook. Raises ValueError where the text is none."""
    try:
        notebook = json.loads(text)
        sheets = notebook.get("worksheets") or [notebook]  # format 3, of 2014, has sheets
        cells = [cell for sheet in sheets for cell in sheet["cells"] if cell["cell_type"] == "code"]
        sources = [cell.get("source", cell.get("input", "")) for cell in cells]
        joined = ["".join(source) for source in sources]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no whole notebook ({str(error)[:80]})") from None
    except (KeyError, TypeError, AttributeError):
        raise ValueError("this is JSON, but no notebook") from None
    return [source.replace("\r\n", "\n") for source in joined]


# --- files ---


def _files(folder: Path) -> Iterator[_Found]:
    for path in sorted(folder.rglob("*")):
        place = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_symlink():
            yield _Found(place, "passed over: a link, which may lead anywhere")
        elif path.is_file():
            try:
                yield from _opened(place, path.stat().st_size, partial(path.open, "rb"))
            except OSError as error:
                yield _Found(place, f"it cannot be read ({error.strerror})")


def _opened(place: PurePosixPath, size: int, opened: Callable[[], BinaryIO], depth: int = 0) -> Iterator[_Found]:
    """The file itself, or all files of a zip, which may hold zips in turn."""
    kind = place.suffix.lower()
    if any(part in PASSED_OVER for part in place.parts) or place.name.startswith("."):
        yield _Found(place, "passed over")
    elif place.parts[-3:-1] == ("notebooks", "solutions"):
        yield _Found(place, "passed over: the course's own solutions")
    elif kind not in (".ipynb", ".py", ".zip") and not (kind == ".jsonl" and "progress" in place.name.lower()):
        hint = ": unpack it, or make it a .zip" if kind in (".rar", ".7z", ".gz", ".tar", ".tgz") else ""
        yield _Found(place, f"passed over{hint}")
    elif size > LARGEST and kind != ".zip":
        yield _Found(place, f"{size / 1e6:,.0f} MB are too much: have its outputs cleared")
    elif kind != ".zip":
        with opened() as file:
            content = file.read(size + 1)  # no more, whatever a zip's list of contents says
        yield _read(place, content)
    elif depth > 1 or size > (MOST_INSIDE if depth else MOST_UNPACKED):
        yield _Found(place, "a zip too large, or too deep inside of others")
    else:
        with opened() as file:
            yield from _unpacked(place, io.BytesIO(file.read(size + 1)) if depth else file, depth)


def _unpacked(place: PurePosixPath, file: BinaryIO, depth: int) -> Iterator[_Found]:
    inside = place.with_suffix("")
    try:
        with zipfile.ZipFile(file) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir()]
            if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_UNPACKED:
                raise zipfile.BadZipFile("it would unpack to too much")
            for entry in entries:
                name = PurePosixPath(*[part for part in _entry_name(entry).split("/") if part not in ("", ".", "..")])
                yield from _opened(inside / name, entry.file_size, partial(packed.open, entry), depth + 1)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, OSError, EOFError, ValueError) as error:
        yield _Found(place, f"this zip cannot be read ({str(error)[:80]})")


def _entry_name(entry: zipfile.ZipInfo) -> str:
    """Old programs write names in UTF-8 and do not say so."""
    if entry.flag_bits & 0x800:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.filename


# --- names ---


def _key(name: str) -> str:
    """ "Meera_Sharma" and "meera sharma" are one person."""
    return re.sub(r"[\s_.\-]+", " ", unicodedata.normalize("NFC", name)).strip().casefold()


def _lessons_in(content: bytes) -> set[str]:
    """The numbers of the lessons whose exercises a file checks."""
    return {number.decode() for number in re.findall(rb"""check\(\\?["'](\d\d)\.""", content)}


def _names(places: dict[PurePosixPath, set[str]], stems: list[str], folder_name: str) -> dict[PurePosixPath, str]:
    """Whose each file is; `places` has the lessons of each. A folder with works of three people in it is a section."""

    lessons = places

    def divide(places: list[PurePosixPath], depth: int, section: str) -> dict[PurePosixPath, str]:
        own, groups = {}, {}
        for place in places:
            first = place.parts[depth] if len(place.parts) > depth + 1 else ""
            if first and _is_a_name(first, stems):
                groups.setdefault(_without_lesson(_MOODLE.sub("", first), stems), []).append(place)
            elif first:
                own |= divide([place], depth + 1, section)
            else:
                own[place] = _name_in(place, stems, lessons[place])
        for name, inside in groups.items():
            below = divide(inside, depth + 1, "")
            people = {_key(person) for person in below.values() if person}
            is_section = len(people) >= (2 if len(groups) == 1 and not own else 3)
            for place in inside:
                whose = below[place] if is_section and below[place] else name
                own[place] = f"{section}{name}/{whose}" if is_section and len(groups) > 1 else f"{section}{whose}"
        return own

    named = divide(list(places), 0, "")
    nameless = [place for place, name in named.items() if not name]
    several = Counter(re.sub(r"[\d() ]*$|(?i:^copy of )", "", place.stem) for place in nameless)
    alone = len(nameless) == len(several)  # each lesson once: one person's own folder
    return {place: name or (folder_name if alone else place.stem) for place, name in named.items()}


def _is_a_name(part: str, stems: list[str]) -> bool:
    return not _PLACES.fullmatch(part) and bool(_without_lesson(part, stems))


def _name_in(place: PurePosixPath, stems: list[str], lessons: set[str]) -> str:
    """What remains of a file's name without the lesson's: "06_attention - Meera (1).ipynb" → "Meera"."""
    stem = _MOODLE.split(place.stem)[0] if _MOODLE.search(place.stem) else place.stem
    name = _without_lesson(re.sub(r"_\d{4,}_\d{4,}(_|$)", " ", stem), stems)
    for number in lessons or {stem[:2] for stem in stems}:  # a number alone: of the lesson, or of a learner?
        shorter = " ".join(re.sub(rf"(?<![^\W_]){number}(?![^\W_])", " ", name).split()).strip(" _-–.,·")
        name = name if _NUMBERED.fullmatch(shorter) else shorter
    return name


def _without_lesson(text: str, stems: list[str]) -> str:
    """A name without the words of a lesson, numbers of copies, and signs at its ends; "" where nothing remains."""
    text = given = unicodedata.normalize("NFC", text).strip()
    for stem in stems:
        number, *words = re.split(r"[_\-\s]+", stem)
        title = r"[_\-\s]*".join(map(re.escape, words))
        text = re.sub(rf"(?i)(?<![^\W_]){number}[_\-\s.·]*{title}(?![^\W_])|(?<![^\W_]){title}(?![^\W_])", " ", text)
    text = re.sub(r"(?i)(?<![^\W_])(lesson|पाठ|lab)[_\-\s]*[01]\d(?![^\W_])", " ", text, count=1)
    text = re.sub(r"\(\d+\)|\[\d+\]", " ", text)
    text = re.sub(_NOISE, " ", text.replace("_", " "))
    left = " ".join(text.split()).strip(" _-–.,·")
    return given if _key(left) == _key(given) else left
