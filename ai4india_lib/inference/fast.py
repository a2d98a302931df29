"""Which form of a model writes: plain, packed or compiled."""

from __future__ import annotations

import torch

from ..model.decoder import DecoderLanguageModel
from .packed import FastDecoder


def fast_decoder(model: DecoderLanguageModel, *, int8: bool = False, compiled: bool = False) -> FastDecoder:
    """A packed decoder for the model as it is now: the one made last of this kind, unless a weight has changed since.

    Looking through the weights costs about as much as one token, packing as much as ten or twenty.
    """
    now, kind = _fingerprint(model), (int8, compiled)
    if not hasattr(model, "_packed") or model._packed["weights"] != now:
        model._packed = {"weights": now}
    if kind not in model._packed:
        model._packed[kind] = FastDecoder(model, int8=int8, compiled=compiled)
    return model._packed[kind]


def _fingerprint(model: DecoderLanguageModel) -> list:
    """Changes when any weight does: where each lies, how often torch saw it written, and the sum of its bits.

    The sum is for writes that torch does not count, such as those through `.data`.
    """
    weights = [p.detach() for p in model.parameters()]
    whole_numbers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = torch.stack([w.view(whole_numbers[w.element_size()]).sum() for w in weights]).tolist()
    versions = [None if p.is_inference() else p._version for p in model.parameters()]
    return [(w.data_ptr(), w.dtype, v, s) for w, v, s in zip(weights, versions, sums, strict=True)]
