"""Feedback for the exercises of lesson 19, shipping: sizes, safetensors, four bits. Streams have their own module."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from . import (
    NotYet,
    call,
    exercise,
    expect_close,
    expect_number,
    expect_several,
    expect_tensor,
    first_difference,
    random_tensor,
    recognise,
    results,
)
from .lesson_19_streams import check_read_stream, check_until  # noqa: F401  known to `check` from here

# Warm-up: bytes


def _bytes(parameters: int, bits: int, group: int) -> int:
    return math.ceil((parameters * bits + math.ceil(parameters / group) * 16) / 8)


WRONG_BYTES: list[tuple[Callable, str]] = [
    (lambda n, b, g: math.ceil(n * b / 8), "The scales are forgotten: each group has one."),
    (lambda n, b, g: n * b + math.ceil(n / g) * 16, "That is bits. How many of them make a byte?"),
    (lambda n, b, g: math.ceil((n * b + 16) / 8), "You count one scale for all. Each group has one."),
    (lambda n, b, g: math.ceil((n * b + n * 16) / 8), "You count a scale for each number. A group shares one."),
    (lambda n, b, g: math.ceil((n * b + n // g * 16) / 8),
     "The last group is not full here, and yours has no scale: numbers are lost. How many groups are there?"),
    (lambda n, b, g: math.ceil((n * b + n / g * 16) / 8),
     "You count a part of a scale for the last group, which is not full. It needs a whole one."),
    (lambda n, b, g: math.ceil((n * b + math.ceil(n / g) * b) / 8), "A scale has 16 bits, whatever the numbers have."),
    (lambda n, b, g: math.ceil((n * b + math.ceil(n / g) * 32) / 8), "You give a scale 32 bits. Here it has 16."),
    (lambda n, b, g: math.ceil((n * b + math.ceil(n / g) * 2) / 8),
     "You add 2 for each scale to a sum of *bits*. 16 bits are 2 bytes: one unit, all the way."),
    (lambda n, b, g: math.ceil(n * b / 8) + math.ceil(n / g) * 16,
     "You add 16 for each scale to a sum of *bytes*. 16 bits are 2 bytes: one unit, all the way."),
    (lambda n, b, g: (n * b + math.ceil(n / g) * 16) // 8,
     "A part of a byte is cut off. What is begun takes a whole byte."),
    (lambda n, b, g: _bytes(n, b, g) * 8, "That is eight times too many: bits, or bytes?"),
    (lambda n, b, g: math.ceil(n * b / g) + math.ceil(n / g) * 2, "You divide by the group where 8 bits make a byte."),
]  # fmt: skip


@exercise("19.bytes_of")
def check_bytes_of(answer: object) -> str:
    for parameters, bits, group in ((96, 8, 32), (2_000_000, 4, 32), (1000, 4, 300), (5, 2, 64), (77, 3, 32)):
        wanted = _bytes(parameters, bits, group)
        got = expect_number(call(answer, parameters, bits, group))
        seen = f"For {parameters:,} numbers of {bits} bits in groups of {group} you give {got:,}."
        recognise(got, wanted, results(WRONG_BYTES, parameters, bits, group), seen=seen)
        if isinstance(got, float) and got == wanted:
            raise NotYet(f"{seen} That is right, but a float. Is there a division / that should be //, or math.ceil?")
        if isinstance(got, float) and 0 <= wanted - got < 1:
            raise NotYet(f"{seen} A part of a byte takes a whole one: which function rounds up?")
        if got != wanted:
            raise NotYet(f"{seen} Count for one full group first: how many bits, with its scale?")
    return "So 4 bits in groups of 32 cost 4.5 bits a number; in groups of 16 they would cost 5."


# Warm-up: safetensors


def _blob(shapes: dict[str, list[int]], dtype: str = "F32", metadata: bool = True) -> bytes:
    """A .safetensors file with zeros."""
    size, at, header = {"F32": 4, "BF16": 2, "I8": 1}[dtype], 0, {}
    for name, shape in shapes.items():
        end = at + size * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    if metadata:
        header["__metadata__"] = {"format": "pt", "shape": "[9, 9]"}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # as the format has it
    return len(text).to_bytes(8, "little") + text + bytes(at)


def _header(blob: bytes) -> dict:
    read = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    return {name: about for name, about in read.items() if name != "__metadata__"}


def _each(blob: bytes, count: Callable[[dict], float]) -> float:
    return sum(count(about) for about in _header(blob).values())


WRONG_COUNTS: list[tuple[Callable, str]] = [
    (lambda b: _each(b, lambda a: a["data_offsets"][1] - a["data_offsets"][0]),
     "You count bytes. How many bytes has one number? The shape says it without."),
    (lambda b: len(b), "That is the size of the whole file, header included."),
    (lambda b: len(b) - 8 - int.from_bytes(b[:8], "little"), "You count the bytes behind the header. Count numbers."),
    (lambda b: _each(b, lambda a: (a["data_offsets"][1] - a["data_offsets"][0]) / 4),
     "You take four bytes a number. This file has another dtype; the shape says how many numbers there are."),
    (lambda b: len(_header(b)), "That is how many tensors there are. How many numbers has each?"),
    (lambda b: len(_header(b)) + 1, "You count entries of the header. How many numbers has each tensor?"),
    (lambda b: _each(b, lambda a: sum(a["shape"])),
     "You add the sizes of a shape. How many cells has a table of 3 rows and 4 columns?"),
    (lambda b: _each(b, lambda a: math.prod(a["shape"]) if a["shape"] else 0),
     "A tensor with the shape [] is one number, and counts 0 in yours. What is the product of nothing?"),
    (lambda b: max(math.prod(a["shape"]) for a in _header(b).values()), "That is the largest tensor alone."),
    (lambda b: math.prod(next(iter(_header(b).values()))["shape"]), "That is the first tensor alone."),
    (lambda b: math.prod(list(_header(b).values())[-1]["shape"]),
     "That is the last tensor alone: does each replace the one before, where it should be added?"),
    (lambda b: _each(b, lambda a: math.prod(a["shape"][:2])), "A tensor may have more than two dimensions."),
    (lambda b: _each(b, lambda a: a["data_offsets"][1]),
     "You add where the tensors end. Each begins where another ended."),
]  # fmt: skip


@exercise("19.count_numbers")
def check_count_numbers(answer: object) -> str:
    for shapes, dtype, metadata in (
        ({"a": [3, 5], "b": [4]}, "F32", False),
        ({"embedding": [6, 4], "gain": [4], "scale": []}, "F32", True),
        ({"w": [2, 3, 5], "v": [7], "u": [3, 3]}, "BF16", True),
    ):
        blob = _blob(shapes, dtype, metadata)
        wanted = _each(blob, lambda about: math.prod(about["shape"]))
        got = expect_number(call(answer, blob))
        seen = f"In a file with the shapes {', '.join(map(str, shapes.values()))} ({dtype}) you count {got:,}."
        recognise(got, wanted, results(WRONG_COUNTS, blob), seen=seen)
        if got != wanted:
            raise NotYet(f"{seen} Print the header. Which entry do you not expect?")
        if isinstance(got, float):
            raise NotYet(f"{seen} That is right, but a float: numbers are counted in whole ones.")
    return "Eight bytes and a header: so a server knows what is in a file of 100 GB before it reads the rest."


# Core: sixteen levels


def _levels(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Groups (groups, group), and in each the number that is largest without its sign (groups, 1)."""
    parts = weight.reshape(-1, group)
    return parts, parts.gather(1, parts.abs().argmax(1, keepdim=True))


