"""Weights in fewer bytes: how a GGUF file holds the numbers of a weight, and what comes back when it is read.

The types are those of ggml. In "q8_0" and "q4_0" each 32 numbers of a row share one scale of 16 bits: 34 and 18 bytes
for 32 numbers. Needs the package `gguf`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..model.decoder import DecoderLanguageModel

if TYPE_CHECKING:
    from numpy import ndarray

PRECISIONS = ("f32", "f16", "q8_0", "q4_0")
GROUP = 32  # numbers that share a scale


def precision_of(name: str, weight: Tensor, precision: str) -> str:
    """In what a file of this precision holds the weight `name`: vectors stay float32; in "q4_0" the tables of tokens,
    of which each row is read alone, stay in q8_0; rows that are no multiple of 32 long stay in f16."""
    if weight.dim() == 1 or precision == "f32":
        return "f32"
    if weight.shape[-1] % GROUP:
        return "f16"
    return "q8_0" if precision == "q4_0" and name.startswith(("embedding.", "head.")) else precision


def stored(weight: Tensor, precision: str) -> tuple[ndarray, object]:
    """The numbers of a weight as the file holds them, and their type there. Raises ValueError for another precision."""
    from gguf import GGMLQuantizationType, quants

    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is not written here: use {', '.join(PRECISIONS)}")
    kind = GGMLQuantizationType[precision.upper()]
    return quants.quantize(weight.detach().float().cpu().numpy(), kind), kind


def given_back(weight: Tensor, precision: str) -> Tensor:
    """The weight, float32, as a reader of the file sees it. Shape as `weight`."""
    from gguf import quants

    return torch.from_numpy(quants.dequantize(*stored(weight, precision))).view(weight.shape)


@torch.no_grad()
def rounded_copy(model: DecoderLanguageModel, precision: str) -> DecoderLanguageModel:
    """A model with the weights that a GGUF file of this precision gives back, to measure what rounding costs.

    It takes as much memory as `model`: the numbers are rounded, and kept in the model's own dtype.
    """
    rounded = copy.deepcopy(model)
    for name, weight in rounded.named_parameters():
        weight.copy_(given_back(weight, precision_of(name, weight, precision)))
    return rounded
