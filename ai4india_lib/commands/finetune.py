"""python -m ai4india_lib finetune: a trained model and conversations → a model that answers, whole or as an adapter."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from ..formats.adapters import base_of, load_adapter, save_adapter
from ..formats.folders import MODELS, model_folder
from ..formats.pretrained import load_model, save_model
from ..training.hyperparameters import PRESETS
from . import add_hyperparameter_options, add_model_options, hyperparameters_of, make_way, newest_model

STORIES = 300  # test texts on which forgetting is measured


def add_to(commands) -> None:
    """Add this command to the sub-commands of an argument parser."""
    finetune = commands.add_parser(
        "finetune",
        help="teach a model to answer",
        description="Train a model further, on conversations, and save it to models/NAME: whole, or with --lora as a "
        "small adapter that `generate`, `chat` and `evaluate` open like a model.",
    )
    finetune.set_defaults(run=run)
    add_model_options(finetune)
    finetune.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="SOURCE",
        help="conversations: .jsonl, or an archive, folder or URL with train.jsonl and test.jsonl (and first.jsonl, if "
        "there are easy ones to learn first); several are joined",
    )
    finetune.add_argument("--lora", type=int, metavar="RANK", help="train an adapter of this rank, not the model")
    finetune.add_argument("--lora-alpha", type=float, metavar="ALPHA", help="how strongly it counts (twice the rank)")
    finetune.add_argument(
        "--half", action="store_true", help="save the adapter in bfloat16: half the size, three digits"
    )
    finetune.add_argument("--name", help="save to models/NAME (default: the model's name with -chat-mine behind it)")
    finetune.add_argument("--replay", metavar="SOURCE", help="text of the first training to mix in, as for `train`")
    finetune.add_argument("--replay-share", type=float, default=0.5, help="its share of the tokens (%(default)s)")
    finetune.add_argument("--preset", choices=PRESETS, help="hyperparameters (default: finetune, or finetune-lora)")
    finetune.add_argument("--overwrite", action="store_true", help="replace models/NAME if it exists")
    finetune.add_argument("--resume", action="store_true", help="go on with the interrupted run in models/NAME")
    add_hyperparameter_options(finetune)


def run(options: argparse.Namespace) -> None:
    """Conversations and a model → models/NAME with the history."""
    import torch

    from ..evaluation.likelihood import bits_per_byte
    from ..text.corpus import train_and_test_lines
    from ..tuning.finetuning import finetune

    source = model_folder(options.model or newest_model())
    folder = model_folder(options.name or f"{source.name}-chat-mine")
    if folder == source:
        raise ValueError(f"{folder} is the model to start from: choose another --name for what comes out")
    make_way(folder, options)
    model, tokenizer, base = _open(source, options)
    adapters = options.lora is not None or base != source
    if options.half and not adapters:
        raise ValueError("--half is for adapters: add --lora RANK, or leave it out")
    options.preset = options.preset or ("finetune-lora" if adapters else "finetune")
    texts = list(islice(train_and_test_lines(options.replay)[1], STORIES)) if options.replay else []
    before = bits_per_byte(model, tokenizer, texts) if texts else None
    history = finetune(
        model,
        tokenizer,
        options.data,
        hyperparameters_of(options),
        lora_rank=options.lora,
        lora_alpha=options.lora_alpha,
        replay=options.replay,
        replay_share=options.replay_share,
        folder=folder / "training",
        resume=options.resume,
        device=options.device,
    )
    if adapters:
        save_adapter(model, folder, base=base, dtype=torch.bfloat16 if options.half else None)
    else:
        save_model(model, tokenizer, folder, chats=True)
    history.save(folder / "history.json")
    if texts:
        after = bits_per_byte(model, tokenizer, texts)
        print(
            f"{len(texts)} texts like those of the first training: {before:.4f} bits per byte before, {after:.4f} "
            f"after ({after / before - 1:+.1%})"
        )
    print(f"saved to {folder}" + (f", an adapter of {base}" if adapters else ""))
    print(f"now try: python -m ai4india_lib chat --model {folder.name if folder.parent == MODELS else folder}")


def _open(source: Path, options: argparse.Namespace):
    """(model, tokenizer, the folder its weights are from); an adapter's folder opens with the adapter still apart."""
    if (source / "config.json").is_file() or not (source / "adapter_config.json").is_file():
        return *load_model(source, options.device), source
    if options.lora is not None:
        raise ValueError(f"{source} is an adapter: leave --lora out to train it further")
    base = base_of(source)
    model, tokenizer = load_model(base, options.device)
    return load_adapter(model, source), tokenizer, base
