"""Feedback for the exercises of lesson 12, Dynamic batching."""

from __future__ import annotations

from . import NotYet, call, exercise


def _groups(needs: list[int], seats: int) -> list[list[int]]:
    return [needs[first : first + seats] for first in range(0, len(needs), seats)]


@exercise("12.wasted")
def check_wasted(answer: object) -> str:
    for needs, seats in (
        ([2, 8, 3, 1], 2),
        ([5, 5, 5, 5], 2),
        ([7], 4),
        ([1, 2, 3, 4, 5], 2),
        ([60, 5, 10, 5, 20, 15, 5], 3),
    ):
        given = list(needs)
        got = call(answer, given, seats)
        if given != needs:
            raise NotYet("The list you were given has changed. The caller may still need it.")
        if isinstance(got, bool) or not isinstance(got, (int, float)):
            raise NotYet(f"Expected a number, got {type(got).__name__} {str(got)[:40]!r}.")
        _hold_wasted(float(got), needs, seats)
    return "One text of 60 tokens among short ones, and most of a group's work is for nobody."


def _hold_wasted(got: float, needs: list[int], seats: int) -> None:
    groups = _groups(needs, seats)
    steps, wanted = sum(map(max, groups)), sum(needs)
    cells = sum(len(group) * max(group) for group in groups)
    right = 1 - wanted / cells
    told = f"For needs {needs} in groups of {seats} you say {got:.4g}. "
    if abs(got - right) < 1e-6:
        return
    if abs(got - wanted / cells) < 1e-6:
        raise NotYet(told + "That is the share that somebody wanted. The other one was asked for.")
    if abs(got - (cells - wanted)) < 1e-6:
        raise NotYet(told + "That is a number of cells. As a share of which whole?")
    if abs(got - 100 * right) < 1e-4:
        raise NotYet(told + "That is a percentage. A share lies between 0 and 1.")
    if abs(got - (1 - wanted / (seats * steps))) < 1e-6:
        raise NotYet(told + f"You count {seats} rows in every group. How many rows has the last one?")
    if abs(got - (1 - wanted / (len(needs) * max(needs)))) < 1e-6:
        raise NotYet(told + "You make one large group of all texts. Each group has its own slowest text.")
    if abs(got - (cells / wanted - 1)) < 1e-6:
        raise NotYet(told + "You divide by the cells that were wanted. The whole is all that was computed.")
    if not 0 <= got < 1:
        raise NotYet(told + "A share lies between 0 and 1: part of the computed cells, divided by all of them.")
    first = groups[0]
    raise NotYet(told + f"Draw the first group, {first}: how many steps does it run, and in how many rows?")


def _finished(arrivals: list[int], needs: list[int], seats: int, *, early=False, groups=False, order=False):
    """When each is finished; with the usual mistakes: seated before arriving, in groups, always the same seat order."""
    free, ends = [0] * seats, []
    if groups:
        now = 0
        for first in range(0, len(needs), seats):
            part = range(first, min(first + seats, len(needs)))
            now = max([now] + [arrivals[i] for i in part])
            ends += [now + needs[i] for i in part]
            now = max(ends[first:])
        return ends
    for number, (arrival, need) in enumerate(zip(arrivals, needs, strict=True)):
        seat = number % seats if order else free.index(min(free))
        free[seat] = (free[seat] if early else max(free[seat], arrival)) + need
        ends.append(free[seat])
    return ends


@exercise("12.finished")
def check_finished(answer: object) -> str:
    for arrivals, needs, seats in (
        ([0, 0, 0], [2, 3, 4], 1),
        ([0, 0, 0, 0, 0, 0], [2, 8, 3, 1, 4, 2], 2),
        ([0, 10], [3, 3], 1),
        ([0, 1, 2, 3, 20, 21], [9, 2, 5, 1, 4, 4], 2),
        ([4, 4, 5, 5, 6, 30], [3, 7, 2, 6, 1, 2], 3),
        ([0, 1], [5, 5], 4),
    ):
        got = call(answer, list(arrivals), list(needs), seats)
        got = got.tolist() if hasattr(got, "tolist") else got
        if not isinstance(got, (list, tuple)):
            raise NotYet(f"Expected a list of steps, got {type(got).__name__} {str(got)[:40]!r}.")
        if len(got) != len(needs):
            raise NotYet(f"{len(needs)} readers came, and your list has {len(got)} entries. Each gets one.")
        _hold_finished(list(got), arrivals, needs, seats)
    return (
        "This is a whole queueing theory in eight lines: try it with random arrivals and find where the queue explodes."
    )


