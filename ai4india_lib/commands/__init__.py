"""The commands of `python -m ai4india_lib`: one module each, with `add_to(subparsers)` and a function that runs it.

What they share stands here. No option is accepted and ignored: each `run` first refuses what would change nothing.
"""

import argparse
from dataclasses import fields
from pathlib import Path

from ..inference.sampling import Sampling
from ..training.hyperparameters import MODEL_SHAPE, Hyperparameters, get_hyperparameters
from ..training.resume import Checkpoints


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


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME_OR_FOLDER", help="models/NAME, or a folder (default: the newest)")
    parser.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")


def check_run_options(options: argparse.Namespace, folder: Path) -> None:
    """Raises ValueError unless `folder` is free, or --overwrite, or there is something to --resume."""
    if options.overwrite and options.resume:
        raise ValueError("--resume goes on with a run and --overwrite starts anew in its place: leave one of them out")
    if options.resume and not Checkpoints(folder / "training").states():
        raise ValueError(f"there is no interrupted run in {folder} to go on with: leave --resume out")
    if folder.exists() and any(folder.iterdir()) and not (options.overwrite or options.resume):
        raise ValueError(
            f"{folder} is there already: --resume goes on with an interrupted run, --overwrite starts anew in its "
            "place, --name takes another folder"
        )


def _whole_or_none(text: str) -> int | None:
    if text.lower() == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor none") from None


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")
    return text.lower() in ("true", "yes", "1")


# type of a field → what reads its option, and how the help calls it
_OPTIONS = {
    int: (int, "INT"), float: (float, "FLOAT"), str: (str, "STR"), bool: (_yes_or_no, "BOOL"),
    int | None: (_whole_or_none, "INT"),
}  # fmt: skip


def _given(options: argparse.Namespace, kind: type) -> dict:
    """The fields of a dataclass that the command line names, also with the value None (`--max-steps none`)."""
    return {f.name: getattr(options, f.name) for f in fields(kind) if f.name in options}


def add_training_options(parser: argparse.ArgumentParser, preset: str, *, shape: bool = True) -> None:
    """What to do about an older run, and an option for each field of `Hyperparameters`; values of `preset` are shown.

    Without `shape`, those of the model's shape are not shown, but understood, so that they are refused with a reason.
    """
    parser.add_argument("--overwrite", action="store_true", help="replace models/NAME if it exists")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in models/NAME")
    about = "change single fields of the preset"
    group = parser.add_argument_group("hyperparameters", about, argument_default=argparse.SUPPRESS)
    for f in fields(Hyperparameters):
        option = f"--{f.name.replace('_', '-')}"
        if f.name in MODEL_SHAPE and not shape:
            group.add_argument(option, nargs="?", const=True, help=argparse.SUPPRESS)
        else:
            (read, metavar), usual = _OPTIONS[f.type], getattr(get_hyperparameters(preset), f.name)
            group.add_argument(option, type=read, metavar=metavar, help=f"preset {preset}: {usual}")


def hyperparameters_of(options: argparse.Namespace) -> Hyperparameters:
    """The preset, with the fields changed that the command line names."""
    return get_hyperparameters(options.preset, **_given(options, Hyperparameters))


def add_sampling_options(parser: argparse.ArgumentParser, temperature: float) -> None:
    """An option for each field of `Sampling`; the given temperature is shown as the default, not set."""
    group = parser.add_argument_group("sampling", "how the next token is drawn", argument_default=argparse.SUPPRESS)
    about = f"0: always the likeliest token; 1: as the model thinks ({temperature})"
    group.add_argument("--temperature", type=float, help=about)
    group.add_argument("--top-k", type=int, help="draw only from the K likeliest tokens")
    group.add_argument("--top-p", type=float, help="draw only from the fewest tokens that have probability P together")
    group.add_argument("--min-p", type=float, help="only from tokens at least P times as likely as the likeliest")
    group.add_argument("--repetition-penalty", type=float, help="above 1: repeat less")
    group.add_argument("--seed", type=int, help="same seed, same text")


def chosen_sampling(options: argparse.Namespace) -> dict:
    """The fields of `Sampling` that the command line names. Raises ValueError for those that cannot be."""
    chosen = _given(options, Sampling)
    if Sampling(**chosen).temperature == 0:
        always = "with --temperature 0, which always takes the likeliest token"
        refuse(options, "top_k top_p min_p seed", always, "give another temperature")
    return chosen
