"""How a run goes on: checkpoints that hold all it needs, each written whole, and the two newest kept.

A checkpoint that was damaged (a power cut, a full disk, a copy that broke off) is told by its name, and the one before
it is taken. Of a folder only what a run wrote is ever deleted: known by its name and by its content.
"""

import math
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from ..basics.files import check_space, read_json, read_safetensors, replace_folder, write_json, write_safetensors

if TYPE_CHECKING:  # to see what checkpoints there are takes no torch
    from torch import Tensor

STATE = "state.json"
_FILES = {STATE, "model.safetensors", "best.safetensors", "optimizers.safetensors"}
_FIELDS = {"hyperparameters": dict, "history": dict, "facts": dict, "positions": list, "scaler": dict}
_MARK = {"written_by": "ai4india_lib, a checkpoint of a run"}  # stands in the files of tensors
_NAME = re.compile(r"step-(\d{7,})(?:-(\d+))?")
_HALF = re.compile(rf"\.{_NAME.pattern}(\.old)?\.part")  # being written, being deleted
KEPT = 2


class Checkpoints:
    """The folders `step-0000100`, `step-0000200` … of a run: named sets of tensors, and a state that fits into JSON.

    `folder` None keeps nothing. A run that starts anew replaces those of an older one, but not before its own first is
    written. Then `begin` is called with `folder`, to write there what else belongs to the run.
    """

    def __init__(self, folder: str | Path | None, begin: Callable[[Path], None] | None = None):
        self.folder = None if folder is None else Path(folder)
        self._begin, self._goes_on, self._has_saved = begin, False, False

    def save(self, step: int, tensors: "dict[str, dict[str, Tensor]]", state: dict) -> None:
        """Write all into a new folder, `{name}.safetensors` for each set of tensors; keep it and the one before it."""

        def write(beside: Path) -> None:
            sums = {}
            for name, content in tensors.items():
                write_safetensors(beside / f"{name}.safetensors", content, _MARK)
                sums[name] = _checksum(beside / f"{name}.safetensors")
            write_json(beside / STATE, {**state, "files": sums}, indent=None)
            if not self._has_saved:
                self._take_over(beside)

        newest = self._place(step)
        replace_folder(newest, write)
        until_now = [path for path in self.ours() if _order(path) <= _order(newest)]
        for old in self.ours():
            if old not in until_now[-KEPT:]:
                _delete(old)

    def check_space(self, size: float) -> None:
        """Raises OSError where those that are kept, and a new one, of `size` bytes each, have no room on the disk."""
        check_space(self.folder, (KEPT + 1) * size, "a run with checkpoints")

    def _place(self, step: int) -> Path:
        """Where the checkpoint of this step goes: beside a folder of that name that no run wrote."""
        names = (f"step-{step:07d}" + (f"-{number}" if number else "") for number in count())
        places = (self.folder / name for name in names)
        return next(place for place in places if not place.exists() or _is_ours(place))

    def ours(self) -> list[Path]:
        """The checkpoints that runs wrote, also damaged ones, the newest last."""
        found = self.folder.glob("step-*") if self.folder is not None else ()
        return sorted((path for path in found if _is_ours(path)), key=_order)

    def states(self) -> list[Path]:
        """The states of checkpoints, whole or damaged, the newest last."""
        found = self.folder.glob(f"step-*/{STATE}") if self.folder is not None else ()
        named = (path for path in found if _NAME.fullmatch(path.parent.name))
        return sorted(named, key=lambda path: _order(path.parent))

    def _readable(self, read: Callable[[Path], object], say: Callable[[str], None]) -> Iterator:
        """What `read` makes of each state, the newest first; damaged ones are told. Raises ValueError if all are."""
        problems = []
        for path in reversed(self.states()):
            try:
                found = read(path)
            except (ValueError, OSError) as error:
                problems.append(str(error))
                continue
            for problem in problems:
                say(f"{problem}: going on from {path.parent}, the one before it")
            problems = []
            yield found
        if problems:
            raise ValueError(f"no checkpoint in {self.folder} can be read, start the run anew: {'; '.join(problems)}")

    def state(self) -> dict | None:
        """The state of the newest checkpoint that can be read, without its tensors; None if there is no checkpoint."""
        return next(self._readable(_read_state, lambda problem: None), None)

    def newest(self, say: Callable[[str], None] = print) -> tuple[dict, "dict[str, dict[str, Tensor]]"] | None:
        """(state, tensors) of the newest whole checkpoint; None if there is none. `say` is told of damaged ones."""
        newest = next(self._readable(_read, say), None)
        self._goes_on = newest is not None
        return newest

    def _take_over(self, first: Path) -> None:
        """Delete what a killed process left half written, but not this run's `first`; and the checkpoints of an older
        run, unless it is the one that goes on."""
        if not self._goes_on:
            if self._begin is not None:
                self._begin(self.folder)
            for old in self.ours():
                _delete(old)
        for left in self.folder.glob(".step-*.part"):
            own = {path.name.removeprefix(".part-") for path in left.iterdir()} <= _FILES
            if left != first and own and _HALF.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True)
        self._has_saved = True


