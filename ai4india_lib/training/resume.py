"""How a run goes on: checkpoints that hold all it needs, each written whole, the newest kept."""

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ..basics.files import read_safetensors, replace_folder


class Checkpoints:
    """The folders `step-0000100`, `step-0000200` … of a run: named sets of tensors, and a state that fits into JSON.

    `folder` None keeps nothing.
    """

    def __init__(self, folder: str | Path | None):
        self.folder = None if folder is None else Path(folder)

    def save(self, step: int, tensors: dict[str, dict[str, Tensor]], state: dict) -> None:
        """Write all into a new folder, `{name}.safetensors` for each set of tensors, then drop the older ones."""

        def write(beside: Path) -> None:
            for name, content in tensors.items():
                save_file(content, beside / f"{name}.safetensors", metadata={"format": "pt"})
            (beside / "state.json").write_text(json.dumps(state), encoding="utf-8")

        newest = self.folder / f"step-{step:07d}"
        replace_folder(newest, write)
        for old in self.folder.glob("step-*"):
            if old != newest:
                shutil.rmtree(old, ignore_errors=True)

    def states(self) -> list[Path]:
        """The states of whole checkpoints, the newest last. A checkpoint's state is written last."""
        return sorted(self.folder.glob("step-*/state.json")) if self.folder is not None else []

    def newest(self) -> tuple[dict, dict[str, dict[str, Tensor]]] | None:
        """(state, tensors) of the last whole checkpoint; None if there is none."""
        if not (states := self.states()):
            return None
        tensors = {path.stem: read_safetensors(path) for path in states[-1].parent.glob("*.safetensors")}
        return json.loads(states[-1].read_text(encoding="utf-8")), tensors

    def clear(self) -> None:
        """Drop those of an older run, and what a killed process left half written."""
        if self.folder is not None:
            for old in (*self.folder.glob("step-*"), *self.folder.glob(".step-*.part")):
                shutil.rmtree(old)


def check_same_run(state: dict, hyperparameters: dict, facts: dict[str, object], processes: int, folder: Path) -> None:
    """Raises ValueError, naming what differs, if a saved run can't go on as this one.

    `facts` are what else the two must have in common, such as {"teacher": False}.
    """
    before, now = {**state["hyperparameters"], **state["facts"]}, {**hyperparameters, **facts}
    if before.get("teacher", False) != now.get("teacher", False):
        was, this = ("without a", "with") if now.get("teacher") else ("with a", "without")
        raise ValueError(f"the run in {folder} was started {was} teacher: it can't be resumed {this} one")
    if changed := sorted(name for name, value in now.items() if before.get(name) != value):
        was = ", ".join(f"{name}={before.get(name)}" for name in changed)
        mend = "use the same settings to resume it, or start a new run in another folder"
        raise ValueError(f"the run in {folder} was started with {was}: {mend}")
    if (had := len(state["positions"])) != processes:
        raise ValueError(f"the run in {folder} had {had} processes, this one has {processes}: resume it with as many")
