"""Values that make no sense are refused where they are given: by name, with the value, and with what would do."""


def at_least(minimum: int, **values: int | None) -> None:
    """Raises ValueError unless each value is a whole number of `minimum` or more. None, "not given", passes.

    >>> at_least(1, batch_size=8, context_size=0)
    ValueError: context_size=0 must be a whole number of at least 1
    """
    for name, value in values.items():
        if value is not None and not (isinstance(value, int) and value >= minimum):
            raise ValueError(f"{name}={value!r} must be a whole number of at least {minimum}")


def above(bound: float, **values: float | None) -> None:
    """Raises ValueError unless each value is a number above `bound`. None passes."""
    for name, value in values.items():
        if value is not None and not value > bound:  # "not >" refuses NaN too
            raise ValueError(f"{name}={value!r} must be above {bound}")


def between(low: float, high: float, **values: float | None) -> None:
    """Raises ValueError unless each value lies between `low` and `high`, both included. None passes."""
    for name, value in values.items():
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name}={value!r} must lie between {low} and {high}")
