"""A model as one GGUF file: the format of llama.cpp, and of the programs built on it.

The file holds everything: settings, weights, vocabulary, chat template. It is derived from a model, never read here.
Needs the package `gguf`, which the extra `shipping` brings. Source: the GGUF specification in the ggml repository.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import decoders
from torch import Tensor

from ..basics.files import replaced_file
from ..model.config import DecoderConfig
from ..model.decoder import DecoderLanguageModel, rope_frequencies
from ..model.lora import has_lora
from ..text.chat import CHAT_TEMPLATE, TURN_ENDS, special_tokens
from ..text.tokenizer import INDIC_SPLIT
from .llama_format import hugging_face_name
from .rounding import PRECISIONS, precision_of, stored

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedTokenizerBase

MAKER = "ai4india_lib"  # the file says who wrote it, so that a stranger's is not replaced
MODELFILE_BEGINS = f"# Written by {MAKER}."
SPLITTER = "qwen35"  # of those that llama.cpp knows, the one that keeps marks with their letters, as our pattern does


def save_gguf(
    model: DecoderLanguageModel, tokenizer: PreTrainedTokenizerBase, path: str | Path, *, precision: str = "f32"
) -> Path:
    """Write `path`, whole or not at all, and return it.

    `precision` is that of the matrices: "f32", "f16", or whole numbers with a scale for every 32 of them: −127 … 127 in
    "q8_0", −8 … 7 in "q4_0", where the tables of tokens stay in q8_0. Rows that are no multiple of 32 long are kept in
    f16. Vectors stay float32.
    llama.cpp does not bring text to NFC, as our tokenizer does, and it cuts numbers into digits, and 't off 'they: such
    text may get other ids there. A vocabulary that joined digits is told by a warning.
    Its flash attention and its cache round to f16. Where two tokens are nearly equally likely it may take the other one
    (in one of 12 random models, at a gap of 0.001 nats); with `-fa off -ctk f32 -ctv f32` it took ours.
    Raises ValueError for a model with adapters, for `rope_scaling` beside `qk_norm`, which llama.cpp does not open, and
    for a tokenizer whose split it does not have: it would read the text as other ids, without an error.
    """
    import gguf  # not at the top: only who writes this format needs it

    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is not written here: use {', '.join(PRECISIONS)}")
    if has_lora(model):
        raise ValueError("the model has adapters: merge_lora makes them part of it")
    if model.config.qk_norm and model.config.rope_scaling:
        kind = "rope_scaling in models with qk_norm=True (Qwen3's kind)"
        raise ValueError(f"llama.cpp knows no {kind}: only `transformers` and this library open this model")
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
    patterns = [part["pattern"].get("Regex") for part in before.get("pretokenizers", [before]) if "pattern" in part]
    if model["type"] != "BPE" or patterns != [INDIC_SPLIT]:
        reason = f"the split of ours is the one that llama.cpp has, as {SPLITTER}; with another it would read other ids"
        advice = "convert this model with llama.cpp's own program"
        raise ValueError(f"this tokenizer does not split text as ours do ({reason}): {advice}")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    joined = [token for token in map(_text_of, model["vocab"]) if len(token) > 1 and any(map(str.isdigit, token))]
    if joined:
        told = (
            f"{len(joined)} tokens join digits ({', '.join(map(repr, joined[:3]))} …), and llama.cpp cuts numbers into"
        )
        warnings.warn(f"{told} digits: texts with such numbers get other ids there", stacklevel=3)
    names = {i: token for token, i in tokenizer.get_vocab().items()}
    return [names.get(i, f"<|unused_{i}|>") for i in range(size)], merges


def _text_of(token: str) -> str:
    """What a token of byte-level BPE stands for."""
    return decoders.ByteLevel().decode([token])


def _add_settings(writer: GGUFWriter, config: DecoderConfig, name: str, precision: str) -> None:
    """The shape of the model, as far as the tensors do not say it."""
    from gguf import LlamaFileType

    writer.add_string("general.converted_by", MAKER)
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
    writer.add_file_type(types.get(precision, LlamaFileType.MOSTLY_Q4_0))
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
        weight, held = parameter.detach().float().cpu(), precision_of(ours, parameter, precision)
        if kind == "llama" and ours.endswith(("attention.query.weight", "attention.key.weight")):
            weight = _neighbours(weight, config.head_dim)
        numbers, kind_of_numbers = stored(weight, held)
        name = names.get_name(hugging_face_name(ours), try_suffixes=(".weight",))
        writer.add_tensor(name, numbers, raw_dtype=kind_of_numbers)
    if config.rope_scaling is not None:  # by how much each pair turns slower than without
        plain = rope_frequencies(replace(config, rope_scaling=None))
        writer.add_tensor("rope_freqs.weight", (plain / rope_frequencies(config)).numpy())


def _neighbours(weight: Tensor, head_dim: int) -> Tensor:
    """Rows (heads · head_dim, in) in the order in which llama.cpp turns those of a Llama: pairs stand side by side."""
    return weight.unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2).contiguous()


def is_ours(path: Path) -> bool:
    """Did `save_gguf` write this file?"""
    with path.open("rb") as file:
        start = file.read(512)
    return start.startswith(b"GGUF") and b"general.converted_by" in start and MAKER.encode() in start


def ollama_modelfile(
    tokenizer: PreTrainedTokenizerBase, gguf_name: str, name: str, *, chats: bool, context: int
) -> str:
    """What `ollama create` reads beside a GGUF file: which file, how long a context, and how a question is put.

    Ollama has templates in Go's form, and does not run the one in the file: this is `CHAT_TEMPLATE` in that form, for
    a model that `chats`; one that does not goes on with the text as it is. Raises ValueError for another template.
    """
    if chats and tokenizer.chat_template != CHAT_TEMPLATE:
        raise ValueError("the chat template is not the course's own, and is not rewritten for Ollama: use llama.cpp")
    said = "{{ range .Messages }}<|{{ .Role }}|> {{ .Content }}<|end_of_turn|>{{ end }}<|assistant|>"
    lines = [
        f"{MODELFILE_BEGINS} Use it by: ollama create {name} -f Modelfile",
        f"FROM ./{gguf_name}",
        f'TEMPLATE """{said if chats else "{{ .Prompt }}"}"""',
        f"PARAMETER num_ctx {context}",
        *(f'PARAMETER stop "{end}"' for end in TURN_ENDS[:1] if chats),
    ]
    return "\n".join(lines) + "\n"
