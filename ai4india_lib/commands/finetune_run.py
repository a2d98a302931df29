"""What `finetune` does: a trained model and conversations → a model that answers, whole or as an adapter."""

import argparse
import time
from itertools import islice
from pathlib import Path

import torch

from ..basics.device import pick_device
from ..basics.files import fingerprint_tensors, write_json
from ..evaluation.likelihood import bits_per_byte
from ..formats.adapters import base_of, load_adapter, save_adapter
from ..formats.folders import CHAT_NOTE, MAY_BE_ASKED, MODELS, holds_adapter, may_be_asked
from ..formats.pretrained import load_model, save_model
from ..text.corpus import read_about, train_and_test_lines
from ..text.urls import without_secrets
from ..training.interrupts import interrupts_wait
from ..training.resume import Checkpoints
from ..tuning.finetuning import finetune
from . import tell_model, with_model
from .options import REPLAY_SHARE
from .runs import check_training_memory, note_run, run_hyperparameters, tell_steps

OF_THE_RUN = "model data lora lora_alpha half replay replay_share preset device"  # what --resume takes up again
SAVING = 1.0  # seconds of a run by the clock that are left for saving the model
STORIES = 300  # test texts on which forgetting is measured


def _is_same_start(begun: dict, start: str, source: Path, folder: Path) -> None:
    """Raises ValueError if the run to resume began with another model."""
    if begun.get("start", start) != start:
        trained = f"the run in {folder} began with another model than the one that is in {source} now"
        raise ValueError(f"{trained}: bring that back to resume it, or start a new run under another --name")


def _what_may_be_asked(source: Path, data: list[str]) -> str | None:
    """What a model may be asked that learned these conversations, after those of `source`; None if nothing says it."""
    said = [read_about(place).get(MAY_BE_ASKED) for place in data]
    return "; ".join(dict.fromkeys(words for words in (may_be_asked(source), *said) if isinstance(words, str))) or None


def run(options: argparse.Namespace, source: Path, folder: Path, begun: dict, adapters: bool) -> None:
    """Train and save. All is checked before a file is written."""
    further = holds_adapter(source)  # its adapter is trained further
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
    asked = _what_may_be_asked(source, options.data)
    measuring = time.perf_counter()
    texts = list(islice(train_and_test_lines(options.replay)[1], STORIES)) if options.replay else []
    before = bits_per_byte(model, tokenizer, texts) if texts else None
    fraction = REPLAY_SHARE if options.replay_share is None else options.replay_share
    more = {"lora_rank": options.lora, "lora_alpha": options.lora_alpha, "replay": options.replay}
    kept = Checkpoints(folder / "training", begin=note_run(options, OF_THE_RUN, start=start))
    more |= {"folder": kept, "resume": options.resume, "device": device}
    gone = time.perf_counter() - options.started
    more["reserved"] = gone + time.perf_counter() - measuring + SAVING  # the texts are read once more at the end
    with interrupts_wait():  # who stops the run gets the model saved
        history = finetune(model, tokenizer, options.data, h, replay_share=fraction, **more)
        if h.minutes is None:
            tell_steps(options, h, history.total_steps)
        if adapters:
            save_adapter(model, folder, base=base, dtype=torch.bfloat16 if options.half else None, overwrite=True)
        else:
            save_model(model, tokenizer, folder, chats=True)
        history.data = [*map(without_secrets, options.data)]
        history.save(folder / "history.json")
        write_json(folder / CHAT_NOTE, {MAY_BE_ASKED: asked})
    if texts:
        after = bits_per_byte(model, tokenizer, texts)
        figures = f"{before:.4f} bits per byte before, {after:.4f} after ({after / before - 1:+.1%})"
        print(f"{len(texts)} texts like those of the first training: {figures}")
    print(f"saved to {folder}" + (f", an adapter of {base}" if adapters else ""))
    named = with_model(folder.name if folder.parent == MODELS else folder)
    print(f"now try: python -m ai4india_lib chat {named}")
