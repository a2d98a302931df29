"""python -m ai4india_lib finetune: what is asked for is checked, something is shown, and only then is torch loaded."""

import argparse
import math
from importlib import import_module
from pathlib import Path

from ..basics.arguments import above, at_least, between
from ..formats.folders import holds_adapter, model_folder
from ..training.hyperparameters import NEW_MODEL
from ..tuning.reward_files import reward_file
from . import hyperparameters_of, model_of, refuse
from .options import TUNING
from .runs import check_run_options, take_up_options

LOOKS = "eval_every eval_batches patience"  # at a test text, which only conversations have
CHANGE_NOTHING = {  # options of this command, by what the model learns from
    "data": "beta group_size max_length kl_weight clip_range updates",
    "preferences": f"data replay replay_share context_size {LOOKS} group_size max_length kl_weight clip_range updates",
    "reward": f"replay replay_share context_size {LOOKS} num_epochs beta",
}
NAMES = {"data": "chat", "preferences": "preferred", "reward": "rewarded"}
MUST_AGREE = f"lora lora_alpha replay_share preset {' '.join(TUNING)}"  # with the run to resume
PRESETS = {"preferences": "dpo", "reward": "grpo"}


def learns_from(options: argparse.Namespace) -> str:
    """What the model is to learn from: data (conversations), preferences or reward."""
    if options.preferences is not None and options.reward is not None:
        raise ValueError("--preferences and --reward are two ways to train: leave one of them out")
    return next((kind for kind in PRESETS if getattr(options, kind) is not None), "data")


def _check_kind(options: argparse.Namespace, kind: str) -> None:
    """Refuse what is for another kind of fine-tuning, and what cannot be in this one."""
    refuse(options, CHANGE_NOTHING[kind], f"with --{kind}" if kind != "data" else "in learning from conversations")
    if kind in PRESETS and options.preset not in (None, PRESETS[kind]):
        raise ValueError(f"--preset has no effect with --{kind}, which has its own: leave --preset out")
    if kind != "preferences" and not options.data:
        needed = "prompts to write on" if kind == "reward" else "conversations to learn from"
        raise ValueError(f"finetune needs {needed}: give --data SOURCE")
    if kind == "reward":
        reward_file(options.reward)
    above(0, beta=options.beta)
    at_least(2, group_size=options.group_size)
    at_least(1, max_length=options.max_length, updates=options.updates)
    between(0, math.inf, kl_weight=options.kl_weight, clip_range=options.clip_range)


def _check(options: argparse.Namespace, source: Path, folder: Path, adapters: bool) -> None:
    """Refuse options that do not go together, or not with the model in `source`."""
    own_shape = "in fine-tuning, where the shape is the model's own"
    refuse(options, " ".join(NEW_MODEL), own_shape, "train a new model with `python -m ai4india_lib train`")
    refuse(options, "compile", "in fine-tuning: only `train` compiles its step")
    if options.lora is None:
        refuse(options, "lora_alpha", "without --lora", "give --lora RANK too")
    elif holds_adapter(source):
        raise ValueError(f"{source} is an adapter: leave --lora out to train it further")
    if options.replay is None:
        refuse(options, "replay_share", "without --replay", "give --replay SOURCE too")
    if options.half and not adapters:
        raise ValueError("--half is for adapters: add --lora RANK, or leave it out")
    _check_kind(options, learns_from(options))
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
    """What is to be learned, and a model → models/NAME with the history."""
    asked = learns_from(options)
    folder = model_folder(options.name or f"{_source(options).name}-{NAMES[asked]}-mine")
    if not options.resume and folder == _source(options):
        raise ValueError(f"{folder} is the model to start from: choose another --name for what comes out")
    check_run_options(options, folder)
    begun = take_up_options(options, folder, MUST_AGREE) if options.resume else {}
    if begun and asked != "data" and begun["options"].get(asked) is None:
        another = f"the run in {folder} was begun without --{asked}"
        raise ValueError(f"{another}: leave --{asked} out, or start a new run")
    source = _source(options)
    adapters = holds_adapter(source) or options.lora is not None
    _check(options, source, folder, adapters)
    usual = "finetune-lora" if adapters else "finetune"
    options.preset = options.preset or PRESETS.get(learns_from(options), usual)
    if not options.resume:
        hyperparameters_of(options)  # raises ValueError for those that cannot be
    print(f"opening {source} …", flush=True)
    import_module(".finetune_run", __package__).run(options, source, folder, begun, adapters)
