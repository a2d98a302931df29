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
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from ..basics.arguments import at_least
from ..basics.device import rank_and_world_size
from .corpus import fingerprint_text, train_and_test_lines
from .resumable import BatchDataset, TextLoader
from .tokenizer import encode_documents

LINES_AT_ONCE = 256  # lines handed to the tokenizer together: it is faster on many than on one


def in_groups(items: Iterable, size: int = LINES_AT_ONCE) -> Iterator[list]:
    """`items` in lists of `size`, the last one perhaps shorter (as `itertools.batched` of Python 3.12)."""
    items = iter(items)
    while group := list(islice(items, size)):
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
    documents = tokens = size = 0
    for group in in_groups(lines):
        documents += len(group)
        tokens += sum(map(len, encode_documents(tokenizer, group)))
        size += sum(len(line.encode()) + 1 for line in group)
        if max_bytes is not None and size >= max_bytes:
            return TextStatistics(documents, tokens, size, complete=False)
    if not documents:
        raise ValueError("the text has no lines: expected one sentence or one document per line")
    return TextStatistics(documents, tokens, size, complete=True)


class PackedTextDataset(BatchDataset):
    """A stream of batches (inputs, targets), each (batch_size, context_size) token ids: one pass over the text.

    `lines` is anything that can be iterated again and again, such as `corpus.TextLines` or a list. With
    `shuffle_buffer` > 0, each line is drawn at random from that many waiting ones, in another order in each `epoch`.
    Lines are dealt out in turn over `world_size` processes times the workers of a DataLoader: together they give each
    line once. The last batch may have fewer rows. What is left at the end is shorter than a block: with
    `keep_last=True` it comes as a batch of its own, (1, less than context_size), so that evaluation counts each token
    once; without, it is dropped, unless the whole text is that short.

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
    ):
        super().__init__(context_size, batch_size, rank, world_size)
        at_least(0, shuffle_buffer=shuffle_buffer)
        self.lines, self.tokenizer = lines, tokenizer
        self.shuffle_buffer, self.seed, self.keep_last = shuffle_buffer, seed, keep_last

    def num_tokens(self) -> float:
        """Tokens of the text, all processes' parts together: counted in a few MB, else scaled up from its beginning."""
        size = getattr(self.lines, "num_bytes", None)
        sample = count_text(self.lines, self.tokenizer)
        if not sample.complete and size is None:
            sample = count_text(self.lines, self.tokenizer, max_bytes=None)
        return sample.tokens if sample.complete else size / sample.bytes_per_token

    def bytes_per_token(self) -> float:
        """Bytes of UTF-8 per token, in the text or its first MB."""
        return count_text(self.lines, self.tokenizer).bytes_per_token

    def fingerprint(self) -> str:
        text = fingerprint_text(self.lines)
        return text and f"{text}, {self.shuffle_buffer} shuffled by {self.seed}"

    def read(self, position: dict, worker: int = 0, num_workers: int = 1) -> Iterator[tuple[Tensor, Tensor, dict]]:
        """The batches from `position` on, which is: so many lines are used up, and these ids are left of them."""
        lines_used, left = position.get("lines_used", 0), list(position.get("left", ()))
        is_short = lines_used == 0  # has no batch been full so far?

        def take(rows: int, time: int) -> tuple[Tensor, Tensor, dict]:
            block = torch.tensor(left[: rows * time + 1])  # (rows * time + 1,): the last one is only a target
            del left[: rows * time]
            position = {"lines_used": lines_used, "left": left.copy()}
            return block[:-1].view(rows, time), block[1:].view(rows, time), position

        for document in self._documents(worker, num_workers, skip=lines_used):
            lines_used += 1
            left += document
            while len(left) > self.batch_size * self.context_size:
                is_short = False
                yield take(self.batch_size, self.context_size)
        if rows := max(len(left) - 1, 0) // self.context_size:
            is_short = False
            yield take(rows, self.context_size)
        if len(left) > 1 and (self.keep_last or is_short):
            yield take(1, len(left) - 1)

    def _documents(self, worker: int, num_workers: int, skip: int) -> Iterator[list[int]]:
        """Ids of each line of this worker, in the order of this pass, without the first `skip`."""
        reader, readers = self.rank * num_workers + worker, self.world_size * num_workers
        lines = self._shuffled(islice(self.lines, reader, None, readers))  # dealt out like cards
        if (skipped := sum(1 for _ in islice(lines, skip))) < skip:
            found = f"the text now ends after {skipped} lines, before the saved position at {skip}"
            raise ValueError(
                f"{found}: it was changed after the run began. Bring back the old text, or start a new run"
            )
        for group in in_groups(lines):
            yield from encode_documents(self.tokenizer, group)

    def _shuffled(self, lines: Iterator[str]) -> Iterator[str]:
        draw = random.Random(f"{self.seed}-{self.epoch}")
        waiting = list(islice(lines, max(self.shuffle_buffer, 1)))  # one alone keeps the order
        for line in lines:
            index = draw.randrange(len(waiting))
            drawn, waiting[index] = waiting[index], line
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
        groups = enumerate(in_groups(self._rows(worker, num_workers), self.batch_size), 1)
        for number, rows in islice(groups, position.get("batches_given", 0), None):
            yield *next_token_batch(rows, self.tokenizer.pad_token_id or 0), {"batches_given": number}

    def _rows(self, worker: int, num_workers: int) -> Iterator[list[int]]:
        """Lists of at most context_size + 1 ids."""
        start = [self.tokenizer.eos_token_id]
        row = start
        for document in self._documents(worker, num_workers, skip=0):
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
    shuffle_buffer: int = 10_000,
    seed: int = 0,
    num_workers: int = 0,
    rank: int | None = None,
    world_size: int | None = None,
) -> tuple[TextLoader, TextLoader]:
    """Loaders of packed batches, (batch_size, max_length) ids each, from a `.tar.gz` with `train.txt` and `test.txt`.

    `url` and `folder` are those of `train_and_test_lines`. Training text comes packed, shuffled, in another order in
    each pass; test text in order, each document with its own beginning (`WholeDocumentDataset`: targets of −100 are to
    be left out). Under `accelerate launch` or `torchrun` each process gets its part; `rank` and `world_size` say
    otherwise. Raises `CorpusError` or `DownloadError`, with what to do, if the text cannot be had.
    """
    train_lines, test_lines = train_and_test_lines(url, folder=folder)
    if world_size is None:
        rank, world_size = rank_and_world_size()
    settings = {"context_size": max_length, "batch_size": batch_size, "rank": rank or 0, "world_size": world_size}
    train = PackedTextDataset(train_lines, tokenizer, **settings, shuffle_buffer=shuffle_buffer, seed=seed)
    test = WholeDocumentDataset(test_lines, tokenizer, **settings)
    return TextLoader(train, num_workers=num_workers), TextLoader(test)  # one order of the test text for any number
