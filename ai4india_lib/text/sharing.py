"""Which lines of a text one reader gets, of several in processes and workers: together they give each line once."""

from collections.abc import Iterable, Iterator
from itertools import islice

import torch.utils.data._utils.worker as torch_worker

_END = object()


def share_of(lines: Iterable, reader: int, readers: int) -> Iterator:
    """The lines of `reader` (0 to readers - 1): dealt out like cards.

    What knows parts of itself (`num_shards`, `shard(num_shards, index)`), as a streamed text of the package `datasets`
    does, gives whole parts instead, if it has enough of them: then no reader fetches what is another's.
    """
    if readers > 1 and callable(getattr(lines, "shard", None)) and getattr(lines, "num_shards", 0) >= readers:
        return _undivided(lines.shard(num_shards=readers, index=reader))
    return islice(_undivided(lines), reader, None, readers)


def _undivided(lines: Iterable) -> Iterator:
    """All of `lines`, also in a worker of a DataLoader, where a streamed text gives each worker a part by itself.

    That part would be divided a second time here, and most of the text be lost without a word. So what is read is not
    told that this is a worker.
    """
    process = torch_worker._worker_info  # what torch.utils.data.get_worker_info() gives; None outside of workers
    if process is None:
        yield from lines
        return
    items = None
    while True:
        torch_worker._worker_info = None
        try:
            items = iter(lines) if items is None else items
            item = next(items, _END)
        finally:
            torch_worker._worker_info = process
        if item is _END:
            return
        yield item
