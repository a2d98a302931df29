"""python -m ai4india_lib train: what is asked for is checked, something is shown, and only then is torch loaded."""

import argparse
from importlib import import_module
from pathlib import Path

from ..formats.folders import model_folder
from ..text.urls import file_name, without_secrets
from . import hyperparameters_of, refuse
from .runs import check_run_options, take_up_options


def _name_of(source: str) -> str:
    """A model name from a source: "https://…/my%20stories.tar.gz?x=1" → "my stories-mine"."""
    stem = file_name(source) if "://" in source else source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    stem = stem.split(".")[0] or Path(source).resolve().name  # such as . or ..
    return stem.lstrip("-") + "-mine"


def _check(options: argparse.Namespace, folder: Path) -> None:
    """Refuse options that do not go together, or not with what is in `folder`; those of a run to resume come back."""
    if options.teacher:
        refuse(options, "tokenizer vocab_size", "with --teacher, which brings its tokenizer")
    if options.tokenizer:
        refuse(options, "vocab_size", "with --tokenizer, which has a vocabulary")
    check_run_options(options, folder)
    if options.resume:
        own_tokenizer = options.tokenizer  # not of the options that a run was begun with, but of its folder
        take_up_options(options, folder, "preset")
        options.tokenizer = own_tokenizer
    else:
        hyperparameters_of(options)  # raises ValueError for those that cannot be


def run(options: argparse.Namespace) -> None:
    """Text archive → tokenizer → model → models/NAME with a plot and the history."""
    name = options.name or _name_of(options.data)
    folder = model_folder(name)
    _check(options, folder)
    print(f"reading {without_secrets(options.data)} …", flush=True)
    import_module(".train_run", __package__).run(options, name, folder)