def _sixteen(
    weight: Tensor, group: int, *, top: Callable = lambda m: m / -8, low: int = -8, high: int = 7, how=torch.round
) -> Tensor:
    parts, most = _levels(weight, group)
    scale = top(most)  # (groups, 1)
    whole = how(parts / torch.where(scale == 0, 1, scale)).clamp(low, high)
    return (whole * scale).view_as(weight)


def _whole_numbers(w: Tensor, group: int) -> Tensor:
    parts, most = _levels(w, group)
    return (parts / torch.where(most == 0, 1, most / -8)).round().clamp(-8, 7).view_as(w)


WRONG_LEVELS: list[tuple[Callable, str]] = [
    (lambda w, g: _sixteen(w, g, top=lambda m: m.abs() / 7, low=-7),
     "These are the fifteen levels −7 … 7 of the lesson. Which number becomes −8, whatever its sign?"),
    (lambda w, g: _sixteen(w, g, top=lambda m: m.abs() / 8),
     "Your scale has lost the sign of the largest weight: where that is above 0 it becomes 8, and is cut to 7."),
    (lambda w, g: _sixteen(w, g, top=lambda m: m / 8),
     "Your scale is m / 8: the largest weight becomes +8, which is no level, and is cut to 7. Which sign is missing?"),
    (lambda w, g: _sixteen(w, g, top=lambda m: m / -16),
     "You divide by 16: there are sixteen levels, but only eight on the side of the largest weight."),
    (lambda w, g: _sixteen(w, g, low=-99, high=99),
     "Some numbers become 8 in yours, and four bits have no 8. Keep them within −8 … 7."),
    (lambda w, g: _sixteen(w, g, high=8), "You allow 8. With −8 … 8 there would be seventeen levels."),
    (lambda w, g: _sixteen(w, g, low=0, high=15), "0 … 15 is how they are packed. Here they run from −8 to 7."),
    (lambda w, g: _sixteen(w, g, how=torch.floor), "You round down, always. Take the nearest level."),
    (lambda w, g: _sixteen(w, g, how=torch.trunc), "You cut off what stands behind the point. Take the nearest level."),
    (lambda w, g: _sixteen(w, w.numel()), "You have one scale for the whole matrix. Each group has its own."),
    (lambda w, g: _sixteen(w, w.shape[1]), "You have one scale for each row. A row has several groups."),
    (lambda w, g: _sixteen(w.T.contiguous(), g).T if w.shape[0] % g == 0 else torch.full_like(w, torch.nan),
     "Your groups run down the columns. The numbers of a group are neighbours in a row."),
    (lambda w, g: _whole_numbers(w, g), "These are the whole numbers. Give back the weight: each times its scale."),
    (lambda w, g: _sixteen(w, g, top=lambda m: m.half() / -8),
     "You round the scale to 16 bits. Here it shall stay as it is."),
]  # fmt: skip


