"""The exercises of lesson 02: right answers pass, and each wrong one hears what is wrong with it."""

import itertools
import random

import pytest
import torch


def shift(ids):
    return ids[..., :-1], ids[..., 1:]


def pack(documents, size):
    waiting = []
    for document in documents:
        waiting += document
        while len(waiting) > size:
            block = torch.tensor(waiting[: size + 1])
            yield block[:-1], block[1:]
            del waiting[:size]


def shuffle_buffer(files, seats, seed, epoch):
    draw = random.Random(f"{seed}-{epoch}")
    files = list(files)
    draw.shuffle(files)
    lines = itertools.chain.from_iterable(files)
    waiting = list(itertools.islice(lines, seats))
    for line in lines:
        seat = draw.randrange(seats)
        yield waiting[seat]
        waiting[seat] = line
    draw.shuffle(waiting)
    yield from waiting


def room(lines, seats, draw):
    """One waiting room, not mixed at its end."""
    waiting = []
    for line in lines:
        waiting.append(line)
        if len(waiting) > seats:
            yield waiting.pop(draw.randrange(len(waiting)))
    yield from waiting


@pytest.mark.parametrize(
    ("name", "answer"), [("02.shift", shift), ("02.pack", pack), ("02.shuffle_buffer", shuffle_buffer)]
)
def test_right_answer_and_error(accepted, refused, name, answer):
    accepted(name, answer)
    refused(name, lambda *_: {}["x"], "stopped with KeyError")


def test_other_right_ways(accepted):
    def pack_by_id(documents, size):
        block = []
        for i in itertools.chain.from_iterable(documents):
            block.append(i)
            if len(block) == size + 1:
                yield torch.tensor(block[:-1]), torch.tensor(block[1:])
                block = block[-1:]

    def one_more_waits(files, seats, seed, epoch):
        draw = random.Random(1000 * seed + epoch)
        lines = itertools.chain.from_iterable(draw.sample(files, len(files)))
        yield from room(lines, seats, draw) if len(files) > 100 else mixed_end(lines, seats, draw)

    def mixed_end(lines, seats, draw):
        waiting = []
        for line in lines:
            waiting.append(line)
            if len(waiting) == seats:
                yield waiting.pop(draw.randrange(seats))
        draw.shuffle(waiting)
        yield from waiting

    accepted("02.pack", pack_by_id)
    accepted("02.shuffle_buffer", one_more_waits)
    accepted("02.shift", lambda ids: list(shift(ids)))


SHIFTS = {
    "inputs and targets are the same": lambda ids: (ids[..., :-1], ids[..., :-1]),
    "predict the past": lambda ids: (ids[..., 1:], ids[..., :-1]),
    "Your last target is the first id": lambda ids: (ids[..., :-1], ids.roll(-1, -1)),
    "inputs is as long as ids": lambda ids: (ids, ids[..., 1:]),
    "you cut off a row": lambda ids: (ids[:-1], ids[1:]),
    "Got tensor": lambda ids: ids[..., 1:],
    "(7,); it should be (8,)": lambda ids: (ids[..., :-2], ids[..., 2:]),
    "the wrong id": lambda ids: (ids[..., :-1], ids.flip(-1)[..., 1:]),
    "Expected a tensor as inputs": lambda ids: (ids[..., :-1].tolist(), ids[..., 1:].tolist()),
    "torch.float32": lambda ids: (ids[..., :-1].float(), ids[..., 1:].float()),
}


@pytest.mark.parametrize("words", SHIFTS)
def test_wrong_shift(refused, words):
    refused("02.shift", SHIFTS[words], words)


def cut(rows, shift_targets=True):
    for row in rows:
        yield torch.tensor(row[:-1]), torch.tensor(row[1:] if shift_targets else row[:-1])


def joined(documents):
    return list(itertools.chain.from_iterable(documents))


def windows(ids, size, step):
    return [ids[i : i + size + 1] for i in range(0, len(ids) - size, step)]


def per_document(documents, size):
    for document in documents:
        yield from cut(windows(document, size, size))


def rolled(documents, size):
    for inputs, _ in pack(documents, size):
        yield inputs, inputs.roll(-1)


def padded(documents, size):
    for document in documents:
        row = (document + [0] * size)[: size + 1]
        yield torch.tensor(row[:-1]), torch.tensor(row[1:])


