"""lines → packed (inputs, targets) batches: shuffled, shared out over workers and processes, resumable.

Documents are joined end to end, `<begin> words … <end>`, and the stream of ids is cut into blocks of `context_size`, so
that no compute is spent on padding. Targets are the inputs one step later.

    ids      b0 आम खाता है e b1 बस आई e …
    inputs   b0 आम खाता है
    targets     आम खाता है e
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..basics.arguments import at_least
from ..basics.processes import rank_and_world_size
from .corpus import fingerprint_text, train_and_test_lines
from .encoded import EncodedText, IdKeeper, kept_ids, place_of_ids
from .resumable import BatchDataset, TextLoader
from .sharing import has_shards, share_of
from .tokenizer import checked_texts, encode_documents, fingerprint_tokenizer

LINES_AT_ONCE = 256  # lines handed to the tokenizer together: it is faster on many than on one
BYTES_AT_ONCE = 1_000_000  # of lines together, if there are several: the tokenizer needs a hundred times their size
MOST_WAITING = 128_000_000  # bytes of lines that wait to be shuffled


def in_groups(items: Iterable, size: int = LINES_AT_ONCE) -> Iterator[list]:
    """`items` in lists of `size`, the last one perhaps shorter (as `itertools.batched` of Python 3.12)."""
    items = iter(items)
    while group := list(islice(items, size)):
        yield group


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a text, or only its place there, where its ids are kept."""

    number: int
    size: int  # bytes of UTF-8, with a line end
    text: str = ""


def _numbered(lines: Iterable[str]) -> Iterator[_Line]:
    return (_Line(number, len(line.encode()) + 1, line) for number, line in enumerate(checked_texts(lines)))


def in_light_groups(lines: Iterable[str]) -> Iterator[list[str]]:
    """`lines` in lists that the tokenizer can take together, with memory that stays flat."""
    return ([line.text for line in group] for group in _in_light_groups(_numbered(lines)))


def _places(kept: EncodedText) -> Iterator[_Line]:
    return (_Line(number, int(size)) for number, size in enumerate(kept.sizes))


def _in_light_groups(lines: Iterable[_Line]) -> Iterator[list[_Line]]:
    """`lines` in lists of `LINES_AT_ONCE`, or of fewer that have about `BYTES_AT_ONCE` together."""
    group, size = [], 0
    for line in lines:
        if group and (len(group) == LINES_AT_ONCE or size + line.size > BYTES_AT_ONCE):
            yield group
            group, size = [], 0
        group.append(line)
        size += line.size
    if group:
        yield group


def next_token_batch(
    rows: Sequence[list[int]], pad_id: int = 0, learned: Sequence[list[int]] | None = None
) -> tuple[Tensor, Tensor]:
    """Rows of ids of any lengths → (inputs, targets), each (rows, longest − 1): targets are the inputs one step later.

    Short rows are filled up at their right end: inputs with `pad_id`, targets with −100, which the loss leaves out. A
    causal model never looks there from a token that counts, so no attention mask is needed. `learned` says of each id
    of each row whether it is a target (1) or only read (0); None: all are targets.
    """
    width = max(map(len, rows)) - 1
    inputs = torch.full((len(rows), width), pad_id)  # (rows, time)
    targets = torch.full_like(inputs, -100)
    for number, ids in enumerate(map(torch.tensor, rows)):
        inputs[number, : len(ids) - 1] = ids[:-1]
        counts = torch.ones_like(ids) if learned is None else torch.tensor(learned[number])
        targets[number, : len(ids) - 1] = torch.where(counts[1:] > 0, ids[1:], -100)
    return inputs, targets


@dataclass(frozen=True)
class TextStatistics:
    """What a tokenizer makes of a text. `complete` is False where only its beginning was counted."""

    documents: int
    tokens: int
    bytes: int  # in UTF-8, one newline per document included, as in the file
    complete: bool

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens


