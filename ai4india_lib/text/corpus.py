"""Gets text: from an archive, a folder or a URL, streamed line by line.

A corpus is a `.tar.gz` (or a folder) with `train.txt` and `test.txt` somewhere inside: UTF-8, one sentence or one
document per line. `train_and_test_lines` finds both, by path or URL; `TextLines` streams them, however large.
Questions, conversations and pairs of sentences come as JSON Lines: `json_lines` reads them from the same places.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from .archives import MAX_BYTES, MAX_FILES, CorpusError, check_end, explain_damage, members, open_tar, uncompressed
from .download import CHUNK, DownloadError, download  # noqa: F401 (DownloadError is promised here too)
from .own_text import own_corpus, own_text_files
from .reading import Record, numbered_lines, parse_record
from .urls import file_name, without_secrets

DOWNLOADS = Path("data/downloads")
KEPT = 8 << 20  # bytes: a test text up to this size is kept once an archive was read through
SHOWN = 8  # names of other files, where those that are wanted are missing
CORPUS_FILES = ("train.txt", "train.txt.gz", "test.txt", "test.txt.gz", "about.json")
_TOO_MANY = "a corpus has two texts, so pack train.txt and test.txt alone"


class TextLines:
    """The lines of a text file, as often as you like, with only one of them in memory at a time.

    `path` is a `.txt`, a `.txt.gz`, or a tar archive together with `member`, the name of a text inside it; nothing is
    unpacked to the disk. A line is a `str` without its end, which is "\\n" or "\\r\\n" and nothing else: U+2028, U+0085
    or a vertical tab, which occur inside Indian text, stay in the line. Blank lines are left out; a line above 1 MB
    comes in pieces. The text is UTF-8; a byte order mark at its start is dropped. It pickles as its path, so it goes to
    the workers of a DataLoader.
    """

    _content: bytes | None = None  # of a small test text that lies behind a large one in its archive

    def __init__(self, path: str | Path, member: str | None = None):
        self.path, self.member = Path(path), member
        if self.path.is_dir() or not self.path.exists():
            found = f"{path} is a folder, not a text" if self.path.is_dir() else f"there is no file {path}"
            raise FileNotFoundError(found)
        if member is None and re.search(r"(?i)\.(tar(\.\w+)?|tgz|tbz2|txz)$", self.path.name):
            raise CorpusError(f"{path} is an archive: name the text in it, as in TextLines(path, 'folder/train.txt')")

    def __iter__(self) -> Iterator[str]:
        return (line for _, line in self.numbered())

    def numbered(self, *, in_pieces: bool = True) -> Iterator[tuple[int, str]]:
        """Each line with its number in the file, blank ones counted; see `reading.numbered_lines`."""
        with self._open() as (stream, _):
            yield from numbered_lines(stream, str(self), in_pieces=in_pieces)

    @cached_property
    def num_bytes(self) -> int:
        """Size of the uncompressed text in bytes, line ends included. For `.gz` this reads it through, once."""
        with self._open() as (stream, size):
            return sum(map(len, iter(partial(stream.read, CHUNK), b""))) if size is None else size

    @property
    def full_name(self) -> PurePosixPath:
        """The text's name with its folders: within the archive, or on the disk."""
        return PurePosixPath(self.member or self.path.as_posix())

    @contextmanager
    def _open(self) -> Iterator[tuple[BinaryIO, int | None]]:
        """The bytes of the text, and their number if the file system or the archive tells it."""
        if self._content is not None:
            yield uncompressed(io.BytesIO(self._content), len(self._content))
            return
        if self.member is None:
            with explain_damage(self.path), self.path.open("rb") as file:
                yield uncompressed(file, self.path.stat().st_size)
            return
        with open_tar(self.path) as tar:
            for member in members(tar, MAX_BYTES, MAX_FILES, _TOO_MANY):
                if member.isfile() and PurePosixPath(member.name) == self.full_name:
                    yield uncompressed(tar.extractfile(member), member.size)
                    return
        raise CorpusError(f"{self.path} holds no file {self.member!r}")

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_content"}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextLines) and (self.path, self.member) == (other.path, other.member)

    def __hash__(self) -> int:
        return hash((self.path, self.member))

    def __str__(self) -> str:
        return self.path.as_posix() + (f" ({self.member})" if self.member else "")

    def __repr__(self) -> str:
        return f"TextLines({self.path.as_posix()!r}{f', {self.member!r}' if self.member else ''})"