@exercise("19.round_to_sixteen")
def check_round_to_sixteen(answer: object) -> str:
    for seed, shape, group in ((2, (32, 64), 32), (1, (2, 8), 4), (3, (16, 48), 16)):
        weight = random_tensor(*shape, seed=seed)
        if seed == 3:
            weight[0, :group] = 0  # a group of zeros
        wanted = _sixteen(weight, group)
        got = call(answer, weight, group)
        seen = f"For a weight {shape} in groups of {group}:"
        if isinstance(got, Tensor) and got.shape == weight.shape and got[0, :group].isnan().any() and seed == 3:
            raise NotYet(f"{seen} a group of zeros comes back as nan: its scale is 0, and 0 / 0 is no number.")
        hint = "Take one group by hand: which weight is largest without its sign, and what becomes of it?"
        mistakes = results(WRONG_LEVELS, weight, group)
        expect_close(got, wanted, hint, mistakes=mistakes, what="the weight", seen=seen, tolerance=1e-5)
    return "That is q4_0: the largest weight of each group comes back exactly, and no level is left unused."


# Stretch: packing


def _packed(whole: Tensor) -> Tensor:
    moved = (whole + 8).to(torch.uint8)
    return moved[:, :16] | (moved[:, 16:] << 4)


def _bytes_of_pairs(low: Tensor, high: Tensor, offset: int = 8) -> Tensor:
    return (((low.long() + offset) & 15) | (((high.long() + offset) & 15) << 4)).to(torch.uint8)