def count_text(lines: Iterable[str], tokenizer, *, max_bytes: int | None = 4_000_000) -> TextStatistics:
    """Count documents, tokens and bytes of a text, or of its first `max_bytes`."""
    lines = _numbered(lines)
    groups = ((group, encode_documents(tokenizer, [line.text for line in group])) for group in _in_light_groups(lines))
    return _add_up(((group, map(len, documents)) for group, documents in groups), max_bytes)


def _add_up(groups: Iterable[tuple[list[_Line], Iterable[int]]], max_bytes: int | None) -> TextStatistics:
    """Statistics of groups of lines with the numbers of their tokens, of so many that have `max_bytes`."""
    documents = tokens = size = 0
    for group, lengths in groups:
        documents += len(group)
        tokens += sum(lengths)
        size += sum(line.size for line in group)
        if max_bytes is not None and size >= max_bytes:
            return TextStatistics(documents, tokens, size, complete=False)
    if not documents:
        raise ValueError("the text has no lines: expected one sentence or one document per line")
    return TextStatistics(documents, tokens, size, complete=True)


class PackedTextDataset(BatchDataset):
    """A stream of batches (inputs, targets), each (batch_size, context_size) token ids: one pass over the text.

    `lines` is anything that can be iterated again and again, such as `corpus.TextLines`, a list, or a text of the
    package `datasets`, streamed or not, whose rows have a column "text". With
    `shuffle_buffer` > 0, each line is drawn at random from that many waiting ones, in another order in each `epoch`.
    Lines are dealt out in turn over `world_size` processes times the workers of a DataLoader: together they give each
    line once. With `share_rows` the processes share the rows of each batch instead (see `BatchDataset`), but not those
    of a text in shards enough for all: there none fetches what is another's. The last batch may have fewer rows. What
    is left at the end is shorter than a block: with `keep_last=True` it comes as a batch of its own, (1, less than
    context_size), so that evaluation counts each token once; without, it is dropped, unless the whole text is that
    short.

    `state_dict` tells how far the stream has been read; after `load_state_dict` the next pass starts there and gives
    exactly the batches that were still to come. In a DataLoader use `batch_size=None`, or take `TextLoader`.
    """

    def __init__(
        self,
        lines: Iterable[str],
        tokenizer,
        context_size: int,
        batch_size: int = 1,
        *,
        shuffle_buffer: int = 0,
        seed: int = 0,
        keep_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        share_rows: bool = False,
    ):
        share_rows = share_rows and not has_shards(lines, world_size)
        super().__init__(context_size, batch_size, rank, world_size, share_rows=share_rows)
        if isinstance(lines, (str, bytes)):
            raise TypeError(f"lines is one string ({lines[:40]!r}): give TextLines(path), or a list of strings")
        if isinstance(lines, Iterator):
            once = f"lines is a {type(lines).__name__}, which can be read only once, and training reads it again"
            raise TypeError(f"{once}: give a list, TextLines(path), or a dataset")
        at_least(0, shuffle_buffer=shuffle_buffer)
        self.lines, self.tokenizer = lines, tokenizer
        self.shuffle_buffer, self.seed, self.keep_last = shuffle_buffer, seed, keep_last

    def num_tokens(self) -> float:
        """Tokens of the text, all processes' parts together: counted in a few MB, else scaled up from its beginning."""
        size = getattr(self.lines, "num_bytes", None)
        sample = self._sample()
        if not sample.complete and size is None:
            sample = count_text(self.lines, self.tokenizer, max_bytes=None)
        return sample.tokens if sample.complete else size / sample.bytes_per_token

    def bytes_per_token(self) -> float:
        """Bytes of UTF-8 per token, in the text or its first MB."""
        return self._sample().bytes_per_token

    def _sample(self) -> TextStatistics:
        """`count_text` of the whole text, without encoding it where its ids are kept."""
        kept = kept_ids(self.lines, self._tokenizer_fingerprint)
        if kept is None:
            return count_text(self.lines, self.tokenizer)
        groups = _in_light_groups(_places(kept))
        lengths = ((group, (int(kept.lengths[line.number]) for line in group)) for group in groups)
        return _add_up(lengths, count_text.__kwdefaults__["max_bytes"])

    def fingerprint(self) -> str:
        text = fingerprint_text(self.lines)
        return text and f"{text}, {self.shuffle_buffer} shuffled by {self.seed}"

    def read(self, position: dict, worker: int = 0, num_workers: int = 1) -> Iterator[tuple[Tensor, Tensor, dict]]:
        """The batches from `position` on, which is: so many lines are used up, and these ids are left of them."""
        lines_used, left = position.get("lines_used", 0), np.array(position.get("left", ()), dtype=np.int64)
        is_short = lines_used == 0  # has no batch been full so far?
        documents: list[np.ndarray] = []  # read, and not yet part of `left`
        full = self.rows_for_all * self.context_size
        missing = full - len(left)  # tokens that more than these documents must have for a batch

        def take(rows: int, time: int) -> tuple[Tensor, Tensor, dict]:
            nonlocal left
            block = torch.from_numpy(left[: rows * time + 1].copy())  # (rows * time + 1,): the last is only a target
            left = left[rows * time :]
            position = {"lines_used": lines_used, "left": left.tolist()}
            (inputs, is_own), (targets, _) = (self.own_rows(ids.view(rows, time)) for ids in (block[:-1], block[1:]))
            return inputs, targets if is_own else torch.full_like(targets, -100), position

        for document in self._documents(worker, num_workers, skip=lines_used):
            lines_used += 1
            documents.append(document)
            missing -= len(document)
            if missing < 0:
                left, documents = np.concatenate([left, *documents]), []
                while len(left) > full:
                    is_short = False
                    yield take(self.rows_for_all, self.context_size)
                missing = full - len(left)
        left = np.concatenate([left, *documents])
        if rows := max(len(left) - 1, 0) // self.context_size:
            is_short = False
            yield take(rows, self.context_size)
        if len(left) > 1 and (self.keep_last or is_short):
            yield take(1, len(left) - 1)

    def _documents(self, worker: int, num_workers: int, skip: int) -> Iterator[np.ndarray]:
        """Ids of each line of this worker, (tokens,) int64, in the order of this pass, without the first `skip`.

        A whole pass over a text in a file keeps its ids (see `encoded`); a later one reads them instead of the text.
        """
        first, streams = (0, 1) if self.share_rows else (self.rank, self.world_size)
        reader, readers = first * num_workers + worker, streams * num_workers
        text = (self.lines, self._tokenizer_fingerprint, (reader, readers))
        kept = kept_ids(*text)
        own = share_of(self.lines, reader, readers) if kept is None else ()
        lines = self._shuffled(_numbered(own) if kept is None else _places(kept))
        if (skipped := sum(1 for _ in islice(lines, skip))) < skip:
            found = f"the text now ends after {skipped} lines, before the saved position at {skip}"
            raise ValueError(
                f"{found}: it was changed after the run began. Bring back the old text, or start a new run"
            )
        if kept is not None:
            yield from (kept[line.number] for line in lines)
            return
        largest_id = max(self.tokenizer.get_vocab().values())
        keeps = not skip and not (self.share_rows and self.rank)  # what all read, one keeps
        with IdKeeper(place_of_ids(*text) if keeps else None, largest_id) as keeper:
            for group in _in_light_groups(lines):
                documents = encode_documents(self.tokenizer, [line.text for line in group])
                keeper.add([line.number for line in group], [line.size for line in group], documents)
                yield from (np.array(ids, dtype=np.int64) for ids in documents)
            keeper.finish()

    @cached_property
    def _tokenizer_fingerprint(self) -> str:
        return fingerprint_tokenizer(self.tokenizer)

    def _shuffled(self, lines: Iterator[_Line]) -> Iterator[_Line]:
        """Each line is drawn from `shuffle_buffer` waiting ones; from fewer where these are very long."""
        draw = random.Random(f"{self.seed}-{self.epoch}")
        waiting: list[_Line] = []
        size, seats = 0, max(self.shuffle_buffer, 1)  # one alone keeps the order
        for line in lines:
            size += line.size
            if len(waiting) < seats:
                waiting.append(line)
            else:
                index = draw.randrange(len(waiting))
                drawn, waiting[index] = waiting[index], line
                size -= drawn.size
                yield drawn
            while size > MOST_WAITING and len(waiting) > 1:
                index = draw.randrange(len(waiting))
                drawn, waiting[index] = waiting[index], waiting[-1]
                waiting.pop()
                size -= drawn.size
                yield drawn
        draw.shuffle(waiting)
        yield from waiting


