"""Checks of lesson 02: inputs and targets, packing a stream, shuffling many files with a few seats."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from . import NotYet, call, call_list, exercise, expect_several, expect_tensor, first_difference

PAIR = ("the inputs", "the targets")


@exercise("02.shift")
def check_shift(shift) -> str:
    draw = torch.Generator().manual_seed(2)
    for shape in ((9,), (4, 7), (2, 3, 5)):
        ids = torch.randperm(900, generator=draw)[: torch.Size(shape).numel()].view(shape)  # no id twice: mistakes show
        _check_shifted(*expect_several(call(shift, ids), PAIR), ids)
    return "Each row of time + 1 ids teaches time predictions, all in one pass of the model."


def _check_shifted(inputs: object, targets: object, ids: Tensor) -> None:
    right = {"inputs": ids[..., :-1], "targets": ids[..., 1:]}
    seen = f"For ids of shape {tuple(ids.shape)}"
    for name, got in (("inputs", inputs), ("targets", targets)):
        shape = getattr(got, "shape", None)
        if shape == ids.shape:
            wraps = torch.equal(got, ids.roll(-1, -1))
            ending = " Your last target is the first id of the row: it does not follow the last one." if wraps else ""
            raise NotYet(f"{seen}, {name} is as long as ids. The last id has no next one, so one id less.{ending}")
        if shape and ids.dim() > 1 and shape[0] != ids.shape[0] and shape[1:] == ids.shape[1:]:
            raise NotYet(
                f"{seen}, {name} has {shape[0]} rows instead of {ids.shape[0]}: you cut off a row. "
                "Time is the last dimension: how do you slice that one alone?"
            )
        expect_tensor(got, right[name], what=name)
    if torch.equal(inputs, right["targets"]) and torch.equal(targets, right["inputs"]):
        raise NotYet(f"{seen}, inputs come one step after targets: the model would predict the past. Which is which?")
    if torch.equal(inputs, targets):
        raise NotYet(f"{seen}, inputs and targets are the same: the model would learn to repeat what it sees.")
    for name, got in (("inputs", inputs), ("targets", targets)):
        if not torch.equal(got, right[name]):
            index = first_difference(got, right[name])
            raise NotYet(
                f"{seen}, {name}{list(index)} is {got[index].item()}, the wrong id. With a row 7 8 9, the model sees 7 "
                "and must say 8. Write down both tensors for this row first."
            )


@exercise("02.pack")
def check_pack(pack_stream) -> str:
    draw = random.Random(2)
    for size, lengths in ((4, [3, 6, 2, 5]), (5, [2, 3, 11, 4, 1, 9]), (3, [2, 2]), (8, [40, 3]), (4, [5, 4])):
        numbers = iter(draw.sample(range(3, 900), sum(lengths)))  # no id twice, no zero
        documents = [list(itertools.islice(numbers, length)) for length in lengths]
        blocks = [expect_several(block, PAIR) for block in call_list(pack_stream, iter(documents), size)]
        _check_blocks(blocks, documents, size, f"Documents of {lengths} ids, blocks of {size}:")
    _check_reading(pack_stream)
    return "It needs the memory of one document and one block, for a text of any size."


def _check_blocks(got: list[tuple], documents: list[list[int]], size: int, seen: str) -> None:
    ids = torch.tensor([i for document in documents for i in document])
    for name, part in ((name, part) for block in got for name, part in zip(("inputs", "targets"), block, strict=True)):
        shape = getattr(part, "shape", None)
        if shape == (size + 1,):
            raise NotYet(
                f"{seen} {name} has {size + 1} ids. A block takes {size + 1} from the stream; each side {size}."
            )
        if shape is not None and len(shape) == 1 and shape[0] < size:
            raise NotYet(f"{seen} {name} of one block has only {shape[0]} ids. A block that is not full is not given.")
        if shape == (size,) and 0 in part:
            raise NotYet(f"{seen} {name} holds a 0, which no document has. Packing needs no padding: drop the rest.")
        expect_tensor(part, ids[:size], what=f"{name} of a block")
    number = (len(ids) - 1) // size
    for block, (inputs, targets) in enumerate(got[:number]):
        start = block * size
        if torch.equal(inputs, targets):
            raise NotYet(
                f"{seen} inputs and targets of block {block} are the same. A target is the id that comes next."
            )
        if block and inputs[0] == ids[start + block]:
            raise NotYet(
                f"{seen} block {block} begins too late in the stream. The last target of a block is also the first "
                "input of the next one. How many ids do you take away after each block?"
            )
        if not torch.equal(inputs, ids[start : start + size]):
            raise NotYet(
                f"{seen} block {block} has the inputs {inputs.tolist()}; the stream begins {ids[: 2 * size].tolist()}. "
                "What happens to ids of a document that fill no whole block?"
            )
        if not torch.equal(targets, ids[start + 1 : start + size + 1]):
            hint = (
                "The last one is wrong: it follows the block's last input in the stream, perhaps in another document."
            )
            if not torch.equal(targets[:-1], inputs[1:]):
                hint = "At each position, which id does the stream have after the input?"
            raise NotYet(f"{seen} the targets {targets.tolist()} do not follow the inputs {inputs.tolist()}. {hint}")
    if len(got) != number:
        hint = "A block needs one id more than its length, for its last target."
        if len(got) < number:
            hint = "Does a long document give all its blocks, and the ids left over go on to the next document?"
        raise NotYet(f"{seen} you gave {len(got)} blocks, there are {number} full ones. {hint}")


def _check_reading(pack_stream) -> None:
    source = _File("", 2000)
    documents = ([1, 5, 6, 7, 2] for _ in source)
    next(iter(call(pack_stream, documents, 8)))
    if source.read > 2:
        raise NotYet(
            f"Your blocks are right, but you read {source.read} documents before the first block came out; 2 hold "
            "enough ids. A large text would fill the memory. When do you look whether a block is full?"
        )


@exercise("02.shuffle_buffer")
def check_shuffle_buffer(shuffle_buffer) -> str:
    def run(seed: int, epoch: int, length: int = 60) -> list:
        return call_list(shuffle_buffer, [_File(name, length) for name in "abcde"], 20, seed, epoch)

    state = random.getstate()
    order = run(3, 0)
    _check_all_there(order, [line for name in "abcde" for line in _File(name, 60)])
    _check_waiting(shuffle_buffer)
    if order != run(3, 0) or random.getstate() != state:
        raise NotYet(
            "The same seed and epoch must give the same order each time, whatever other code draws. "
            "Make a random.Random of your own: from which two numbers?"
        )
    epochs = [order] + [run(3, epoch) for epoch in range(1, 8)]
    for changed, other in (("epoch", epochs[1]), ("seed", run(4, 0))):
        if order == other:
            raise NotYet(
                f"Another {changed} gives the same order: the model would see the lines in the same row again."
            )
    if len({epoch[0][0] for epoch in epochs}) == 1:
        raise NotYet("In eight epochs a line of the same file always came first. Draw the order of the files, too.")
    if all(len([*itertools.groupby(epoch, key=lambda line: line[0])]) == 5 for epoch in epochs):
        raise NotYet(
            "Lines of one file never come between those of another: the room is emptied at the end of each file. "
            "Let it stay filled until all files are read."
        )
    short = [run(3, epoch, length=3) for epoch in range(4)]  # 15 lines for 20 seats
    if all(sorted(epoch, key=lambda line: line[0]) == sorted(epoch) for epoch in short):  # each file in its order
        raise NotYet(
            "When there are fewer lines than seats, each file comes out in its own order. Mix the last ones too."
        )
    return "Files in a new order and one room for all: this is how texts of terabytes are mixed."


class _File:
    """A file of sorted lines that can be read again, and knows how far it has been read."""

    def __init__(self, name: str, length: int):
        self.name, self.length, self.read = name, length, 0

    def __iter__(self) -> Iterator[str]:
        for number in range(1, self.length + 1):
            self.read = number
            yield f"{self.name}{number:03}"


def _check_all_there(got: list, lines: list[str]) -> None:
    if strange := [line for line in got if line not in lines]:
        raise NotYet(f"Something came out that is not a line of a file: {str(strange[0])[:60]!r}.")
    if twice := [line for line, times in Counter(got).items() if times > 1]:
        raise NotYet(f"{len(twice)} lines come out more than once. Who sits on the seat of a line that has gone out?")
    if lost := len(lines) - len(got):
        raise NotYet(f"{lost} of {len(lines)} lines never come out. Where are they when the last file is read?")


def _check_waiting(shuffle_buffer) -> None:
    """How many lines wait when one goes out: as many as seats, and perhaps the one that comes in."""
    files = [_File(name, 60) for name in "abcde"]
    most = max(sum(f.read for f in files) - given for given, _ in enumerate(call(shuffle_buffer, files, 20, 3, 0)))
    if most > 21:
        raise NotYet(f"There are 20 seats, but up to {most} lines were read and not yet given: memory grows.")
    if most < 20:
        raise NotYet(f"With 20 seats, never more than {most} lines waited. Fill the room before one goes out.")
