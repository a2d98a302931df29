"""Which lines of a text one reader gets, of several in processes and workers: together they give each line once."""

from collections.abc import Iterable, Iterator
from itertools import islice
from unittest.mock import patch

import torch.utils.data

_END = object()


def share_of(lines: Iterable, reader: int, readers: int) -> Iterator:
    """The lines of `reader` (0 to readers - 1): dealt out like cards.

    What knows parts of itself (`num_shards`, `shard(num_shards, index)`), as a streamed text of the package `datasets`
    does, gives whole parts instead, if it has enough of them: then no reader fetches what is another's.
    """
    if has_shards(lines, readers):
        return _undivided(lines.shard(num_shards=readers, index=reader))
    return islice(_undivided(lines), reader, None, readers)


def has_shards(lines: Iterable, readers: int) -> bool:
    """Are there several readers, and parts enough for each to have its own?"""
    return readers > 1 and callable(getattr(lines, "shard", None)) and getattr(lines, "num_shards", 0) >= readers


def _undivided(lines: Iterable) -> Iterator:
    """All of `lines`, also in a worker of a DataLoader, where a streamed text gives each worker a part by itself.

    It asks `torch.utils.data.get_worker_info` for that, and its part would be divided a second time here: most of the
    text would be lost without a word. So, while it reads, the answer is what it is outside of workers: None.
    """
    if torch.utils.data.get_worker_info() is None:
        yield from lines
        return
    items, item = None, None
    while item is not _END:
        with patch.object(torch.utils.data, "get_worker_info", lambda: None):
            items = iter(lines) if items is None else items
            item = next(items, _END)
        if item is not _END:
            yield item