@lru_cache(maxsize=16)
def _sum_of_bytes(text: TextLines, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with text._open() as (stream, _):
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint_text(lines: Iterable[str]) -> str:
    """32 hexadecimal digits that differ for different texts: by these a run that goes on knows its text.

    Of `TextLines` they come from the bytes of the text, so that a text has the same ones on the disk, packed and
    elsewhere; of other lines from the lines. All is read through once (2 GB in some seconds) as long as the file stays
    as it is. "" for what can be read only once, as a generator, or comes in shards, perhaps from far away.
    """
    if (
        isinstance(lines, Iterator)
        or hasattr(lines, "num_shards")
        or (isinstance(lines, TextLines) and not lines.path.is_file())
    ):
        return ""
    if isinstance(lines, TextLines):
        about = lines.path.stat()
        return _sum_of_bytes(lines, about.st_size, about.st_mtime_ns)[:32]
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:32]


def _local(source: str | Path, folder: str | Path) -> Path:
    """The archive or folder on this computer that `source` means; a URL's file is fetched into `folder`."""
    is_url = "://" in str(source)
    path = Path(file_name(str(source))) if is_url else Path(source).expanduser()
    if not (is_url or path.exists()):
        raise FileNotFoundError(f"there is no {source} in {Path.cwd()}: give an archive, a folder or a URL")
    if path.name.lower().endswith((".txt", ".txt.gz")) and is_url:
        raise CorpusError(
            f"{without_secrets(str(source))} is a single text: download it, look at it, and give the file. Or make an "
            "archive with train.txt (most of the lines) and test.txt (the others), and give its URL."
        )
    return download(str(source), folder) if is_url else path


@dataclass
class _Found:
    """What a folder or an archive holds: the files that were looked for, and the names of some others."""

    files: list[tuple[TextLines, bytes | str | None]] = field(default_factory=list)  # each with how it begins
    others: list[str] = field(default_factory=list)
    more: int = 0  # others that are not named

    def add(self, text: TextLines, file: BinaryIO, size: int) -> None:
        """Note a text and how it begins: about.json all of it, any other its first line, None if it has none."""
        if text.full_name.name == "about.json":
            self.files.append((text, file.read(1 << 20)))
            return
        if text.member and text.full_name.name.startswith("test.txt") and size <= KEPT:
            text._content = file.read()
            file = io.BytesIO(text._content)
        stream, num_bytes = uncompressed(file, size)
        if num_bytes is not None:
            text.num_bytes = num_bytes
        self.files.append((text, next((line for _, line in numbered_lines(stream, str(text))), None)))

    def add_other(self, name: str) -> None:
        if name.startswith(".") or "/." in name:
            return
        if len(self.others) < SHOWN:
            self.others.append(name)
        else:
            self.more += 1

    def in_words(self) -> str:
        """What else was seen, for who wonders why the file is not found."""
        more = f" and {self.more} more" if self.more else ""
        seen = f" There is: {', '.join(self.others)}{more}; a name must be exact, and a packed file unpacked."
        return seen if self.others else " There is no other file."


@lru_cache(maxsize=16)  # to read an archive through takes time: once is enough, until the file changes
def _find_in_archive(path: Path, names: tuple[str, ...], size: int, changed: int) -> _Found:
    found = _Found()
    with open_tar(path) as tar:
        for member in members(tar, MAX_BYTES, MAX_FILES, _TOO_MANY):
            if member.isfile() and PurePosixPath(member.name).name in names:
                found.add(TextLines(path, member.name), tar.extractfile(member), member.size)
            elif member.isfile():
                found.add_other(member.name)
        check_end(tar)
    return found


def _find(path: Path, names: tuple[str, ...]) -> _Found:
    """The files of these names in a folder or an archive, wherever they lie inside."""
    if not path.is_dir():
        return _find_in_archive(path, names, path.stat().st_size, path.stat().st_mtime_ns)
    found = _Found()
    for inside in sorted(path.rglob("*")):
        if inside.name in names and inside.is_file():
            with explain_damage(inside), inside.open("rb") as file:
                found.add(TextLines(inside), file, inside.stat().st_size)
        elif inside.is_file():
            found.add_other(inside.relative_to(path).as_posix())
    return found


def _parsed_about(about: TextLines, content: bytes) -> dict:
    try:
        parsed = json.loads(content)
        if not isinstance(parsed, dict):
            raise ValueError(f"it must be an object {{…}}, not {parsed!r:.60}")
        shares = parsed.get("story_blind_accuracy") or {}
        if not isinstance(shares, dict):
            raise ValueError(f'"story_blind_accuracy" must be an object {{…}}, not {shares!r:.60}')
        _check_number("test_floor_bits_per_byte", parsed.get("test_floor_bits_per_byte"), 8)
        for kind, share in shares.items():
            _check_number(f"story_blind_accuracy, {kind}", share, 1)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{about} cannot be used: {error}") from error
    return parsed


