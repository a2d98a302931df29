"""python -m ai4india_lib train: text archive → tokenizer → model → models/NAME, with a plot and the history."""

import argparse
import shutil
from pathlib import Path

import torch

from ..basics.device import pick_device
from ..formats.folders import model_folder
from ..formats.pretrained import load_model, save_model
from ..model.new_tokens import give_places, untrained_tokens
from ..plots import plot_history, save_figure, use_indic_fonts
from ..text.corpus import read_about, train_and_test_lines
from ..text.packing import download_and_prepare_data
from ..text.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from ..text.urls import file_name, without_secrets
from ..training.loop import make_model, train
from . import check_run_options, hyperparameters_of, refuse


def _name_of(source: str) -> str:
    """A model name from a source: "https://…/my%20stories.tar.gz?x=1" → "my stories-mine"."""
    stem = file_name(source) if "://" in source else source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    return stem.split(".")[0] + "-mine"


def _tokenizer_for(options: argparse.Namespace, tokenizer, vocab_size: int, run_folder: Path):
    """The teacher's `tokenizer`, that of --tokenizer or of the run to resume, or else a new one, learned from the text.

    Raises ValueError if the run to resume has another one than is asked for.
    """
    if options.teacher:
        print(f"taught by {options.teacher}, with its vocabulary of {len(tokenizer)}", flush=True)
    elif options.tokenizer:
        tokenizer = load_tokenizer(options.tokenizer)
    if options.resume:
        begun = load_tokenizer(run_folder)
        if tokenizer is not None and tokenizer.get_vocab() != begun.get_vocab():
            other = options.teacher or options.tokenizer
            raise ValueError(f"the run in {run_folder} has another tokenizer than {other}: resume it with its own")
        return begun
    if tokenizer is None:
        print(f"learning a vocabulary of {vocab_size} from {without_secrets(options.data)} …", flush=True)
        tokenizer = train_tokenizer(train_and_test_lines(options.data)[0], vocab_size)
    return tokenizer


def run(options: argparse.Namespace) -> None:
    """Text archive → tokenizer → model → models/NAME with a plot and the history."""
    if options.teacher:
        refuse(options, "tokenizer vocab_size", "with --teacher, which brings its tokenizer")
    if options.tokenizer:
        refuse(options, "vocab_size", "with --tokenizer, which has a vocabulary")
    h, device = hyperparameters_of(options), pick_device(options.device)
    name = options.name or _name_of(options.data)
    folder = model_folder(name)
    check_run_options(options, folder)
    run_folder = folder / "training"

    teacher, tokenizer = load_model(options.teacher, device) if options.teacher else (None, None)
    tokenizer = _tokenizer_for(options, tokenizer, h.vocab_size, run_folder)
    if not options.resume:
        shutil.rmtree(run_folder, ignore_errors=True)
    save_tokenizer(tokenizer, run_folder)
    loaders = download_and_prepare_data(options.data, h.batch_size, tokenizer, h.context_size, seed=h.seed)
    model = make_model(h, tokenizer)
    print(f"training a model of {model.num_parameters():,} parameters on {without_secrets(options.data)}", flush=True)
    floor = read_about(options.data).get("test_floor_bits_per_byte")
    more = {"folder": run_folder, "resume": options.resume, "device": device, "floor_bits_per_byte": floor}
    history = train(model, *loaders, h, teacher=teacher, **more)

    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    give_places(model, untrained_tokens(model, special))  # to the signs of a chat, for a later fine-tuning
    save_model(model, tokenizer, name, dtype=torch.bfloat16 if options.half else None)
    history.save(folder / "history.json")
    use_indic_fonts()
    picture = save_figure(plot_history(history), folder / "perplexity.png")
    print(f"saved to {folder}, with {picture.name} and history.json")
    first_words = " ".join(next(iter(loaders[1].dataset.lines)).split()[:2])
    print(f'now try: python -m ai4india_lib generate --model {name} "{first_words}"')
