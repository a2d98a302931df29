"""The commands of `python -m ai4india_lib`: `options` says what can be asked, a module for each command does it.

What the commands share stands here. No option is accepted and ignored: each `run` first refuses what would change
nothing.
"""

import argparse
import sys
from dataclasses import fields

from ..training.hyperparameters import Hyperparameters, get_hyperparameters


def refuse(options: argparse.Namespace, names: str, when: str, instead: str = "") -> None:
    """Raises ValueError if one of these options is given, neither None nor lacking: it would change nothing.

    >>> refuse(options, "lora_alpha", "without --lora", "give --lora RANK too")
    ValueError: --lora-alpha has no effect without --lora: leave --lora-alpha out, or give --lora RANK too
    """
    for name in names.split():
        if getattr(options, name, None) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} has no effect {when}: leave {option} out" + (instead and f", or {instead}"))


def refuse_empty(options: argparse.Namespace) -> None:
    """Raises ValueError for an option with an empty value, as a script's unset variable leaves behind."""
    for name, value in vars(options).items():
        if value == "" and name != "prompt":
            raise ValueError(f"--{name.replace('_', '-')} is empty: give it a value, or leave it out")


def check_at_least(options: argparse.Namespace, least: int, names: str) -> None:
    """Raises ValueError if one of these options is given a number below `least`."""
    for name in names.split():
        if (value := getattr(options, name)) is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} {value} must be at least {least}")


def model_of(options: argparse.Namespace, *, chat: bool | None = None) -> str:
    """The model that --model names, or else the newest one (that was taught to chat, or not; see `newest_model`).

    Raises FileNotFoundError if there is none.
    """
    from ..formats.folders import newest_model

    return newest_model(chat=chat) if options.model is None else options.model


def tell_model(options: argparse.Namespace, name: str) -> None:
    """Say which model was taken, if none was named: once it is sure that something comes of it."""
    if options.model is None:
        print(f"no --model is given: this is {name}", file=sys.stderr, flush=True)


def given(options: argparse.Namespace, kind: type) -> dict:
    """The fields of a dataclass that the command line names, also with the value None (`--max-steps none`)."""
    return {f.name: getattr(options, f.name) for f in fields(kind) if f.name in options}


def hyperparameters_of(options: argparse.Namespace) -> Hyperparameters:
    """The preset, with the fields changed that the command line names."""
    return get_hyperparameters(options.preset, **given(options, Hyperparameters))


def chosen_sampling(options: argparse.Namespace) -> dict:
    """The fields of `Sampling` that the command line names. Raises ValueError for those that cannot be."""
    from ..inference.sampling import Sampling

    chosen = given(options, Sampling)
    if Sampling(**chosen).temperature == 0:
        always = "with --temperature 0, which always takes the likeliest token"
        refuse(options, "top_k top_p min_p seed", always, "give another temperature")
    return chosen