class WholeDocumentDataset(PackedTextDataset):
    """For evaluation: batches whose rows begin with a document and cut none that fits into `context_size`.

    In a packed stream the first document of a block has often lost its beginning, and nobody can tell a hero whose name
    was cut off. Here each document is read with its own beginning, so that the loss can be held against what is
    possible. Rows are filled up as in `next_token_batch`. Every token of the text is a target exactly once: the end
    token stands before a row's first document.
    """

    def read(self, position: dict, worker: int = 0, num_workers: int = 1) -> Iterator[tuple[Tensor, Tensor, dict]]:
        """The batches from `position` on, which is their number so far; a break is rare, so that many are made anew."""
        groups = enumerate(in_groups(self.rows(worker, num_workers), self.rows_for_all), 1)
        for number, rows in islice(groups, position.get("batches_given", 0), None):
            own, is_own = self.own_rows(rows)
            learned = None if is_own else [[0] * len(ids) for ids in own]
            yield *next_token_batch(own, self.tokenizer.pad_token_id or 0, learned), {"batches_given": number}

    def rows(self, worker: int = 0, num_workers: int = 1) -> Iterator[list[int]]:
        """What the batches are made of: lists of at most context_size + 1 ids."""
        start = [self.tokenizer.eos_token_id]
        row = start
        for document in map(np.ndarray.tolist, self._documents(worker, num_workers, skip=0)):
            if len(row) > 1 and len(row) + len(document) > self.context_size + 1:
                yield row
                row = start
            row = row + document
            while len(row) > self.context_size + 1:  # longer than a row: this one must be cut
                yield row[: self.context_size + 1]
                row = row[self.context_size :]
        if len(row) > 1:
            yield row