def _check_number(name: str, value: object, most: float) -> None:
    """Raises ValueError for what is no number from 0 to `most`; NaN, true and "0.3" are none. None, "not known", is."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most):
        raise ValueError(f'"{name}" is {json.dumps(value):.60}: it must be a number from 0 to {most}, or left out')


def _corpus(path: Path, found: _Found) -> tuple[TextLines, TextLines, dict]:
    """The training text, the test text, and what the about.json beside the first one says."""
    texts: dict[str, list[TextLines]] = {"train.txt": [], "test.txt": []}
    abouts: dict[PurePosixPath, tuple[TextLines, bytes]] = {}  # by folder
    for text, begins in found.files:
        if text.full_name.name == "about.json":
            abouts[text.full_name.parent] = text, begins
        elif begins is None:
            raise CorpusError(f"{text} is empty: it needs one sentence or document per line")
        else:
            texts[text.full_name.name.removesuffix(".gz")].append(text)
    for name, same in texts.items():
        if len(same) != 1:
            there = f"{', '.join(map(str, same))}." if same else f"none.{found.in_words()}"
            raise CorpusError(f"{path} must hold one train.txt and one test.txt. What it has as {name}: {there}")
    [train], [test] = texts.values()
    folder = train.full_name.parent
    return train, test, _parsed_about(*abouts[folder]) if folder in abouts else {}


def _is_json_lines(path: Path) -> bool:
    """Is this the file itself, and not what holds it?"""
    return path.is_file() and path.name.lower().endswith((".jsonl", ".jsonl.gz"))


def corpus_place(source: str | Path, *, folder: str | Path = DOWNLOADS, column: str | None = None) -> Path:
    """Where the corpus that `source` means lies on this computer: an archive, or a folder.

    Of a single .txt, .jsonl, .csv or .tsv, and of a folder of .txt, one is made, as `own_text` says; `column` names
    where the text stands in a .jsonl or .csv ("text", or the only one). Raises CorpusError if there is no such column.
    """
    path = _local(source, folder)
    if files := own_text_files(path):
        return own_corpus(path, files, Path(folder), column)
    if column is not None:
        raise CorpusError(f"{path} has no columns: they are named for a .jsonl, .csv or .tsv")
    return path


def train_and_test_lines(
    source: str | Path, *, folder: str | Path = DOWNLOADS, column: str | None = None
) -> tuple[TextLines, TextLines]:
    """The training and the test text of a corpus.

    `source` is a URL (its file is kept in `folder`), a tar archive, or a folder. `train.txt` and `test.txt` (or
    `train.txt.gz`, `test.txt.gz`) may lie anywhere inside, once each. An archive is read through once to be sure.
    A single text, or a folder of them, is split in two, and `column` names where it stands: see `corpus_place`.
    """
    path = corpus_place(source, folder=folder, column=column)
    return _corpus(path, _find(path, CORPUS_FILES))[:2]


def read_about(source: str | Path, *, folder: str | Path = DOWNLOADS) -> dict:
    """What `about.json` beside `train.txt` says, such as `{"test_floor_bits_per_byte": 0.15}`; {} if there is none.

    Where there are no texts but JSON Lines, such as questions, it is the only `about.json` that there is.
    """
    path = _local(source, folder)
    if path.is_file() and own_text_files(path):
        return {}
    found = _find(path, CORPUS_FILES)
    if all(text.full_name.name == "about.json" for text, _ in found.files):
        return _parsed_about(*found.files[0]) if len(found.files) == 1 else {}
    return _corpus(path, found)[2]


def json_lines(
    source: str | Path, name: str = "train.jsonl", *, folder: str | Path = DOWNLOADS, optional: bool = False
) -> Iterator[Record]:
    """The objects of a JSON Lines text (one `{…}` per line, UTF-8), one after the other; each knows `where` it stood.

    `source` is the `.jsonl` file itself, or a folder, a tar archive or the URL of one that holds `name` once; with
    `optional` it may also lack it, and then there are none.
    Raises CorpusError, with the number of the line, for what is not a JSON object.
    """
    path = _local(source, folder)
    if path.is_file() and not _is_json_lines(path) and own_text_files(path):
        raise CorpusError(f"{path} is no JSON Lines: one object {{…}} a line, in a file whose name ends in .jsonl")
    found = _Found([(TextLines(path), None)]) if _is_json_lines(path) else _find(path, (name,))
    texts = [text for text, _ in found.files]
    if optional and not texts:
        return
    if len(texts) != 1:
        there = f"{', '.join(map(str, texts))}." if texts else f"none.{found.in_words()}"
        raise CorpusError(f"{path} must hold one {name}. What it has: {there}")
    for number, line in texts[0].numbered(in_pieces=False):
        yield parse_record(line, f"{texts[0]}, line {number}")
