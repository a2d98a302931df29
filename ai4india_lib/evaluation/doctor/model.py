"""What the model itself shows when it is tried: does it see the future, is anything drawn, was all of it trained? Each
look returns what it found, and finds nothing in a model that is as it should be.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ...model.lora import has_lora
from ...training.loop import make_model
from .findings import LIKELY, POSSIBLE, SURE, Finding
from .parts import SAME, spread_of
from .patient import Patient


def look_at_numbers(patient: Patient) -> Iterator[Finding]:
    """Weights with numbers that are not finite."""
    for name, weight in patient.model.named_parameters():
        if not weight.isfinite().all():
            yield Finding("damaged weights", f"{name} holds numbers that are not finite", SURE)
            return


def look_at_order(patient: Patient) -> Iterator[Finding]:
    """Change the last tokens: what is said before them must not move."""
    ids = patient.probe
    time = ids.shape[1]
    for place in {time // 2, time - 1}:
        changed = ids.clone()
        changed[:, place:] = (ids[:, place:] + 7) % len(patient.tokenizer)
        before, after = patient.logits(ids), patient.logits(changed)
        moved = (before - after).abs()[:, :place].amax().item()
        if moved > SAME * spread_of(before) + 3 * patient.chance:
            saw = f"changing token {place} moves the logits at earlier places, by up to {moved:.2g}"
            yield Finding("no causal mask", saw, SURE)
            return


def look_at_chance(patient: Patient) -> Iterator[Finding]:
    """Twice the same text, tested: twice the same logits."""
    if patient.chance > 0.001 * spread_of(patient.logits(patient.probe)):
        saw = f"after model.eval() the same text gives other logits each time, by up to {patient.chance:.2g}"
        yield Finding("dropout left on while testing", saw, SURE)


def look_at_tables(patient: Patient) -> Iterator[Finding]:
    """A model that says it writes with the table that it reads with does so."""
    model = patient.model
    config, head, table = (getattr(model, name, None) for name in ("config", "head", "embedding"))
    if not (isinstance(head, nn.Linear) and isinstance(table, nn.Embedding)) or head.weight.shape != table.weight.shape:
        return
    if getattr(config, "tie_embeddings", False) and head.weight is not table.weight:
        share = (head.weight != table.weight).float().mean().item()
        saw = (
            f"the config says tied, but head and embedding are two tables, which differ in {share:.0%} of their numbers"
        )
        yield Finding("weights not tied", saw, SURE)


def look_at_what_moved(patient: Patient) -> Iterator[Finding]:
    """Which weights are still those of the first draw?"""
    first = first_weights(patient)
    if first is None:
        yield from _plain_gains(patient)
        return
    adapted = has_lora(patient.model)  # then all others are to stay
    trained = {name: p for name, p in patient.model.named_parameters() if p.requires_grad or not adapted}
    now = {name: p.detach().float().cpu() for name, p in trained.items()}
    still = [name for name, p in now.items() if name in first and torch.equal(p, first[name])]
    if still and len(still) < len(now):
        saw = f"{len(still)} of {len(now)} weights are bit for bit as they were before training, such as {still[0]}"
        yield Finding("optimizer on part of the weights", saw, SURE)


def _plain_gains(patient: Patient) -> Iterator[Finding]:
    """The gains of norms begin at exactly 1: those that are still there were not trained, while others were."""
    gains = {n: p for n, p in patient.model.named_parameters() if p.dim() == 1 and "norm" in n and p.requires_grad}
    still = [name for name, p in gains.items() if bool((p == 1).all())]
    if still and patient.has_history and patient.history.steps > 1:
        saw = f"{len(still)} of {len(gains)} gains are exactly 1, as before training, such as {still[0]}"
        if len(still) < len(gains):
            yield Finding("norm left out", saw, POSSIBLE)
        yield Finding("optimizer on part of the weights", saw, LIKELY if len(still) == len(gains) else POSSIBLE)


def first_weights(patient: Patient) -> dict[str, Tensor] | None:
    """What the weights were before training: as they were given, or drawn anew with the run's seed; None where that
    draw is not the one of this run."""
    if patient.before is not None:
        before = patient.before.state_dict() if isinstance(patient.before, nn.Module) else patient.before
        return {name: p.detach().float().cpu() for name, p in before.items()}
    fresh = fresh_model(patient)
    return None if fresh is None else {name: p.detach() for name, p in fresh.named_parameters()}


def fresh_model(patient: Patient) -> nn.Module | None:
    """An untrained model as the run had it, by its settings, if they make one of this shape."""
    if patient.h is None:
        return None
    try:
        fresh = make_model(patient.h, patient.tokenizer, patient.train_lines)
    except ValueError:
        return None
    shapes = [{n: p.shape for n, p in model.named_parameters()} for model in (fresh, patient.model)]
    return fresh.float() if shapes[0] == shapes[1] else None


def look_at_padding(patient: Patient) -> Iterator[Finding]:
    """A model that was never taught padding does not expect it, also not behind a text's end."""
    if (pad := patient.pad_id) is None or patient.tokenizer.eos_token_id is None:
        return
    end = patient.tokenizer.eos_token_id
    ids = torch.cat([patient.probe[:, : max(2, patient.probe.shape[1] // 2)], torch.tensor([[end]] * 2)], 1)
    expected = patient.logits(ids).softmax(-1)[..., pad]  # (2, time)
    behind, within = expected[:, -1].mean().item(), expected[:, :-1].mean().item()
    if behind > 0.2 or within > 0.03:
        place, chance = ("behind a text's end", behind) if behind > 0.2 else ("within a text", within)
        saw = f"{place} the model expects padding with a chance of {chance:.0%}"
        yield Finding("padding counted as text", saw, SURE)


def look_at_gradients(patient: Patient) -> Iterator[Finding]:
    """Gradients that are left from training are at most those of the last batch."""
    left = [p.grad.detach().float().norm() for p in patient.model.parameters() if p.grad is not None]
    batches = patient.train_batches[:6]
    if not left or not batches:
        return
    size = torch.stack(left).norm().item()
    kept = {name: p.grad for name, p in patient.model.named_parameters()}
    fresh = []
    for inputs, targets in batches:
        patient.model.zero_grad(set_to_none=True)
        with torch.enable_grad():
            logits = patient.model(inputs.to(patient.device)).float().flatten(0, 1)
            nn.functional.cross_entropy(logits, targets.flatten().to(patient.device)).backward()
        norms = [p.grad.float().norm() for p in patient.model.parameters() if p.grad is not None]
        fresh.append(torch.stack(norms).norm().item())
    for name, p in patient.model.named_parameters():
        p.grad = kept[name]
    if size > 2 * max(fresh):
        saw = f"the gradients left in the model are {size / max(fresh):.0f} times as long as those of a batch"
        yield Finding("gradients never cleared", saw, LIKELY)


LOOKS = (
    look_at_numbers,
    look_at_order,
    look_at_chance,
    look_at_tables,
    look_at_what_moved,
    look_at_padding,
    look_at_gradients,
)