def download_and_prepare_data(
    url: str | Path,
    batch_size: int,
    tokenizer,
    max_length: int,
    *,
    folder: str | Path = "data/downloads",
    column: str | None = None,
    shuffle_buffer: int = 10_000,
    seed: int = 0,
    num_workers: int = 0,
    rank: int | None = None,
    world_size: int | None = None,
) -> tuple[TextLoader, TextLoader]:
    """Loaders of packed batches, (batch_size, max_length) ids each, from a `.tar.gz` with `train.txt` and `test.txt`.

    `url` (also one `.txt`, `.jsonl` or `.csv`, with its `column`) and `folder` are those of `train_and_test_lines`.
    Training text comes packed, shuffled, in another order in each pass; test text in order, each document with its own
    beginning (`WholeDocumentDataset`: targets of −100 are to be left out). The first pass over each keeps its ids in a
    folder `.encoded` beside it. Under `accelerate launch` or `torchrun` each process gets its rows of each batch;
    `rank` and `world_size` say otherwise. Raises `CorpusError` or `DownloadError`, with what to do, if the text cannot
    be had.
    """
    train_lines, test_lines = train_and_test_lines(url, folder=folder, column=column)
    if world_size is None:
        rank, world_size = rank_and_world_size()
    settings = {"context_size": max_length, "batch_size": batch_size, "rank": rank or 0, "world_size": world_size}
    settings["share_rows"] = True
    train = PackedTextDataset(train_lines, tokenizer, **settings, shuffle_buffer=shuffle_buffer, seed=seed)
    test = WholeDocumentDataset(test_lines, tokenizer, **settings)
    return TextLoader(train, num_workers=num_workers), TextLoader(test)  # one order of the test text for any number
