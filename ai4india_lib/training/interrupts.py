"""Ctrl-C, or a notebook's stop button: a run ends after the step in hand, and keeps what was learned."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Waiting:
    """The handler of SIGINT that notes the first Ctrl-C; the second one interrupts at once."""

    def __init__(self):
        self.asked: list[int] = []

    def __call__(self, number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked.append(number)


@contextmanager
def interrupts_wait() -> Iterator[list[int]]:
    """Let Ctrl-C wait until someone asks for it: the list it gives is then no longer empty.

    A second Ctrl-C raises KeyboardInterrupt at once. A block inside such a block has the same list. Outside of the main
    thread, where Python handles no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    before = signal.getsignal(signal.SIGINT)
    if isinstance(before, _Waiting):
        yield before.asked
        return
    waiting = _Waiting()
    signal.signal(signal.SIGINT, waiting)
    try:
        yield waiting.asked
    finally:
        signal.signal(signal.SIGINT, before)
