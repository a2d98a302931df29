"""A run and its checkpoints: what is written of it, and how another one goes on from there."""

import math
import warnings
from dataclasses import asdict
from functools import partial

from torch import Tensor

from ..basics.files import fingerprint_tensors
from .history import History
from .optimizers import load_optimizer_tensors, optimizer_tensors
from .resume import check_same_run
from .sharding import put_weights, trained_weights


def save_run(run) -> None:
    """Write all that the run needs to go on."""
    if run.checkpoints.folder is None:
        return
    positions = gathered(run, run.objective.data.state_dict())
    if not (run.accelerator.is_main_process or run.is_sharded):
        return
    tensors = {"model": trained_weights(run.plain_model), "best": run.best}
    tensors["optimizers"] = optimizer_tensors(run.optimizers)
    state = {"hyperparameters": asdict(run.h), "history": asdict(run.history), "facts": run.objective.facts}
    if all(position == positions[0] for position in positions):
        positions = positions[:1]  # then any number of processes can go on from it
    state |= {"positions": positions, "processes": run.processes, "scaler": run.scaler.state_dict()}
    state["fingerprints"] = run.fingerprints
    if run.accelerator.is_main_process:
        run.checkpoints.save(run.history.steps, tensors, state)


def gathered(run, value) -> list:
    """What each process of the run gives here, as a list that all get."""
    if run.processes == 1:
        return [value]
    from accelerate.utils import gather_object

    return gather_object([value])


def fingerprints_of(run) -> dict[str, str]:
    """What tells a run of this kind from one that read or trained something else."""
    frozen = [(name, p) for name, p in run.given_model.named_parameters() if not p.requires_grad]
    base = {"trained an adapter of another model": fingerprint_tensors(frozen)} if frozen else {}
    return base | run.objective.fingerprints()


def load_run(run) -> bool:
    """Bring back the newest whole checkpoint; False if there is none. Raises ValueError if it is of another run."""
    newest = run.checkpoints.newest(partial(_warn, run))
    steps = gathered(run, None if newest is None else len(newest[0]["history"].get("train_loss", ())))
    if any(step != steps[0] for step in steps):
        raise ValueError(f"not all processes see the same checkpoints in {run.checkpoints.folder}: share that folder")
    if newest is None:
        run.say(f"nothing to resume in {run.checkpoints.folder}: starting afresh")
        return False
    (state, tensors), folder = newest, run.checkpoints.folder
    check_same_run(state, asdict(run.h), run.objective.facts, run.fingerprints, run.processes, folder)
    try:
        _take_up(run, state, tensors)
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        made = f"the newest checkpoint in {folder} does not fit ({type(error).__name__}: {error!s:.100})"
        raise ValueError(f"{made}: delete it to go on from the one before it, or start a new run") from error
    return True


def _take_up(run, state: dict, tensors: dict[str, dict[str, Tensor]]) -> None:
    """Go on from what a checkpoint of this run holds."""
    folder = run.checkpoints.folder
    own = {name: p.shape for name, p in run.plain_model.named_parameters() if p.requires_grad}
    if {name: p.shape for name, p in tensors["model"].items()} != own:
        others = f"the run in {folder} has other weights than the model trains"
        raise ValueError(f"{others}: was its shape or its adapter changed?")
    saved = History(**{**state["history"], "ended": "", "test_loss": None})
    same_text = math.isclose(saved.text_tokens, run.history.text_tokens, rel_tol=1e-9)
    if not same_text or saved.bytes_per_token != run.history.bytes_per_token:
        raise ValueError(f"the run in {folder} read another text: bring that back, or start a new run")
    put_weights(run.plain_model, tensors["model"])
    run.best = tensors["best"]
    load_optimizer_tensors(run.optimizers, tensors["optimizers"])
    run.scaler.load_state_dict(state["scaler"])
    positions = state["positions"]
    run.objective.data.load_state_dict(positions[run.rank if len(positions) > 1 else 0])
    run.history = saved


def _warn(run, line: str) -> None:
    """Tell of something that is wrong, also where no progress is to be shown."""
    run.say(line) if run.shows else warnings.warn(line, stacklevel=2)
