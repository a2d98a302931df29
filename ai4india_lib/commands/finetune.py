"""python -m ai4india_lib finetune: what is asked for is checked, something is shown, and only then is torch loaded."""

import argparse
from importlib import import_module
from pathlib import Path

from ..basics.arguments import above, at_least, between
from ..formats.folders import holds_adapter, model_folder
from ..training.hyperparameters import MODEL_SHAPE
from . import hyperparameters_of, model_of, refuse
from .runs import check_run_options, take_up_options


def _check(options: argparse.Namespace, source: Path, folder: Path, adapters: bool) -> None:
    """Refuse options that do not go together, or not with the model in `source`."""
    own_shape = "in fine-tuning, where the shape is the model's own"
    refuse(options, " ".join(MODEL_SHAPE), own_shape, "train a new model with `python -m ai4india_lib train`")
    refuse(options, "compile", "in fine-tuning: only `train` compiles its step")
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


def _source(options: argparse.Namespace) -> Path:
    """The folder of the model to start from."""
    return model_folder(model_of(options, chat=False))


def run(options: argparse.Namespace) -> None:
    """Conversations and a model → models/NAME with the history."""
    folder = model_folder(options.name or f"{_source(options).name}-chat-mine")
    if not options.resume and folder == _source(options):
        raise ValueError(f"{folder} is the model to start from: choose another --name for what comes out")
    check_run_options(options, folder)
    begun = take_up_options(options, folder, "lora lora_alpha replay_share preset") if options.resume else {}
    source = _source(options)
    adapters = holds_adapter(source) or options.lora is not None
    _check(options, source, folder, adapters)
    options.preset = options.preset or ("finetune-lora" if adapters else "finetune")
    if not options.resume:
        hyperparameters_of(options)  # raises ValueError for those that cannot be
    print(f"opening {source} …", flush=True)
    import_module(".finetune_run", __package__).run(options, source, folder, begun, adapters)
