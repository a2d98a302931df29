"""python -m ai4india_lib train: text archive → tokenizer → model → models/NAME, with a plot and the history."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..formats.folders import model_folder
from ..formats.pretrained import save_model
from ..training.hyperparameters import PRESETS
from . import add_hyperparameter_options, hyperparameters_of, make_way

HINDI_STORIES = Path("data/kahani-hi.tar.gz")


def add_to(commands) -> None:
    """Add this command to the sub-commands of an argument parser."""
    train = commands.add_parser(
        "train",
        help="train a model on a text archive",
        description="Train a model and save it to models/NAME, with a perplexity plot and the history of the run. "
        "Without options: four minutes on two cores, on the course's Hindi stories.",
    )
    train.set_defaults(run=run)
    train.add_argument(
        "--data",
        default=str(HINDI_STORIES),
        metavar="SOURCE",
        help="a .tar.gz with train.txt and test.txt, a folder with them, or the URL of such an archive (%(default)s)",
    )
    train.add_argument("--name", help="save to models/NAME (default: the archive's name with -mine behind it)")
    train.add_argument("--preset", default="laptop", choices=PRESETS, help="a set of hyperparameters (%(default)s)")
    train.add_argument("--tokenizer", metavar="FOLDER", help="use this tokenizer (a folder or a Hugging Face name)")
    train.add_argument(
        "--teacher",
        metavar="NAME_OR_FOLDER",
        help="learn to predict what this model predicts, and take its tokenizer: makes a small model its draft",
    )
    train.add_argument("--half", action="store_true", help="save the weights in bfloat16: half the size, three digits")
    train.add_argument("--device", help="cpu, cuda, mps … (default: the best there is)")
    train.add_argument("--overwrite", action="store_true", help="replace models/NAME if it exists")
    train.add_argument("--resume", action="store_true", help="go on with the interrupted run in models/NAME")
    add_hyperparameter_options(train)


def run(options: argparse.Namespace) -> None:
    """Text archive → tokenizer → model → models/NAME with a plot and the history."""
    import torch

    from ..formats.pretrained import load_model
    from ..model.new_tokens import give_places, untrained_tokens
    from ..plots import plot_history, save_figure, use_indic_fonts
    from ..text.corpus import read_about, train_and_test_lines
    from ..text.packing import download_and_prepare_data
    from ..text.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
    from ..training.loop import make_model, train

    h = hyperparameters_of(options)
    name = options.name or _name_of(options.data)
    folder = model_folder(name)
    run_folder = folder / "training"
    if options.teacher and options.tokenizer:
        raise ValueError("--teacher brings its tokenizer: leave --tokenizer out")
    teacher, tokenizer = load_model(options.teacher, options.device) if options.teacher else (None, None)
    make_way(folder, options)

    if teacher is not None:
        print(f"taught by {options.teacher}, with its vocabulary of {len(tokenizer)}", flush=True)
    elif options.resume and (run_folder / "tokenizer_config.json").is_file():
        tokenizer = load_tokenizer(run_folder)
    elif options.tokenizer:
        tokenizer = load_tokenizer(options.tokenizer)
    else:
        print(f"learning a vocabulary of {h.vocab_size} from {options.data} …", flush=True)
        tokenizer = train_tokenizer(train_and_test_lines(options.data)[0], h.vocab_size)
    save_tokenizer(tokenizer, run_folder)

    train_loader, test_loader = download_and_prepare_data(
        options.data, h.batch_size, tokenizer, h.context_size, seed=h.seed
    )
    model = make_model(h, tokenizer)
    print(f"training a model of {model.num_parameters():,} parameters on {options.data}", flush=True)
    history = train(
        model,
        train_loader,
        test_loader,
        h,
        teacher=teacher,
        folder=run_folder,
        resume=options.resume,
        device=options.device,
        floor_bits_per_byte=read_about(options.data).get("test_floor_bits_per_byte"),
    )
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    give_places(model, untrained_tokens(model, special))  # to the signs of a chat, for a later fine-tuning
    save_model(model, tokenizer, name, dtype=torch.bfloat16 if options.half else None)
    history.save(folder / "history.json")
    use_indic_fonts()
    picture = save_figure(plot_history(history), folder / "perplexity.png")
    print(f"saved to {folder}, with {picture.name} and history.json")
    print(f'now try: python -m ai4india_lib generate --model {name} "{_first_words(test_loader)}"')


def _name_of(source: str) -> str:
    """A model name from a source: "…/my-stories.tar.gz?x=1" → "my-stories-mine"."""
    stem = source.split("?")[0].rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    return stem.split(".")[0] + "-mine"


def _first_words(loader) -> str:
    return " ".join(next(iter(loader.dataset.lines)).split()[:2])
