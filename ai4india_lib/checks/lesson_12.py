"""Feedback for the exercises of lesson 12, Dynamic batching."""

from __future__ import annotations

from . import NotYet, call, describe, exercise, expect_number, first_difference, recognise, same


def _groups(needs: list[int], seats: int) -> list[list[int]]:
    return [needs[first : first + seats] for first in range(0, len(needs), seats)]


def _share(groups: list[list[int]]) -> float:
    """The share of the cells of these groups that is for nobody."""
    return 1 - sum(map(sum, groups)) / sum(len(group) * max(group) for group in groups)


@exercise("12.wasted")
def check_wasted(answer: object) -> str:
    for needs, seats in (
        ([2, 8, 3, 1], 2),
        ([5, 5, 5, 5], 2),
        ([7], 4),
        ([1, 2, 3, 4, 5], 2),
        ([60, 5, 10, 5, 20, 15, 5], 3),
    ):
        _compare_wasted(expect_number(call(answer, needs, seats)), needs, seats)
    return "One text of 60 tokens among short ones, and most of a group's work is for nobody."


def _compare_wasted(got: float, needs: list[int], seats: int) -> None:
    groups = _groups(needs, seats)
    steps, wanted = sum(map(max, groups)), sum(needs)
    cells = sum(len(group) * max(group) for group in groups)
    right = 1 - wanted / cells
    if same(got, right, tolerance=1e-6):
        return
    seen = f"For needs {needs} in groups of {seats} you say {got:.4g}."
    recognise(got, right, [
        (wanted / cells, "That is the part that somebody wanted. The other one was asked for."),
        (cells - wanted, "That is a number of cells. As a fraction of which whole?"),
        (float(cells), "That is the number of all computed cells. Which part of them is for nobody?"),
        (100 * right, "That is a percentage. A fraction lies between 0 and 1."),
        (1 - wanted / (seats * steps), f"You count {seats} rows in every group. How many rows has the last one?"),
        (1 - wanted / (len(needs) * max(needs)),
         "You make one large group of all texts. Each group has its own slowest text."),
        (cells / wanted - 1, "You divide by the cells that were wanted. The whole is all that was computed."),
        (sum(1 - sum(group) / (len(group) * max(group)) for group in groups) / len(groups),
         "You average over the groups. A group with many cells should weigh more: count the cells of all."),
        (1 - wanted / sum(len(group) * max(group) for group in _groups(sorted(needs), seats)),
         "You sort the texts first. They are grouped in the order given."),
        ((cells - wanted) / steps, "You divide by the steps. Each step computes a cell for every row of its group."),
        ((cells - wanted) / len(needs), "You divide by the number of texts. The whole is all that was computed."),
        (1 - wanted // cells, "Your division // drops what comes after the point."),
        (round(right, 1), "That is rounded. Keep all digits."),
        (_share([group for group in groups if len(group) == seats] or groups),
         f"You leave out the last group, {groups[-1]}, which is not full. Its texts are written, too."),
        (_share([needs[seat::seats] for seat in range(seats) if needs[seat::seats]]),
         f"Your groups jump: needs[0], needs[{seats}], … A group is {seats} neighbours."),
        (_share(_groups(needs, len(groups))), f"You make {seats} groups. `seats` says how many texts one group has."),
    ], seen=seen, tolerance=1e-6)  # fmt: skip
    if not 0 <= got < 1:
        raise NotYet(f"{seen} A fraction lies between 0 and 1: part of the computed cells, divided by all of them.")
    raise NotYet(f"{seen} Draw the first group, {groups[0]}: how many steps does it run, and in how many rows?")


def _finished(
    arrivals: list[int], needs: list[int], seats: int, *, early=False, groups=False, order=False, late=0
) -> list[int]:
    """When each is finished. The keywords make the usual mistakes: seated before arriving, in groups, round the seats
    in turn, a seat free too late."""
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
        ends.append((free[seat] if early else max(free[seat], arrival)) + need)
        free[seat] = ends[-1] + late
    return ends


def _added(arrivals: list[int], needs: list[int], seats: int) -> list[int]:
    """When each is finished, if the arrival were added to the time at which a seat is free."""
    free, ends = [0] * seats, []
    for arrival, need in zip(arrivals, needs, strict=True):
        seat = free.index(min(free))
        free[seat] += arrival + need
        ends.append(free[seat])
    return ends


def _shortest_first(arrivals: list[int], needs: list[int], seats: int) -> list[int]:
    """When each is finished, if the readers sat down in the order of their needs."""
    order = sorted(range(len(needs)), key=needs.__getitem__)
    ends = _finished([arrivals[i] for i in order], [needs[i] for i in order], seats)
    return [ends[order.index(number)] for number in range(len(needs))]


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
        got = call(answer, arrivals, needs, seats)
        got = got.tolist() if hasattr(got, "tolist") else got
        if not isinstance(got, (list, tuple)):
            hint = " list(…) makes one." if hasattr(got, "__next__") else ""
            raise NotYet(f"Expected a list of steps, got {describe(got)}.{hint}")
        if odd := [step for step in got if isinstance(step, bool) or not isinstance(step, int | float)]:
            raise NotYet(f"Your list holds {describe(odd[0])}. Each entry is one step, a whole number.")
        if len(got) != len(needs):
            raise NotYet(f"{len(needs)} readers came, and your list has {len(got)} entries. Each gets one.")
        _compare_finished(list(got), arrivals, needs, seats)
    return (
        "This is a whole queueing theory in eight lines: try it with random arrivals and find where the queue explodes."
    )


def _compare_finished(got: list, arrivals: list[int], needs: list[int], seats: int) -> None:
    right = _finished(arrivals, needs, seats)
    if got == right:
        return
    seen = f"With arrivals {arrivals}, needs {needs} and {seats} seats:"
    both = list(zip(right, arrivals, needs, strict=True))
    recognise(got, right, [
        ([end - need for end, _, need in both], "these are the steps at which they sit down. When do they get up?"),
        ([end - arrival for end, arrival, _ in both],
         "these are latencies, counted from the arrival. The step on the clock was asked for."),
        (sorted(right), "the steps are right, but in rising order. Whose is which? Keep the order of the input."),
        ([end - 1 for end in right], "all are one step too early: seated at s with need n is finished at s + n."),
        ([end + 1 for end in right], "all are one step too late: seated at s with need n is finished at s + n."),
        (_finished(arrivals, needs, seats, early=True),
         "somebody sits down before arriving. What if a seat is free and nobody is there yet?"),
        (_finished(arrivals, needs, seats, groups=True),
         "your seats wait for their neighbours. A seat is free as soon as its own text has ended."),
        (_finished(arrivals, needs, seats, order=True), "you go round the seats in turn. Which seat is free first?"),
        ([arrival + need for _, arrival, need in both], f"nobody ever waits. But there are only {seats} seats."),
        (_finished(arrivals, needs, 1),
         f"all sit on one seat, one after the other. There are {seats} seats. Which one is free first?"),
        (_finished(arrivals, needs, seats + 1), f"there is a seat too many. {seats} texts at a time, no more."),
        (_finished(arrivals, needs, seats, late=1),
         "a seat stays empty for a step after somebody has got up. From step s + n on it is free."),
        (_added(arrivals, needs, seats),
         "you add the arrival to the time when the seat is free. Both must have happened: which of the two is later?"),
        (_shortest_first(arrivals, needs, seats), "the shortest texts go first. A seat is given to who came first."),
        (right[::-1], "the steps are right, but in reverse order. Keep the order of the input."),
    ], seen=seen)  # fmt: skip
    reader = first_difference(got, right)
    raise NotYet(f"{seen} reader {reader} (counted from 0) is finished at {got[reader]}, you say. Draw the seats up to "
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
        got = call(answer, rows)
        if not isinstance(got, list | tuple) or not all(isinstance(c, list | tuple) and len(c) == 2 for c in got):
            hint = ""
            if isinstance(got, list | tuple) and got and all(isinstance(row, int) for row in got):
                hint = " One copy alone is a list of one pair, [(from_row, to_row)]."
            elif isinstance(got, dict | set) or hasattr(got, "__next__"):
                hint = " The order matters, so it must be a list."
            raise NotYet(f"Expected a list of pairs (from_row, to_row), got {describe(got)}.{hint}")
        _check_copies(got, rows)
    return "The library does the same, one row at a time: whenever a text ends, the last row moves to its place."


def _check_copies(copies: list, rows: list) -> None:
    texts = [text for text in rows if text is not None]
    now, seen = list(rows), f"For the rows {rows} you copy {[tuple(pair) for pair in copies]}."
    for source, target in copies:
        if not all(isinstance(row, int) and 0 <= row < len(rows) for row in (source, target)):
            odd = source if source not in range(len(rows)) else target
            hint = "Give numbers of rows, not texts." if odd in rows else f"Rows are counted from 0 to {len(rows) - 1}."
            raise NotYet(f"{seen} There is no row {odd!r}. {hint}")
        if source == target:
            raise NotYet(f"{seen} Row {source} is copied to itself. A text that stands right needs no copy.")
        if now[source] is None:
            raise NotYet(f"{seen} Row {source} is empty when you copy it. Is the pair (from_row, to_row)?")
        if now[target] is not None:
            raise NotYet(f"{seen} Row {target} still holds {now[target]!r}, which would be lost.")
        now[target], now[source] = now[source], None
    front = now[: len(texts)]
    if None in front:
        raise NotYet(f"{seen} Then the rows are {now}: {len(texts)} texts, but not in the first {len(texts)} rows.")
    fewest = rows[: len(texts)].count(None)
    if len(copies) > fewest:
        raise NotYet(f"{seen} That works, with {len(copies)} copies. {fewest} are enough: must a text in front move, "
                     "only because one before it has ended?")  # fmt: skip
