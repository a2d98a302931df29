"""Values that make no sense are refused where they are given: by name, with the value, and with what would do.

A number of numpy counts as one of Python's. True and False count as no numbers, and neither do inf and nan.
"""

import math
import types
import typing
from dataclasses import fields
from numbers import Integral, Real

_IN_WORDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "True or False",
    str: "a string",
    dict: "a dict",
    type(None): "None",
}


def is_whole(value: object) -> bool:
    """Is it a whole number, of Python or numpy?"""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Is it a finite number, of Python or numpy?"""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def _in_python(value: object) -> object:
    """A number of numpy, or its True, as Python's own; anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () else value


_CHECKS = {int: is_whole, float: is_number}


def _is_of(value: object, kind: type) -> bool:
    return _CHECKS[kind](value) if kind in _CHECKS else isinstance(value, kind)


def check_types(settings: object) -> None:
    """Raises ValueError unless each field of a dataclass has a value of the type that its annotation names.

    Called first thing in `__post_init__`; what the numbers may be is checked after it. Numbers of numpy become
    Python's, so that the settings can be compared, and written as JSON.

    >>> Sampling(top_k="5")
    ValueError: top_k='5' must be a whole number, or None
    """
    hints = typing.get_type_hints(type(settings))
    for field in fields(settings):
        value, hint = _in_python(getattr(settings, field.name)), hints[field.name]
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if not any(_is_of(value, kind) for kind in kinds):
            wanted = ", or ".join(_IN_WORDS[kind] for kind in kinds)
            raise ValueError(f"{field.name}={value!r:.80} must be {wanted}")
        object.__setattr__(settings, field.name, value)  # also where the dataclass is frozen


def at_least(minimum: int, **values: int | None) -> None:
    """Raises ValueError unless each value is a whole number of `minimum` or more. None, "not given", passes.

    >>> at_least(1, batch_size=8, context_size=0)
    ValueError: context_size=0 must be a whole number of at least 1
    """
    for name, value in values.items():
        if value is not None and not (is_whole(value) and value >= minimum):
            raise ValueError(f"{name}={value!r:.80} must be a whole number of at least {minimum}")


def above(bound: float, **values: float | None) -> None:
    """Raises ValueError unless each value is a finite number above `bound`. None passes."""
    for name, value in values.items():
        if value is not None and not (is_number(value) and value > bound):
            must = f"above {bound}" if is_number(value) else f"a finite number above {bound}"
            raise ValueError(f"{name}={value!r:.80} must be {must}")


def between(low: float, high: float, **values: float | None) -> None:
    """Raises ValueError unless each value is a finite number of `low` to `high`, both included; infinite `high`: no
    limit. None passes."""
    must = f"lie between {low} and {high}" if math.isfinite(high) else f"be a finite number of at least {low}"
    for name, value in values.items():
        if value is not None and not (is_number(value) and low <= value <= high):
            raise ValueError(f"{name}={value!r:.80} must {must}")
