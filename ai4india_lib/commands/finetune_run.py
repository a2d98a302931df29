"""What `finetune` does: a model, and conversations, preferences or rewards → another model, whole or as an adapter."""

import argparse
import time
from pathlib import Path

import torch

from ..basics.device import pick_device
from ..basics.files import fingerprint_tensors, write_json
from ..basics.processes import rank_and_world_size
from ..formats.adapters import base_of, load_adapter, save_adapter
from ..formats.folders import CHAT_NOTE, MAY_BE_ASKED, MODELS, holds_adapter, is_chat_model, may_be_asked
from ..formats.pretrained import load_model, save_model
from ..text.corpus import read_about
from ..text.urls import without_secrets
from ..training.interrupts import interrupts_wait
from ..training.processes import leave
from ..training.resume import Checkpoints
from . import quoted, tell_model, with_model
from .card import write_run_card
from .finetune import learns_from
from .languages import archives_of
from .learning import Conversations, Preferences, Rewards
from .options import TUNING
from .runs import check_training_memory, note_run, run_hyperparameters, tell_steps

# what --resume takes up again
OF_THE_RUN = "model data preferences reward lora lora_alpha half replay replay_share preset device " + " ".join(TUNING)
SAVING = 1.0  # seconds of a run by the clock that are left for saving the model
KINDS = {"data": Conversations, "preferences": Preferences, "reward": Rewards}


def _is_same_start(begun: dict, start: str, source: Path, folder: Path) -> None:
    """Raises ValueError if the run to resume began with another model."""
    if begun.get("start", start) != start:
        trained = f"the run in {folder} began with another model than the one that is in {source} now"
        raise ValueError(f"{trained}: bring that back to resume it, or start a new run under another --name")


def _what_may_be_asked(source: Path, data: list[str]) -> str | None:
    """What a model may be asked that learned these conversations, after those of `source`; None if nothing says it."""
    said = [read_about(place).get(MAY_BE_ASKED) for place in data]
    return "; ".join(dict.fromkeys(words for words in (may_be_asked(source), *said) if isinstance(words, str))) or None


def _is_same_lesson(begun: dict, noted: dict[str, str], folder: Path) -> None:
    """Raises ValueError if the run to resume learned from other files than this one."""
    for name, mark in noted.items():
        if begun.get(name, mark) != mark:
            other = f"the run in {folder} began with another {name.replace('_', ' ')}"
            raise ValueError(f"{other}: bring that back to resume it, or start a new run under another --name")


def run(options: argparse.Namespace, source: Path, folder: Path, begun: dict, adapters: bool) -> None:
    """Train and save. All is checked before a file is written."""
    further = holds_adapter(source)  # its adapter is trained further
    h, device = run_hyperparameters(options, folder), pick_device(options.device)
    lesson = KINDS[learns_from(options)](options, h)

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
    learned_talks = learns_from(options) == "data"
    asked = _what_may_be_asked(source, options.data if learned_talks else [])
    measuring = time.perf_counter()
    noted = lesson.read(model, tokenizer)
    _is_same_lesson(begun, noted, folder)
    kept = Checkpoints(folder / "training", begin=note_run(options, OF_THE_RUN, start=start, **noted))
    more = {"folder": kept, "resume": options.resume, "device": device}
    gone = time.perf_counter() - options.started
    more["reserved"] = gone + time.perf_counter() - measuring + SAVING  # the texts are read once more at the end
    with interrupts_wait():  # who stops the run gets the model saved
        history = lesson.learn(adapters, **more)
        if h.minutes is None:
            tell_steps(options, h, history.total_steps)
        # what else was learned has no language of its own: that of the start stays
        history.data = [*map(without_secrets, options.data)] if learned_talks else archives_of(source)
        if rank_and_world_size()[0] == 0:
            if adapters:
                save_adapter(model, folder, base=base, dtype=torch.bfloat16 if options.half else None, overwrite=True)
            else:
                save_model(model, tokenizer, folder, chats=lesson.chats or is_chat_model(source, tokenizer))
            history.save(folder / "history.json")
            if lesson.chats or asked:
                write_json(folder / CHAT_NOTE, {MAY_BE_ASKED: asked})
            write_run_card(folder, options, h, history, beginning=lesson.first_words)
            for line in lesson.result_in_words(history):
                print(line)
        leave()
    print(f"saved to {folder}" + (f", an adapter of {base}" if adapters else ""))
    named = with_model(folder.name if folder.parent == MODELS else folder)
    prompt = "" if lesson.chats else " " + quoted(lesson.first_words)
    print(f"now try: python -m ai4india_lib {'chat' if lesson.chats else 'generate'} {named}{prompt}")