def _hold_finished(got: list, arrivals: list[int], needs: list[int], seats: int) -> None:
    right = _finished(arrivals, needs, seats)
    if got == right:
        return
    told = f"With arrivals {arrivals}, needs {needs} and {seats} seats: "
    starts = [end - need for end, need in zip(right, needs, strict=True)]
    if got == starts:
        raise NotYet(told + "these are the steps at which they sit down. When do they get up?")
    if got == [end - arrival for end, arrival in zip(right, arrivals, strict=True)]:
        raise NotYet(told + "these are latencies, counted from the arrival. The step on the clock was asked for.")
    if got == sorted(right):
        raise NotYet(told + "the steps are right, but in rising order. Whose is which? Keep the order of the input.")
    if got == [end - 1 for end in right]:
        raise NotYet(told + "all are one step too early: seated at s with need n is finished at s + n.")
    if got == _finished(arrivals, needs, seats, early=True):
        raise NotYet(told + "somebody sits down before arriving. What if a seat is free and nobody is there yet?")
    if got == _finished(arrivals, needs, seats, groups=True):
        raise NotYet(told + "your seats wait for their neighbours. A seat is free as soon as its own text has ended.")
    if got == _finished(arrivals, needs, seats, order=True):
        raise NotYet(told + "you go round the seats in turn. Which seat is free first?")
    if got == [arrival + need for arrival, need in zip(arrivals, needs, strict=True)]:
        raise NotYet(told + f"nobody ever waits at your stall. But there are only {seats} seats.")
    place = next(i for i, (mine, wanted) in enumerate(zip(got, right, strict=True)) if mine != wanted)
    raise NotYet(told + f"reader {place} (counted from 0) is finished at {got[place]}, you say. Draw the seats up to "
                 "that reader, as in the picture: which seat is free, and from when on?")  # fmt: skip


@exercise("12.close_gaps")
def check_close_gaps(answer: object) -> str:
    for rows in (
        ["A", None, "C"],
        ["A", "B"],
        [None, None, "C"],
        ["A", None, "C", None, "E", None, "G"],
        [None, "B", None, "D", "E"],
        [None, None],
        [None, "B", "C", None, None, "F", None],
    ):
        given = list(rows)
        got = call(answer, given)
        if given != rows:
            raise NotYet("The list you were given has changed. Say which copies to make; the caller makes them.")
        if not isinstance(got, (list, tuple)) or not all(isinstance(c, (list, tuple)) and len(c) == 2 for c in got):
            raise NotYet(f"Expected a list of pairs (from_row, to_row), got {str(got)[:60]!r}.")
        _hold_gaps(got, rows)
    return "The library does the same, one row at a time: whenever a text ends, the last row moves to its place."


def _hold_gaps(copies: list, rows: list) -> None:
    texts = [text for text in rows if text is not None]
    now, told = list(rows), f"For the rows {rows} you copy {[tuple(pair) for pair in copies]}. "
    for source, target in copies:
        if not all(isinstance(row, int) and 0 <= row < len(rows) for row in (source, target)):
            raise NotYet(told + f"There is no row {source if source not in range(len(rows)) else target}.")
        if now[source] is None:
            raise NotYet(told + f"Row {source} is empty when you copy it. Is the pair (from_row, to_row)?")
        if now[target] is not None:
            raise NotYet(told + f"Row {target} still holds {now[target]!r}, which would be lost.")
        now[target], now[source] = now[source], None
    front = now[: len(texts)]
    if None in front:
        raise NotYet(told + f"Then the rows are {now}: {len(texts)} texts, but not in the first {len(texts)} rows.")
    fewest = rows[: len(texts)].count(None)
    if len(copies) > fewest:
        raise NotYet(told + f"That works, with {len(copies)} copies. {fewest} are enough: must a text in front move, "
                     "only because one before it has ended?")  # fmt: skip
