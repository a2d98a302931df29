"""The ids of a text, kept beside it in files that are mapped into memory: encoded once, not in every pass and run.

A folder `.encoded` beside a text has a folder for each tokenizer that read it, called by the fingerprints of both:

    ids        tokens of all documents, two bytes each (four where ids reach 65,536), as they were encoded
    starts     (documents,) where each document begins in `ids`, in the order of the text
    lengths    (documents,) its tokens
    sizes      (documents,) its bytes of UTF-8, with a line end
    about.json how many of all these

All of it may be deleted at any time. Where nothing can be written, nothing is kept, and no word is said.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np

from ..basics.files import write_json
from .corpus import TextLines, fingerprint_text

FOLDER = ".encoded"
MOST_KEPT = 8  # texts in one folder: the oldest make room
_RECORD = np.dtype([("number", "<u8"), ("start", "<u8"), ("length", "<u4"), ("size", "<u4")])
_TABLES = {"starts": ("start", "<u8"), "lengths": ("length", "<u4"), "sizes": ("size", "<u4")}


class EncodedText:
    """Documents of a text as ids, by their number; only what is looked at comes into memory."""

    def __init__(self, folder: Path):
        """Raises OSError, ValueError or KeyError for a folder that is not there, or not whole."""
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        if about["dtype"] not in ("<u2", "<u4"):
            raise ValueError(f"{folder} holds ids of another kind")
        kinds = {"ids": about["dtype"], **{name: kind for name, (_, kind) in _TABLES.items()}}
        # as plain arrays: each look at a memmap costs microseconds of Python
        parts = {name: np.asarray(np.memmap(folder / name, kind, mode="r")) for name, kind in kinds.items()}
        self.ids, self.starts, self.lengths, self.sizes = parts.values()
        if any(len(part) != about[name] for name, part in parts.items()):
            raise ValueError(f"{folder} is not whole")

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, number: int) -> np.ndarray:
        """The ids of a document, (tokens,) int64."""
        start = int(self.starts[number])
        return self.ids[start : start + int(self.lengths[number])].astype(np.int64)


class IdKeeper:
    """Writes what a pass encodes, in whatever order it comes, into a new folder; `finish` puts that in its place.

    A disk that is full, or forbidden, ends the keeping and not the pass; without a `place` nothing is kept.
    """

    def __init__(self, place: Path | None, largest_id: int):
        self.place, self.dtype = place, np.dtype("<u2" if largest_id < 1 << 16 else "<u4")
        self.beside: Path | None = None  # None: nothing is kept (any more)
        self.tokens = 0
        if place is not None:
            with suppress(OSError):
                place.parent.mkdir(exist_ok=True)
                (place.parent / ".gitignore").write_text("*\n", encoding="utf-8")
                _make_room(place.parent)
                self.beside = Path(tempfile.mkdtemp(prefix=".part-", dir=place.parent))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error) -> None:
        """What is not finished is dropped."""
        if self.beside is not None:
            shutil.rmtree(self.beside, ignore_errors=True)
            self.beside = None

    def add(self, numbers: list[int], sizes: list[int], documents: list[list[int]]) -> None:
        """Some documents: their numbers in the text, their bytes, their ids."""
        if self.beside is None:
            return
        lengths = [len(ids) for ids in documents]
        records = np.empty(len(numbers), _RECORD)
        records["number"], records["size"], records["length"] = numbers, sizes, lengths
        records["start"] = self.tokens + np.cumsum([0, *lengths[:-1]])
        self.tokens += sum(lengths)
        try:
            for name, part in (("ids", np.fromiter(chain(*documents), self.dtype)), ("records", records)):
                with (self.beside / name).open("ab") as file:
                    file.write(part.tobytes())
        except OSError:
            self.__exit__()

    def finish(self) -> None:
        """All documents are there: bring their table into the order of the text, and the folder to its place."""
        if self.beside is None or not self.tokens:
            return
        with suppress(OSError):
            records = np.fromfile(self.beside / "records", _RECORD)
            records.sort(order="number")
            counts = {"ids": self.tokens}
            for name, (field, kind) in _TABLES.items():
                records[field].astype(kind).tofile(self.beside / name)
                counts[name] = len(records)
            (self.beside / "records").unlink()
            write_json(self.beside / "about.json", {"dtype": self.dtype.str, **counts})
            self.beside.chmod(0o755)  # others may share the folder; a temporary one is its user's alone
            self.beside.rename(self.place)


def _make_room(folder: Path) -> None:
    """Make room for a new text; and drop what a killed process left half written a day ago."""
    kept = sorted(folder.glob("*/about.json"), key=lambda path: path.stat().st_mtime)
    old = [path.parent for path in kept[: max(0, len(kept) - MOST_KEPT + 1)]]
    old += [path for path in folder.glob(".part-*") if time.time() - path.stat().st_mtime > 86_400]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)


def place_of_ids(lines: Iterable[str], tokenizer: str, share: tuple[int, int] = (0, 1)) -> Path | None:
    """The folder for the ids of a text, or of the `share` (reader, readers) of its lines, by the fingerprint of the
    tokenizer; None where none can be."""
    if not (isinstance(lines, TextLines) and lines.path.is_file()):
        return None
    folder = lines.path.parent / FOLDER
    if not (folder.is_dir() or os.access(folder.parent, os.W_OK)):
        return None
    part = "" if share[1] == 1 else f"-{share[0] + 1}of{share[1]}"
    return folder / f"{fingerprint_text(lines)[:16]}-{tokenizer[:16]}{part}"


def kept_ids(lines: Iterable[str], tokenizer: str, share: tuple[int, int] = (0, 1)) -> EncodedText | None:
    """The ids of a text, or of a share of it, if an earlier pass has kept them. Arguments: see `place_of_ids`."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        if (place := place_of_ids(lines, tokenizer, share)) is not None and place.is_dir():
            return EncodedText(place)
    return None
