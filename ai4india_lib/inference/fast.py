"""Which form of a model writes: plain, packed or compiled. This is the one place that decides.

The forms that were made are kept here, so that a second text need not wait for them. A model knows nothing of it.
"""

from weakref import WeakKeyDictionary

import torch

from ..model.decoder import DecoderLanguageModel
from .captured import CapturedDecoder
from .compiled import CompiledDecoder, go_on_uncompiled, obstacle
from .packed import FastDecoder, is_plain

PACK_FROM = 20  # new tokens from which packing the weights is earned back

# of each model that still lives: its weights' fingerprint, and the decoders that were made of them, by (int8, compiled)
_made: WeakKeyDictionary[DecoderLanguageModel, tuple[list, dict]] = WeakKeyDictionary()


def pick_decoder(
    model: DecoderLanguageModel, new_tokens: int | None = None, *, int8: bool = False, compiled: bool = False
) -> DecoderLanguageModel | FastDecoder:
    """What writes `new_tokens` tokens soonest (None: very many), as `int8` and `compiled` allow; called like the model.

    Few tokens, and a model with more than plain matrices (LoRA), are left to the model itself.
    """
    many = new_tokens is None or new_tokens >= PACK_FROM
    pays = int8 or compiled or (many and is_plain(model))
    return fast_decoder(model, int8=int8, compiled=compiled) if pays else model


def fast_decoder(model: DecoderLanguageModel, *, int8: bool = False, compiled: bool = False) -> FastDecoder:
    """A packed decoder for the model as it is now: the one made last of this kind, unless a weight has changed since.

    `int8` rounds the weights (see `FastDecoder`), `compiled` lets torch compile the steps (see `CompiledDecoder`):
    where that cannot be, it says why in one sentence, and gives a decoder that isn't compiled. On a GPU steps are
    recorded, with or without `compiled` (see `CapturedDecoder`).
    Looking through the weights costs about as much as one token, packing as much as ten or twenty.
    Raises ValueError for a model with more than plain matrices.
    """
    now = _fingerprint(model)
    if model not in _made or _made[model][0] != now:
        _made[model] = now, {}
    decoders = _made[model][1]
    if (int8, compiled) not in decoders:
        decoders[int8, compiled] = _made_anew(model, int8, compiled)
    return decoders[int8, compiled]


def _made_anew(model: DecoderLanguageModel, int8: bool, compiled: bool) -> FastDecoder:
    if model.device.type == "cuda":
        return CapturedDecoder(model, int8=int8)
    if compiled and (reason := obstacle()):
        go_on_uncompiled(reason)
        return fast_decoder(model, int8=int8)
    return (CompiledDecoder if compiled else FastDecoder)(model, int8=int8)


def _fingerprint(model: DecoderLanguageModel) -> list:
    """Changes when any weight does: where each lies, how often torch saw it written, and the sum of its bits.

    The sum is for writes that torch does not count, such as those through `.data`.
    """
    weights = [p.detach() for p in model.parameters()]
    whole_numbers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    sums = torch.stack([w.view(whole_numbers[w.element_size()]).sum() for w in weights]).tolist()
    versions = [None if p.is_inference() else p._version for p in model.parameters()]
    return [(w.data_ptr(), w.dtype, v, s) for w, v, s in zip(weights, versions, sums, strict=True)]
