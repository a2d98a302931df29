"""Our names and settings → those of `LlamaForCausalLM` and `Qwen3ForCausalLM` of `transformers`.

The way back, from the `config.json` of a stranger, is in `published.py`.
"""

import re

from ..model.config import DecoderConfig

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
CONFIG_NAMES = {
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
        **{theirs: getattr(config, ours) for ours, theirs in CONFIG_NAMES.items()},
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
