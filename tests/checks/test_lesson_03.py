"""Lesson 03's feedback: right answers pass, and each usual mistake gets its own sentence."""

from collections import Counter
from itertools import pairwise

import pytest

from ai4india_lib.checks.lesson_03 import _count, _encode, _first_only, _longest, _merge, _overlapping


def counted_by_index(pieces):
    counts = {}
    for piece in pieces:
        data = piece.encode("utf-8")
        for i in range(len(data) - 1):
            counts[data[i], data[i + 1]] = counts.get((data[i], data[i + 1]), 0) + 1
    return counts


@pytest.mark.parametrize("answer", [_count, counted_by_index, lambda pieces: Counter(counted_by_index(pieces))])
def test_right_counts(accepted, answer):
    accepted("03.count_pairs", answer)


def pairs(pieces, cut, start=0, stop=None):
    return dict(Counter(p for piece in pieces for p in pairwise(cut(piece)[start:stop])))


WRONG_COUNTS = [
    (lambda pieces: pairs(pieces, str), "pairs hold str values"),
    (lambda pieces: pairs(pieces, lambda piece: [ord(letter) for letter in piece]), "code points"),
    (lambda pieces: _count(["".join(pieces)]), "across the border"),
    (lambda pieces: _count(list(dict.fromkeys(pieces))), "counted once"),
    (lambda pieces: pairs(pieces, str.encode, stop=-1), "off by one at the end"),
    (lambda pieces: pairs(pieces, str.encode, start=1), "off by one at the beginning"),
    (lambda pieces: dict.fromkeys(_count(pieces), 1), "each has the count 1"),
    (lambda pieces: {(b, a): n for (a, b), n in _count(pieces).items()}, "turned round"),
    (lambda pieces: list(_count(pieces).items()), "Expected a dict"),
    (lambda pieces: {a: n for (a, _), n in _count(pieces).items()}, "a tuple of two bytes"),
    (lambda pieces: {p: 2 * n for p, n in _count(pieces).items()}, "by hand"),
]


@pytest.mark.parametrize(("answer", "words"), WRONG_COUNTS)
def test_wrong_counts_are_told_apart(refused, answer, words):
    refused("03.count_pairs", answer, words)


def test_pairs_taken_two_by_two(refused):
    def two_by_two(pieces):
        return dict(Counter(p for x in pieces for p in zip(x.encode()[::2], x.encode()[1::2], strict=False)))

    refused("03.count_pairs", two_by_two, "two by two")


def in_place(ids, pair, new_id):
    ids[:] = _merge(ids, pair, new_id)


def in_place_and_returned(ids, pair, new_id):
    in_place(ids, pair, new_id)
    return ids


def keeps_second(ids, pair, new_id):
    return [new_id if tuple(ids[i : i + 2]) == pair else ids[i] for i in range(len(ids))]


def replaced_as_text(ids, pair, new_id):
    written = " ".join(map(str, ids)).replace(" ".join(map(str, pair)), str(new_id))
    return [int(number) for number in written.split()]


WRONG_MERGES = [
    (_overlapping, "used in two pairs"),
    (_first_only, "Only the first occurrence"),
    (keeps_second, "second id of the pair is still there"),
    (lambda ids, pair, new_id: _merge(ids, pair, new_id)[:-1], "last id is lost"),
    (lambda ids, pair, new_id: _merge(ids[::-1], pair[::-1], new_id)[::-1], "from the right"),
    (lambda ids, pair, new_id: _merge(_merge(ids, pair, new_id), pair[::-1], new_id), "other order"),
    (lambda ids, pair, new_id: list(ids), "Nothing was merged"),
    (lambda ids, pair, new_id: [x for x in _merge(ids, pair, new_id) if x != new_id], "nothing stands for it"),
    (replaced_as_text, "not digits"),
    (in_place, "returned nothing"),
    (in_place_and_returned, "changed `ids` in place"),
    (lambda ids, pair, new_id: tuple(_merge(ids, pair, new_id)), "got tuple"),
    (lambda ids, pair, new_id: [new_id for i in range(len(ids)) if ids[i + 1] == pair[1]], "IndexError"),
]


@pytest.mark.parametrize(("answer", "words"), WRONG_MERGES)
def test_wrong_merges_are_told_apart(refused, answer, words):
    refused("03.merge", answer, words)


def all_merges_in_order(piece, merges):
    ids = list(piece.encode("utf-8"))
    for pair, new_id in sorted(merges.items(), key=lambda item: item[1]):
        ids = _merge(ids, pair, new_id)
    return ids


RIGHT = [("03.merge", _merge), ("03.encode", _encode), ("03.encode", all_merges_in_order)]


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_merges_and_encodings(accepted, name, answer):
    accepted(name, answer)


def while_reading(piece, merges):
    ids = []
    for number in piece.encode("utf-8"):
        ids.append(number)
        while len(ids) > 1 and (ids[-2], ids[-1]) in merges:
            ids[-2:] = [merges[ids[-2], ids[-1]]]
    return ids


WRONG_ENCODINGS = [
    (lambda piece, merges: list(piece.encode("utf-8")), "bare bytes"),
    (lambda piece, merges: _encode(piece, merges, rounds=1), "stopped after one merge"),
    (lambda piece, merges: _encode(piece, merges, choose=max), "worst"),
    (lambda piece, merges: _encode(piece, merges, choose=lambda known, key: known[0]), "not the position in the text"),
    (while_reading, "not the position in the text"),
    (_longest, "longest known token"),
    (lambda piece, merges: tuple(_encode(piece, merges)), "got tuple"),
    (lambda piece, merges: list(piece), "it should hold ids"),
    (lambda piece, merges: [merges[pair] for pair in pairwise(piece.encode())], "KeyError"),
]


@pytest.mark.parametrize(("answer", "words"), WRONG_ENCODINGS)
def test_wrong_encodings_are_told_apart(refused, answer, words):
    refused("03.encode", answer, words)


def test_code_points_are_not_bytes(refused):
    def by_code_points(piece, merges):
        return _encode(piece, merges) if piece.isascii() else [ord(letter) for letter in piece]

    refused("03.encode", by_code_points, "code points")
