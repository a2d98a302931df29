"""Our names and settings ↔ those of `LlamaForCausalLM` and `Qwen3ForCausalLM` of `transformers`."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..model.config import DecoderConfig

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
    name, lora, part = name.partition(".lora_")  # an adapter's matrix keeps its place behind the name of its layer
    if name.startswith("blocks."):
        _, number, inner = name.split(".", 2)
        stem = inner if inner in _BLOCK_NAMES else inner.removesuffix(".weight")
        return f"model.layers.{number}.{_BLOCK_NAMES[stem]}{inner.removeprefix(stem)}{lora}{part}"
    stem = name if name in _OUTER_NAMES else name.removesuffix(".weight")
    return _OUTER_NAMES[stem] + name.removeprefix(stem) + lora + part


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


def read_precision(path: Path) -> torch.dtype | None:
    """What a `config.json` says that its model computes in; its file may keep fewer digits. None where it is silent."""
    told = json.loads(path.read_text(encoding="utf-8"))
    named = getattr(torch, str(told.get("dtype") or told.get("torch_dtype")), None)
    return named if isinstance(named, torch.dtype) else None


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
