"""What a head looks at, layer by layer what the model would say, and where a text's answer comes from (lesson 17).

All of it is read, or replaced, through `watch`. A score of attention says where a head looks; only replacing (`trace`,
`trace_heads`) says whether that matters: attention alone explains nothing (Jain & Wallace, 2019).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ...model.decoder import DecoderLanguageModel
from ...text.tokenizer import encode_prompt
from .watching import Patch, Watched, watch

ROWS_AT_ONCE = 16  # rows of a pass, or changes of one text that are tried together: bounds the memory


class Look(NamedTuple):
    """A question to every head: how much does position `at` of row `row` look at the positions `to`?"""

    row: int
    at: int
    to: tuple[int, ...]


def tokens_at(tokenizer, text: str, spans: Iterable[tuple[int, int]]) -> tuple[list[int], list[list[int]]]:
    """(ids of a text as `encode_prompt` gives them, for each span (start, end) of its characters the positions of the
    tokens that hold one of them). Raises ValueError for a text that spells a special token."""
    ids = encode_prompt(tokenizer, text)
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    before = len(ids) - len(read["input_ids"])  # the begin token, where there is one
    if before < 0 or ids[before:] != read["input_ids"]:
        raise ValueError(f"{text[:60]!r} spells a special token: where its tokens stand is not clear")
    offsets = read["offset_mapping"]
    return ids, [
        [before + i for i, (first, last) in enumerate(offsets) if first < end and last > start] for start, end in spans
    ]


def look_shares(model: DecoderLanguageModel, rows: Sequence[Sequence[int]], looks: Sequence[Look]) -> Tensor:
    """For each look the share of a head's attention that goes there, 0 to 1: (looks, blocks, heads).

    `rows` are ids; each is read alone. Chance, a head that looks at all it may see alike, gets `look_chance`.
    """
    config = model.config
    found = torch.zeros(len(looks), config.num_blocks, config.num_heads)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = range(start, min(start + ROWS_AT_ONCE, len(rows)))
        if not any(look.row in part for look in looks):
            continue
        seen = seen_in(model, rows[start : start + ROWS_AT_ONCE])
        for block in range(config.num_blocks):
            attention = seen.attention(block).cpu()  # (rows, heads, time, time)
            for number, look in enumerate(looks):
                if look.row in part:
                    found[number, block] = attention[look.row - start, :, look.at, list(look.to)].sum(-1)
    return found


def look_chance(looks: Sequence[Look]) -> Tensor:
    """What a head gets that looks at all it may see alike: (looks,)."""
    return torch.tensor([len(look.to) / (look.at + 1) for look in looks])


@torch.inference_mode()
def seen_in(model: DecoderLanguageModel, rows: Sequence[Sequence[int]]) -> Watched:
    """What flows while the model reads rows of ids, together; behind a short row's end it means nothing."""
    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)  # (rows, time)
    with watch(model) as seen:
        model(ids.to(model.device), logits=False)
    return seen


def stream_logits(model: DecoderLanguageModel, stream: Tensor) -> Tensor:
    """What the model would say if it ended here, (…, emb_dim) → (…, vocab_size): the *logit lens* (nostalgebraist,
    2020). The last norm and the table are used as they are, though they were trained for the last layer only."""
    return model.head(model.norm(stream))


@torch.inference_mode()
def trace(model: DecoderLanguageModel, ids: Tensor, other: Tensor, answers: tuple[int, int]) -> Tensor:
    """Where does the answer come from? Activation patching (Vig et al., 2020; Meng et al., 2022): (layers, time).

    `ids` and `other` (time,) are two texts of one length, after which come the tokens `answers`, (own, other's). At
    each layer and position one vector of the stream is taken from the other text. The number says how far the answer
    goes over: 0 not at all, 1 as if the whole text were the other one. What counts is the logit of the one token over
    the other.
    """
    own, theirs, seen = _both(model, ids, other, answers)
    found = torch.zeros(len(seen.stream), len(ids))
    for layer, stream in enumerate(seen.stream):
        for positions in torch.arange(len(ids)).split(ROWS_AT_ONCE):  # each row of a pass tries another one
            with watch(model, Patch("stream", layer, stream[0, positions], position=positions)):
                found[layer, positions] = _lead(model, ids.expand(len(positions), -1), answers).cpu()
    return (found - own) / (theirs - own)


@torch.inference_mode()
def trace_heads(model: DecoderLanguageModel, ids: Tensor, other: Tensor, answers: tuple[int, int]) -> Tensor:
    """As `trace`, but what is taken from the other text is all that one head gathered: (blocks, heads)."""
    own, theirs, seen = _both(model, ids, other, answers)
    found = torch.zeros(model.config.num_blocks, model.config.num_heads)
    for block, heads in enumerate(seen.heads):
        for head in range(model.config.num_heads):
            with watch(model, Patch("heads", block, heads[0, :, head], head=head)):
                found[block, head] = _lead(model, ids[None], answers).cpu()
    return (found - own) / (theirs - own)


def _lead(model: DecoderLanguageModel, ids: Tensor, answers: tuple[int, int]) -> Tensor:
    """How far the other text's answer is ahead at the end of each row: (batch, time) → (batch,)."""
    logits = model.head(model(ids.to(model.device), logits=False)[:, -1])  # (batch, vocab_size)
    return logits[:, answers[1]] - logits[:, answers[0]]


def _both(
    model: DecoderLanguageModel, ids: Tensor, other: Tensor, answers: tuple[int, int]
) -> tuple[Tensor, Tensor, Watched]:
    """(the other answer's lead after `ids`, after `other`, what flowed in the latter)."""
    if ids.shape != other.shape or ids.dim() != 1:
        shapes = f"{tuple(ids.shape)} and {tuple(other.shape)}"
        raise ValueError(f"the texts have the shapes {shapes}: both must be (time,), with as many tokens")
    own = _lead(model, ids[None], answers).cpu()
    with watch(model) as seen:
        theirs = _lead(model, other[None], answers).cpu()
    if torch.isclose(own, theirs, atol=1e-3):
        raise ValueError("both texts give these two answers alike: there is no difference to trace")
    return own, theirs, seen
