"""model + tokenizer ↔ an ordinary Hugging Face folder.

What is saved here opens in `transformers`, and in every server and tool that reads Llama or Qwen3 models; published
models of these two families open here. Weights are kept as safetensors: no pickle, so opening a folder runs no code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .device import pick_device
from .model import DecoderConfig, DecoderLanguageModel, rope_tables
from .tokenizer import load_tokenizer, save_tokenizer

MODELS = Path("models")

# our name → the name in LlamaForCausalLM and Qwen3ForCausalLM
_OUTER_NAMES = {"embedding": "model.embed_tokens", "norm.gain": "model.norm.weight", "head": "lm_head"}
_BLOCK_NAMES = {
    "attention_norm.gain": "input_layernorm.weight",
    "attention.query_norm.gain": "self_attn.q_norm.weight",
    "attention.key_norm.gain": "self_attn.k_norm.weight",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "mlp_norm.gain": "post_attention_layernorm.weight",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}


def hugging_face_name(name: str) -> str:
    """ "blocks.2.mlp.up.weight" → "model.layers.2.mlp.up_proj.weight": our parameter's name in `transformers`."""
    if name.startswith("blocks."):
        _, number, inner = name.split(".", 2)
        stem = inner if inner in _BLOCK_NAMES else inner.removesuffix(".weight")
        return f"model.layers.{number}.{_BLOCK_NAMES[stem]}{inner.removeprefix(stem)}"
    stem = name if name in _OUTER_NAMES else name.removesuffix(".weight")
    return _OUTER_NAMES[stem] + name.removeprefix(stem)


def save_model(
    model: DecoderLanguageModel,
    tokenizer,
    model_name: str | Path,
    *,
    overwrite: bool = True,
    folder: str | Path = MODELS,
) -> Path:
    """Write model and tokenizer to `models/<model_name>/` and return that folder.

    A path with more than one part, such as "/tmp/mine" or "./mine", is taken as it is. The folder is written beside its
    place and then moved there, so that a crash leaves the old one. Other files in an old folder stay.

    Raises FileExistsError if the folder already holds a model and `overwrite` is False.
    """
    target = model_folder(model_name, folder)
    if (target / "config.json").exists() and not overwrite:
        raise FileExistsError(f"{target} already holds a model: choose another name, or pass overwrite=True")
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} ids, the model only vocab_size={model.config.vocab_size}: "
            "they do not belong together"
        )

    def write(beside: Path) -> None:
        save_weights(model, beside / "model.safetensors")
        dtype = str(model.embedding.weight.dtype).removeprefix("torch.")
        _write_json(beside / "config.json", hugging_face_config(model.config, tokenizer, dtype))
        ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        _write_json(beside / "generation_config.json", {**ends, "pad_token_id": tokenizer.pad_token_id})
        save_tokenizer(tokenizer, beside)

    replace_folder(target, write)
    return target


def load_model(model_name: str | Path, device: str | torch.device | None = None, *, folder: str | Path = MODELS):
    """Open `models/<model_name>/`, or any folder with a Llama or Qwen3 model, as (model, tokenizer), ready to generate.

    The weights keep the precision they were saved in. `device` None takes the best there is.
    Raises FileNotFoundError, or ValueError for a model of another kind.
    """
    source = model_folder(model_name, folder)
    if not (source / "config.json").is_file():
        known = sorted(path.parent.name for path in Path(folder).glob("[!.]*/config.json"))
        hint = (
            f"there are: {', '.join(known)}" if known else "none is there yet: python -m ai4india_lib train makes one"
        )
        raise FileNotFoundError(f"no model in {source} (no config.json). Models in {folder}: {hint}")
    config = read_config(source / "config.json")
    weights = _read_weights(source)
    with torch.device("meta"):  # shapes only: the weights come from the file
        model = DecoderLanguageModel.from_config(config)
    _fill(model, weights, source)
    model = model.to(pick_device(device)).eval()
    return model, load_tokenizer(source)


def model_folder(model_name: str | Path, folder: str | Path = MODELS) -> Path:
    """`models/<model_name>`; a path with several parts, or the path of an existing model folder, as it is."""
    path = Path(model_name).expanduser()
    if not str(model_name).strip() or path.name in ("", ".."):
        raise ValueError(f"model name {str(model_name)!r} names no folder: use a name such as kahani-hi")
    if "\\" in path.name:  # on Windows it parts folders, and never gets here
        raise ValueError(f"model name {str(model_name)!r} has a backslash: write / between folders")
    in_models = Path(folder) / path
    if path.is_absolute() or len(path.parts) > 1 or str(model_name).startswith("."):
        return path
    return path if not in_models.exists() and (path / "config.json").is_file() else in_models


