"""Gets text: from an archive, a folder or a URL, streamed line by line.

A corpus is a `.tar.gz` (or a folder) with `train.txt` and `test.txt` somewhere inside: UTF-8, one sentence or one
document per line. `train_and_test_lines` finds both, by path or URL; `TextLines` streams them, however large.
Questions, conversations and pairs of sentences come as JSON Lines: `json_lines` reads them from the same places.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from .archives import CorpusError, check_end, explain_damage, open_tar, uncompressed
from .download import CHUNK, DownloadError, download, file_name  # noqa: F401 (DownloadError is promised here too)

DOWNLOADS = Path("data/downloads")
CORPUS_FILES = ("train.txt", "train.txt.gz", "test.txt", "test.txt.gz", "about.json")


def _lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """The lines that `TextLines` promises; `name` is what an error calls the text."""
    for number, raw in enumerate(stream, 1):  # a binary stream ends its lines at \n alone
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            found = "It looks like UTF-16" if utf16 else f"Byte {error.start + 1} there is {raw[error.start]:#04x}"
            raise CorpusError(f"{name}, line {number}, is not UTF-8. {found}. Save the text as UTF-8.") from error
        line = line.removesuffix("\r\n").removesuffix("\n")
        if line and not line.isspace():
            yield line


class TextLines:
    """The lines of a text file, as often as you like, with only one of them in memory at a time.

    `path` is a `.txt`, a `.txt.gz`, or a tar archive together with `member`, the name of a text inside it; nothing is
    unpacked to the disk. A line is a `str` without its end, which is "\\n" or "\\r\\n" and nothing else: U+2028, U+0085
    or a vertical tab, which occur inside Indian text, stay in the line. Blank lines are left out. The text is UTF-8;
    a byte order mark at its start is dropped. It pickles as its path, so it goes to the workers of a DataLoader.
    """

    def __init__(self, path: str | Path, member: str | None = None):
        self.path, self.member = Path(path), member
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        if member is None and re.search(r"(?i)\.(tar(\.\w+)?|tgz|tbz2|txz)$", self.path.name):
            raise CorpusError(f"{path} is an archive: name the text in it, as in TextLines(path, 'folder/train.txt')")

    def __iter__(self) -> Iterator[str]:
        with self._open() as (stream, _):
            yield from _lines(stream, str(self))

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
        if self.member is None:
            with explain_damage(self.path), self.path.open("rb") as file:
                yield uncompressed(file, self.path.stat().st_size)
            return
        with open_tar(self.path) as tar:
            for member in tar:
                if member.isfile() and PurePosixPath(member.name) == self.full_name:
                    yield uncompressed(tar.extractfile(member), member.size)
                    return
        raise CorpusError(f"{self.path} holds no file {self.member!r}")

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
    as it is. "" for what can be read only once, as a generator.
    """
    if isinstance(lines, TextLines):
        about = lines.path.stat()
        return _sum_of_bytes(lines, about.st_size, about.st_mtime_ns)[:32]
    digest = hashlib.sha256()
    if iter(lines) is lines:
        return ""
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:32]


def _local(source: str | Path, folder: str | Path) -> Path:
    """The archive or folder on this computer that `source` means; a URL's file is fetched into `folder`."""
    is_url = "://" in str(source)
    path = Path(file_name(str(source))) if is_url else Path(source).expanduser()
    if not (is_url or path.exists()):
        raise FileNotFoundError(f"there is no {source} in {Path.cwd()}: give an archive, a folder or a URL")
    if path.name.lower().endswith((".txt", ".txt.gz")) and (is_url or path.is_file()):
        raise CorpusError(
            f"{source} is a single text, but a corpus has two. Make a folder with train.txt (most of the lines) and "
            "test.txt (the others, say every 50th line: the model must not see them), and give the folder."
        )
    return download(str(source), folder) if is_url else path


def _begun(text: TextLines, file: BinaryIO, size: int) -> tuple[TextLines, bytes | str | None]:
    """A text, and how it begins: about.json with its bytes, any other file with its first line; None if it has none."""
    if text.full_name.name == "about.json":
        return text, file.read(1 << 20)
    stream, num_bytes = uncompressed(file, size)
    if num_bytes is not None:
        text.num_bytes = num_bytes
    return text, next(_lines(stream, str(text)), None)


@lru_cache(maxsize=16)  # to read an archive through takes time: once is enough, until the file changes
def _files_of_archive(path: Path, names: tuple[str, ...], size: int, changed: int) -> list[tuple]:
    found = []
    with open_tar(path) as tar:
        for member in tar:
            if member.isfile() and PurePosixPath(member.name).name in names:
                found.append(_begun(TextLines(path, member.name), tar.extractfile(member), member.size))
        check_end(tar)
    return found


