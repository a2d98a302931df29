"""The `config.json` of a stranger → our `DecoderConfig`: exactly what we compute, or one sentence that says why not.

A field that is not looked at could change every logit. So what `transformers` reads for Llama and Qwen3 is translated,
and fields by which models of other kinds differ from these two are refused, unless they have the value that changes
nothing. `models/README.md` has the table of what opens.
"""

from pathlib import Path

import torch

from ..basics.arguments import is_number, is_whole
from ..model.config import DecoderConfig
from .folders import read_settings
from .llama_format import CONFIG_NAMES

KINDS = ("llama", "qwen3")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float32}
_MAY_LACK = ("num_kv_heads", "head_dim", "tie_embeddings", "pad_idx")

_OFF, _ONE = (None, False, 0, [], {}), (None, 1)
_CHANGES_NOTHING = [  # fields of a config.json, and the values that change no logit: any other is refused
    ("attention_bias mlp_bias qkv_bias lm_head_bias quantization_config add_cross_attention clip_qkv", _OFF),
    ("final_logit_softcapping attn_logit_softcapping attention_chunk_size use_bidirectional_attention", _OFF),
    ("use_qk_norm qk_layernorm alibi use_alibi parallel_attn use_parallel_residual", _OFF),
    ("num_experts num_local_experts n_routed_experts q_lora_rank kv_lora_rank", _OFF),
    ("no_rope_layers no_rope_layer_interval rope_interleaved rope_local_base_freq", _OFF),
    ("attention_multiplier query_pre_attn_scalar attention_scale scale_depth", (None,)),
    ("residual_multiplier embedding_multiplier logits_scaling logit_scale scale_emb", _ONE),
    ("embedding_scale lm_head_multiplier partial_rotary_factor rotary_pct", _ONE),
    ("hidden_act hidden_activation", (None, "silu", "swish")),
]


def read_precision(path: Path) -> torch.dtype | None:
    """What a `config.json` says that its model computes in; its file may keep fewer digits. None where it is silent.

    float64 becomes float32: not every device has more. Raises ValueError for anything but floating point numbers.
    """
    settings = read_settings(path)
    named = settings.get("dtype") or settings.get("torch_dtype")  # transformers 5, 4
    if named is None or named == "auto":
        return None
    precision = PRECISIONS.get(named.removeprefix("torch.")) if isinstance(named, str) else None
    if precision is None:
        raise ValueError(f"{path} says dtype {named!r:.60}: this library computes in {', '.join(PRECISIONS)}")
    return precision


def _rope(settings: dict, path: Path) -> dict:
    """The fields of `DecoderConfig` for rotary positions, from where transformers 4 or 5 writes them."""
    rope = settings.get("rope_scaling") or settings.get("rope_parameters") or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise ValueError(f"{path} describes its rotary positions as {rope!r:.60}: names and numbers are known here")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ValueError(f"{path} asks for rotary positions of type {kind!r:.60}: default and llama3 are known here")
    if rope.get("partial_rotary_factor") not in _ONE:
        raise ValueError(f"{path} asks for partial_rotary_factor, which this library does not compute")
    theta = rope.get("rope_theta", settings.get("rope_theta"))
    scaling = {name: value for name, value in rope.items() if name not in ("rope_theta", "type")}
    scaling["rope_type"] = kind
    outside = settings.get("original_max_position_embeddings")  # before that within
    if outside not in (None, scaling.get("original_max_position_embeddings")):
        raise ValueError(f"{path} says original_max_position_embeddings twice, and not the same")
    return {"rope_theta": 10_000.0 if theta is None else theta, "rope_scaling": scaling if kind == "llama3" else None}


def _slides(settings: dict, kind: str, context_size: int) -> str | None:
    """The field by which some token would see fewer than all before it; None: a window as long as the context."""
    window, asked, layers = (settings.get(name) for name in ("sliding_window", "use_sliding_window", "layer_types"))
    if kind == "qwen3" and not asked:  # there `sliding_window` counts only where this says so
        window = None
    if layers is not None and not (isinstance(layers, list) and all(isinstance(layer, str) for layer in layers)):
        return "layer_types"
    if layers and not set(layers) <= {"full_attention", "sliding_attention"}:
        return "layer_types"
    if window is None:
        return "use_sliding_window" if asked else "layer_types" if "sliding_attention" in (layers or ()) else None
    return None if is_whole(window) and window >= context_size else "sliding_window"


def _check_values(fields: dict, path: Path) -> None:
    """Raises ValueError, naming the field as the file does, for a value of a wrong type."""
    for ours, value in fields.items():
        name = CONFIG_NAMES[ours]
        if ours == "tie_embeddings":
            fits, must = isinstance(value, bool), "true or false"
        elif ours == "norm_eps":
            fits, must = is_number(value) and value > 0, "a number above 0"
        elif ours == "pad_idx":
            fits, must = is_whole(value), "a whole number, or null"
        else:
            fits, must = is_whole(value) and value > 0, "a whole number of at least 1"
        if not fits and not (value is None and ours in _MAY_LACK):
            raise ValueError(f"{path} says {name}={value!r:.60}: it must be {must}")


def read_config(path: Path) -> DecoderConfig:
    """Translate a `config.json` of a Llama or Qwen3 model. Raises ValueError for what our model does not compute."""
    settings = read_settings(path)
    kind = settings.get("model_type")
    if kind not in KINDS:
        raise ValueError(f"{path} describes a model of type {kind!r:.60}: this library computes {' and '.join(KINDS)}")
    fields = {ours: settings.get(theirs) for ours, theirs in CONFIG_NAMES.items()}
    if absent := [CONFIG_NAMES[ours] for ours, value in fields.items() if value is None and ours not in _MAY_LACK]:
        raise ValueError(f"{path} does not say {', '.join(absent)}: it is not a whole config.json of a {kind} model")
    _check_values(fields, path)
    odd = [name for names, values in _CHANGES_NOTHING for name in names.split() if settings.get(name) not in values]
    odd = [f"{name}={settings[name]}" if name.startswith("hidden_act") else name for name in odd]
    if (name := _slides(settings, kind, fields["context_size"])) is not None:
        odd.append(name)
    if odd:
        raise ValueError(f"{path} asks for {', '.join(odd)}, which this library does not compute")
    if fields["head_dim"] is None and kind == "qwen3":
        fields["head_dim"] = 128
    if fields["pad_idx"] is not None and not 0 <= fields["pad_idx"] < fields["vocab_size"]:
        fields["pad_idx"] = None  # some published models say -1 for "none"
    fields["tie_embeddings"] = bool(fields["tie_embeddings"])
    rope = _rope(settings, path)
    try:
        return DecoderConfig(**fields, **rope, qk_norm=kind == "qwen3")
    except ValueError as error:
        raise ValueError(f"{path} describes no model that can be: {error}") from None
