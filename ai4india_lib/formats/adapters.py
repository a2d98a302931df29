"""Adapters ↔ folders in the format of PEFT, the library with which most adapters are made and used.

`adapter_model.safetensors` holds the two thin matrices beside each weight, `adapter_config.json` says how they count
and names the model they belong to.
"""

import hashlib
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from ..basics.arguments import is_number, is_whole
from ..basics.files import (
    finish_folder,
    read_safetensors,
    read_safetensors_metadata,
    replace_folder,
    write_json,
    write_safetensors,
)
from ..model.decoder import DecoderLanguageModel
from ..model.lora import lora_modules, put_adapters
from .cards import write_first_card
from .folders import MODEL_FILES, MODELS, model_folder, read_settings
from .llama_format import hugging_face_name
from .weights import weight_files

_BASE_HASH = "base_sha256"  # in the metadata of the tensors' file, where PEFT passes over it
_PREFIX = "base_model.model."  # what PEFT wraps a model of `transformers` in


def save_adapter(
    model: DecoderLanguageModel,
    model_name: str | Path,
    *,
    base: str | Path,
    folder: str | Path = MODELS,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the adapters of `model` to `models/<model_name>/`, and return that folder.

    `base` is the model they were trained on, a name or a folder; `load_model` and `peft` look for it there. `dtype` is
    that of the numbers in the file: torch.bfloat16 makes it half as large and keeps three digits; None: as they are.
    A card, README.md, goes with them (see `cards`); one that a person wrote or changed is kept.
    The file notes a hash of the base's weights, so that `load_adapter` can tell when they were trained anew.
    Raises ValueError if the model has no adapters, or adapters of several ranks; FileExistsError where a whole model
    lies, unless `overwrite`, and in any case where the base lies.
    """
    adapters = lora_modules(model)
    if not adapters:
        raise ValueError("the model has no adapters: add_lora makes them, save_model saves a plain model")
    shapes = {(module.rank, module.alpha) for module in adapters.values()}
    if len(shapes) > 1:
        raise ValueError(f"the adapters differ in (rank, alpha): {sorted(shapes)}; one folder holds one kind")
    rank, alpha = shapes.pop()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model_folder(base, folder).as_posix(),
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted({hugging_face_name(name).rpartition(".")[2] for name in adapters}),
        **{"bias": "none", "fan_in_fan_out": False, "use_rslora": False, "use_dora": False, "modules_to_save": None},
        "inference_mode": True,
    }
    tensors = {
        _PREFIX + hugging_face_name(name): p.detach().to("cpu", dtype).contiguous()
        for name, p in model.named_parameters()
        if ".lora_" in name
    }

    target = model_folder(model_name, folder)
    base_folder = model_folder(base, folder)
    if (target / "config.json").exists() and (not overwrite or target.resolve() == base_folder.resolve()):
        raise FileExistsError(f"{target} holds a whole model: choose another name for its adapter")
    found = weights_hash(base_folder)
    noted = {_BASE_HASH: found} if found else {}

    def write(beside: Path) -> None:
        write_safetensors(beside / "adapter_model.safetensors", tensors, metadata=noted)
        write_json(beside / "adapter_config.json", config)
        write_first_card(beside, target)

    replace_folder(target, write, owned=MODEL_FILES)
    return target


# fields of an adapter_config.json that say how it was trained or stored, and change nothing that is computed; what a
# file's tensors belong to is seen in their names
_DESCRIBES = set(
    "peft_type task_type auto_mapping peft_version base_model_name_or_path revision inference_mode r lora_alpha "
    "lora_dropout target_modules exclude_modules layers_to_transform layers_pattern megatron_config megatron_core "
    "use_rslora init_lora_weights qalora_group_size eva_config runtime_config ensure_weight_tying".split()
)
_BASE_STAYS = (None, True, False, "gaussian", "orthogonal", "eva")  # other kinds of `init_lora_weights` change the base


def read_adapter_config(source: Path) -> dict:
    """The content of `adapter_config.json`. Raises ValueError for what is not plain LoRA.

    Kinds that begin by changing the base (PiSSA, OLoRA, CorDA, LoftQ …) fit only that changed base, which a folder does
    not hold. Fields unknown here are refused too, unless they are off: a later kind of LoRA may be behind them.
    """
    path = source / "adapter_config.json"
    settings = read_settings(path)
    kind, rank, alpha = (settings.get(name) for name in ("peft_type", "r", "lora_alpha"))
    if kind != "LORA":
        raise ValueError(f"{path} describes an adapter of type {kind!r:.60}: this library computes LORA")
    if not is_whole(rank) or not is_number(alpha):
        raise ValueError(f"{path} does not say r and lora_alpha as numbers: it is not a whole adapter_config.json")
    off = (None, False, 0, "none", [], {})
    odd = [name for name in settings if name not in _DESCRIBES and settings[name] not in off]
    if (init := settings.get("init_lora_weights")) not in _BASE_STAYS:
        odd.append(f"init_lora_weights={init}")
    if odd:
        raise ValueError(f"{path} asks for {', '.join(odd)}, which this library does not compute")
    return settings


def base_of(source: Path) -> Path:
    """The folder of the model that an adapter belongs to: as its config names it, or else beside the adapter."""
    named = read_adapter_config(source).get("base_model_name_or_path") or ""
    if not isinstance(named, str):
        told = f"{source / 'adapter_config.json'} says base_model_name_or_path={named!r:.60}"
        raise ValueError(f"{told}: it must name a model")
    candidates = (Path(named), source.parent / Path(named).name)
    for folder in candidates:
        finish_folder(folder)
        if (folder / "config.json").is_file():
            return folder
    base = f"the model {named!r}, which is neither at {candidates[0]} nor at {candidates[1]}"
    advice = "copy it there, or download it with `hf download`"
    raise FileNotFoundError(f"the adapter in {source} belongs to {base}: {advice}")


def _under_our_names(
    model: DecoderLanguageModel, tensors: dict[str, Tensor], rank: int, source: Path
) -> dict[str, Tensor]:
    """The matrices of an adapter's file by our names. Raises ValueError for what does not fit the model."""
    matrices = [n for n, module in model.named_modules() if n.startswith("blocks.") and hasattr(module, "in_features")]
    layers = {hugging_face_name(name): name for name in matrices}
    found = {}
    for key, tensor in tensors.items():
        layer, _, part = key.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        if layer not in layers or part not in ("lora_A", "lora_B"):
            raise ValueError(f"{source} has {key!r}, which is no adapter of a matrix of this model")
        rows, columns = model.get_submodule(layers[layer]).weight.shape  # (out, in)
        wanted = (rank, columns) if part == "lora_A" else (rows, rank)
        if tuple(tensor.shape) != wanted:
            raise ValueError(f"{key} in {source} has shape {tuple(tensor.shape)}, this model needs {wanted}")
        if not tensor.is_floating_point() or tensor.itemsize == 1:
            raise ValueError(f"{key} in {source} has numbers of type {tensor.dtype}: this library reads floating point")
        found[f"{layers[layer]}.{part}.weight"] = tensor
    return found


def weights_hash(base: Path) -> str | None:
    """SHA-256 of the weights of a model's folder; None where there is no such folder."""
    total = hashlib.sha256()
    try:
        for path in weight_files(base):
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    except (OSError, ValueError):
        return None
    return total.hexdigest()


def _warn_of_another_base(source: Path) -> None:
    """Say in a line if the base's weights are not those that the adapter was trained on, as far as that is known."""
    noted = read_safetensors_metadata(source / "adapter_model.safetensors").get(_BASE_HASH)
    try:
        base = base_of(source)
    except FileNotFoundError:  # then it was not opened from there
        return
    if noted and (found := weights_hash(base)) and found != noted:
        changed = f"{base} was changed since the adapter in {source} was trained on it"
        print(f"note: {changed}: its answers may be worse; train the adapter anew", file=sys.stderr)


def load_adapter(
    model: DecoderLanguageModel, adapter: str | Path, *, folder: str | Path = MODELS
) -> DecoderLanguageModel:
    """Put the adapters of a folder, saved by `save_adapter` or by PEFT, beside the matrices of `model`, in place.

    Only the adapters train from here on; `merge_lora` makes them part of the model. Returns the same model.
    Raises ValueError for an adapter that does not fit, or of a kind that is not computed here.
    """
    source = model_folder(adapter, folder)
    config = read_adapter_config(source)
    rank, alpha = config["r"], config["lora_alpha"]
    if config.get("use_rslora"):  # rank-stabilised (Kalajdzievski, 2023): alpha/√rank counts, not alpha/rank
        alpha *= math.sqrt(rank)
    state = _under_our_names(model, read_safetensors(source / "adapter_model.safetensors"), rank, source)
    _warn_of_another_base(source)
    layers = dict.fromkeys(name.partition(".lora_")[0] for name in state)
    if len(state) != 2 * len(layers) or not layers:
        raise ValueError(f"{source} holds {len(state)} tensors for {len(layers)} matrices: each needs A and B")
    put_adapters(model, layers, rank, alpha)
    model.load_state_dict(state, strict=False)  # the model's own weights are not there
    return model
