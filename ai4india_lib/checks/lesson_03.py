"""Feedback for lesson 03: counting byte pairs, merging a pair, encoding in order of rank.

A wrong answer is named by what it does: each usual mistake is written down as a small function, and the one that gives
the same wrong result as the learner's brings the sentence that fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from . import NotYet, call, describe, exercise, expect_list, recognise, results

Pair = tuple[int, int]


def _count(pieces: list[str]) -> dict[Pair, int]:
    counts: Counter[Pair] = Counter()
    for piece in pieces:
        counts.update(pairwise(piece.encode("utf-8")))
    return dict(counts)


def _merge(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    merged: list[int] = []
    position = 0
    while position < len(ids):
        hit = tuple(ids[position : position + 2]) == pair
        merged.append(new_id if hit else ids[position])
        position += 1 + hit
    return merged


def _encode(piece: str, merges: dict[Pair, int], choose: Callable = min, rounds: int = 10_000) -> list[int]:
    ids = list(piece.encode("utf-8"))
    for _ in range(rounds):
        known = [pair for pair in pairwise(ids) if pair in merges]
        if not known:
            break
        best = choose(known, key=lambda pair: merges[pair])
        ids = _merge(ids, best, merges[best])
    return ids


def _by_slices(start: int, stop: int | None, step: int = 1) -> Callable[[list[str]], dict[Pair, int]]:
    """Count with the wrong ends, or in steps of two."""

    def count(pieces: list[str]) -> dict[Pair, int]:
        cut = [piece.encode("utf-8")[start:stop] for piece in pieces]
        return dict(Counter(pair for x in cut for pair in zip(x[::step], x[1::step], strict=False)))

    return count


COUNT_MISTAKES = [
    (lambda pieces: _count(["".join(pieces)]),
     "You counted pairs across the border of two pieces: the last byte of one and the first byte of the next. "
     "Such a merge would glue words together. Where does your list of bytes begin anew?"),
    (lambda pieces: _count(list(dict.fromkeys(pieces))),
     "A piece that occurs several times was counted once. How often does its pair stand in the text?"),
    (_by_slices(0, None, 2),
     "You took the bytes two by two, so every second pair of neighbours is missing. In abc there are ab and bc."),
    (_by_slices(0, -1), "The last pair of each piece is missing: off by one at the end."),
    (_by_slices(1, None), "The first pair of each piece is missing: off by one at the beginning."),
    (lambda pieces: dict.fromkeys(_count(pieces), 1),
     "You found the right pairs, but each has the count 1. What should happen when a pair is seen again?"),
    (lambda pieces: {(b, a): n for (a, b), n in _count(pieces).items()},
     "Your pairs are turned round: the byte that comes first in the text should stand first in the pair."),
]  # fmt: skip


@exercise("03.count_pairs")
def check_count_pairs(answer: object) -> str:
    repeated, plain = [["abcde", "bcd", "abcde"], [" कि", " कि", "की", "x"]], [["नमस्ते", " दुनिया"], ["z"], []]
    for pieces in [["ababa", "bc"], *repeated, *plain]:
        got, wanted = call(answer, list(pieces)), _count(pieces)
        if not isinstance(got, dict):
            raise NotYet(f"Expected a dict from pair to count, got {describe(got)}.")
        for key in got:
            if not isinstance(key, tuple) or len(key) != 2:
                raise NotYet(f"A key of your dict is {key!r}; it should be a tuple of two bytes, such as (97, 98).")
            if not all(isinstance(part, int) for part in key):
                raise NotYet(
                    f"Your pairs hold {type(key[0]).__name__} values, such as {key!r}; they should hold whole numbers "
                    "from 0 to 255. A Devanagari letter is three of them: what turns text into bytes?"
                )
            if max(key) > 255:
                raise NotYet(f"The pair {key} holds a number above 255: these are code points, not bytes of UTF-8.")
        if dict(got) != wanted:
            pair = next(p for p in {**wanted, **got} if wanted.get(p, 0) != got.get(p, 0))
            seen = f"For {pieces} you count {pair} {got.get(pair, 0)} times."
            recognise(dict(got), wanted, results(COUNT_MISTAKES, pieces), seen=seen)
            raise NotYet(f"{seen} It should have another count. Write down the pairs of this example by hand.")
    return "Real tokenizers keep each different piece once, with its count: a text has far fewer different words."


def _overlapping(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    hits = {i for i in range(len(ids) - 1) if (ids[i], ids[i + 1]) == pair}
    return [new_id if i in hits else x for i, x in enumerate(ids) if i in hits or i - 1 not in hits]


def _first_only(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    first = next((i for i, here in enumerate(pairwise(ids)) if here == pair), None)
    return ids if first is None else [*ids[:first], new_id, *ids[first + 2 :]]


def _keep_second(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    return [new_id if tuple(ids[i : i + 2]) == pair else x for i, x in enumerate(ids)]


def _as_text(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    written = " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new_id))
    return [int(number) for number in written.split()]


MERGE_MISTAKES = [
    (lambda ids, pair, new_id: _merge(ids[::-1], pair[::-1], new_id)[::-1],
     "You merged from the right. In a row of equal ids the pair on the left is taken first."),
    (_keep_second, "The second id of the pair is still there after the new one. How far must you step after a hit?"),
    (_overlapping, "One id was used in two pairs. In [1, 1, 1] (1, 1) occurs once: after a hit, where do you go on?"),
    (_first_only, "Only the first occurrence was replaced. What happens after your first hit?"),
    (lambda ids, pair, new_id: _merge(ids, pair, new_id)[:-1],
     "The last id is lost. What does your loop do when there is no right neighbour?"),
    (lambda ids, pair, new_id: _merge(_merge(ids, pair, new_id), pair[::-1], new_id),
     "You merged the pair in the other order too: (a, b) is not (b, a)."),
    (_as_text, "You replace text: then the pair (5, 6) is also found in 15 6 and 5 61. Compare numbers, not digits."),
    (lambda ids, pair, new_id: [x for x in _merge(ids, pair, new_id) if x != new_id],
     "The pair is taken out, but nothing stands for it. What should stand where it was?"),
    (lambda ids, pair, new_id: ids, "Nothing was merged. Compare a tuple with a tuple: a list is never equal to one."),
]  # fmt: skip


@exercise("03.merge")
def check_merge(answer: object) -> str:
    for ids, pair, new_id in (
        ([5, 6, 7, 5, 6], (5, 6), 256),
        ([5, 6, 5, 6, 8], (5, 6), 256),
        ([1, 1, 1], (1, 1), 9),
        ([7], (7, 7), 256),
        ([6, 5, 8, 5, 6], (5, 6), 300),
        ([1, 1, 1, 1, 1, 2], (1, 1), 256),
        ([], (1, 2), 9),
        ([3, 4, 5], (5, 3), 9),
        ([15, 6, 5, 61], (5, 6), 9),
    ):
        got, wanted = expect_list(call(answer, ids, pair, new_id), "ids"), _merge(ids, pair, new_id)
        if got != wanted:
            seen = f"merge({ids}, {pair}, {new_id}) gave {got}."
            recognise(got, wanted, results(MERGE_MISTAKES, ids, pair, new_id), seen=seen)
            raise NotYet(f"{seen} Go through this example by hand, id by id.")
    return "Each merge makes a text shorter by one id for each hit: that is all of BPE's compression."


def _longest(piece: str, merges: dict[Pair, int]) -> list[int]:
    spelled = {number: bytes([number]) for number in range(256)}
    for (a, b), number in sorted(merges.items(), key=lambda item: item[1]):
        spelled[number] = spelled[a] + spelled[b]
    rest, ids = piece.encode("utf-8"), []
    while rest:
        best = max((n for n in spelled if rest.startswith(spelled[n])), key=lambda n: len(spelled[n]))
        ids, rest = [*ids, best], rest[len(spelled[best]) :]
    return ids


ENCODE_MISTAKES = [
    (lambda piece, merges: list(piece.encode("utf-8")), "No merge was made: these are the bare bytes."),
    (lambda piece, merges: [ord(letter) for letter in piece], "These are code points; the merges are of bytes."),
    (lambda p, m: _encode(p, m, rounds=1), "You stopped after one merge, but the result holds another known pair."),
    (lambda p, m: _encode(p, m, choose=lambda known, key: known[0]),
     "You merged the first pair from the left. The order of learning decides, not the position in the text."),
    (lambda p, m: _encode(p, m, choose=max), "You took the pair with the *worst* rank. Which id was learned first?"),
    (_longest, "You took the longest known token from the left. That is another method: BPE replays its merges."),
]  # fmt: skip


@exercise("03.encode")
def check_encode(answer: object) -> str:
    small = {(98, 99): 256, (97, 98): 257, (256, 100): 258, (97, 256): 259, (120, 121): 260, (121, 122): 261}
    hindi: dict[Pair, int] = {}
    words = [list(word.encode("utf-8")) for word in ("किताब", "किताबें", "किसान", "सितार", "किताब", "तारा", "बारात")]
    for new_id in range(256, 276):
        counts = Counter(pair for word in words for pair in pairwise(word))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        hindi[best] = new_id
        words = [_merge(word, best, new_id) for word in words]
    pieces = [(piece, small) for piece in ("bcx", "xyz", "abc", "abcd", "bcdabcd", "", "q")]
    pieces += [(piece, hindi) for piece in (" किताबें", "तारा", "किसानों", "सितारा बारात", "ab")]
    for piece, merges in pieces:
        got, wanted = expect_list(call(answer, piece, merges), "ids"), _encode(piece, merges)
        if got != wanted:
            recognise(got, wanted, results(ENCODE_MISTAKES, piece, merges), seen=f"For {piece!r} you gave {got}.")
            raise NotYet(f"For {piece!r} you gave {got}. Write the ids after each merge: where do they part?")
    return "Fast tokenizers do the same: they look at the pairs that are there, not at every merge."
