"""Our names and settings ↔ those of `LlamaForCausalLM` and `Qwen3ForCausalLM` of `transformers`."""

import re
from pathlib import Path

import torch

from ..model.config import DecoderConfig
from .folders import read_settings

# our name of a layer, in a block or outside → its name in LlamaForCausalLM and Qwen3ForCausalLM
_LAYER_NAMES = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "attention_norm": "input_layernorm",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}

# our field of DecoderConfig → its name in config.json
_CONFIG_NAMES = {
    "vocab_size": "vocab_size",
    "emb_dim": "hidden_size",
    "mlp_dim": "intermediate_size",
    "num_blocks": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "context_size": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
    "pad_idx": "pad_token_id",
}
_MAY_LACK = ("num_kv_heads", "head_dim", "tie_embeddings", "pad_idx")


def hugging_face_name(name: str) -> str:
    """ "blocks.2.mlp.up.weight" → "model.layers.2.mlp.up_proj.weight": our parameter's name in `transformers`."""
    block, layer, part = re.fullmatch(r"(blocks\.\d+\.)?(.+?)(|\.weight|\.gain|\.lora_.+)", name).groups()
    outer = block.replace("blocks", "model.layers") if block else ""
    return outer + _LAYER_NAMES[layer] + part.replace("gain", "weight")


def hugging_face_config(config: DecoderConfig, tokenizer, dtype: str = "float32") -> dict:
    """The content of `config.json`: a Qwen3 model if queries and keys are normalised, else a Llama."""
    kind = "Qwen3" if config.qk_norm else "Llama"
    rope = {"rope_type": "default", "rope_theta": config.rope_theta, **(config.rope_scaling or {})}
    return {
        "architectures": [f"{kind}ForCausalLM"],
        "model_type": kind.lower(),
        **{theirs: getattr(config, ours) for ours, theirs in _CONFIG_NAMES.items()},
        "rope_parameters": rope,  # read by transformers 5,
        "rope_theta": config.rope_theta,  # and these two by transformers 4 and by most servers
        "rope_scaling": config.rope_scaling,
        **{"hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02},
        "use_cache": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "dtype": dtype,  # transformers 5
        "torch_dtype": dtype,  # transformers 4
    }


def read_precision(path: Path) -> torch.dtype | None:
    """What a `config.json` says that its model computes in; its file may keep fewer digits. None where it is silent."""
    settings = read_settings(path)
    named = getattr(torch, str(settings.get("dtype") or settings.get("torch_dtype")), None)
    return named if isinstance(named, torch.dtype) else None


def _read_rope(settings: dict, path: Path) -> dict:
    """The fields of `DecoderConfig` for rotary positions, from where transformers 5 or 4 writes them."""
    rope = settings.get("rope_parameters")
    rope = rope or {"rope_theta": settings.get("rope_theta"), **(settings.get("rope_scaling") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ValueError(f"{path} asks for rotary positions of type {kind!r}: default and llama3 are known here")
    scaling = {name: value for name, value in rope.items() if name != "rope_theta"} if kind == "llama3" else None
    return {"rope_theta": rope.get("rope_theta") or 10_000.0, "rope_scaling": scaling}


def read_config(path: Path) -> DecoderConfig:
    """Translate a `config.json` of a Llama or Qwen3 model. Raises ValueError for what our model does not compute."""
    settings = read_settings(path)
    kind = settings.get("model_type")
    if kind not in ("llama", "qwen3"):
        raise ValueError(f"{path} describes a model of type {kind!r}: this library computes llama and qwen3")
    unknown_here = ("attention_bias", "mlp_bias", "use_sliding_window", "quantization_config")
    odd = [name for name in unknown_here if settings.get(name)]
    if (activation := settings.get("hidden_act", "silu")) != "silu":
        odd.append(f"hidden_act={activation}")
    if odd:
        raise ValueError(f"{path} asks for {', '.join(odd)}, which this library does not compute")
    fields = {ours: settings.get(theirs) for ours, theirs in _CONFIG_NAMES.items()}
    if absent := [_CONFIG_NAMES[ours] for ours, value in fields.items() if value is None and ours not in _MAY_LACK]:
        raise ValueError(f"{path} does not say {', '.join(absent)}: it is not a whole config.json of a {kind} model")
    if fields["head_dim"] is None and kind == "qwen3":
        fields["head_dim"] = 128
    if fields["pad_idx"] not in range(fields["vocab_size"]):  # some published models say -1 for "none"
        fields["pad_idx"] = None
    fields["tie_embeddings"] = bool(fields["tie_embeddings"])
    return DecoderConfig(**fields, **_read_rope(settings, path), qk_norm=kind == "qwen3")
