"""Does the model compute what its weights say? It is compared with the `Reference`, as a whole and part by part."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from .findings import LIKELY, SURE, Finding
from .patient import Patient
from .reference import NO_FAULT, Reference, disease_of, faults_for

SAME = 0.02  # of the logits' spread: two ways to compute the same differ by less, in half precision too


def spread_of(logits: Tensor) -> float:
    """How far logits lie apart: what differences between them are held against."""
    return max(1e-6, logits.std(-1).mean().item())


def look_at_parts(patient: Patient) -> Iterator[Finding]:
    """Does the model compute what its weights say, or what they would say with one part left out?"""
    if patient.reference is None:
        return
    ids, reference = patient.probe, patient.reference
    own = patient.logits(ids)
    spread = spread_of(own)

    def gap(fault: str) -> float:
        return (reference.logits(ids, fault) - own).abs().amax().item() / spread

    if (right := gap(NO_FAULT)) < SAME + 3 * patient.chance / spread:
        return
    for single_blocks in (False, True):
        faults = faults_for(patient.model.config, single_blocks=single_blocks)
        found, fault = min((gap(fault), fault) for fault in faults)
        if found < min(SAME, right / 5):
            saw = f"the model's logits are those of its weights with: {fault.replace('@', ', in block ')}"
            yield Finding(disease_of(fault), saw, SURE)
            return
    yield from _where_it_differs(patient)


def _where_it_differs(patient: Patient) -> Iterator[Finding]:
    """No single fault explains the logits: the first part that computes something else than its weights say."""
    inner = ("attention_norm", "attention", "mlp_norm", "mlp", *_norms_within(patient))
    blocks = [f"blocks.{n}" for n in range(patient.model.config.num_blocks)]
    seen = _read_and_given(patient, [*blocks, "norm", *(f"{block}.{part}" for block in blocks for part in inner)])
    for n, block in enumerate(blocks):
        name, words = _odd_part(patient, n, {part: seen.get(f"{block}.{part}") for part in inner}, seen.get(block))
        if name:
            yield Finding(name, f"in block {n} {words}", LIKELY + 0.2)
            return
    last, gain = seen.get("norm"), patient.reference.weights["norm.gain"]
    if last is None or _differs(last, patient.reference.norm(last[0].float().cpu(), gain)):
        yield Finding("norm left out", "the last norm, before the head, does not normalise as it should", LIKELY + 0.2)


def _read_and_given(patient: Patient, names: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """What each of these modules reads and gives in one pass; those that are never asked are not there."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = []
    for name in names:
        keep = partial(lambda name, module, read, given: seen.update({name: (read[0], given)}), name)
        hooks.append(patient.model.get_submodule(name).register_forward_hook(keep))
    try:
        patient.logits(patient.probe)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _norms_within(patient: Patient) -> tuple[str, ...]:
    """The norms of queries and keys, by their names within a block, if the model has any."""
    return ("attention.query_norm", "attention.key_norm") if patient.model.config.qk_norm else ()


def _differs(found: tuple[Tensor, Tensor], expected: Tensor) -> bool:
    """Is what a part gave, the second of `found`, something else?"""
    given, expected = found[1].float().cpu(), expected.float().cpu()
    return (given - expected).abs().amax().item() > 5 * SAME * max(1e-6, expected.std().item())


def _odd_part(patient: Patient, n: int, own: dict, block: tuple | None) -> tuple[str, str]:
    """(disease, what is odd) of one block's parts, each with what it read and gave; ("", "") if all are right."""
    reference = patient.reference
    for part in ("attention_norm", "mlp_norm", *_norms_within(patient)):
        if own[part] is None:
            return "norm left out", f"{part} is never asked"
        if _differs(own[part], reference.norm(own[part][0].float().cpu(), reference.part(n)[f"{part}.gain"])):
            return "norm left out", f"{part} does not normalise as it should"
    if own["attention"] is not None and _differs(
        own["attention"], reference.attention(own["attention"][0].float().cpu(), n)
    ):
        return _odd_attention(reference, n, own["attention"])
    if block is not None and own["attention"] is not None and own["mlp"] is not None:
        read, wrote = block[0].float().cpu(), [own[part][1].float().cpu() for part in ("attention", "mlp")]
        if _differs(block, read + wrote[0] + wrote[1]):
            return "residual left out", "what comes out is not what went in, plus what attention and MLP add"
    return "", ""


def _odd_attention(reference: Reference, n: int, own: tuple[Tensor, Tensor]) -> tuple[str, str]:
    """Attention that is none of the known faults: with another scale, or else turned otherwise."""
    read, wrote = (part.float().cpu() for part in own)
    spread = max(1e-6, wrote.std().item())
    for factor in torch.logspace(-2, 2, 81).tolist():
        gap = (reference.attention(read, n, f"scale times {factor}") - wrote).abs().amax().item()
        if gap < 0.3 * spread:
            return "scale of the scores forgotten", f"scores are about {factor:.2g} times as large as they should be"
    return "rotation with wrong pairing", "attention computes something else than its weights say"


LOOKS = (look_at_parts,)
