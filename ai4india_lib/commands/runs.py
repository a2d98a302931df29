"""What the commands that train have in common: where a run lies, and with which options it was begun.

Those stand in `training/run.json` beside its checkpoints, so that `--resume` needs nothing else. What is given again
must say the same.
"""

import argparse
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..basics.files import read_json, replace_folder, write_json
from ..basics.processes import rank_and_world_size
from ..formats.folders import MODELS, holds_model
from ..text.tokenizer import save_tokenizer
from ..text.urls import without_secrets
from ..training.hyperparameters import Hyperparameters, shared_anew
from ..training.resume import Checkpoints, processes_of
from . import given, hyperparameters_of
from .options import TUNING, Usual

if TYPE_CHECKING:  # to check what is asked for takes no torch
    import torch

    from ..model.config import DecoderConfig

RUN = "run.json"
_KINDS = {"half": bool, "lora": int, "lora_alpha": (int, float), "replay_share": (int, float)}
_KINDS |= {name: int if kind is int else (int, float) for name, (kind, *_) in TUNING.items()}  # all others: texts
LONGEST_NAME = 240  # bytes: file systems take 255, and a model is written beside its place under a longer name
OF_A_RUN = ("run.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def check_run_options(options: argparse.Namespace, folder: Path) -> None:
    """Raises ValueError unless `folder` is free, or --overwrite, or there is something to --resume."""
    if options.overwrite and options.resume:
        raise ValueError("--resume goes on with a run and --overwrite starts anew in its place: leave one of them out")
    if (size := max(len(part.encode()) for part in folder.parts)) > LONGEST_NAME:
        raise ValueError(f"the name of {folder} is too long for a file system: {size} bytes, at most {LONGEST_NAME}")
    for place in (folder, *folder.parents):
        if place.is_file():
            raise ValueError(f"{place} is a file: {folder} cannot be a folder, so take another --name")
    if options.resume and not Checkpoints(folder / "training").states():
        others = [path.parents[1].name for path in MODELS.glob("*/training") if Checkpoints(path).states()]
        there = f" (there are runs in {', '.join(sorted(others))})" if others else ""
        raise ValueError(f"nothing to resume: there is no interrupted run in {folder}{there}. Leave --resume out")
    if options.resume or not _holds_files(folder):
        return
    if not options.overwrite:
        raise ValueError(
            f"{folder} is there already: --resume goes on with an interrupted run, --overwrite starts anew in its "
            "place, --name takes another folder"
        )
    _check_may_overwrite(folder)


def _holds_files(folder: Path) -> bool:
    """Is there any file, apart from what a run that was killed left half written?"""
    files = (path.relative_to(folder).parts for path in folder.rglob("*") if path.is_file())
    return any(not any(re.fullmatch(r"\.(training|step-.*)\.(part|new)", part) for part in parts) for parts in files)


def _check_may_overwrite(folder: Path) -> None:
    """Raises ValueError where --overwrite would replace what is neither a model nor a run."""
    began_here = options_of_run(folder) is not None or bool(Checkpoints(folder / "training").ours())
    is_model = holds_model(folder) and _describes_model(folder)
    if not began_here and not is_model:
        raise ValueError(f"{folder} holds no model and no run, but other files: take another --name for the model")
    own = [name for name in OF_A_RUN if (folder / "training" / name).exists()]
    if own and not began_here:
        held = f"{folder / 'training'} holds {own[0]}, which no run wrote"
        raise ValueError(f"{held}: move that folder, or take another --name")


def _describes_model(folder: Path) -> bool:
    """Is the config.json or adapter_config.json there that of a model?"""
    for name, key in (("config.json", "model_type"), ("adapter_config.json", "peft_type")):
        if (folder / name).is_file():
            try:
                return key in read_json(folder / name)
            except ValueError:
                return False
    return False


def options_of_run(folder: Path) -> dict | None:
    """What run.json says; None where it is missing, or of another program."""
    try:
        found = read_json(folder / "training" / RUN, needs=("command", "options"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        if "does not say" in str(error):
            return None
        raise
    if not isinstance(found["options"], dict):
        return None
    for name, value in found["options"].items():
        if not _can_be(name, value):
            raise ValueError(f"{folder / 'training' / RUN} has {value!r:.60} as its {name}: it is damaged")
    return found


def _can_be(name: str, value: object) -> bool:
    """May an option of this name have this value?"""
    if isinstance(value, list):
        return name == "data" and all(isinstance(source, str) for source in value)
    return value is None or isinstance(value, _KINDS.get(name, str))


def note_run(options: argparse.Namespace, names: str, tokenizer=None, **more) -> Callable[[Path], None]:
    """What writes down, when a run begins, how it was begun: its options of these names, and `more`; its tokenizer."""
    chosen = {name: _without_secrets(getattr(options, name)) for name in names.split()}

    def write(beside: Path) -> None:
        if tokenizer is not None:
            save_tokenizer(tokenizer, beside)
        write_json(beside / RUN, {"command": options.command, "options": chosen, **more})

    return lambda folder: replace_folder(folder, write)


def _without_secrets(value):
    """An option's value as a file may keep it: of a URL without passwords."""
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return without_secrets(value) if isinstance(value, str) and "://" in value else value


def take_up_options(options: argparse.Namespace, folder: Path, must_agree: str) -> dict:
    """Give `options` what the run in `folder` was begun with, where the command line says nothing; what run.json says.

    Raises ValueError where one of the options `must_agree` says something else. Of text, model, teacher and tokenizer
    it is the content that must agree, which is seen when they are read.
    """
    begun = options_of_run(folder)
    if begun is None:  # a run of the library itself, or of an older version
        return {}
    if begun["command"] != options.command:
        another = f"the run in {folder} is one of `{begun['command']}`, not of `{options.command}`"
        raise ValueError(f"{another}: go on with it by that command")
    for name in must_agree.split():
        now, before, option = getattr(options, name), begun["options"].get(name), f"--{name.replace('_', '-')}"
        if was_given(now) and now != before:
            began = f"with {option} {before}" if before is not None else f"without {option}"
            raise ValueError(f"the run in {folder} was begun {began}: leave {option} {now} out, or start a new run")
    for name, value in begun["options"].items():
        if not was_given(getattr(options, name, None)):
            if "://" in str(value) and "…" in str(value):
                raise ValueError(f"--{name} {value} needs its password again, which is not kept: give --{name} too")
            setattr(options, name, value)
            if name == "device" and value is not None:
                options.device = _device_if_there(value)
    return begun


def was_given(value: object) -> bool:
    """Does an option have this value because the command line says so?"""
    return value is not None and value is not False and not isinstance(value, Usual)


def _device_if_there(name: str) -> str | None:
    """The device of the run, if this machine has it too."""
    from ..basics.device import pick_device

    try:
        return str(pick_device(name))
    except ValueError:
        return None


def run_hyperparameters(
    options: argparse.Namespace, folder: Path, num_bytes: float | None = None, device: str = "cpu"
) -> Hyperparameters:
    """Those of the run to resume, or else of the preset, or what is planned for a text of `num_bytes`; with the fields
    changed that the command line names.

    Another number of processes shares the same rows of a step. A field that differs from the run's is refused when the
    run goes on: see `check_same_run`.
    """
    state = Checkpoints(folder / "training").state() if options.resume else None
    if state is None or (was_given(options.preset) and options_of_run(folder) is None):
        return hyperparameters_of(options, num_bytes, device)
    known = {f.name for f in fields(Hyperparameters)}
    saved = Hyperparameters(**{name: value for name, value in state["hyperparameters"].items() if name in known})
    had, processes = processes_of(state), rank_and_world_size()[1]
    if had != processes:
        saved = shared_anew(saved, had, processes, by_batch=options.command == "finetune")
    return replace(saved, **given(options, Hyperparameters))


def tell_steps(options: argparse.Namespace, h: Hyperparameters, steps: int) -> None:
    """Say so where --max-steps asks for more steps than `num_epochs` allows."""
    asked = getattr(options, "max_steps", None)
    if asked is not None and steps < asked:
        read = f"in {steps} steps all is read {h.num_epochs:g} times"
        print(f"--max-steps {asked} is not reached: {read}; a larger --num-epochs gives more", flush=True)


def check_training_memory(
    config: "DecoderConfig", h: Hyperparameters, device: "torch.device", *, trained: bool = True
) -> None:
    """Raises ValueError where not even the least fits that training takes: weights, gradients and AdamW's two memories
    of them (the weights alone where they are not `trained`), and four numbers for each one in the residual stream."""
    from ..basics.memory import check_memory

    stream = h.batch_size * min(h.context_size, config.context_size) * config.emb_dim * config.num_blocks
    size = config.memory(16 if trained else 4) + 4 * 4 * stream
    what = (
        f"to train a model of {config.num_parameters():,} parameters, {h.batch_size} × {h.context_size} tokens a pass,"
    )
    less = "a smaller --batch-size, with --accumulation-steps, or a smaller --context-size or model needs less"
    check_memory(size, what, less, device)
