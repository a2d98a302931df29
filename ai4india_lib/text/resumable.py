"""Batches that can be stopped anywhere and go on from there, with any number of workers.

A *position* says how far one worker has read in a pass: a small dict that fits into JSON; {} is the beginning. A
`BatchDataset` gives the position behind each of its batches, and reads on from any. `TextLoader` lets several workers
read, and keeps the position of each.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..basics.arguments import at_least


class BatchDataset(IterableDataset):
    """Whole batches (inputs, targets); one pass over it is one over the data.

    Of `world_size` processes each has its own batches of its own part of the data. With `share_rows` all make the same
    batches of `rows_for_all` rows instead, and each takes its own rows: then two processes with half the batch learn
    what one learns with the whole, and another number of them can go on. A kind of data is made of it by writing
    `read`. For training it also needs `num_tokens` and `bytes_per_token`.
    """

    def __init__(self, context_size: int, batch_size: int, rank: int, world_size: int, *, share_rows: bool = False):
        at_least(1, context_size=context_size, batch_size=batch_size, world_size=world_size)
        at_least(0, rank=rank)
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} is not one of world_size={world_size} processes (0 to {world_size - 1})")
        self.context_size, self.batch_size = context_size, batch_size
        self.rank, self.world_size = rank, world_size
        self.share_rows = share_rows
        self.epoch = 0  # chooses the order of the next pass
        self._position: dict = {}  # of the pass in hand, where no `TextLoader` keeps it
        self._start: dict = {}  # where the next such pass begins

    @property
    def rows_for_all(self) -> int:
        """Rows of a batch, those for all processes together."""
        return self.batch_size * (self.world_size if self.share_rows else 1)

    def own_rows(self, rows: Sequence) -> tuple[Sequence, bool]:
        """This process's rows of a batch for all, dealt out like cards; (a row of another process, False) where there
        are too few: all processes must have as many batches, and this one is not to be learned from."""
        own = rows[self.rank :: self.world_size] if self.share_rows else rows
        return (own, True) if len(own) else (rows[:1], False)

    def read(self, position: dict, worker: int = 0, num_workers: int = 1) -> Iterator[tuple[Tensor, Tensor, dict]]:
        """What this worker reads from `position` on, of it this process's rows: (inputs, targets, position behind)."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Of what the batches are made of: by it a run that goes on knows its data. "" where that is not known."""
        return ""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        process = get_worker_info()  # None where no DataLoader started it
        worker, num_workers = (process.id, process.num_workers) if process else (0, 1)
        self._position, self._start = self._start, {}
        for inputs, targets, position in self.read(self._position, worker, num_workers):
            self._position = position
            yield inputs, targets

    def state_dict(self) -> dict:
        """Where this pass stands, in numbers, lists and dicts that fit into JSON."""
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: dict) -> None:
        """Let the next pass go on from `state`."""
        self.epoch, self._start = state["epoch"], state["position"]


class TextLoader:
    """The batches of a dataset, read by any number of worker processes (0: by this one), which take turns.

    Each `for inputs, targets in loader` is one pass over the text; a shuffled text comes in a new order each time.
    After `load_state_dict`, the next pass gives what was still to come when `state_dict` was called.
    `more` goes to torch's DataLoader, such as `pin_memory`.
    """

    def __init__(self, dataset: BatchDataset, *, num_workers: int = 0, **more):
        if more.get("persistent_workers"):
            raise ValueError("persistent_workers=True cannot be used: workers learn where to start when a pass begins")
        at_least(0, num_workers=num_workers)
        self.dataset, self.num_workers = dataset, num_workers
        own = {"worker_init_fn": _leave_interrupts_to_main if num_workers else None, "collate_fn": _as_it_is}
        self._more = own | more
        self._to_beginning()
        self._resumed = False  # does the next pass go on from a loaded position?

    def _to_beginning(self) -> None:
        self._positions: list[dict] = [{}] * max(self.num_workers, 1)  # of each worker, behind its last batch
        self._next_worker = 0

    def rewind(self) -> None:
        """Let the next pass be the first one again."""
        self.dataset.epoch, self._resumed = 0, False

    def state_dict(self) -> dict:
        """Where this pass stands, in numbers, lists and dicts that fit into JSON."""
        workers = {"num_workers": self.num_workers, "next_worker": self._next_worker, "workers": list(self._positions)}
        return {"epoch": self.dataset.epoch, **workers}

    def load_state_dict(self, state: dict) -> None:
        """Let the next pass go on from `state`. Raises ValueError if it was saved with another number of workers."""
        if state["num_workers"] != self.num_workers:
            numbers = f"num_workers={state['num_workers']}, this loader has {self.num_workers}"
            advice = "use the same number, since each worker reads its own part of the text"
            raise ValueError(f"the position was saved with {numbers}: {advice}")
        self.dataset.epoch, self._next_worker = state["epoch"], state["next_worker"]
        self._positions, self._resumed = list(state["workers"]), True

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self._resumed:
            self._to_beginning()
        self._resumed = False
        workers = _Workers(self.dataset, list(self._positions), self._next_worker)
        with _one_tokenizer_thread_in_workers():
            loader = DataLoader(workers, batch_size=None, num_workers=self.num_workers, **self._more)
            batches = iter(loader)
        for inputs, targets, worker, position in batches:
            self._positions[worker] = position
            self._next_worker = (worker + 1) % len(self._positions)
            yield inputs, targets
        self.dataset.epoch += 1
        self._to_beginning()


class _Workers(IterableDataset):
    """What a DataLoader copies to its workers: each reads on from its own position. The process that it started first
    is asked for the first batch: so this one is the worker whose turn it is."""

    def __init__(self, dataset: BatchDataset, positions: list[dict], next_worker: int):
        self.dataset, self.positions, self.next_worker = dataset, positions, next_worker

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, int, dict]]:
        process, num_workers = get_worker_info(), len(self.positions)
        worker = (self.next_worker + (process.id if process else 0)) % num_workers
        for inputs, targets, position in self.dataset.read(self.positions[worker], worker, num_workers):
            yield inputs, targets, worker, position


@contextmanager
def _one_tokenizer_thread_in_workers() -> Iterator[None]:
    """Workers started in here make `tokenizers` use one thread each. Unasked, it prints a warning in each of them."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _as_it_is(batch: tuple) -> tuple:
    """Keeps torch from looking into a batch, and into each number of its position, for something to convert."""
    return batch


def _leave_interrupts_to_main(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal, but the main process still needs data to finish its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the DataLoader ends its workers
