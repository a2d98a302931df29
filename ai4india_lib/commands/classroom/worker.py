"""The process in which a class's answers run: `python -m ai4india_lib.commands.classroom.worker`, started by `marker`.

It reads jobs, one a line, and writes verdicts. On Linux each job has a process of its own, forked from this one, which
has torch loaded; elsewhere the jobs of one learner share this one. What an answer may do stands in `fence`.

**This is no sandbox.** A learner's code and the check run in one process: who knows Python's inside well can deceive
the check. It holds against accidents, and against pranks.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import linecache
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ... import checks
from .fence import MOST_PROCESSES, fence, guard, limit, processes_now

LONGEST = 2000  # characters of a verdict


def known_names() -> dict[str, object]:
    """What the setup cell of a lesson leaves behind, under its names."""
    import importlib.metadata
    import importlib.util
    import subprocess

    import matplotlib
    import torch

    import ai4india_lib

    return {
        "importlib": importlib, "os": os, "subprocess": subprocess, "sys": sys, "tempfile": tempfile, "Path": Path,
        "torch": torch, "matplotlib": matplotlib, "ai4india_lib": ai4india_lib, "check": checks.check,
        "root": checks.exercises.COURSE, "here": checks.exercises.COURSE,
    }  # fmt: skip


def judge(job: dict, names: dict) -> dict:
    """Run the pieces of a job, hand its answer to the check, and say what came of it."""
    import torch

    function = checks._EXERCISES[job["exercise"]]  # before any code of a learner has run
    done, not_yet, before = checks.NotDone, checks.NotYet, _watched()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sys.modules["__main__"] = own = ModuleType("__main__")
    space = vars(own) | {"__builtins__": builtins, **names}
    failed = _run(job, space)
    try:
        answer = eval(job["answer"], space)
        if changed := _changes(before):
            return _verdict("changed", f"It changes `{changed}`, with which answers are judged.", failed)
        if answer is None or answer is ...:
            raise done
        reply = _verdict("right", function(answer), "")
    except done:
        reply = _verdict("not done", "", failed)
    except not_yet as wrong:
        reply = _verdict("not yet", str(wrong), failed)
    except MemoryError:
        reply = _verdict("memory", "It asks for more memory than is allowed.", failed)
    except BaseException as error:  # exit() too
        said = "It ends the program." if isinstance(error, SystemExit) else f"It stops with {_named(error)}."
        reply = _verdict("stopped", failed or said, failed or "NameError" * isinstance(error, NameError))
    if changed := _changes(before):
        return _verdict("changed", f"It changes `{changed}`, with which answers are judged.", "")
    return reply


def _run(job: dict, space: dict) -> str:
    """Execute the pieces of a job one after the other; what went wrong in the first that failed, or ""."""
    failed = ""
    for name, source in job["cells"].items():
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    for name, text, line in job["pieces"]:
        try:
            exec(compile(ast.increment_lineno(ast.parse(text, name), line), name, "exec"), space)
        except BaseException as error:
            said = "It ends the program" if isinstance(error, SystemExit) else f"It stops with {_named(error)}"
            failed = failed or f"{said}, in line {_line(error, name)} of {name.strip('<>')}."
    return failed


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _line(error: BaseException, name: str) -> int:
    step, line = error.__traceback__, getattr(error, "lineno", None) or 0
    while step:
        line = step.tb_lineno if step.tb_frame.f_code.co_filename == name else line
        step = step.tb_next
    return line


def _verdict(verdict: str, said: str, failed: str) -> dict:
    """`failed` says that a piece could not be run: then the whole notebook may do better."""
    return {"verdict": verdict, "said": str(said)[:LONGEST], "failed": failed[:LONGEST]}


def _watched() -> dict[tuple[str, str], object]:
    """Everything with which answers are judged, by name: so it can be seen whether an answer changed it."""
    import inspect
    import math

    import torch

    places = {"builtins": builtins, "math": math, "inspect": inspect, "os": os, "json": json, "torch": torch}
    places |= {"json.encoder": json.encoder, "torch.Tensor": torch.Tensor, "torch.nn.functional": torch.nn.functional}
    places |= {name: module for name, module in sys.modules.items() if name.startswith("ai4india_lib") and module}
    found = {(place, name): value for place, owner in places.items() for name, value in [*vars(owner).items()]}
    codes = {
        key: value.__code__ for key, value in found.items() if key[0].startswith("ai4") and hasattr(value, "__code__")
    }
    checked = {("exercises", name): function for name, function in checks._EXERCISES.items()}
    return found | {(f"{place}()", name): code for (place, name), code in codes.items()} | checked


def _changes(before: dict) -> str:
    """The name of something that is another one by now, or gone; "" where all is as it was. New names do not matter."""
    ignored = ("_", "annotations")
    now = _watched()
    gone = object()
    for (place, name), value in before.items():
        of_a_module = name.startswith("__") and place != "torch.Tensor"
        if now.get((place, name), gone) is not value and not of_a_module and name not in ignored:
            return f"{place.removesuffix('()')}.{name}"
    return ""


# --- the place where it runs ---


def _silence() -> None:
    """Nothing to read, and what is printed goes nowhere."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        nowhere = os.open(os.devnull, mode)
        os.dup2(nowhere, number)
        os.close(nowhere)


