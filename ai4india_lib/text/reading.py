"""Bytes → lines: the one place that knows what a text looks like, and says what is wrong where it does not.

All texts are read here: stories, prompts, JSON Lines, from a file, a `.gz` or an archive. A text is UTF-8. Its lines
end at "\\n" or "\\r\\n" and nowhere else, and none of them takes more memory than `LONGEST_LINE`.
"""

import codecs
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from .archives import CorpusError
from .download import CHUNK

LONGEST_LINE = 1_000_000  # bytes: what is longer comes in pieces
MOST_BLANK_LINES = 1_000_000  # in a row
_HEAD = 1 << 16  # bytes at the beginning that show what a file is

_OTHER_FILES = {
    b"PK\x03\x04": "a zip, as .docx and .xlsx are",
    b"%PDF-": "a PDF",
    b"{\\rtf1": "an RTF of a word processor",
    b"\xd0\xcf\x11\xe0": "an old .doc or .xls",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"BZh91AY&SY": "a .bz2",
    b"\xfd7zXZ": "an .xz",
    b"7z\xbc\xaf": "a .7z",
    b"Rar!\x1a": "a .rar",
    b"(\xb5/\xfd": "a .zst",
}
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def numbered_lines(stream: BinaryIO, name: str, *, in_pieces: bool = True) -> Iterator[tuple[int, str]]:
    """Each line that is not blank, without its end, and its number in the file; an error calls the text `name`.

    A line of more than `LONGEST_LINE` bytes comes in pieces of at most that, cut at a space where there is one, all
    with its number, and a warning says so once; without `in_pieces` it is an error.
    Raises CorpusError for what is not UTF-8, with the line and what it looks like.
    """
    if not isinstance(stream, io.BufferedReader):
        stream = io.BufferedReader(stream, CHUNK)
    _check_head(stream.peek(_HEAD)[:_HEAD], name)
    number, filled, rest, told = 1, 1, b"", False  # filled: the last line with text; rest: what a piece has left
    while raw := rest + stream.readline(LONGEST_LINE + 1 - len(rest)):
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        rest = b""
        if ends := raw.endswith(b"\n"):
            raw = raw[:-1].removesuffix(b"\r")
        elif len(raw) > LONGEST_LINE:
            raw, rest = _cut(raw)
            told = told or _tell_of_long_line(f"{name}, line {number},", in_pieces)
        line = _decoded(raw, name, number)
        if line and not line.isspace():
            filled = number
            yield number, line
        elif number - filled > MOST_BLANK_LINES:
            raise CorpusError(f"{name} has nothing but blank lines after line {filled}: is it damaged?")
        number += ends


def _cut(raw: bytes) -> tuple[bytes, bytes]:
    """Both parts of a long line: at the last space of its last 1,000 bytes, else between two characters."""
    if (end := raw.rfind(b" ", len(raw) - 1000)) < 0:
        end = len(raw) - 1
        while end > len(raw) - 4 and raw[end] & 0xC0 == 0x80:  # inside a character of UTF-8
            end -= 1
    return raw[:end], raw[end:]


def _tell_of_long_line(where: str, in_pieces: bool) -> bool:
    long = f"{where} has more than {LONGEST_LINE:,} bytes"
    if not in_pieces:
        raise CorpusError(f"{long}: is its line end missing?")
    instead = "write one sentence or one document a line"
    warnings.warn(f"{long}: it is read in pieces of that size, each as a line of its own; {instead}", stacklevel=2)
    return True


def _check_head(head: bytes, name: str) -> None:
    """Refuse what shows in its first bytes that it is no UTF-8."""
    for start, kind in _OTHER_FILES.items():
        if head.startswith(start):
            raise CorpusError(f"{name} is not plain text: it is {kind}. Save the text as UTF-8, one document a line.")
    if any(head.startswith(mark) for mark in _BYTE_ORDER_MARKS) or b"\0" in head:
        raise _not_utf8(head, name, head.count(b"\n", 0, max(head.find(b"\0"), 0)) + 1)


def _decoded(raw: bytes, name: str, number: int) -> str:
    try:
        line = raw.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(raw, name, number, error) from error
    if "\0" in line:
        raise _not_utf8(raw, name, number)
    return line


def _not_utf8(raw: bytes, name: str, number: int, error: UnicodeDecodeError | None = None) -> CorpusError:
    if encoding := _wide_encoding(raw[:_HEAD]):
        found = f"It looks like {encoding}"
    elif error is not None:
        found = f"Byte {error.start + 1} there is {raw[error.start]:#04x}"
    elif raw.strip(b"\0"):
        found = "It holds zero bytes (NUL): it is no text, or damaged, or looks like UTF-16 in parts"
    else:
        found = "It holds nothing but zero bytes (NUL): the file is damaged"
    return CorpusError(f"{name}, line {number}, is not UTF-8. {found}. Save the text as UTF-8.")


def _wide_encoding(raw: bytes) -> str:
    """UTF-16 or UTF-32, if these bytes are Indian or European text in it; else ""."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if raw.startswith(mark):
            return encoding
    for width, encoding in ((4, "UTF-32"), (2, "UTF-16")):
        for order in ("le", "be"):
            for first in range(width):  # a line may begin inside of a character
                part = raw[first : len(raw) - (len(raw) - first) % width]
                text = part.decode(f"{encoding}-{order}", errors="replace")
                if text and sum(
                    " " <= c < "\u0e00" or "\u2000" <= c < "\u2100" or c in "\r\n\t" for c in text
                ) >= 0.9 * len(text):
                    return encoding
    return ""


class Record(dict):
    """An object of JSON Lines that knows `where` it stands: "talks.jsonl, line 50"."""

    __slots__ = ("where",)

    def __init__(self, content: dict, where: str):
        super().__init__(content)
        self.where = where


def place_of(record: object, otherwise: str) -> str:
    """Where a record stands, for an error text; `otherwise` for a dict that somebody made in Python."""
    return getattr(record, "where", otherwise)


@contextmanager
def explain_record(where: str) -> Iterator[None]:
    """Turn an error about a record into a CorpusError that begins with `where` the record stands."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CorpusError(f"{where}: {problem}") from None


def parse_record(line: str, where: str) -> Record:
    """The JSON object in a line. Raises CorpusError, which begins with `where`, for anything else."""
    wanted = "Expected are JSON Lines: one object {…} on each line, whole, and nothing around them"
    try:
        found = json.loads(line)
        if not isinstance(found, dict):
            raise CorpusError(f"{where}, is not a JSON object {{…}}: {line[:60]!r}. {wanted}.")
        if "\\u" in line:
            json.dumps(found, ensure_ascii=False).encode()  # "\ud83d" alone would be half a character
    except UnicodeEncodeError as error:
        half = f"U+{ord(error.object[error.start]):04X}"
        raise CorpusError(f"{where}, holds half a character ({half}): write the text itself, as UTF-8") from None
    except RecursionError:
        raise CorpusError(f"{where}, is nested too deeply: {line[:60]!r}. {wanted}.") from None
    except ValueError as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{where}, is not JSON ({error}): {line[:60]!r}. {wanted}.") from None
    return Record(found, where)