def _files(path: Path, names: tuple[str, ...]) -> list[tuple[TextLines, bytes | str | None]]:
    """Each file of one of these names in a folder or an archive, wherever it lies inside, `_begun`."""
    if not path.is_dir():
        return _files_of_archive(path, names, path.stat().st_size, path.stat().st_mtime_ns)
    found = []
    for inside in sorted(path.rglob("*")):
        if inside.name in names and inside.is_file():
            with explain_damage(inside), inside.open("rb") as file:
                found.append(_begun(TextLines(inside), file, inside.stat().st_size))
    return found


def _parsed_about(about: TextLines, content: bytes) -> dict:
    try:
        parsed = json.loads(content)
        if not isinstance(parsed, dict):
            raise ValueError(f"it must be an object {{…}}, not {parsed!r:.60}")
    except ValueError as error:
        raise CorpusError(f"{about} cannot be used: {error}") from error
    return parsed


def _corpus(path: Path, files: Iterable[tuple[TextLines, bytes | str | None]]) -> tuple[TextLines, TextLines, dict]:
    """The training text, the test text, and what the about.json beside the first one says."""
    texts: dict[str, list[TextLines]] = {"train.txt": [], "test.txt": []}
    abouts: dict[PurePosixPath, tuple[TextLines, bytes]] = {}  # by folder
    for text, begins in files:
        if text.full_name.name == "about.json":
            abouts[text.full_name.parent] = text, begins
        elif begins is None:
            raise CorpusError(f"{text} is empty: it needs one sentence or document per line")
        else:
            texts[text.full_name.name.removesuffix(".gz")].append(text)
    for name, found in texts.items():
        if len(found) != 1:
            there = ", ".join(map(str, found)) or "none"
            raise CorpusError(f"{path} must hold one train.txt and one test.txt. What it has as {name}: {there}")
    [train], [test] = texts.values()
    folder = train.full_name.parent
    return train, test, _parsed_about(*abouts[folder]) if folder in abouts else {}


def train_and_test_lines(source: str | Path, *, folder: str | Path = DOWNLOADS) -> tuple[TextLines, TextLines]:
    """The training and the test text of a corpus.

    `source` is a URL (its file is kept in `folder`), a tar archive, or a folder. `train.txt` and `test.txt` (or
    `train.txt.gz`, `test.txt.gz`) may lie anywhere inside, once each. An archive is read through once to be sure.
    """
    path = _local(source, folder)
    return _corpus(path, _files(path, CORPUS_FILES))[:2]


def read_about(source: str | Path, *, folder: str | Path = DOWNLOADS) -> dict:
    """What `about.json` beside `train.txt` says, such as `{"test_floor_bits_per_byte": 0.15}`; {} if there is none.

    Where there are no texts but JSON Lines, such as questions, it is the only `about.json` that there is.
    """
    path = _local(source, folder)
    files = _files(path, CORPUS_FILES)
    if [text.full_name.name for text, _ in files] == ["about.json"]:
        return _parsed_about(*files[0])
    return _corpus(path, files)[2]


def json_lines(
    source: str | Path, name: str = "train.jsonl", *, folder: str | Path = DOWNLOADS, optional: bool = False
) -> Iterator[dict]:
    """The objects of a JSON Lines text (one `{…}` per line, UTF-8), one after the other.

    `source` is the `.jsonl` file itself, or a folder, a tar archive or the URL of one that holds `name` once; with
    `optional` it may also lack it, and then there are none.
    Raises CorpusError, with the number of the line, for what is not a JSON object.
    """
    path = _local(source, folder)
    is_it = path.is_file() and path.name.lower().endswith((".jsonl", ".jsonl.gz"))
    texts = [TextLines(path)] if is_it else [text for text, _ in _files(path, (name,))]
    if optional and not texts:
        return
    if len(texts) != 1:
        raise CorpusError(f"{path} must hold one {name}. What it has: {', '.join(map(str, texts)) or 'none'}")
    for number, line in enumerate(texts[0], 1):
        try:
            found = json.loads(line)
        except ValueError as error:
            raise CorpusError(f"{texts[0]}, line {number}, is not JSON ({error}): {line[:60]!r}") from None
        if not isinstance(found, dict):
            raise CorpusError(f"{texts[0]}, line {number}, is not a JSON object {{…}}: {line[:60]!r}")
        yield found