WRONG_PACKS: list[tuple[Callable, str]] = [
    (lambda w: _bytes_of_pairs(w[:, 16:], w[:, :16]),
     "The halves are exchanged: number i goes into the *lower* four bits, number i + 16 into the upper."),
    (lambda w: _bytes_of_pairs(w[:, ::2], w[:, 1::2]),
     "You put neighbours into one byte. `q4_0` joins number i with number i + 16."),
    (lambda w: _bytes_of_pairs(w[:, 1::2], w[:, ::2]),
     "You put neighbours into one byte. `q4_0` joins number i with number i + 16."),
    (lambda w: _bytes_of_pairs(w[:, :16], w[:, 16:], 0), "8 was not added: −8 … 7 shall run from 0 to 15."),
    (lambda w: _bytes_of_pairs(w[:, :16], w[:, 16:], 7), "You add 7: −8 becomes −1, which is no number of four bits."),
    (lambda w: ((w[:, :16] + 8) + (w[:, 16:] + 8)).to(torch.uint8),
     "You add the two numbers. The upper one must be moved by four bits first."),
    (lambda w: ((w[:, :16] + 8) | ((w[:, 16:] + 8) << 3)).to(torch.uint8), "You move by three bits: they overlap."),
    (lambda w: ((w[:, :16] + 8) + 10 * (w[:, 16:] + 8)).to(torch.uint8),
     "Ten times is how decimal places work. Four bits are 2⁴ times."),
    (lambda w: (w[:, :16] + 8).to(torch.uint8), "The upper half of each byte is empty: where is number i + 16?"),
    (lambda w: ((w[:, 16:] + 8) << 4).to(torch.uint8), "The lower half of each byte is empty: where is number i?"),
    (lambda w: _packed(w.flip(1)), "Your numbers are in reverse."),
]  # fmt: skip
WRONG_UNPACKS: list[tuple[Callable, str]] = [
    (lambda p, w: w + 8, "8 was not taken away again."),
    (lambda p, w: torch.cat([w[:, 16:], w[:, :16]], 1), "The halves are exchanged: the lower four bits come first."),
    (lambda p, w: torch.stack([w[:, :16], w[:, 16:]], 2).flatten(1),
     "You lay the two numbers of a byte side by side. They are number i and number i + 16."),
    (lambda p, w: torch.stack([w[:, 16:], w[:, :16]], 2).flatten(1),
     "You lay the two numbers of a byte side by side. They are number i and number i + 16."),
    (lambda p, w: torch.cat([(p.to(torch.int16) - 8).to(torch.int8), w[:, 16:]], 1),
     "The lower numbers still hold the upper ones: keep four bits of them (& 15)."),
    (lambda p, w: torch.cat([w[:, :16], (p & 240).to(torch.int8) - 8], 1),
     "The upper numbers stand four bits too high: move them down (>> 4)."),
    (lambda p, w: torch.cat([w[:, :16], w[:, :16]], 1), "The lower numbers come twice."),
    (lambda p, w: w - 8, "8 is taken away twice."),
]  # fmt: skip


@exercise("19.pack")
def check_pack(answer: object) -> str:
    alone = not isinstance(answer, tuple | list)
    pack, unpack = (answer, None) if alone else expect_several(answer, ("pack", "unpack"))
    for seed, groups in ((1, 1), (2, 7)):
        whole = torch.randint(-8, 8, (groups, 32), generator=torch.Generator().manual_seed(seed)).to(torch.int8)
        whole[0, :3], whole[0, 16:19] = torch.tensor([-8, 7, 0]), torch.tensor([7, -8, -1])
        wanted = _packed(whole)
        got = call(pack, whole)
        if isinstance(got, Tensor) and got.shape == wanted.shape and got.dtype != torch.uint8:
            if not (got.is_floating_point() or got.is_complex()) and torch.equal(got.long(), wanted.long()):
                raise NotYet(f"pack: the numbers are right, as {got.dtype}. Bytes are torch.uint8.")
            if got.dtype == torch.int8 and torch.equal(got.view(torch.uint8), wanted):
                raise NotYet("pack: the bits are right, but read as −128 … 127 (torch.int8). Bytes are torch.uint8.")
        _compare_whole(got, wanted, results(WRONG_PACKS, whole.long()), f"pack, {groups} groups:", "the bytes")
        if alone:
            raise NotYet("pack is right. Give both functions, as (pack, unpack).")
        back = call(unpack, wanted)
        mistakes = results(WRONG_UNPACKS, wanted, whole)
        _compare_whole(back, whole, mistakes, f"unpack, {groups} groups:", "the numbers")
    return "With the two bytes of their scale 32 numbers take 18 bytes: you wrote a block of a GGUF file."


def _compare_whole(got: object, wanted: Tensor, mistakes: Iterable[tuple], seen: str, what: str) -> None:
    if isinstance(got, Tensor) and got.shape == wanted.shape:
        recognise(got, wanted, mistakes, seen=seen)
    got = expect_tensor(got, wanted, what=what)
    if not torch.equal(got, wanted):
        at = first_difference(got, wanted)
        raise NotYet(
            f"{seen} {int((got != wanted).sum())} of {got.numel()} are wrong; the first, at {list(at)}, is "
            f"{int(got[at])} and should be {int(wanted[at])}. Write that one in binary: which bits differ?"
        )
