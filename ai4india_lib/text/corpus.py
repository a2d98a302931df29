"""Gets text: from an archive, a folder or a URL, unpacked safely, streamed line by line.

A corpus is a `.tar.gz` (or a folder) with `train.txt` and `test.txt` somewhere inside: UTF-8, one sentence or one
document per line. `train_and_test_lines` finds both, by path or URL; `TextLines` streams them, however large.
Questions, conversations and pairs of sentences come as JSON Lines: `json_lines` reads them from the same places.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from .download import CHUNK, DownloadError, download, file_name

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without xz
    LZMAError = EOFError


__all__ = ["CorpusError", "DownloadError", "TextLines", "download", "extract", "json_lines"]
__all__ += ["read_about", "train_and_test_lines"]

DOWNLOADS = Path("data/downloads")


class CorpusError(ValueError):
    """The text or the archive is not what it should be; the message says what to do."""


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Turn what tarfile, gzip, bz2 and xz raise on bad bytes into a CorpusError that helps."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the archive's
            raise
        with path.open("rb") as file:
            start = file.read(1)
        hints = {b"P": "Is it a zip? Unpack it and give the folder.", b"<": "Is it a web page and not the file?"}
        hint = hints.get(start, "It is damaged, cut off, or no archive: get it again, or pack it as .tar.gz.")
        raise CorpusError(f"{path} cannot be read as an archive. {hint} (The reader says: {error})") from error


@contextmanager
def _open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    with _explain_damage(path), tarfile.open(path, "r:*") as tar:
        yield tar


def _check_end(tar: tarfile.TarFile) -> None:
    """tarfile takes a missing or a broken header for the end. After a true end there are only zeros."""
    end_mark = tar.fileobj.tell() - tar.offset
    rest = tar.fileobj.read(1 << 20)  # reading to the end also makes gzip check its sum
    if end_mark < tarfile.BLOCKSIZE or rest.strip(b"\0"):
        raise tarfile.ReadError("the end mark is missing")


def extract(archive: str | Path, folder: str | Path, *, max_bytes: int = 20 * 2**30, max_files: int = 10_000) -> Path:
    """Unpack a tar archive (plain, gz, bz2 or xz) as the new folder `folder`, and return its path.

    Archives can be hostile: tarfile's `data` filter keeps every file inside the folder, links and devices are refused
    (text needs none), and no more than `max_bytes` and `max_files` (folders count too) are written.
    All is unpacked beside the folder, and renamed at the very end: there is never half of it.
    """
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError("this Python cannot unpack archives safely: update to 3.10.12, 3.11.4, 3.12 or later")
    archive, folder = Path(archive), Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists: delete it, or unpack {archive} to another folder")
    fresh = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        with _open_tar(archive) as tar:
            fresh.mkdir(parents=True)
            _unpack(tar, fresh, archive, max_bytes, max_files)
            _check_end(tar)
        if folder.is_dir():
            folder.rmdir()
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _unpack(tar: tarfile.TarFile, folder: Path, archive: Path, max_bytes: int, max_files: int) -> None:
    num_bytes = 0
    for num_files, member in enumerate(tar, 1):
        num_bytes += member.size
        if num_files > max_files or num_bytes > max_bytes:
            limits = f"max_files={max_files} or max_bytes={max_bytes}"
            raise CorpusError(f"{archive} holds more than {limits}: if you trust it, raise the limit")
        if not (member.isfile() or member.isdir()):
            raise CorpusError(f"{archive} holds {member.name!r}, a link or a device: it was not unpacked")
        try:
            tar.extract(member, folder, filter="data")
        except tarfile.FilterError as error:
            raise CorpusError(f"{archive} is not safe, it was not unpacked: {error}") from error


class TextLines:
    """The lines of a text file, as often as you like, with only one of them in memory at a time.

    `path` is a `.txt`, a `.txt.gz`, or a tar archive together with `member`, the name of a text inside it; nothing is
    unpacked to the disk. A line is a `str` without its end, which is "\\n" or "\\r\\n" and nothing else: U+2028, U+0085
    or a vertical tab, which occur inside Indian text, stay in the line. Blank lines are left out. The text is UTF-8;
    a byte order mark at its start is dropped. It pickles as its path, so it goes to the workers of a DataLoader.
    """

    def __init__(self, path: str | Path, member: str | None = None):
        self.path, self.member = Path(path), member
        self._num_bytes: int | None = None
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        if member is None and re.search(r"(?i)\.(tar(\.\w+)?|tgz|tbz2|txz)$", self.path.name):
            raise CorpusError(f"{path} is an archive: name the text in it, as in TextLines(path, 'folder/train.txt')")

    def __iter__(self) -> Iterator[str]:
        with self._open() as (stream, _):
            yield from _lines(stream, str(self))

    @property
    def num_bytes(self) -> int:
        """Size of the uncompressed text in bytes, line ends included. For `.gz` this reads it through, once."""
        if self._num_bytes is None:
            with self._open() as (stream, size):
                known = size is not None
                self._num_bytes = size if known else sum(map(len, iter(partial(stream.read, CHUNK), b"")))
        return self._num_bytes

    @contextmanager
    def _open(self) -> Iterator[tuple[BinaryIO, int | None]]:
        """The bytes of the text, and their number if the file system or the archive tells it."""
        if self.member is None:
            with _explain_damage(self.path), self.path.open("rb") as file:
                yield _uncompressed(file, self.path.stat().st_size)
            return
        with _open_tar(self.path) as tar:
            for member in tar:
                if member.isfile() and PurePosixPath(member.name) == PurePosixPath(self.member):
                    yield _uncompressed(tar.extractfile(member), member.size)
                    return
        raise CorpusError(f"{self.path} holds no file {self.member!r}")

    def __str__(self) -> str:
        return self.path.as_posix() + (f" ({self.member})" if self.member else "")

    def __repr__(self) -> str:
        return f"TextLines({self.path.as_posix()!r}{f', {self.member!r}' if self.member else ''})"


def _uncompressed(file: BinaryIO, size: int) -> tuple[BinaryIO, int | None]:
    """The bytes of a text that may be gzip, and their number if that is known without reading them."""
    file = io.BufferedReader(file, CHUNK)
    if file.peek(2)[:2] == b"\x1f\x8b":  # gzip, whatever its name: no UTF-8 text begins so
        return io.BufferedReader(gzip.GzipFile(fileobj=file), CHUNK), None
    return file, size


def _lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """The lines that `TextLines` promises; `name` is what an error calls the text."""
    for number, raw in enumerate(stream, 1):  # a binary stream ends its lines at \n alone
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            found = "It looks like UTF-16" if utf16 else f"Byte {error.start + 1} there is {raw[error.start]:#04x}"
            raise CorpusError(f"{name}, line {number}, is not UTF-8. {found}. Save the text as UTF-8.") from error
        line = line[:-2] if line.endswith("\r\n") else line.removesuffix("\n")
        if line and not line.isspace():
            yield line


def train_and_test_lines(source: str | Path, *, folder: str | Path = DOWNLOADS) -> tuple[TextLines, TextLines]:
    """The training and the test text of a corpus.

    `source` is a URL (its file is kept in `folder`), a tar archive, or a folder. `train.txt` and `test.txt` (or
    `train.txt.gz`, `test.txt.gz`) may lie anywhere inside, once each. An archive is read through once to be sure.
    """
    return _texts_and_about(_local(source, Path(folder)))[:2]


def read_about(source: str | Path, *, folder: str | Path = DOWNLOADS) -> dict:
    """What `about.json` beside `train.txt` says, such as `{"test_floor_bits_per_byte": 0.15}`; {} if there is none.

    Where there are no texts but JSON Lines, such as questions, it is the only `about.json` that there is.
    """
    path = _local(source, Path(folder))
    files = _files(path)
    if [inside.name for inside, _, _ in files] == ["about.json"]:
        return _parsed_about(files[0][2], files[0][1])
    return _texts_and_about(path)[2]


def json_lines(
    source: str | Path, name: str = "train.jsonl", *, folder: str | Path = DOWNLOADS, optional: bool = False
) -> Iterator[dict]:
    """The objects of a JSON Lines text (one `{…}` per line, UTF-8), one after the other.

    `source` is the `.jsonl` file itself, or a folder, a tar archive or the URL of one that holds `name` once; with
    `optional` it may also lack it, and then there are none.
    Raises CorpusError, with the number of the line, for what is not a JSON object.
    """
    path = _local(source, Path(folder))
    if path.is_file() and path.name.lower().endswith((".jsonl", ".jsonl.gz")):
        texts = [TextLines(path)]
    elif path.is_dir():
        texts = [TextLines(inside) for inside in sorted(path.rglob(name)) if inside.is_file()]
    else:
        with _open_tar(path) as tar:
            texts = [TextLines(path, m.name) for m in tar if m.isfile() and PurePosixPath(m.name).name == name]
            _check_end(tar)
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


def _texts_and_about(path: Path) -> tuple[TextLines, TextLines, dict]:
    """The training text, the test text, and about.json of a corpus on this computer."""
    found: dict[str, list[TextLines]] = {"train.txt": [], "test.txt": []}
    abouts: dict[PurePosixPath, bytes] = {}  # folder -> content
    for place, lines, content in _files(path):
        if place.name == "about.json":
            abouts[place.parent] = content
        elif content is None:
            raise CorpusError(f"{lines} is empty: it needs one sentence or document per line")
        else:
            found[place.name.removesuffix(".gz")].append(lines)
    for name, texts in found.items():
        if len(texts) != 1:
            there = ", ".join(map(str, texts)) or "none"
            raise CorpusError(f"{path} must hold one train.txt and one test.txt. What it has as {name}: {there}")
    train, test = found["train.txt"][0], found["test.txt"][0]
    beside = abouts.get(PurePosixPath(train.member or train.path.as_posix()).parent, b"{}")
    return train, test, _parsed_about(beside, train)


def _parsed_about(content: bytes, beside: TextLines) -> dict:
    try:
        about = json.loads(content)
        if not isinstance(about, dict):
            raise ValueError(f"it must be an object {{…}}, not {about!r:.60}")
    except ValueError as error:
        raise CorpusError(f"about.json beside {beside} cannot be used: {error}") from error
    return about


def _local(source: str | Path, folder: Path) -> Path:
    """The archive or folder on this computer that `source` means."""
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


_File = tuple[PurePosixPath, TextLines, bytes | str | None]
_WANTED = ("train.txt", "train.txt.gz", "test.txt", "test.txt.gz", "about.json")


def _files(path: Path) -> Sequence[_File]:
    """Each about.json with its bytes, and each train.txt and test.txt (or .gz) with its first line, None if empty."""
    if not path.is_dir():
        status = path.stat()
        return _files_of_archive(path, status.st_size, status.st_mtime_ns)
    found = []
    for inside in sorted(path.rglob("*")):
        if inside.name in _WANTED and inside.is_file():
            with _explain_damage(inside), inside.open("rb") as file:
                found.append(_look(PurePosixPath(inside.as_posix()), TextLines(inside), file, inside.stat().st_size))
    return found


@lru_cache(maxsize=16)  # to read an archive through takes its time: once is enough, until the file changes
def _files_of_archive(path: Path, size: int, changed: int) -> Sequence[_File]:
    found = []
    with _open_tar(path) as tar:
        for member in tar:
            inside = PurePosixPath(member.name)
            if inside.name in _WANTED and member.isfile():
                found.append(_look(inside, TextLines(path, member.name), tar.extractfile(member), member.size))
        _check_end(tar)
    return found


def _look(inside: PurePosixPath, lines: TextLines, file: BinaryIO, size: int) -> _File:
    if inside.name == "about.json":
        return inside, lines, file.read(1 << 20)
    stream, lines._num_bytes = _uncompressed(file, size)
    return inside, lines, next(_lines(stream, str(lines)), None)
