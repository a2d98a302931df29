"""The marking itself: answers go to a process of their own, which is watched, ended in time, and started anew."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from ...checks.exercises import COURSE
from .answers import SETUP, Attempt

START = 180.0  # seconds in which a process must have loaded torch, also on an old PC with other work
LAZY = 4  # times the limit of computing seconds: so long may an answer take that sleeps or waits
WHOLE = 6  # times the limit, where the whole notebook must run
LOOK = 0.03  # seconds between two looks at the memory
ENDED = "It ended the process that marks."


@dataclass(frozen=True)
class Mark:
    """What is said of an answer: right, not yet, not done, or one of the words of `STOPPED`."""

    verdict: str
    said: str = ""


class Marker:
    """Judges attempts, one after the other. A context manager: in the end no process and no file is left.

    `seconds` of computing and `memory` bytes are what one answer may take. Nobody's code can read the folder `closed`.
    """

    def __init__(self, lessons: set[str], closed: Path, *, seconds: float = 10.0, memory: int = 2_000_000_000):
        self.lessons, self.seconds, self.memory = sorted(lessons), seconds, memory
        self.closed = [str(closed.resolve()), str(COURSE / "notebooks" / "solutions")]
        self.forks, self.process, self.seen = sys.platform == "linux", None, {}

    def __enter__(self) -> Marker:
        self.folder = Path(tempfile.mkdtemp(prefix="ai4india-class-"))
        return self

    def __exit__(self, *_) -> None:
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def mark(self, attempt: Attempt) -> Mark:
        """Judge one answer: only the cells that it needs, and the whole notebook where those cannot run alone."""
        if attempt.broken:
            return Mark("no Python", f"Its cell cannot be read: {attempt.broken}.")
        pieces = [
            ("<the lesson>", piece.text, 0)
            if piece.of_the_lesson
            else (f"<cell {piece.cell + 1}>", piece.text, piece.line)
            for piece in attempt.pieces
        ]
        cells = {f"<cell {number}>": cell for number, cell in enumerate(attempt.cells, 1)}
        used = {name: cells[name] for name, _, _ in pieces if name in cells}
        reply = self._judge(attempt.exercise, pieces, used, attempt.answer, self.seconds)
        lacking = reply["failed"] or "stopped with NameError" in reply["said"]
        if lacking and reply["verdict"] not in ("right", "time", "memory", "changed"):
            first = [*cells.items()][: attempt.last + 1]
            whole = [(name, cell, 0) for name, cell in first if SETUP not in cell]
            again = self._judge(attempt.exercise, whole, dict(first), attempt.answer, self.seconds * WHOLE)
            reply = again if again["verdict"] == "right" else reply
        return Mark(reply["verdict"], reply["said"])

    def fresh(self) -> None:
        """Begin with another learner: where processes cannot be forked, with another process."""
        if not self.forks:
            self._end()

    def _judge(self, exercise: str, pieces: list, cells: dict[str, str], answer: str, seconds: float) -> dict:
        """A piece is (its cell, its text, the lines before it); `cells` are shown where an error is told."""
        job = {"exercise": exercise, "pieces": pieces, "cells": cells, "answer": answer}
        job |= {"seconds": seconds, "memory": self.memory}
        key = hashlib.sha256(json.dumps(job).encode()).digest()
        if key not in self.seen:
            self.seen[key] = self._asked(job | {"seal": secrets.token_hex(8)})
        return self.seen[key]

    def _asked(self, job: dict) -> dict:
        try:
            if self.process is None:
                self._start()
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            reply = self._watched(job)
        except (OSError, EOFError):
            reply = {"verdict": "stopped", "said": ENDED}
            self._end()
        if not self.forks and reply["verdict"] == "changed":
            self._end()
        return {"failed": ""} | reply

    def _watched(self, job: dict) -> dict:
        """The reply to a job; or why its process had to be ended."""
        pid, why, begun = None, None, time.monotonic()
        while True:
            with suppress(queue.Empty):
                heard = self.replies.get(timeout=LOOK)
                if heard is None:
                    raise EOFError
                if "process" in heard:
                    pid, started = heard["process"], _computed(heard["process"])
                    continue
                self._tidy(pid)
                if why is None and "seal" in heard and heard["seal"] != job["seal"]:
                    return {"verdict": "changed", "said": "It writes a verdict of its own."}
                return why or heard
            if why is None and (why := self._too_much(pid, started if pid else 0.0, begun, job["seconds"])):
                _kill(pid or self.process.pid)
                if pid == self.process.pid or pid is None:
                    self._end()
                    return why

    def _too_much(self, pid: int | None, started: float, begun: float, seconds: float) -> dict | None:
        waited = time.monotonic() - begun
        if pid is not None and _resident(pid) > self.memory + 500_000_000:
            return {"verdict": "memory", "said": f"It takes more than {self.memory / 1e9:g} GB of memory."}
        if waited > LAZY * seconds + START * (pid is None) or (pid and _computed(pid) - started > seconds):
            return {
                "verdict": "time",
                "said": f"It did not end within {seconds:g} seconds: is there a loop without end?",
            }
        return None

    def _tidy(self, pid: int | None) -> None:
        """End what an answer left running, and delete what it wrote."""
        if pid not in (None, self.process.pid):
            _end_session(pid)
        for left in self.folder.glob("room/*"):
            shutil.rmtree(left, ignore_errors=True)

    def _start(self) -> None:
        paths = [str(COURSE), os.environ.get("PYTHONPATH", "")]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = os.environ | threads | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment |= {"AI4INDIA_PROGRESS": "off", "MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}
        (room := self.folder / "room").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ai4india_lib.commands.classroom.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=room, env=environment,
            encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        self.replies = queue.Queue()
        threading.Thread(target=_listen, args=(self.process.stdout, self.replies), daemon=True).start()
        start = {"room": str(room), "closed": self.closed, "lessons": self.lessons, "memory": self.memory}
        start["forks"] = self.forks
        self.process.stdin.write(json.dumps(start) + "\n")
        self.process.stdin.flush()
        try:
            ready = self.replies.get(timeout=START)
        except queue.Empty:
            ready = None
        if ready is None:
            self._end()
            raise ValueError(f"the process that marks did not start within {START:g} seconds")

    def _end(self) -> None:
        if self.process is not None:
            _kill(self.process.pid)
            for stream in (self.process.stdin, self.process.stdout):
                with suppress(OSError):
                    stream.close()
            self.process.wait()
            self.process = None


def _listen(stream, replies: queue.Queue) -> None:
    """Hand on what the process says; None when it has ended."""
    with suppress(ValueError, OSError):
        for line in stream:
            replies.put(json.loads(line))
    replies.put(None)


def _resident(pid: int) -> int:
    with suppress(psutil.Error):
        return psutil.Process(pid).memory_info().rss
    return 0


def _computed(pid: int) -> float:
    """Seconds that a process and those it started have computed."""
    with suppress(psutil.Error):
        return sum(psutil.Process(pid).cpu_times()[:4])
    return 0.0


def _kill(pid: int) -> None:
    """End a process, with all that it has started."""
    with suppress(psutil.Error):
        own = psutil.Process(pid)
        for one in [*own.children(recursive=True), own]:
            with suppress(psutil.Error):
                one.kill()
    _end_session(pid)


def _end_session(pid: int) -> None:
    """End what is left of the session that this process began."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