def _order(checkpoint: Path) -> tuple[int, int]:
    step, number = _NAME.fullmatch(checkpoint.name).groups(default="0")
    return int(step), int(number)


def _checksum(path: Path) -> int:
    """A number that changes with a file's content."""
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            total = zlib.crc32(chunk, total)
    return total


def _is_marked(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return _MARK.items() <= (file.metadata() or {}).items()
    except (SafetensorError, OSError):
        return False


def _is_ours(path: Path) -> bool:
    """Did a run write this folder? Its name and its state say so, or the mark in its tensors where that is damaged."""
    if not _NAME.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return False
    try:
        _read_state(path / STATE)
        return True
    except (ValueError, OSError):
        return any(map(_is_marked, path.glob("*.safetensors")))


def _delete(checkpoint: Path) -> None:
    """Delete the files that a run wrote, and the folder if there are no others in it."""
    if {path.name for path in checkpoint.iterdir()} <= _FILES:
        leaving = checkpoint.with_name(f".{checkpoint.name}.old.part")  # no half of it is taken for a whole one
        shutil.rmtree(leaving, ignore_errors=True)
        checkpoint.rename(leaving)
        shutil.rmtree(leaving, ignore_errors=True)
        return
    for name in sorted(_FILES, key=lambda name: name != STATE):
        (checkpoint / name).unlink(missing_ok=True)


def _read_state(path: Path) -> dict:
    """A checkpoint's state. Raises ValueError, with the file's name, for one that is damaged."""
    state = read_json(path, needs=_FIELDS)
    for name, kind in {**_FIELDS, "files": dict, "fingerprints": dict}.items():  # the last two came later
        if not isinstance(state.setdefault(name, {}), kind):
            raise ValueError(
                f"{path} has {state[name]!r:.60} as its {name}: it is damaged, or another program wrote it"
            )
    return state


def _read(path: Path) -> tuple[dict, "dict[str, dict[str, Tensor]]"]:
    """The state and the tensors of a checkpoint. Raises ValueError, with the file's name, for what is damaged."""
    state, tensors = _read_state(path), {}
    sums = state["files"] or dict.fromkeys(("model", "best", "optimizers"))
    for name, wanted in sums.items():
        file = path.parent / f"{name}.safetensors"
        tensors[name] = read_safetensors(file)
        if wanted is not None and _checksum(file) != wanted:
            raise ValueError(f"{file} is not as it was written: it is damaged")
    return state, tensors


def check_same_run(
    state: dict, hyperparameters: dict, facts: dict, fingerprints: dict[str, str], processes: int, folder: Path
) -> None:
    """Raises ValueError, naming what differs, if a saved run can't go on as this one.

    Another number of processes can go on, if their step has as many rows. `facts` are what else the two must have in
    common, such as {"teacher": False}. Of large things there are `fingerprints` ("" where one is not known), each under
    what is said where it differs: {"read another text": "3f…"}.
    """
    before = {"processes": 1, **state["hyperparameters"], **state["facts"]}
    now = {**hyperparameters, **facts}
    new_run = "start a new run in another folder"
    if before.get("teacher", False) != now.get("teacher", False):
        was, this = ("without a", "with") if now.get("teacher") else ("with a", "without")
        raise ValueError(f"the run in {folder} was started {was} teacher: it can't be resumed {this} one")
    if (had := processes_of(state)) != processes:
        _check_rows(state, before, now, had, processes, folder)
        now |= {name: before.get(name) for name in _ROWS}
    if changed := sorted(name for name, value in now.items() if before.get(name) != value):
        was = ", ".join(f"{name}={before.get(name)}" for name in changed)
        raise ValueError(
            f"the run in {folder} was started with {was}: use the same settings to resume it, or {new_run}"
        )
    known = state["fingerprints"]
    if other := [words for words, mark in fingerprints.items() if mark and known.get(words, "") not in ("", mark)]:
        raise ValueError(f"the run in {folder} {' and '.join(other)}: bring that back to resume it, or {new_run}")


_ROWS = ("batch_size", "accumulation_steps")  # of these and the number of processes a step's rows are the product


def processes_of(state: dict) -> int:
    """How many processes wrote a checkpoint."""
    return max(state.get("processes", 1), len(state["positions"]))


def _check_rows(state: dict, before: dict, now: dict, had: int, processes: int, folder: Path) -> None:
    """Raises ValueError where other processes than those that `had` begun a run cannot go on with it."""
    numbers = f"the run in {folder} had {had} processes, this one has {processes}"
    if len(state["positions"]) > 1:
        raise ValueError(f"{numbers}, and each had its own part of the text: resume it with as many")
    rows, own = (math.prod(run[name] for name in _ROWS) for run in (before, now))
    if rows * had != own * processes:
        as_many = "choose a batch_size and accumulation_steps that give as many"
        raise ValueError(f"{numbers}, and a step had {rows * had} rows, now {own * processes}: {as_many}")
