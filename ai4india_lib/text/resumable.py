"""A DataLoader that can be stopped anywhere and goes on from there, with any number of workers.

What it reads is a dataset that gives whole batches and knows its position: `epoch`, `share`, `state_dict()` and
`resume(epoch, shares, first_share)`, as `batches.PackedTextDataset` and `conversations.ConversationDataset` do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class TextLoader(DataLoader):
    """A DataLoader over a dataset of batches that knows its position, with any number of workers.

    Each `for inputs, targets in loader` is one pass over the text; a shuffled text comes in a new order each time.
    After `load_state_dict`, the next pass gives what was still to come when `state_dict` was called.
    """

    def __init__(self, dataset: IterableDataset, *, num_workers: int = 0, **more):
        if more.get("persistent_workers"):
            raise ValueError("persistent_workers=True cannot be used: workers learn where to start when a pass begins")
        collate = partial(_with_position, dataset)
        more.setdefault("worker_init_fn", _leave_interrupts_to_main if num_workers else None)
        super().__init__(dataset, batch_size=None, num_workers=num_workers, collate_fn=collate, **more)
        self._new_pass()
        self._resumed = False

    def _new_pass(self) -> None:
        self._shares: dict[int, dict] = {}  # where each share stands after the last batch that came from it
        self._last_share = -1  # the share that gave the last batch: shares take turns

    def rewind(self) -> None:
        """Let the next pass be the first one again."""
        self.dataset.epoch, self._resumed = 0, False

    def state_dict(self) -> dict:
        """Where this pass stands, in numbers, lists and dicts that fit into JSON."""
        return {
            "epoch": self.dataset.epoch,
            "num_workers": self.num_workers,
            "last_share": self._last_share,
            "shares": {str(share): state for share, state in self._shares.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        """Let the next pass go on from `state`. Raises ValueError if it was saved with another number of workers."""
        if state["num_workers"] != self.num_workers:
            raise ValueError(
                f"the position was saved with num_workers={state['num_workers']}, this loader has {self.num_workers}: "
                "use the same number, since each worker reads its own share of the text"
            )
        self.dataset.epoch, self._last_share = state["epoch"], state["last_share"]
        self._shares = {int(share): position for share, position in state["shares"].items()}
        self._resumed = True

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self._resumed:
            self._new_pass()
        self._resumed = False
        next_share = (self._last_share + 1) % max(self.num_workers, 1)
        self.dataset.resume(self.dataset.epoch, self._shares, next_share)
        with _one_tokenizer_thread_in_workers():
            batches = super().__iter__()
        for inputs, targets, share, position in batches:
            self._shares[share], self._last_share = position, share
            yield inputs, targets
        self.dataset.epoch += 1
        self._new_pass()


@contextmanager
def _one_tokenizer_thread_in_workers() -> Iterator[None]:
    """Workers started in here inherit the wish that `tokenizers` use one thread: the workers already use the cores.

    Without it, `tokenizers` prints a warning in each forked process.
    """
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _leave_interrupts_to_main(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal. A worker that ended by it would leave the main process without data,
    which still has a step to finish."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _with_position(dataset: IterableDataset, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, int, dict]:
    """Runs where the batch was made, so that a worker's own position travels with its batch."""
    worker = get_worker_info()
    dataset = worker.dataset if worker else dataset
    return *batch, dataset.share, dataset.state_dict()
