"""Ctrl-C, a notebook's stop button, or SIGTERM: a run ends after the step in hand, and keeps what was learned."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SAME = 3.0  # seconds: torchrun passes a Ctrl-C on to processes that the terminal has told already


class _Waiting:
    """The handler of SIGINT and SIGTERM that notes the first one; the second one interrupts at once."""

    def __init__(self):
        self.asked: list[int] = []
        self.since = 0.0

    def __call__(self, number, frame) -> None:
        passed_on = "LOCAL_RANK" in os.environ and time.monotonic() - self.since < SAME
        if self.asked and not passed_on:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked.append(number)
            self.since = time.monotonic()


@contextmanager
def interrupts_wait() -> Iterator[list[int]]:
    """Let Ctrl-C wait until someone asks for it: the list it gives is then no longer empty. So with SIGTERM, by which a
    cluster or a launcher asks a process to end.

    A second one raises KeyboardInterrupt at once. A block inside such a block has the same list. Outside of the main
    thread, where Python handles no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    before = signal.getsignal(signal.SIGINT)
    if isinstance(before, _Waiting):
        yield before.asked
        return
    waiting, terminated = _Waiting(), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, waiting)
    signal.signal(signal.SIGTERM, waiting)
    try:
        yield waiting.asked
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminated or signal.SIG_DFL)
