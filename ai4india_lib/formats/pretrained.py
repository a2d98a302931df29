"""model + tokenizer ↔ an ordinary Hugging Face folder.

What is saved here opens in `transformers`, and in every server and tool that reads Llama or Qwen3 models; published
models of these two families open here. Weights are kept as safetensors: no pickle, so opening a folder runs no code.
"""

from pathlib import Path

import torch

from ..basics.device import pick_device
from ..basics.files import finish_folder, replace_folder, write_json, write_safetensors
from ..basics.memory import check_memory
from ..model.decoder import DecoderLanguageModel, rope_tables
from ..model.lora import has_lora, merge_lora
from ..text.chat import end_ids
from ..text.tokenizer import load_tokenizer, save_tokenizer
from .adapters import base_of, load_adapter
from .cards import write_first_card
from .folders import MODEL_FILES, MODELS, holds_adapter, model_folder, models_in, read_ends
from .llama_format import hugging_face_config, hugging_face_name
from .published import read_config, read_precision
from .weights import fill, read_weights


def save_model(
    model: DecoderLanguageModel,
    tokenizer,
    model_name: str | Path,
    *,
    overwrite: bool = True,
    chats: bool | None = None,
    dtype: torch.dtype | None = None,
    folder: str | Path = MODELS,
) -> Path:
    """Write model and tokenizer to `models/<model_name>/` and return that folder.

    A path with more than one part, such as "/tmp/mine" or "./mine", is taken as it is. A crash leaves an old folder as
    it was, files in it that are not a model's stay, those of an older model or adapter go (`replace_folder`).
    `dtype` is that of the numbers in the file: torch.bfloat16 makes that of a float32 model half as large and keeps
    three digits; it opens as float32 again. None: as they are.
    Of a model that `chats` the folder says that a turn's end ends a text too, so that every program stops there. None:
    if `finetune` taught it, or `load_model` found it so.
    A card, README.md, goes with it (see `cards`); one that a person wrote or changed is kept.
    Raises FileExistsError if the folder holds a model and `overwrite` is False, ValueError for a model with adapters.
    """
    target = model_folder(model_name, folder)
    if (target / "config.json").exists() and not overwrite:
        raise FileExistsError(f"{target} already holds a model: choose another name, or pass overwrite=True")
    if has_lora(model):
        raise ValueError("the model has adapters: save_adapter saves them alone, merge_lora makes them part of it")
    if len(tokenizer) > model.config.vocab_size:
        sizes = f"the tokenizer has {len(tokenizer)} ids, the model only vocab_size={model.config.vocab_size}"
        raise ValueError(f"{sizes}: they do not belong together")

    def write(beside: Path) -> None:
        parameters = model.named_parameters()  # a tied table comes once
        weights = {hugging_face_name(name): p.detach().to("cpu", dtype).contiguous() for name, p in parameters}
        write_safetensors(beside / "model.safetensors", weights)
        precision = str(model.embedding.weight.dtype).removeprefix("torch.")
        write_json(beside / "config.json", hugging_face_config(model.config, tokenizer, precision))
        answers = getattr(model, "chats", False) if chats is None else chats
        ends = tokenizer.eos_token_id if chats is False else end_ids(tokenizer, chat=answers)
        ends = ends[0] if isinstance(ends, list) and len(ends) == 1 else ends
        ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": ends, "pad_token_id": tokenizer.pad_token_id}
        write_json(beside / "generation_config.json", ids)
        save_tokenizer(tokenizer, beside)
        write_first_card(beside, target)

    replace_folder(target, write, owned=MODEL_FILES)
    return target


def load_model(model_name: str | Path, device: str | torch.device | None = None, *, folder: str | Path = MODELS):
    """Open `models/<model_name>/`, or any folder with a Llama or Qwen3 model, as (model, tokenizer), ready to generate.

    The folder of an adapter opens as the model it belongs to with the adapter merged into it.
    It computes in the precision that `config.json` names, or else in that of the weights. `device=None` takes the best
    there is. Raises FileNotFoundError, or ValueError for a model of another kind.
    """
    source = model_folder(model_name, folder)
    finish_folder(source)
    if holds_adapter(source):
        model, tokenizer = load_model(base_of(source), device)
        merge_lora(load_adapter(model, source)).chats = True  # as `is_chat_model` has it
        return model, tokenizer
    if not (source / "config.json").is_file():
        known = ", ".join(path.name for path in models_in(folder))
        there = (
            f"The folder {folder} has: {known}"
            if known
            else f"The folder {folder} has none yet: python -m ai4india_lib train makes one"
        )
        raise FileNotFoundError(f"no model in {source} (no config.json). {there}")
    device = pick_device(device)
    config, precision = read_config(source / "config.json"), read_precision(source / "config.json")
    size, what = config.memory(4 if precision is None else precision.itemsize), f"the model in {source}"
    for place in (None, device):  # weights are read where the CPU computes, then moved
        check_memory(size, what, "close other programs, or take a smaller model", place)
    weights = read_weights(source, config, precision)
    with torch.device("meta"):  # shapes only: the weights come from the file
        model = DecoderLanguageModel.from_config(config)
    model.cos, model.sin = rope_tables(config)
    fill(model, weights, source)
    tokenizer = load_tokenizer(source)
    tokenizer.also_ends = [token for token in read_ends(source) if 0 <= token < config.vocab_size]
    return model.to(device).eval(), tokenizer
