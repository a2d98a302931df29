"""A text that was broken off says so: after an error within a step it neither goes on wrongly nor seems to be over."""

from collections.abc import Callable, Iterator
from functools import wraps

_END = object()


class _Steps(Iterator):
    """The items of a generator, which runs nowhere else."""

    def __init__(self, generator: Iterator):
        self._generator = generator
        self._begun: list[None] = []  # not empty: a step has begun, and what it gives has not been handed over

    def __next__(self):
        if self._begun:
            raise RuntimeError("this text was broken off in the midst of a step and cannot go on: begin it anew")
        self._begun.append(None)
        item = next(self._generator, _END)
        if item is _END:
            self._begun.clear()
            raise StopIteration
        return (item, self._begun.clear())[0]  # both at once: no interruption comes in between

    def close(self) -> None:
        self._generator.close()


def tells_when_broken_off(function: Callable[..., Iterator]) -> Callable[..., Iterator]:
    """For a function that yields a text step by step. An error, or the stop button, within a step ends Python's own
    generators, and who asks them for more is told that all is done. Here it raises RuntimeError instead."""

    @wraps(function)
    def steps(*args, **settings) -> Iterator:
        return _Steps(function(*args, **settings))

    return steps
