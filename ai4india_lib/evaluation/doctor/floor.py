"""Where a model still loses more than it must: loss minus floor, token by token, on stories whose floor is known.

The floors come as JSON Lines, as `python -m data.kahani --make floors` writes them: of each story how many bits its
first characters have at the least, and of what kind its words are. So they fit any tokenizer.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...text.corpus import json_lines
from ...text.tokenizer import encode_documents
from ..likelihood import token_log_probabilities


@dataclass(frozen=True)
class StoryFloor:
    """A story, the bits that its beginnings have at the least, and its words' kinds."""

    text: str
    places: list[int]  # characters after which more bits are needed
    bits: list[float]  # so many, in all
    marks: list[tuple[int, int, str, int | None]]  # first character, one after the last, kind, end of the same before

    def needed(self, characters: int) -> float:
        """Bits that the first so many characters have at the least."""
        before = bisect_right(self.places, characters)
        return self.bits[before - 1] if before else 0.0


@dataclass(frozen=True)
class Excess:
    """A token: its loss and its floor in nats, what it is, and where it stands."""

    loss: float
    floor: float
    kind: str
    in_story: int  # tokens of the story before it
    in_block: int  # tokens of the row before it
    since: int | None  # tokens since the same name or colour was said

    @property
    def excess(self) -> float:
        return self.loss - self.floor


def read_floors(source: str | Path, limit: int | None = None) -> list[StoryFloor]:
    """Read the floors of stories. Raises ValueError, with the line, for what is none."""
    found = []
    for record in json_lines(source):
        if limit is not None and len(found) == limit:
            break
        try:
            places, bits = zip(*record["bits"], strict=True)
            marks = [(int(a), int(b), str(kind), before) for a, b, kind, before in record["marks"]]
            found.append(StoryFloor(str(record["text"]), list(places), [float(x) for x in bits], marks))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{record.where}: expected "text", "bits" and "marks" of a story ({error})') from None
    return found


def token_excess(model: nn.Module, tokenizer, stories: Iterable[StoryFloor]) -> list[Excess]:
    """Read the stories as in training, several in a row of `context_size` tokens; compare each token with its floor.

    The first story of a row stands behind an end token; what does not fit into a row is left out.
    """
    stories, context, end = list(stories), model.config.context_size, tokenizer.eos_token_id
    rows, inside = [], []  # ids; of each row its stories with the place of their first token
    for story, ids in zip(stories, encode_documents(tokenizer, [story.text for story in stories]), strict=True):
        ids = ids[:context]
        if not rows or len(rows[-1]) + len(ids) > context + 1:
            rows.append([end])
            inside.append([])
        inside[-1].append((story, len(rows[-1]), ids))
        rows[-1] = rows[-1] + ids
    found = []
    for logs, own in zip(token_log_probabilities(model, rows), inside, strict=True):
        for story, start, ids in own:
            found += _of_story(tokenizer, story, start, ids, logs)
    return found


def _of_story(tokenizer, story: StoryFloor, start: int, ids: list[int], logs: torch.Tensor) -> list[Excess]:
    """The tokens of one story that begins at `start` in its row; logs[i] is of the row's token i + 1."""
    ends = _ends(tokenizer, story.text, ids)
    first_of = [mark[0] for mark in story.marks]
    found, before = [], 0
    for number, after in enumerate(ends):
        if after is None:  # the begin token
            continue
        needed = story.needed(after) - story.needed(before)
        mark = max(0, bisect_left(first_of, after) - 1)  # the last that begins before the token's end
        if mark + 1 < len(story.marks) and story.marks[mark][1] <= before:
            mark += 1  # a space, or a part of a letter: it belongs to the word that comes
        _, stop, kind, same = story.marks[mark] if story.marks else (0, 0, "other", None)
        kind = "end of the story" if after > len(story.text) else kind if stop > before else "other"
        since = None if same is None or kind == "other" else number - sum(e is None or e <= same for e in ends)
        loss = -float(logs[start + number - 1])
        found.append(Excess(loss, needed * math.log(2), kind, number, start + number, since))
        before = after
    return found


def _ends(tokenizer, text: str, ids: list[int]) -> list[int | None]:
    """Of each token the number of the text's characters up to its end; None for the begin token, one more than the text
    has for the end token. A character of several tokens ends with the last of them."""
    begin = len(encode_documents(tokenizer, [""])[0]) - 1
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    ends: list[int | None] = [None] * begin
    for number, (start, stop) in enumerate(spans):
        shared = number + 1 < len(spans) and spans[number + 1][0] < stop  # the rest of its last character comes next
        ends.append(start if shared else stop)
    ends.append(len(text) + 1)
    return ends[: len(ids)]


@dataclass(frozen=True)
class Group:
    """Tokens of one kind or place: how many, and their mean loss and floor in nats."""

    name: str
    count: int
    loss: float
    floor: float

    @property
    def excess(self) -> float:
        return self.loss - self.floor


def by_kind(tokens: Iterable[Excess]) -> list[Group]:
    """Tokens by kind, those first that lose most in all."""
    kinds: dict[str, list[Excess]] = {}
    for token in tokens:
        kinds.setdefault(token.kind, []).append(token)
    return sorted((_group(name, some) for name, some in kinds.items()), key=lambda g: -g.excess * g.count)


def by_place(tokens: Iterable[Excess], place: str, width: int = 32) -> list[Group]:
    """Tokens by their `in_story`, `in_block` or `since`, in steps of `width`; those without are left out."""
    steps: dict[int, list[Excess]] = {}
    for token in tokens:
        if (value := getattr(token, place)) is not None:
            steps.setdefault(value // width, []).append(token)
    return [_group(str(step * width), some) for step, some in sorted(steps.items())]


def _group(name: str, tokens: list[Excess]) -> Group:
    count = len(tokens)
    return Group(name, count, sum(t.loss for t in tokens) / count, sum(t.floor for t in tokens) / count)


def in_words(tokens: list[Excess]) -> str:
    """Which kinds of words carry the loss above the floor, in one line."""
    whole = sum(token.excess for token in tokens)
    groups = [group for group in by_kind(tokens) if group.count >= 20][:3]
    shares = [f"{group.name} {group.excess * group.count / whole:.0%} ({group.excess:+.2f} each)" for group in groups]
    return f"{whole / len(tokens):.2f} nats a token above the floor: {', '.join(shares)}"
