"""What exercises call: compare a learner's answer with the library's, and say in words what is wrong.

The checks of lesson 06 are in `lesson_06.py`, each a function marked with `@exercise("06.causal_mask")`. It gets the
learner's answer, raises `NotYet` with a sentence when something is wrong, and returns a sentence of praise that adds
one more thing to know. Feedback says what was seen, what it means and where to look, never the answer.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor

_EXERCISES: dict[str, Callable[[object], str]] = {}


class NotYet(Exception):
    """Something in the answer is wrong; the message says what was seen and where to look."""


class NotDone(Exception):
    """The exercise still has its stub."""


def exercise(name: str) -> Callable:
    """Mark a function as the check of the exercise `name`, such as "06.causal_mask"."""

    def keep(function: Callable[[object], str]) -> Callable[[object], str]:
        _EXERCISES[name] = function
        return function

    return keep


def check(name: str, answer: object) -> bool:
    """Check `answer` (a function, class or value) to an exercise, print the verdict, and return whether it is right.

    An unsolved exercise (a stub that returns None, `...`, or raises NotImplementedError) is told as "not done yet";
    an error inside a learner's function is shown in a sentence, not raised. Raises ValueError for an unknown exercise.
    """
    lesson = name.split(".")[0]
    try:
        importlib.import_module(f"{__name__}.lesson_{lesson}")
    except ModuleNotFoundError:
        raise ValueError(f"no exercises of lesson {lesson!r} are known: names look like 06.causal_mask") from None
    if name not in _EXERCISES:
        known = ", ".join(sorted(other for other in _EXERCISES if other.startswith(lesson)))
        raise ValueError(f"no exercise is called {name!r}; lesson {lesson} has {known}")
    try:
        if answer is None or answer is ...:
            raise NotDone
        praise = _EXERCISES[name](answer)
    except (NotDone, NotImplementedError):
        print(f"{name}: not done yet. Replace the dots with your own code, then run this cell again.")
        return False
    except NotYet as wrong:
        print(f"{name}: not yet. {wrong}")
        return False
    print(f"{name}: right. {praise}")
    return True


def call(function: Callable, *arguments, **named):
    """Run a learner's function; a stub's result becomes `NotDone`, an error inside it `NotYet`."""
    if not callable(function):
        raise NotYet(f"Expected a function or a class, got {_told(function)}. Give its name, without calling it.")
    try:
        result = function(*arguments, **named)
    except (NotImplementedError, NotDone):
        raise NotDone from None
    except Exception as error:
        raise NotYet(f"It stopped with {type(error).__name__}: {str(error)[:200]}") from None
    if result is None or result is ...:
        raise NotDone
    return result


def expect_tensor(got: object, like: Tensor, *, what: str = "the result") -> Tensor:
    """Hold type, shape and dtype of a result against a right one; returns it as a tensor."""
    if not isinstance(got, Tensor):
        raise NotYet(f"Expected a tensor as {what}, got {_told(got)}.")
    if got.shape != like.shape:
        raise NotYet(
            f"The shape of {what} is {tuple(got.shape)}; it should be {tuple(like.shape)}. "
            "Write the shape behind each line: where does it change?"
        )
    if got.dtype != like.dtype:
        raise NotYet(f"{what[0].upper()}{what[1:]} holds {got.dtype} numbers; they should be {like.dtype}.")
    return got


def expect_close(got: Tensor, wanted: Tensor, hint: str, *, what: str = "the result", tolerance: float = 1e-4) -> None:
    """Hold a tensor's values against right ones; on a difference tell the first place of it, and `hint`."""
    got = expect_tensor(got, wanted, what=what)
    is_mask = got.dtype == torch.bool
    wrong = (
        got != wanted if is_mask else ~torch.isclose(got, wanted, rtol=tolerance, atol=tolerance)
    )  # NaN is never close
    if wrong.any():
        place = tuple(int(i) for i in wrong.nonzero()[0])
        where = f" at {list(place)}" if place else ""
        value = got[place]
        shown = bool(value) if got.dtype == torch.bool else f"{value.item():.4g}"
        raise NotYet(f"{what[0].upper()}{what[1:]} is wrong in {int(wrong.sum())} of {wrong.numel()} numbers; "
                     f"the first{where} is {shown}. {hint}")  # fmt: skip


def _told(thing: object) -> str:
    return (
        f"{type(thing).__name__} {str(thing)[:60]!r}"
        if not isinstance(thing, Tensor)
        else f"{tuple(thing.shape)} tensor"
    )
