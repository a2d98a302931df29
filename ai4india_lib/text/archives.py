"""Opens and unpacks archives (.tar, .tar.gz, .tar.bz2, .tar.xz) that may be damaged, cut off or hostile."""

import codecs
import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..basics.files import replace_folder
from .download import CHUNK

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without xz
    LZMAError = EOFError


MAX_FILES = 10_000  # in an archive, folders count too
MAX_BYTES = 20 * 2**30
MAX_HEADER = 1 << 20  # bytes of a name or a comment in an archive


class CorpusError(ValueError):
    """The text or the archive is not what it should be; the message says what to do."""


@contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Turn what tarfile, gzip, bz2 and xz raise on bad bytes into a CorpusError that helps."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the archive's
            raise
        raise CorpusError(f"{path} cannot be read as an archive. {_hint(path, error)}") from error


def _hint(path: Path, error: Exception) -> str:
    """What to do with a file that is not the archive it was taken for."""
    with path.open("rb") as file:
        head = file.read(1000)
    if head.startswith(b"PK"):
        return "Is it a zip? Unpack it and give the folder."
    if head.startswith(b"<"):
        return "Is it a web page and not the file?"
    with suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut off
        if head and b"\0" not in head and not path.name.endswith((".gz", ".tar", ".bz2", ".xz")):
            return "It looks like plain text: give it a name that ends in .txt, or in .jsonl or .csv if it is such."
    damaged = "It is damaged, cut off, or no archive: get it again, or pack it as .tar.gz."
    return f"{damaged} (The reader says: {' '.join(str(error).split())})"


_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Member(tarfile.TarInfo):
    """A file in an archive. tarfile reads a name of a gigabyte as willingly as one of ten letters: this one doesn't."""

    def _proc_member(self, archive):
        if self.type in _HEADERS and self.size > MAX_HEADER:
            raise tarfile.ReadError(f"a name or comment of {self.size:,} bytes")
        return super()._proc_member(archive)


@contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """A tar archive, open for reading; bad bytes in it become a CorpusError that helps."""
    with explain_damage(path), tarfile.open(path, "r:*", tarinfo=_Member) as tar:
        yield tar


def members(tar: tarfile.TarFile, max_bytes: int, max_files: int, advice: str) -> Iterator[tarfile.TarInfo]:
    """The members of an archive, one after the other; an archive of too many, or of too many bytes, is refused."""
    num_bytes = 0
    for num_files, member in enumerate(tar, 1):
        num_bytes += member.size
        if num_files > max_files or num_bytes > max_bytes:
            limits = f"max_files={max_files} or max_bytes={max_bytes}"
            raise CorpusError(f"{tar.name} holds more than {limits}: {advice}")
        yield member


def check_end(tar: tarfile.TarFile) -> None:
    """tarfile takes a missing or a broken header for the end. After a true end there are only zeros."""
    end_mark = tar.fileobj.tell() - tar.offset
    rest = tar.fileobj.read(1 << 20)  # reading to the end also makes gzip check its sum
    if end_mark < tarfile.BLOCKSIZE or rest.strip(b"\0"):
        raise tarfile.ReadError("the end mark is missing")


def extract(archive: str | Path, folder: str | Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> Path:
    """Unpack a tar archive (plain, gz, bz2 or xz) as the new folder `folder`, and return its path.

    Archives can be hostile: tarfile's `data` filter keeps every file inside the folder, links and devices are refused
    (text needs none), and no more than `max_bytes` and `max_files` (folders count too) are written.
    All is unpacked beside the folder, and renamed at the very end: there is never half of it.
    """
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError("this Python cannot unpack archives safely: update to 3.11.4, 3.12 or later")
    archive, folder = Path(archive), Path(folder)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists: delete it, or unpack {archive} to another folder")

    def unpack(beside: Path) -> None:
        with open_tar(archive) as tar:
            for member in members(tar, max_bytes, max_files, "if you trust it, raise the limit"):
                if not (member.isfile() or member.isdir()):
                    raise CorpusError(f"{archive} holds {member.name!r}, a link or a device: it was not unpacked")
                try:
                    tar.extract(member, beside, filter="data")
                except tarfile.FilterError as error:
                    raise CorpusError(f"{archive} is not safe, it was not unpacked: {error}") from error
            check_end(tar)
        if folder.is_dir():  # empty: out of the way of the new one
            folder.rmdir()

    replace_folder(folder, unpack)
    return folder


def uncompressed(file: BinaryIO, size: int) -> tuple[BinaryIO, int | None]:
    """The bytes of a text that may be gzip, and their number if that is known without reading them."""
    file = io.BufferedReader(file, CHUNK)
    if file.peek(2)[:2] == b"\x1f\x8b":  # gzip, whatever its name: no UTF-8 text begins so
        return io.BufferedReader(gzip.GzipFile(fileobj=file), CHUNK), None
    return file, size
