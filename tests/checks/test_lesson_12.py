"""Lesson 12's feedback: right answers pass, and each usual mistake gets its own sentence."""

import pytest
import torch


def groups(needs, seats):
    return [needs[first : first + seats] for first in range(0, len(needs), seats)]


def cells(needs, seats):
    return sum(len(group) * max(group) for group in groups(needs, seats))


def wasted(needs, seats):
    return 1 - sum(needs) / cells(needs, seats)


def wasted_in(groups):
    return 1 - sum(map(sum, groups)) / sum(len(group) * max(group) for group in groups)


def sorts_first(needs, seats):
    needs.sort()
    return wasted(needs, seats)


def test_right_wasted(accepted):
    accepted("12.wasted", wasted)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda n, s: sum(n) / cells(n, s), "somebody wanted"),
        (lambda n, s: cells(n, s) - sum(n), "a number of cells"),
        (lambda n, s: 100 * wasted(n, s), "a percentage"),
        (lambda n, s: 1 - sum(n) / (s * sum(map(max, groups(n, s)))), "How many rows has the last one?"),
        (lambda n, s: 1 - sum(n) / (len(n) * max(n)), "one large group"),
        (lambda n, s: cells(n, s) / sum(n) - 1, "all that was computed"),
        (lambda n, s: wasted(sorted(n), s), "You sort the texts"),
        (lambda n, s: sum(wasted(group, s) for group in groups(n, s)) / len(groups(n, s)), "average over the groups"),
        (lambda n, s: 0.9, "Draw the first group"),
        (lambda n, s: (cells(n, s) - sum(n)) / sum(map(max, groups(n, s))), "You divide by the steps"),
        (lambda n, s: (cells(n, s) - sum(n)) / len(n), "divide by the number of texts"),
        (lambda n, s: 1 - sum(n) // cells(n, s), "Your division //"),
        (lambda n, s: round(wasted(n, s), 1), "Keep all digits"),
        (lambda n, s: wasted(n[: len(n) // s * s] or n, s), "You leave out the last group"),
        (lambda n, s: wasted_in([n[seat::s] for seat in range(s) if n[seat::s]]), "A group is 2 neighbours"),
        (lambda n, s: wasted(n, -(-len(n) // s)), "how many texts one group has"),
        (lambda n, s: f"{wasted(n, s):.0%}", "Expected one Python number, got str"),
        (lambda n, s: print(end=""), "is `return` missing"),
        (lambda n, s: -1.0, "between 0 and 1"),
        (lambda n, s: [wasted(n, s)], "Expected one Python number"),
        (lambda n, s: n / s, "TypeError"),
        (sorts_first, "changed `needs` in place"),
    ],
)
def test_wrong_wasted(refused, answer, words):
    refused("12.wasted", answer, words)


def finished(arrivals, needs, seats, *, early=False, turn=False):
    free, ends = [0] * seats, []
    for number, (arrival, need) in enumerate(zip(arrivals, needs, strict=True)):
        seat = number % seats if turn else free.index(min(free))
        free[seat] = (free[seat] if early else max(free[seat], arrival)) + need
        ends.append(free[seat])
    return ends


def by_the_clock(arrivals, needs, seats):
    """Another right way: step by step, as the stall of the lesson."""
    waiting, sitting, ends, now = list(range(len(needs))), {}, [None] * len(needs), 0
    while waiting or sitting:
        for reader in [reader for reader, end in sitting.items() if end == now]:
            ends[reader] = sitting.pop(reader)
        while waiting and arrivals[waiting[0]] <= now and len(sitting) < seats:
            reader = waiting.pop(0)
            sitting[reader] = now + needs[reader]
        now += 1
    return ends


def in_groups(arrivals, needs, seats):
    now, ends = 0, []
    for first in range(0, len(needs), seats):
        now = max([now, *arrivals[first : first + seats]])
        ends += [now + need for need in needs[first : first + seats]]
        now = max(ends[first:])
    return ends


def free_one_later(arrivals, needs, seats):
    free, ends = [0] * seats, []
    for arrival, need in zip(arrivals, needs, strict=True):
        seat = free.index(min(free))
        ends.append(max(free[seat], arrival) + need)
        free[seat] = ends[-1] + 1
    return ends


def adds_the_arrival(arrivals, needs, seats):
    free, ends = [0] * seats, []
    for arrival, need in zip(arrivals, needs, strict=True):
        seat = free.index(min(free))
        free[seat] = free[seat] + arrival + need
        ends.append(free[seat])
    return ends


def last_seat(arrivals, needs, seats):
    free, ends = list(range(seats)), []
    for arrival, need in zip(arrivals, needs, strict=True):
        seat = free.index(max(free))
        free[seat] = max(free[seat] if ends else 0, arrival) + need
        ends.append(free[seat])
    return ends


def shortest_first(arrivals, needs, seats):
    order = sorted(range(len(needs)), key=lambda i: needs[i])
    ends = finished([arrivals[i] for i in order], [needs[i] for i in order], seats)
    return [end for _, end in sorted(zip(order, ends, strict=True))]


def grows_their_list(arrivals, needs, seats):
    result = finished(arrivals, needs, seats)
    arrivals.append(0)
    return result


@pytest.mark.parametrize("answer", [finished, by_the_clock, lambda *a: torch.tensor(finished(*a))])
def test_right_finished(accepted, answer):
    accepted("12.finished", answer)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda a, n, s: [e - m for e, m in zip(finished(a, n, s), n, strict=True)], "sit down"),
        (lambda a, n, s: [e - m for e, m in zip(finished(a, n, s), a, strict=True)], "latencies"),
        (lambda a, n, s: sorted(finished(a, n, s)), "order of the input"),
        (lambda a, n, s: [e - 1 for e in finished(a, n, s)], "one step too early"),
        (lambda a, n, s: finished(a, n, s, early=True), "before arriving"),
        (in_groups, "wait for their neighbours"),
        (lambda a, n, s: finished(a, n, s, turn=True), "in turn"),
        (lambda a, n, s: [m + k for m, k in zip(a, n, strict=True)], "nobody ever waits"),
        (lambda a, n, s: finished(a, n, 1), "all sit on one seat"),
        (lambda a, n, s: [e + 1 for e in finished(a, n, s)], "one step too late"),
        (lambda a, n, s: [e + (i == 2) for i, e in enumerate(finished(a, n, s))], "which seat is free"),
        (lambda a, n, s: finished(a, n, s)[:-1], "Each gets one"),
        (lambda a, n, s: max(finished(a, n, s)), "Expected a list"),
        (free_one_later, "stays empty for a step"),
        (adds_the_arrival, "which of the two is later"),
        (last_seat, "all sit on one seat"),
        (shortest_first, "the shortest texts go first"),
        (grows_their_list, "changed `arrivals` in place"),
        (lambda a, n, s: finished(a, n, s + 1), "a seat too many"),
        (lambda a, n, s: finished(a, n, s)[::-1], "in reverse order"),
        (lambda a, n, s: (end for end in finished(a, n, s)), "list(…) makes one"),
        (lambda a, n, s: [[end] for end in finished(a, n, s)], "Each entry is one step"),
        (lambda a, n, s: print(end=""), "is `return` missing"),
        (lambda a, n, s: finished(a, n), "TypeError"),
    ],
)
def test_wrong_finished(refused, answer, words):
    refused("12.finished", answer, words)


def close_gaps(rows):
    used = [row for row, text in enumerate(rows) if text is not None]
    gaps = [row for row in range(len(used)) if rows[row] is None]
    return [(row, gap) for row, gap in zip([row for row in used if row >= len(used)], gaps, strict=True)]


def last_first(rows):
    return [(source, target) for source, (_, target) in zip(
        sorted((s for s, _ in close_gaps(rows)), reverse=True), close_gaps(rows), strict=True
    )]  # fmt: skip


def shift_all(rows):
    used = [row for row, text in enumerate(rows) if text is not None]
    return [(row, front) for front, row in enumerate(used) if row != front]


def in_place(rows):
    copies = close_gaps(rows)
    for source, target in copies:
        rows[target], rows[source] = rows[source], None
    return copies


@pytest.mark.parametrize("answer", [close_gaps, last_first, lambda rows: tuple(map(list, close_gaps(rows)))])
def test_right_close_gaps(accepted, answer):
    accepted("12.close_gaps", answer)


@pytest.mark.parametrize(
    "answer, words",
    [
        (shift_all, "must a text in front move"),
        (lambda rows: [], "not in the first"),
        (lambda rows: [(target, source) for source, target in close_gaps(rows)], "Is the pair (from_row, to_row)?"),
        (lambda rows: [(len(rows) - 1, 0)], "would be lost"),
        (lambda rows: [(source + 1, target + 1) for source, target in close_gaps(rows)], "There is no row"),
        (lambda rows: [text for text in rows if text], "Expected a list of pairs"),
        (lambda rows: close_gaps(rows)[0] if close_gaps(rows) else [], "a list of one pair"),
        (lambda rows: dict(close_gaps(rows)), "The order matters"),
        (lambda rows: iter(close_gaps(rows)), "The order matters"),
        (lambda rows: [(rows[source], target) for source, target in close_gaps(rows)], "Give numbers of rows"),
        (lambda rows: [(source + 1, target + 1) for source, target in close_gaps(rows)], "counted from 0 to 2"),
        (lambda rows: [(row, row) for row, text in enumerate(rows) if text], "is copied to itself"),
        (lambda rows: close_gaps(rows)[:1], "not in the first"),
        (lambda rows: print(end=""), "is `return` missing"),
        (in_place, "changed `rows` in place"),
        (lambda rows: rows.index("Z"), "ValueError"),
    ],
)
def test_wrong_close_gaps(refused, answer, words):
    refused("12.close_gaps", answer, words)
