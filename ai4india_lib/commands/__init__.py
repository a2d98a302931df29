"""The commands of `python -m ai4india_lib`: `options` says what can be asked, a module for each command does it.

`classroom/` has those of `class`. What the commands share stands here. No option is accepted and ignored: each `run`
first refuses what would change nothing.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from ..training.hyperparameters import Hyperparameters, get_hyperparameters
from ..training.plan import plan_for_text
from .options import MINUTES, Usual


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
    """Raises ValueError for an option with an empty value, as a script's unset variable leaves behind, and for a text
    that is none."""
    for name, value in vars(options).items():
        if name in ("prompt", "system") and any("\ud800" <= sign <= "\udfff" for sign in value or ""):
            raise ValueError(f"the {name} is no text in UTF-8: type it again in a terminal of that encoding")
        if value == "" and name != "prompt":
            raise ValueError(f"--{name.replace('_', '-')} is empty: give it a value, or leave it out")


def check_at_least(options: argparse.Namespace, least: int, names: str) -> None:
    """Raises ValueError if one of these options is given a number below `least`."""
    for name in names.split():
        if (value := getattr(options, name)) is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} {value} must be at least {least}")


def check_output(options: argparse.Namespace, sources: str) -> None:
    """Raises ValueError if --output can be no file, or is one that another of the options `sources` reads."""
    if options.output is None:
        return
    path, told = Path(options.output).absolute(), f"--output {options.output}"
    try:
        if path.is_dir():
            raise ValueError("it is a folder")
        path.with_name(f".part-{path.name}").exists()  # what takes its place in the end has a longer name
    except (OSError, ValueError) as error:
        raise ValueError(f"{told} cannot be a file ({error}): name another") from None
    if path.parent in (Path("/dev"), Path("/dev/fd")) or (path.exists() and not path.is_file()):
        raise ValueError(f"{told} is a device or a pipe: name a file")
    if in_the_way := [place for place in path.parents if place.is_file()]:
        raise ValueError(f"{told} cannot be written: {in_the_way[0]} is a file, and no folder")
    for name in sources.split():
        source = getattr(options, name)
        if source and path.exists() and Path(source).exists() and path.samefile(source):
            raise ValueError(f"{told} would replace what --{name} reads: name another file")


def quoted(word: str) -> str:
    """`word` as a terminal reads it back as one: in quotation marks where it has spaces or signs with a meaning.

    >>> print("generate --model", quoted("my stories"))
    generate --model "my stories"
    """
    if word and not re.search(r"""[\s"'`$\\!&|;<>()*?\[\]{}#~^]""", word):
        return word
    if not re.search(r'["`$\\!]', word):
        return f'"{word}"'  # as every terminal reads it, that of Windows too
    return subprocess.list2cmdline([word]) if os.name == "nt" else shlex.quote(word)


_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}  # ␛ for ESC
_PICTURES |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def show_text(text: str) -> None:
    """Print what a model wrote. A terminal obeys control characters, and a model that has learned little, or a
    stranger's, writes any: there they come as pictures. A file or a pipe gets them as they are."""
    print(text.translate(_PICTURES) if sys.stdout.isatty() else text, end="", flush=True)


def with_model(name: str | Path) -> str:
    """The option that names this model, for a command to paste: `--model my-stories`, and `--model=-mine`."""
    return f"--model{'=' if str(name).startswith('-') else ' '}{quoted(str(name))}"


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


def hyperparameters_of(
    options: argparse.Namespace, num_bytes: float | None = None, device: str = "cpu"
) -> Hyperparameters:
    """The preset, with the fields changed that the command line names.

    `train` takes `MINUTES` where neither a preset nor a number of steps or epochs was asked for; and where no preset
    was asked for, it does what is planned for a text of `num_bytes`, if they are given, on this kind of device.
    """
    changes = given(options, Hyperparameters)
    says_how_long = {"minutes", "max_steps", "num_epochs"} & changes.keys() or not isinstance(options.preset, Usual)
    if options.command == "train" and not says_how_long:
        changes["minutes"] = MINUTES
    if num_bytes is not None and isinstance(options.preset, Usual):
        return plan_for_text(num_bytes, device, **changes)
    return get_hyperparameters(options.preset, **changes)


def chosen_sampling(options: argparse.Namespace, usual: dict[str, float]) -> dict:
    """The fields of `Sampling` that the command line names, beside the usual ones. Raises ValueError for those that
    cannot be."""
    from ..inference.sampling import Sampling

    chosen = given(options, Sampling)
    if Sampling(**chosen).temperature == 0:
        always = "with --temperature 0, which always takes the likeliest token"
        refuse(options, "top_k top_p min_p seed", always, "give another temperature")
        return chosen
    return usual | chosen
