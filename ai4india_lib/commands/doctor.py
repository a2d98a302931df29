"""python -m ai4india_lib doctor: is the loss of a run normal, and if not, what is wrong?"""

import argparse
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

from ..evaluation.doctor.examination import examine
from ..evaluation.doctor.floor import in_words, read_floors, token_excess
from ..formats.folders import model_folder
from ..formats.pretrained import load_model
from ..plots import plot_excess, save_figure, use_indic_fonts
from ..text.corpus import corpus_place, read_about, train_and_test_lines
from ..text.packing import download_and_prepare_data
from ..training.history import History
from ..training.hyperparameters import Hyperparameters
from ..training.resume import Checkpoints
from . import model_of, refuse, tell_model
from .languages import language_of, sources_of

FLOORS = "data/kahani/floors-{}.jsonl"  # where the course keeps the floors of a language's stories


def run(options: argparse.Namespace) -> None:
    """Open the model, its history and its texts, and print what is found."""
    name = model_of(options)
    folder = model_folder(name)
    model, tokenizer = load_model(name, options.device)
    history = _history(folder)
    source = options.data or sources_of(name, language_of(name))["data"]
    if not source:
        refuse(options, "column", "without --data")
    h, read = _settings(folder), _read(history, source)
    train = test = None
    if source:
        place = corpus_place(source, column=options.column)
        if not _was_trained_on(history, source, place):
            history, h = History(), None  # what it says of another text is not to be found in this one
        train, test = train_and_test_lines(place)
        if h is not None:
            train, test = download_and_prepare_data(place, h.batch_size, tokenizer, h.context_size, seed=h.seed)
    tell_model(options, name)
    print(f"{folder}: {read}", flush=True)
    print(examine(model, tokenizer, history, train=train, test=test, hyperparameters=h, quick=options.quick))
    floors = FLOORS.format(language_of(name))
    if not options.data and Path(floors).exists():
        _tell_excess(model, tokenizer, floors, folder)


def _tell_excess(model, tokenizer, floors: str, folder: Path) -> None:
    """Which words still lose more than they must, in a line and a picture."""
    tokens = token_excess(model, tokenizer, read_floors(floors))
    use_indic_fonts()
    print(f"{in_words(tokens)}\nchart: {save_figure(plot_excess(tokens)[0], folder / 'excess.png')}")


def _history(folder: Path) -> History:
    """What the model's folder keeps of its run; an empty history, where it keeps none."""
    path = folder / "history.json"
    return History.load(path) if path.exists() else History()


def _settings(folder: Path) -> Hyperparameters | None:
    """The settings of a run of `train` in one process, whose checkpoint is still there."""
    with suppress(ValueError, OSError):
        state = Checkpoints(folder / "training").state()
        alone = state and state.get("processes", 1) == 1
        if alone and state["facts"].get("kind") == "training" and not state["facts"].get("teacher"):
            known = {field.name for field in fields(Hyperparameters)}
            return Hyperparameters(**{n: v for n, v in state["hyperparameters"].items() if n in known})
    return None


def _was_trained_on(history: History, source: str, place: Path) -> bool:
    """Is this the text that the run was trained and tested on? By its name, or in older histories by its floor."""
    if history.data:
        return any(Path(noted) == Path(source) for noted in history.data)
    floor = read_about(place).get("test_floor_bits_per_byte")
    return floor is not None and floor == history.floor_bits_per_byte


def _read(history: History, source: str | None) -> str:
    """What there was to look at."""
    steps = f"a run of {history.steps:,} steps" if history.steps else "no history"
    return f"{steps}, {source}" if source else f"{steps}; no text, so only the model is tried: --data gives one"
