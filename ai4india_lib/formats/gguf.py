"""A model as one GGUF file: the format of llama.cpp, and of the programs built on it.

The file holds everything: settings, weights, vocabulary, chat template. It is derived from a model, never read here.
Needs the package `gguf`, which the extra `benchmark` brings. Source: the GGUF specification in the ggml repository.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..basics.files import replaced_file
from ..model.config import DecoderConfig
from ..model.decoder import DecoderLanguageModel, rope_frequencies
from ..model.lora import has_lora
from ..text.chat import TURN_ENDS, special_tokens
from ..text.tokenizer import INDIC_SPLIT
from .llama_format import hugging_face_name

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from numpy import ndarray
    from transformers import PreTrainedTokenizerBase

PRECISIONS = ("f32", "f16", "q8_0")
SPLITTER = "qwen35"  # of those that llama.cpp knows, the one that keeps marks with their letters, as our pattern does


def save_gguf(
    model: DecoderLanguageModel, tokenizer: PreTrainedTokenizerBase, path: str | Path, *, precision: str = "f32"
) -> Path:
    """Write `path`, whole or not at all, and return it.

    `precision` is that of the matrices: "f32", "f16", or "q8_0", whole numbers −127 … 127 with a scale for every 32 of
    them (rows that are no multiple of 32 long are kept in f16). Vectors stay float32.
    llama.cpp does not bring text to NFC, as our tokenizer does, and it cuts long numbers and some rare signs in other
    places: such text may get other ids there.
    Raises ValueError for a model with adapters, and for a tokenizer that llama.cpp would not read as we do.
    """
    import gguf  # not at the top: only who writes this format needs it

    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is not written here: use {', '.join(PRECISIONS)}")
    if has_lora(model):
        raise ValueError("the model has adapters: merge_lora makes them part of it")
    tokens, merges = _vocabulary(tokenizer, model.config.vocab_size)
    path, kind = Path(path), "qwen3" if model.config.qk_norm else "llama"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as beside:
        writer = gguf.GGUFWriter(beside, kind)
        try:
            _add_settings(writer, model.config, path.stem, precision)
            _add_tokenizer(writer, tokenizer, tokens, merges)
            _add_weights(writer, model, kind, precision)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
    return path


def _vocabulary(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[list[str], list[str]]:
    """All `size` tokens in the order of their ids, and the merges of byte-level BPE."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    model, before = described["model"], described["pre_tokenizer"] or {}
    patterns = [part.get("pattern", {}).get("Regex") for part in before.get("pretokenizers", [before])]
    if model["type"] != "BPE" or INDIC_SPLIT not in patterns:
        raise ValueError(
            "this tokenizer does not split text as ours do: convert its model with llama.cpp's own program"
        )
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    names = {i: token for token, i in tokenizer.get_vocab().items()}
    return [names.get(i, f"<|unused_{i}|>") for i in range(size)], merges


def _add_settings(writer: GGUFWriter, config: DecoderConfig, name: str, precision: str) -> None:
    """The shape of the model, as far as the tensors do not say it."""
    from gguf import LlamaFileType

    writer.add_name(name)
    writer.add_context_length(config.context_size)
    writer.add_embedding_length(config.emb_dim)
    writer.add_block_count(config.num_blocks)
    writer.add_feed_forward_length(config.mlp_dim)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    types = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
    writer.add_file_type(types[precision])
    writer.add_quantization_version(2)


def _add_tokenizer(
    writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, tokens: list[str], merges: list[str]
) -> None:
    """Tokens, what kind each is of, and what begins and ends a text."""
    from gguf import TokenType

    special, known = set(special_tokens(tokenizer).values()), len(tokenizer)
    kinds = [TokenType.CONTROL if i in special else TokenType.NORMAL for i in range(len(tokens))]
    kinds[known:] = [TokenType.UNUSED] * (len(tokens) - known)
    writer.add_tokenizer_model("gpt2")  # what the format calls byte-level BPE
    writer.add_tokenizer_pre(SPLITTER)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    if turn_ends := [i for i, token in enumerate(tokens) if i in special and token in TURN_ENDS]:
        writer.add_eot_token_id(turn_ends[0])
    writer.add_add_bos_token(True)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _add_weights(writer: GGUFWriter, model: DecoderLanguageModel, kind: str, precision: str) -> None:
    """All parameters; a tied table comes once."""
    import gguf

    arch = {"qwen3": gguf.MODEL_ARCH.QWEN3, "llama": gguf.MODEL_ARCH.LLAMA}[kind]
    names, config = gguf.get_tensor_name_map(arch, model.config.num_blocks), model.config
    for ours, parameter in model.named_parameters():
        weight = parameter.detach().float().cpu()
        if kind == "llama" and ours.endswith(("attention.query.weight", "attention.key.weight")):
            weight = _neighbours(weight, config.head_dim)
        numbers, stored = _stored(weight, precision)
        name = names.get_name(hugging_face_name(ours), try_suffixes=(".weight",))
        writer.add_tensor(name, numbers, raw_dtype=stored)
    if config.rope_scaling is not None:  # by how much each pair turns slower than without
        plain = rope_frequencies(replace(config, rope_scaling=None))
        writer.add_tensor("rope_freqs.weight", (plain / rope_frequencies(config)).numpy())


def _neighbours(weight: Tensor, head_dim: int) -> Tensor:
    """Rows (heads · head_dim, in) in the order in which llama.cpp turns those of a Llama: pairs stand side by side."""
    return weight.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2).contiguous()


def _stored(weight: Tensor, precision: str) -> tuple[ndarray, object]:
    """The numbers of a weight as the file holds them, and their type there."""
    from gguf import GGMLQuantizationType as Type
    from gguf import quants

    if weight.dim() == 1 or precision == "f32":
        return weight.numpy(), Type.F32
    whole_blocks = weight.shape[-1] % 32 == 0
    stored = Type.Q8_0 if precision == "q8_0" and whole_blocks else Type.F16
    return quants.quantize(weight.numpy(), stored), stored
