"""The weights of a folder: which files hold them, whether they fit its `config.json`, in which precision to compute.

All of it is known from the files' headers, so that nothing large is read, or built, before it is known to fit.
"""

import re
from pathlib import Path

import torch
from torch import Tensor

from ..basics.files import read_safetensors, read_safetensors_header
from ..model.config import DecoderConfig
from ..model.decoder import DecoderLanguageModel
from .folders import read_settings
from .llama_format import hugging_face_name

_PRECISIONS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float32}
"""Numbers as safetensors names them → what we compute in: float64 is more than every device has."""


def weight_files(source: Path) -> list[Path]:
    """The one file of a folder that holds its weights, or the shards that an index lists."""
    if (source / "model.safetensors").is_file():
        return [source / "model.safetensors"]
    index = source / "model.safetensors.index.json"
    if not index.is_file():
        raise FileNotFoundError(f"no model.safetensors in {source}: weights in other formats are not read here")
    shards = read_settings(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ValueError(f"{index} has no weight_map that says in which file each weight is: copy the folder anew")
    return [source / Path(name).name for name in sorted(set(shards.values()))]  # .name: in this folder, nowhere else


def read_weights(source: Path, config: DecoderConfig, precision: torch.dtype | None) -> dict[str, Tensor]:
    """The tensors of a folder by the names of `transformers`, in `precision`; None: in that of the file, and if it has
    several, in the finest. Raises ValueError if they are not those of `config`, before they are read."""
    files = weight_files(source)
    headers = {name: about for file in files for name, about in read_safetensors_header(file).items()}
    for name, (kind, _) in headers.items():
        if kind not in _PRECISIONS:
            known = "floating point numbers of 16 to 64 bits"
            raise ValueError(f"{name} in {source} has numbers of type {kind}: this library reads {known}")
    shapes = {name: shape for name, (_, shape) in headers.items()}
    _check_shapes(shapes, config, source)
    for kind, _ in headers.values() if precision is None else ():
        other = _PRECISIONS[kind]
        precision = other if precision is None else torch.promote_types(precision, other)
    return {name: tensor.to(precision) for file in files for name, tensor in read_safetensors(file).items()}


def _check_shapes(found: dict[str, tuple[int, ...]], config: DecoderConfig, source: Path) -> None:
    """Raises ValueError unless these are the names and shapes of a model of this config."""
    failed = f"the weights in {source} do not fit its config.json"
    layers = {int(number) for name in found for number in re.findall(r"^model\.layers\.(\d{1,9})\.", name)}
    if config.num_blocks > len(layers):  # said at once: to build a million blocks would take minutes
        first = next(number for number in range(len(layers) + 1) if number not in layers)
        raise ValueError(f"{failed}: missing ['model.layers.{first}…']: it says {config.num_blocks} layers")
    with torch.device("meta"):  # shapes only
        model = DecoderLanguageModel.from_config(config)
    wanted = {hugging_face_name(name): tuple(p.shape) for name, p in model.named_parameters()}
    missing = sorted(set(wanted) - set(found))
    surplus = sorted(set(found) - set(wanted) - {"lm_head.weight"})
    surplus = [name for name in surplus if not name.endswith("rotary_emb.inv_freq")]
    if missing or surplus:
        difference = f"missing {missing[:3]}" if missing else f"not expected {surplus[:3]}"
        raise ValueError(f"{failed}: {difference}")
    for name, shape in wanted.items():
        if found[name] != shape:
            raise ValueError(f"{name} in {source} has shape {found[name]}, its config.json says {shape}")


def fill(model: DecoderLanguageModel, weights: dict[str, Tensor], source: Path) -> None:
    """Give a model of shapes alone these weights, by the names of `transformers`."""
    table, head, tied = weights["model.embed_tokens.weight"], weights.get("lm_head.weight"), model.config.tie_embeddings
    if tied and head is not None and not torch.equal(head, table):
        told = "says tie_word_embeddings, but its lm_head.weight is not its embed_tokens.weight"
        raise ValueError(f"{source / 'config.json'} {told}: it says false there if it writes with a table of its own")
    state = {name: weights[hugging_face_name(name)] for name, _ in model.named_parameters()}
    model.load_state_dict(state, strict=False, assign=True)  # it lacks at most a tied head: see above
    if tied:
        model.head.weight = model.embedding.weight
