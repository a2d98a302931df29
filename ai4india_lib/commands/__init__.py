"""The commands of `python -m ai4india_lib`: one module each, with `add_to(commands)` and a function that runs it.

What the commands share stands here.
"""

from __future__ import annotations

import argparse

from ..folders import models_in


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
