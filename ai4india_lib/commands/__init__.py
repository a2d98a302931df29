"""The commands of `python -m ai4india_lib`: one module each, with `add_to(commands)` and a function that runs it.

What the commands share stands here.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import fields
from pathlib import Path

from ..formats.folders import models_in
from ..training.hyperparameters import Hyperparameters, get_hyperparameters


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME_OR_FOLDER", help="models/NAME, or a folder (default: the newest)")
    parser.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")


def newest_model() -> str:
    """The model of this folder that was trained last, or the Hindi stories' one."""
    found = sorted(models_in(), key=lambda path: max(file.stat().st_mtime for file in path.glob("*config.json")))
    if not found:
        raise ValueError(
            "no model in models/ yet: train one with `python -m ai4india_lib train`, or give --model FOLDER"
        )
    return found[-1].name


def add_hyperparameter_options(parser: argparse.ArgumentParser) -> None:
    """An option for each field of `Hyperparameters`, to change it."""
    changes = parser.add_argument_group("hyperparameters", "change single fields of the preset")
    for f in fields(Hyperparameters):
        changes.add_argument(
            f"--{f.name.replace('_', '-')}", type=_READ_AS[f.type], metavar=f.name.upper(), help=f.name
        )


def hyperparameters_of(options: argparse.Namespace) -> Hyperparameters:
    """The preset, with the fields changed that the command line names."""
    changes = {f.name: value for f in fields(Hyperparameters) if (value := getattr(options, f.name)) is not None}
    return get_hyperparameters(options.preset, **changes)


def add_sampling_options(parser: argparse.ArgumentParser, temperature: float) -> None:
    """An option for each field of `Sampling`; the given temperature is only told, not set."""
    told = f"0: always the likeliest token; 1: as the model thinks ({temperature})"
    parser.add_argument("--temperature", type=float, help=told)
    parser.add_argument("--top-k", type=int, help="draw only from the K likeliest tokens")
    parser.add_argument("--top-p", type=float, help="draw only from the fewest tokens that have probability P together")
    parser.add_argument("--min-p", type=float, help="only from tokens at least P times as likely as the likeliest")
    parser.add_argument("--repetition-penalty", type=float, help="above 1: repeat less")
    parser.add_argument("--seed", type=int, help="same seed, same text")


def chosen_sampling(options: argparse.Namespace) -> dict:
    """The fields of `Sampling` that were given a value."""
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def make_way(folder: Path, options: argparse.Namespace) -> None:
    """Refuse to write over a folder unless --overwrite or --resume was said; with --overwrite its old run goes."""
    if folder.exists() and any(folder.iterdir()) and not (options.overwrite or options.resume):
        raise ValueError(
            f"{folder} is there already: --resume goes on with an interrupted run, --overwrite starts anew in its "
            "place, --name takes another folder"
        )
    if options.overwrite and not options.resume:
        shutil.rmtree(folder / "training", ignore_errors=True)


def _whole_or_none(text: str) -> int | None:
    return None if text.lower() == "none" else int(text)


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError(text)
    return text.lower() in ("true", "yes", "1")


_READ_AS = {"int": int, "float": float, "str": str, "bool": _yes_or_no, "int | None": _whole_or_none}