def one_too_many(documents, size):
    ids = joined(documents)
    for i in range(0, len(ids), size):
        yield torch.tensor(ids[i : i + size]), torch.tensor(ids[i + 1 : i + size + 1])


def once_per_document(documents, size):
    waiting = []
    for document in documents:
        waiting += document
        if len(waiting) > size:
            yield from cut([waiting[: size + 1]])
            del waiting[:size]


PACKS = {
    "begins too late": lambda documents, size: cut(windows(joined(documents), size, size + 1)),
    "inputs and targets of block 0 are the same": lambda d, size: cut(windows(joined(d), size, size), False),
    "that fill no whole block": per_document,
    "The last one is wrong": rolled,
    "Packing needs no padding": padded,
    "A block that is not full": one_too_many,
    "give all its blocks": once_per_document,
    "inputs has 5 ids": lambda d, size: ((torch.tensor(w), torch.tensor(w)) for w in windows(joined(d), size, size)),
    "2 hold enough ids": lambda documents, size: cut(windows(joined(documents), size, size)),
    "Got tensor": lambda documents, size: (inputs for inputs, _ in pack(documents, size)),
    "Expected a tensor as inputs of a block": lambda d, size: ((a.tolist(), b.tolist()) for a, b in pack(d, size)),
    "torch.float32": lambda documents, size: ((a.float(), b.float()) for a, b in pack(documents, size)),
    "do not follow the inputs": lambda documents, size: ((a, b.flip(0)) for a, b in pack(documents, size)),
}


@pytest.mark.parametrize("words", PACKS)
def test_wrong_pack(refused, words):
    refused("02.pack", PACKS[words], words)


def lines_of(files, draw):
    return itertools.chain.from_iterable(draw.sample(files, len(files)))


def loses_the_last(files, seats, seed, epoch):
    draw = random.Random(f"{seed}-{epoch}")
    lines = lines_of(files, draw)
    waiting = list(itertools.islice(lines, seats))
    for line in lines:
        seat = draw.randrange(seats)
        yield waiting[seat]
        waiting[seat] = line


def repeats(files, seats, seed, epoch):
    draw = random.Random(f"{seed}-{epoch}")
    lines = lines_of(files, draw)
    waiting = list(itertools.islice(lines, seats))
    for _ in lines:
        yield waiting[draw.randrange(seats)]
    yield from waiting


def all_in_memory(files, seats, seed, epoch):
    lines = list(itertools.chain.from_iterable(files))
    random.Random(f"{seed}-{epoch}").shuffle(lines)
    return lines


def same_files_first(files, seats, seed, epoch):
    return room(itertools.chain.from_iterable(files), seats, random.Random(f"{seed}-{epoch}"))


def room_per_file(files, seats, seed, epoch):
    draw = random.Random(f"{seed}-{epoch}")
    for file in draw.sample(files, len(files)):
        yield from room(file, seats, draw)


def same_each_epoch(files, seats, seed, epoch):
    return shuffle_buffer(files, seats, seed, 0)


def seed_forgotten(files, seats, seed, epoch):
    return shuffle_buffer(files, seats, 0, epoch)


def global_draws(files, seats, seed, epoch):
    return room(lines_of(files, random), seats, random)


def global_seeded(files, seats, seed, epoch):
    random.seed(f"{seed}-{epoch}")
    return room(lines_of(files, random), seats, random)


def not_mixed_at_the_end(files, seats, seed, epoch):
    draw = random.Random(f"{seed}-{epoch}")
    return room(lines_of(files, draw), seats, draw)


def unshuffled(files, seats, seed, epoch):
    return itertools.chain.from_iterable(files)


SHUFFLES = [
    ("20 of 300 lines never come out", loses_the_last),
    ("more than once", repeats),
    ("memory grows", all_in_memory),
    ("line of the same file always came first", same_files_first),
    ("emptied at the end of each file", room_per_file),
    ("Another epoch", same_each_epoch),
    ("Another seed", seed_forgotten),
    ("a random.Random of your own", global_draws),
    ("a random.Random of your own", global_seeded),
    ("fewer lines than seats", not_mixed_at_the_end),
    ("Fill the room", unshuffled),
    ("not a line of a file", lambda files, *_: ["".join(file) for file in files]),
]


@pytest.mark.parametrize(("words", "answer"), SHUFFLES)
def test_wrong_shuffle(refused, words, answer):
    refused("02.shuffle_buffer", answer, words)
