"""python -m ai4india_lib finetune: a trained model and conversations → a model that answers, whole or as an adapter."""

import argparse
from itertools import islice
from pathlib import Path

import torch

from ..basics.arguments import above, at_least, between
from ..basics.device import pick_device
from ..basics.files import fingerprint_tensors
from ..evaluation.likelihood import bits_per_byte
from ..formats.adapters import base_of, load_adapter, save_adapter
from ..formats.folders import MODELS, holds_adapter, model_folder
from ..formats.pretrained import load_model, save_model
from ..text.corpus import train_and_test_lines
from ..training.hyperparameters import MODEL_SHAPE
from ..training.resume import Checkpoints
from ..tuning.finetuning import finetune
from . import model_of, refuse, tell_model, with_model
from .options import REPLAY_SHARE
from .runs import check_run_options, check_training_memory, note_run, run_hyperparameters, take_up_options, tell_steps

OF_THE_RUN = "model data lora lora_alpha half replay replay_share preset device"  # what --resume takes up again
STORIES = 300  # test texts on which forgetting is measured


def _check(options: argparse.Namespace, source: Path, folder: Path, adapters: bool) -> None:
    """Refuse options that do not go together, or not with the model in `source`."""
    own_shape = "in fine-tuning, where the shape is the model's own"
    refuse(options, " ".join(MODEL_SHAPE), own_shape, "train a new model with `python -m ai4india_lib train`")
    if options.lora is None:
        refuse(options, "lora_alpha", "without --lora", "give --lora RANK too")
    elif holds_adapter(source):
        raise ValueError(f"{source} is an adapter: leave --lora out to train it further")
    if options.replay is None:
        refuse(options, "replay_share", "without --replay", "give --replay SOURCE too")
    if options.half and not adapters:
        raise ValueError("--half is for adapters: add --lora RANK, or leave it out")
    if not options.data:
        raise ValueError("finetune needs conversations to learn from: give --data SOURCE")
    at_least(1, lora_rank=options.lora)
    above(0, lora_alpha=options.lora_alpha)
    between(0, 1, replay_share=options.replay_share)
    if not adapters and (folder / "adapter_config.json").exists():
        raise ValueError(f"{folder} holds an adapter: choose another --name for a whole model")
    if adapters and (folder / "config.json").exists():
        raise ValueError(f"{folder} holds a whole model: choose another --name for an adapter")


def _is_same_start(begun: dict, start: str, source: Path, folder: Path) -> None:
    """Raises ValueError if the run to resume began with another model."""
    if begun.get("start", start) != start:
        trained = f"the run in {folder} began with another model than the one that is in {source} now"
        raise ValueError(f"{trained}: bring that back to resume it, or start a new run under another --name")


def _source(options: argparse.Namespace) -> Path:
    """The folder of the model to start from."""
    return model_folder(model_of(options, chat=False))


def run(options: argparse.Namespace) -> None:
    """Conversations and a model → models/NAME with the history. All is checked before a file is written."""
    folder = model_folder(options.name or f"{_source(options).name}-chat-mine")
    if not options.resume and folder == _source(options):
        raise ValueError(f"{folder} is the model to start from: choose another --name for what comes out")
    check_run_options(options, folder)
    begun = take_up_options(options, folder, "lora lora_alpha replay_share preset") if options.resume else {}
    source = _source(options)
    further = holds_adapter(source)  # its adapter is trained further
    adapters = further or options.lora is not None
    _check(options, source, folder, adapters)
    options.preset = options.preset or ("finetune-lora" if adapters else "finetune")
    h, device = run_hyperparameters(options, folder), pick_device(options.device)

    base = base_of(source) if further else source
    model, tokenizer = load_model(base, device)
    if "context_size" in options and h.context_size > model.config.context_size:
        most = f"the {model.config.context_size} tokens that {base} reads"
        raise ValueError(f"--context-size {h.context_size} is more than {most}: leave --context-size out")
    check_training_memory(model.config, h, device, trained=not adapters)
    tell_model(options, source.name)
    if further:
        load_adapter(model, source)
    start = fingerprint_tensors(model.named_parameters())
    _is_same_start(begun, start, source, folder)
    texts = list(islice(train_and_test_lines(options.replay)[1], STORIES)) if options.replay else []
    before = bits_per_byte(model, tokenizer, texts) if texts else None
    fraction = REPLAY_SHARE if options.replay_share is None else options.replay_share
    more = {"lora_rank": options.lora, "lora_alpha": options.lora_alpha, "replay": options.replay}
    kept = Checkpoints(folder / "training", begin=note_run(options, OF_THE_RUN, start=start))
    more |= {"folder": kept, "resume": options.resume, "device": device}
    history = finetune(model, tokenizer, options.data, h, replay_share=fraction, **more)
    tell_steps(options, h, history.total_steps)
    if adapters:
        save_adapter(model, folder, base=base, dtype=torch.bfloat16 if options.half else None, overwrite=True)
    else:
        save_model(model, tokenizer, folder, chats=True)
    history.save(folder / "history.json")
    if texts:
        after = bits_per_byte(model, tokenizer, texts)
        figures = f"{before:.4f} bits per byte before, {after:.4f} after ({after / before - 1:+.1%})"
        print(f"{len(texts)} texts like those of the first training: {figures}")
    print(f"saved to {folder}" + (f", an adapter of {base}" if adapters else ""))
    named = with_model(folder.name if folder.parent == MODELS else folder)
    print(f"now try: python -m ai4india_lib chat {named}")
