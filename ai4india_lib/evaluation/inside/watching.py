"""Look into a model while it computes, and put something else where you like: `watch`, with forward hooks (lesson 17).

A hook is a function that torch calls whenever a module is used. Ours note what passes by, and take themselves away when
the `with` block ends. The model is the one that `load_model` gives: no second copy, nothing to convert.

What can be read and replaced, for a model of n blocks (letters as in `model/decoder.py`)::

    stream[0 … n]        (batch, time, emb_dim)            what enters block 0, 1, …; the last is what leaves them all
    heads[0 … n - 1]     (batch, time, heads, head_dim)    what each head gathered, before the output matrix
    mlp[0 … n - 1]       (batch, time, emb_dim)            what each MLP adds to the stream

Attention itself is one fused operation that never shows its weights: `Watched.attention` computes them from the queries
and keys that passed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...model.decoder import DecoderLanguageModel, Place, rope

PARTS = ("stream", "heads", "mlp")


@dataclass(frozen=True, eq=False)
class Patch:
    """Puts `value` in the place of what flows at one part of one layer.

    `value` is a number, or a tensor that spreads over what it replaces: all positions, or one (`position`, a number,
    a slice, or a tensor (batch,) with one number for each row); with part "heads" all heads, or one (`head`).
    """

    part: str  # "stream", "heads" or "mlp"
    layer: int  # the block, from 0; in the stream what enters it
    value: Tensor | float
    position: int | slice | Tensor | None = None
    head: int | None = None

    def check(self, model: DecoderLanguageModel) -> None:
        """Raises ValueError if the model has no such place."""
        if self.part not in PARTS:
            raise ValueError(f"part={self.part!r}: there are {', '.join(PARTS)}")
        layers = model.config.num_blocks + (self.part == "stream")
        if not 0 <= self.layer < layers:
            raise ValueError(f"layer={self.layer}: this model has {self.part} 0 to {layers - 1}")
        if self.head is not None and self.part != "heads":
            raise ValueError(f"head={self.head} is for the part 'heads', not for {self.part!r}: leave it out")
        if self.head is not None and not 0 <= self.head < model.config.num_heads:
            raise ValueError(f"head={self.head}: this model has heads 0 to {model.config.num_heads - 1}")

    def __call__(self, x: Tensor) -> Tensor:
        """A copy of what flows, (batch, time, …), with the value put in."""
        where, rows = self.position, slice(None)
        if isinstance(where, Tensor):
            where, rows = where.to(x.device), torch.arange(len(x), device=x.device)
        elif where is None:
            where = slice(None)
        index = (rows, where) if self.head is None else (rows, where, self.head)
        changed = x.clone()
        try:
            changed[index] = self.value.to(x) if isinstance(self.value, Tensor) else self.value
        except (IndexError, RuntimeError) as error:
            shape = tuple(getattr(self.value, "shape", ()))
            place = f"{self.part} {self.layer} of shape {tuple(x.shape)}"
            raise ValueError(f"a value of shape {shape} does not fit into {place} at {index}: {error}") from None
        return changed


@dataclass(eq=False)
class Watched:
    """What flowed in the newest pass. It stays readable after the `with` block."""

    stream: list[Tensor] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)
    mlp: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)  # (batch, heads, time, head_dim) each, before they are turned
    keys: list[Tensor] = field(default_factory=list)  # (batch, kv_heads, time, head_dim) each
    places: list[Place] = field(default_factory=list)
    outputs: list[nn.Module] = field(default_factory=list)  # the matrices behind the heads

    def attention(self, block: int) -> Tensor:
        """How much each head of a block looks where: (batch, heads, time, time), rows sum to 1 (see lesson 06)."""
        if not self.queries:
            raise ValueError("nothing has passed yet: call the model within the `with` block, then look")
        place = self.places[block]
        q, k = (rope(x[block].float(), place.cos.float(), place.sin.float()) for x in (self.queries, self.keys))
        k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)  # (batch, heads, time, head_dim)
        scores = q @ k.mT * q.shape[-1] ** -0.5  # (batch, heads, time, time)
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        return scores.masked_fill(later, -torch.inf).softmax(-1)

    def head_outputs(self, block: int) -> Tensor:
        """What each head of a block adds to the stream: (batch, time, heads, emb_dim). Their sum is all it adds."""
        gathered = self.heads[block]  # (batch, time, heads, head_dim)
        alone = torch.eye(gathered.shape[2], dtype=gathered.dtype, device=gathered.device)
        each = gathered.unsqueeze(2) * alone[..., None]  # (batch, time, heads, heads, head_dim): the others are 0
        return self.outputs[block](each.flatten(3))


@contextmanager
def watch(model: DecoderLanguageModel, *patches: Patch) -> Iterator[Watched]:
    """Within the block, `model(ids)` notes what flows, with the patches put in; behind it, the model is as before.

    >>> with watch(model) as seen:
    ...     logits = model(ids)
    >>> seen.attention(1)[0, 2]                           # what head 2 of block 1 looks at, (time, time)
    >>> with watch(model, Patch("heads", 1, 0.0, head=2)):  # the same head, switched off
    ...     without = model(ids)

    A new pass takes the older one's place. It must read a text at once, without a cache: ValueError otherwise. So call
    the model itself, not `generate`, which has a cache and faster ways past the modules.
    """
    if not isinstance(model, DecoderLanguageModel):
        raise TypeError(f"watch reads a model of this course, as load_model gives it, not {type(model).__name__}")
    for patch in patches:
        patch.check(model)
    seen = Watched(outputs=[block.attention.output for block in model.blocks])
    with ExitStack() as hooks:

        def on(module: nn.Module, function: Callable, *, before: bool, **options) -> None:
            add = module.register_forward_pre_hook if before else module.register_forward_hook
            hooks.callback(add(function, **options).remove)

        on(model.embedding, lambda *_: _begin(seen), before=True)
        for number, block in enumerate(model.blocks):
            attention = block.attention
            on(attention, lambda _, given, named: _note_place(seen, *given, **named), before=True, with_kwargs=True)
            on(attention.query_norm, lambda _, __, q: seen.queries.append(q.detach()), before=False)
            on(attention.key_norm, lambda _, __, k: seen.keys.append(k.detach()), before=False)
            on(block, _through(seen.stream, patches, "stream", number), before=True)
            split = (model.config.num_heads, model.config.head_dim)
            on(attention.output, _through(seen.heads, patches, "heads", number, split), before=True)
            on(block.mlp, _through(seen.mlp, patches, "mlp", number), before=False)
        on(model.norm, _through(seen.stream, patches, "stream", len(model.blocks)), before=True)
        yield seen


def _begin(seen: Watched) -> None:
    for noted in (seen.stream, seen.heads, seen.mlp, seen.queries, seen.keys, seen.places):
        noted.clear()


def _note_place(seen: Watched, x: Tensor, place: Place) -> None:
    if place.cache is not None:
        raise ValueError("watch reads a text at once, and this pass has a cache: call the model without one")
    seen.places.append(place)


def _through(
    noted: list[Tensor], patches: tuple[Patch, ...], part: str, layer: int, split: tuple[int, int] | None = None
) -> Callable:
    """A hook, before or behind a module, through which the part flows: patched, noted, and handed on."""
    wanted = [patch for patch in patches if (patch.part, patch.layer) == (part, layer)]

    def hook(module: nn.Module, given: tuple, result: Tensor | None = None) -> tuple | Tensor:
        whole = given[0] if result is None else result
        x = whole if split is None else whole.unflatten(-1, split)
        for patch in wanted:
            x = patch(x)
        noted.append(x.detach())
        x = x if split is None else x.flatten(-2)
        return x if result is not None else (x, *given[1:])

    return hook