def _settle(room: Path) -> None:
    """Work in `room`, an empty folder, with what lessons read beside it."""
    room.mkdir(exist_ok=True)
    for name in ("data", "models"):
        with contextlib.suppress(OSError):  # Windows lets not everybody make links
            (room / name).symlink_to(checks.exercises.COURSE / name, target_is_directory=True)
    os.chdir(room)
    tempfile.tempdir, sys.dont_write_bytecode = str(room), True
    os.environ["HOME"] = str(room)


# --- jobs ---


def _forked(job: dict, names: dict, room: Path, closed: list[str], processes: int, tell) -> dict:
    """Judge in a process of its own; what it was when it ended without a word."""
    reading, writing = os.pipe()
    child, write, leave = os.fork(), os.write, os._exit
    if child == 0:
        try:
            os.setsid()
            os.closerange(3, writing)
            os.closerange(writing + 1, 1024)
            _settle(room)
            limit(job["memory"], job["seconds"], processes)
            fence(room)
            guard(room, closed)
            reply = json.dumps(judge(job, names) | {"seal": job["seal"]})
            write(writing, reply.encode())
        finally:
            leave(0)
    os.close(writing)
    tell({"process": child})
    _, status = os.waitpid(child, 0)
    os.set_blocking(reading, False)
    try:
        heard = os.read(reading, 60_000)
    except BlockingIOError:
        heard = b""
    os.close(reading)
    with contextlib.suppress(ValueError):
        reply = json.loads(heard)
        if isinstance(reply, dict) and reply.get("seal") == job["seal"]:
            return reply
        return _verdict("changed", "It writes a verdict of its own.", "")
    code = os.waitstatus_to_exitcode(status)
    said = f"It was ended by signal {-code}." if code < 0 else "It ends its process."
    return _verdict("memory" if code == -9 else "stopped", said, "")


def main() -> None:
    """Judge jobs from the standard input until it ends. The first line says where to work, and what nobody may read."""
    start = json.loads(sys.stdin.readline())
    jobs = os.fdopen(os.dup(0), encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    _silence()

    def tell(what: dict) -> None:
        replies.write(json.dumps(what) + "\n")
        replies.flush()

    names = known_names()
    for lesson in start["lessons"]:
        import_module(f"{checks.__name__}.lesson_{lesson}")
    room, number, processes = Path(start["room"]), 0, processes_now() + MOST_PROCESSES
    if not start["forks"]:
        _settle(room)
        limit(start["memory"], 10**6, processes)
        fence(room)
        guard(room, start["closed"])
    tell({"ready": True})
    for line in jobs:
        job, number = json.loads(line), number + 1
        if start["forks"]:
            tell(_forked(job, names, room / str(number), start["closed"], processes, tell))
        else:
            tell({"process": os.getpid()})
            tell(judge(job, names) | {"seal": job["seal"]})


if __name__ == "__main__":
    main()
