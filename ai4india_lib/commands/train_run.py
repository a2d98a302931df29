"""What `train` does: text archive → tokenizer → model → models/NAME, with a plot and the history."""

import argparse
import time
from functools import partial
from pathlib import Path

import torch

from ..basics.device import pick_device
from ..basics.processes import rank_and_world_size
from ..evaluation.doctor.examination import examine
from ..evaluation.doctor.history import Watch
from ..formats.pretrained import load_model, save_model
from ..model.config import DecoderConfig
from ..model.new_tokens import HALF_SPREAD, beside_untrained, give_places, untrained_tokens
from ..plots import plot_history, save_figure, use_indic_fonts
from ..text.corpus import corpus_place, read_about, train_and_test_lines
from ..text.packing import download_and_prepare_data
from ..text.tokenizer import fingerprint_tokenizer, load_tokenizer, train_tokenizer
from ..text.urls import without_secrets
from ..training.hyperparameters import MODEL_SHAPE, Hyperparameters, plan_steps
from ..training.interrupts import interrupts_wait
from ..training.loop import make_model, train
from ..training.plan import plan_in_words
from ..training.processes import from_first, leave
from ..training.resume import Checkpoints
from . import quoted, with_model
from .card import write_run_card
from .runs import check_training_memory, note_run, run_hyperparameters, tell_steps, was_given

OF_THE_RUN = "data column preset tokenizer teacher half device"  # the options that --resume takes up again
SAVING = 5.0  # seconds of a run by the clock that are left for saving the model and its plot, and for the doctor


def _known_tokenizer(options: argparse.Namespace, tokenizer, run_folder: Path):
    """The teacher's `tokenizer`, that of --tokenizer or of the run to resume; None where one is to be learned.

    Raises ValueError if the run to resume has another one than is asked for.
    """
    if options.teacher:
        print(f"taught by {options.teacher}, with its vocabulary of {len(tokenizer)}", flush=True)
    elif options.tokenizer:
        tokenizer = load_tokenizer(options.tokenizer)
    if options.resume:
        begun = load_tokenizer(run_folder)
        if tokenizer is not None and fingerprint_tokenizer(tokenizer) != fingerprint_tokenizer(begun):
            other = options.teacher or options.tokenizer
            raise ValueError(f"the run in {run_folder} has another tokenizer than {other}: resume it with its own")
        return begun
    return tokenizer


def _check_shape(h: Hyperparameters, vocab_size: int, device: torch.device) -> None:
    """Raises ValueError for a model that cannot be, or that this machine has no memory for, before one is made."""
    shape = {name: getattr(h, name) for name in MODEL_SHAPE if name != "vocab_size"}
    config = DecoderConfig(vocab_size=vocab_size, context_size=h.context_size, pad_idx=0, **shape)
    check_training_memory(config, h, device)


def _corpus(options: argparse.Namespace, device: torch.device) -> tuple[Path, dict]:
    """Where the text lies that --data means, and what its about.json says; how a learner's own is split is told."""

    def fetched() -> Path:
        place = corpus_place(options.data, column=options.column)
        train_and_test_lines(place)  # downloads, and tells what is wrong
        return place

    data = from_first(fetched, device)
    about = read_about(data)
    if "test_documents" in about:
        split = f"{about['train_documents']:,} documents to train on, the last {about['test_documents']:,} to test with"
        print(f"{split}: {data}", flush=True)
    return data, about


def _tell_verdict(model, tokenizer, history, loaders: tuple) -> None:
    """Say in one line whether the loss is what can be expected."""
    try:
        verdict = examine(model, tokenizer, history, train=loaders[0], test=loaders[1], quick=True).verdict
    except Exception as error:  # the model is trained and saved, whatever the doctor stumbles over
        verdict = f"the doctor could not look at this run ({type(error).__name__}: {error})"
    print(verdict, flush=True)


def run(options: argparse.Namespace, name: str, folder: Path) -> None:
    """Train and save. All is checked before a file is written: what the run needs later comes with its checkpoint."""
    run_folder = folder / "training"
    device = pick_device(options.device)
    teacher, tokenizer = load_model(options.teacher, device) if options.teacher else (None, None)
    tokenizer = _known_tokenizer(options, tokenizer, run_folder)
    data, about = _corpus(options, device)
    lines = train_and_test_lines(data)[0]
    h = run_hyperparameters(options, folder, lines.num_bytes, device.type)
    _check_shape(h, h.vocab_size if tokenizer is None else len(tokenizer), device)
    if not was_given(options.preset) and not options.resume:
        print(plan_in_words(lines.num_bytes, h), flush=True)
    if tokenizer is None:
        print(f"learning a vocabulary of {h.vocab_size} from {without_secrets(options.data)} …", flush=True)
        tokenizer = from_first(partial(train_tokenizer, lines, h.vocab_size), device)
        if len(tokenizer) < h.vocab_size:
            print(f"the text has parts for a vocabulary of {len(tokenizer)}, not of {h.vocab_size}", flush=True)
    loaders = download_and_prepare_data(data, h.batch_size, tokenizer, h.context_size, seed=h.seed)
    model = make_model(h, tokenizer, lines)
    print(f"training a model of {model.num_parameters():,} parameters on {without_secrets(options.data)}", flush=True)
    tell_steps(options, h, plan_steps(h, loaders[0].dataset.num_tokens(), rank_and_world_size()[1])[0])
    kept = Checkpoints(run_folder, begin=note_run(options, OF_THE_RUN, tokenizer))
    more = {"folder": kept, "resume": options.resume, "device": device, "on_evaluation": Watch(len(tokenizer))}
    more["floor_bits_per_byte"] = about.get("test_floor_bits_per_byte")
    more["reserved"] = time.perf_counter() - options.started + SAVING
    with interrupts_wait():  # who stops the run gets the model saved
        history = train(model, *loaders, h, teacher=teacher, **more)
        special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
        unread = beside_untrained(model, special)  # such as letters of another script
        give_places(model, untrained_tokens(model, special))  # to the signs of a chat, for a later fine-tuning
        give_places(model, unread, spread=HALF_SPREAD)
        history.data = [without_secrets(options.data)]
        first_words = " ".join(next(iter(loaders[1].dataset.lines)).split()[:2])
        if rank_and_world_size()[0] == 0:
            save_model(model, tokenizer, name, chats=False, dtype=torch.bfloat16 if options.half else None)
            history.save(folder / "history.json")
            use_indic_fonts()
            save_figure(plot_history(history), folder / "perplexity.png")
            write_run_card(folder, options, h, history, about=about, beginning=first_words)
            if history.ended == "finished":
                _tell_verdict(model, tokenizer, history, loaders)
        leave()
    print(f"saved to {folder}, with perplexity.png and history.json")
    prompt = ("-- " if first_words.startswith("-") else "") + quoted(first_words)
    print(f"now try: python -m ai4india_lib generate {with_model(name)} {prompt}")