def save_weights(model: DecoderLanguageModel, path: Path) -> None:
    """Write the weights under their `transformers` names; a tied table once."""
    weights = {hugging_face_name(name): p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    save_file(weights, path, metadata={"format": "pt"})


def load_weights(model: DecoderLanguageModel, path: Path) -> None:
    """Read what `save_weights` wrote into a model of the same shape."""
    weights = _read_safetensors(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[hugging_face_name(name)])


def hugging_face_config(config: DecoderConfig, tokenizer, dtype: str = "float32") -> dict:
    """The content of `config.json`: a Qwen3 model if queries and keys are normalised, else a Llama."""
    kind = "Qwen3" if config.qk_norm else "Llama"
    rope = {"rope_type": "default", "rope_theta": config.rope_theta, **(config.rope_scaling or {})}
    return {
        "architectures": [f"{kind}ForCausalLM"],
        "model_type": kind.lower(),
        "vocab_size": config.vocab_size,
        "hidden_size": config.emb_dim,
        "intermediate_size": config.mlp_dim,
        "num_hidden_layers": config.num_blocks,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context_size,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": rope,  # read by transformers 5,
        "rope_theta": config.rope_theta,  # and these two by transformers 4 and by most servers
        "rope_scaling": config.rope_scaling,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": config.pad_idx,
        "dtype": dtype,  # transformers 5
        "torch_dtype": dtype,  # transformers 4
    }


def read_config(path: Path) -> DecoderConfig:
    """Translate a `config.json` of a Llama or Qwen3 model. Raises ValueError for what our model does not compute."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None
    kind = told.get("model_type")
    if kind not in ("llama", "qwen3"):
        raise ValueError(f"{path} describes a model of type {kind!r}: this library computes llama and qwen3")
    unknown_here = ("attention_bias", "mlp_bias", "use_sliding_window", "quantization_config")
    switched_on = [name for name in unknown_here if told.get(name)]
    if switched_on or told.get("hidden_act", "silu") != "silu":
        odd = switched_on or [f"hidden_act={told['hidden_act']}"]
        raise ValueError(f"{path} asks for {', '.join(odd)}, which this library does not compute")
    rope = told.get("rope_parameters") or {"rope_theta": told.get("rope_theta"), **(told.get("rope_scaling") or {})}
    theta, rope_type = rope.get("rope_theta"), rope.get("rope_type", rope.get("type", "default"))
    if rope_type not in ("default", "llama3"):
        raise ValueError(f"{path} asks for rotary positions of type {rope_type!r}: default and llama3 are known here")
    needed = ("vocab_size", "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
    needed += ("max_position_embeddings", "rms_norm_eps")
    if absent := [name for name in needed if told.get(name) is None]:
        raise ValueError(f"{path} does not say {', '.join(absent)}: it is not a whole config.json of a {kind} model")
    heads, pad = told["num_attention_heads"], told.get("pad_token_id")
    return DecoderConfig(
        vocab_size=told["vocab_size"],
        emb_dim=told["hidden_size"],
        num_heads=heads,
        num_blocks=told["num_hidden_layers"],
        pad_idx=pad if pad in range(told["vocab_size"]) else None,  # some published models say -1 for "none"
        num_kv_heads=told.get("num_key_value_heads") or heads,
        head_dim=told.get("head_dim") or (128 if kind == "qwen3" else told["hidden_size"] // heads),
        mlp_dim=told["intermediate_size"],
        context_size=told["max_position_embeddings"],
        rope_theta=theta or 10_000.0,
        rope_scaling={k: v for k, v in rope.items() if k != "rope_theta"} if rope_type == "llama3" else None,
        norm_eps=told["rms_norm_eps"],
        qk_norm=kind == "qwen3",
        tie_embeddings=told.get("tie_word_embeddings", False),
    )


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder beside `target`, then put it in its place.

    If `write` fails, `target` is as it was. A new `target` appears in one move; in an old one each file is replaced in
    one move, `config.json` last, and files that `write` did not make stay.
    """
    if target.is_file():
        raise FileExistsError(f"{target} is a file: a model needs a folder of that name, so move it or choose another")
    beside = target.with_name(f".{target.name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
    beside.mkdir(parents=True)
    try:
        write(beside)
        if target.exists():
            for path in sorted(beside.iterdir(), key=lambda path: path.name == "config.json"):
                path.replace(target / path.name)
        else:
            beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _fill(model: DecoderLanguageModel, weights: dict[str, Tensor], source: Path) -> None:
    names = {name: hugging_face_name(name) for name, _ in model.named_parameters()}
    missing = sorted(set(names.values()) - set(weights))
    surplus = sorted(set(weights) - set(names.values()) - {"lm_head.weight"})
    surplus = [name for name in surplus if not name.endswith("rotary_emb.inv_freq")]
    if missing or surplus:
        told = f"missing {missing[:3]}" if missing else f"not expected {surplus[:3]}"
        raise ValueError(f"the weights in {source} do not fit its config.json: {told}")
    for name, p in model.named_parameters():
        if weights[names[name]].shape != p.shape:
            found, wanted = tuple(weights[names[name]].shape), tuple(p.shape)
            raise ValueError(f"{names[name]} in {source} has shape {found}, its config.json says {wanted}")
    model.cos, model.sin = rope_tables(model.config)
    state = {name: weights[other] for name, other in names.items()}
    if model.config.tie_embeddings:
        state["head.weight"] = state["embedding.weight"]
    model.load_state_dict(state, assign=True)
    if model.config.tie_embeddings:
        model.head.weight = model.embedding.weight


def _read_weights(source: Path) -> dict[str, Tensor]:
    """All tensors of a folder, from one file or from the shards that an index lists."""
    index = source / "model.safetensors.index.json"
    if (source / "model.safetensors").is_file():
        files = [source / "model.safetensors"]
    elif index.is_file():
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        files = [source / Path(name).name for name in sorted(set(shards))]
    else:
        raise FileNotFoundError(f"no model.safetensors in {source}: weights in other formats are not read here")
    return {name: tensor for file in files for name, tensor in _read_safetensors(file).items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            # clone: otherwise the tensors stay tied to the file, and Windows could not replace it while they live
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): it is missing or damaged; copy or train it anew") from error


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
