"""What a learner has tried, in one small file beside the copies of the lessons: `my/progress.jsonl` in the course.

Git ignores `my/`, and nothing is sent anywhere. Each try is one line, written whole or not at all; two notebooks that
write at once wait for each other. Where nothing can be written, a check says what it has to say all the same.

The environment variable AI4INDIA_PROGRESS names another file (six who share a PC), or says `off` (tests).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from .exercises import COURSE

SWITCH = "AI4INDIA_PROGRESS"
FILE = "progress.jsonl"
LONGEST = 300  # characters that are kept of a sentence
LARGEST = 4_000_000  # bytes: a loop that calls `check` must not fill the disk
PATIENCE = 2.0  # seconds to wait for another notebook that writes
_latest: dict[str, tuple[str, str]] = {}  # what this kernel wrote last: to run a cell again is no new try


@dataclass
class Tried:
    """What was tried of one exercise: how often until it was right, and the different hints that came."""

    tries: int = 0
    solved: bool = False
    hints: list[str] = field(default_factory=list)


def progress_file() -> Path | None:
    """Where tries are kept; None where they are not: switched off, or the library stands without the course."""
    if named := os.environ.get(SWITCH):
        return None if named.lower() == "off" else Path(named)
    return COURSE / "my" / FILE if (COURSE / "notebooks").is_dir() else None


def keep_try(name: str, right: bool, said: str) -> None:
    """Note one try of the exercise `name`, unless it is the same as the one before. No error comes from here."""
    said = " ".join(said.split())[:LONGEST]
    verdict = "right" if right else "not yet"
    place = progress_file()
    if place is None or _latest.get(name) == (verdict, said):
        return
    _latest[name] = verdict, said
    line = {"exercise": name, "verdict": verdict, "said": said, "when": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    with suppress(OSError):
        place.parent.mkdir(exist_ok=True)
        _append(place, json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


def _append(place: Path, line: bytes) -> None:
    """Add a line, whole or not at all. Raises OSError where that cannot be."""
    with place.open("ab+") as file, _locked(file.fileno()):
        size = file.seek(0, os.SEEK_END)
        if size > LARGEST:
            return
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line  # a computer was switched off in the middle of one
        try:
            file.write(line)
            file.flush()
        except OSError:  # a full disk
            with suppress(OSError):
                os.ftruncate(file.fileno(), size)
            raise


@contextmanager
def _locked(file: int) -> Iterator[None]:
    """Others wait here until the block ends; after `PATIENCE`, or on a disk that knows no locks, it begins anyway."""
    end, held = time.monotonic() + PATIENCE, False
    while not held and time.monotonic() < end:
        held = _lock(file, True)
        if not held:
            time.sleep(0.01)
    try:
        yield
    finally:
        if held:
            _lock(file, False)


def _lock(file: int, wanted: bool) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        with suppress(OSError):
            os.lseek(file, 1 << 30, os.SEEK_SET)  # a byte that nobody reads; writing goes to the end all the same
            msvcrt.locking(file, msvcrt.LK_NBLCK if wanted else msvcrt.LK_UNLCK, 1)
            return True
        return False
    with suppress(OSError):
        fcntl.flock(file, (fcntl.LOCK_EX | fcntl.LOCK_NB) if wanted else fcntl.LOCK_UN)
        return True
    return False


def read_tries(text: str) -> dict[str, Tried]:
    """Exercise → what was tried of it, from the text of a progress file. Lines that are none are passed over."""
    found: dict[str, Tried] = {}
    for line in text.split("\n"):
        try:
            one = json.loads(line)
            name, right, said = str(one["exercise"]), one["verdict"] == "right", str(one["said"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        tried = found.setdefault(name, Tried())
        if tried.solved:
            continue
        tried.tries += 1
        tried.solved = right
        if not right and said not in tried.hints:
            tried.hints.append(said)
    return found


def own_tries() -> dict[str, Tried]:
    """What this learner has tried so far. Raises OSError for a file that is there and cannot be read."""
    place = progress_file()
    if place is None or not place.exists():
        return {}
    return read_tries(place.read_text(encoding="utf-8", errors="replace"))
