"""Lesson 19's feedback: right answers pass, and each usual mistake gets its own sentence."""

import json
import math

import numpy as np
import pytest
import torch

from ai4india_lib.checks.lesson_19 import _blob, _packed, _sixteen
from ai4india_lib.checks.lesson_19_streams import _until


def size(n, bits, group):
    groups = -(-n // group)
    return -(-(n * bits + groups * 16) // 8)


def test_right_bytes(accepted):
    accepted("19.bytes_of", size)
    accepted("19.bytes_of", lambda n, b, g: math.ceil(n * b / 8 + math.ceil(n / g) * 2))


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda n, b, g: -(-n * b // 8), "scales are forgotten"),
        (lambda n, b, g: n * b + -(-n // g) * 16, "That is bits"),
        (lambda n, b, g: -(-(n * b + 16) // 8), "one scale for all"),
        (lambda n, b, g: -(-(n * (b + 16)) // 8), "a scale for each number"),
        (lambda n, b, g: -(-(n * b + n // g * 16) // 8), "The last group is not full"),
        (lambda n, b, g: math.ceil(n * (b + 16 / g) / 8), "a part of a scale"),
        (lambda n, b, g: math.ceil((n + math.ceil(n / g)) * b / 8), "whatever the numbers have"),
        (lambda n, b, g: math.ceil((n * b + math.ceil(n / g) * 32) / 8), "32 bits"),
        (lambda n, b, g: math.ceil((n * b + math.ceil(n / g) * 2) / 8), "to a sum of *bits*"),
        (lambda n, b, g: math.ceil(n * b / 8) + math.ceil(n / g) * 16, "to a sum of *bytes*"),
        (lambda n, b, g: (n * b + -(-n // g) * 16) // 8, "cut off"),
        (lambda n, b, g: (n * b + -(-n // g) * 16) / 8, "which function rounds up|but a float"),
        (lambda n, b, g: float(size(n, b, g)), "but a float"),
        (lambda n, b, g: size(n, b, g) * 8, "eight times|That is bits"),
        (lambda n, b, g: size(n, b, g) + 1, "Count for one full group"),
        (lambda n, b, g: "68 bytes", "Expected one Python number"),
        (lambda n, b, g: n / (b - 8), "Which of the numbers above makes the divisor 0"),
    ],
)
def test_wrong_bytes(refused, answer, words):
    refused("19.bytes_of", answer, words)


def header_of(blob, order="little"):
    return json.loads(blob[8 : 8 + int.from_bytes(blob[:8], order)])


def count(blob, each=lambda about: math.prod(about["shape"])):
    return sum(each(about) for name, about in header_of(blob).items() if name != "__metadata__")


def test_right_count(accepted):
    accepted("19.count_numbers", count)
    size_of = {"F32": 4, "BF16": 2}
    accepted(
        "19.count_numbers",
        lambda blob: count(blob, lambda a: (a["data_offsets"][1] - a["data_offsets"][0]) // size_of[a["dtype"]]),
    )


def last_alone(blob):
    for name, about in header_of(blob).items():
        if name != "__metadata__":
            found = math.prod(about["shape"])
    return found


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda blob: count(blob, lambda a: a["data_offsets"][1] - a["data_offsets"][0]), "You count bytes"),
        (len, "size of the whole file"),
        (lambda blob: len(blob) - 8 - int.from_bytes(blob[:8], "little"), "bytes behind the header|You count bytes"),
        (lambda blob: len(blob[8 + int.from_bytes(blob[:8], "little") :]) // 4, "another dtype"),
        (lambda blob: count(blob, lambda a: 1), "how many tensors"),
        (lambda blob: len(header_of(blob)), "how many tensors|entries of the header"),
        (lambda blob: count(blob, lambda a: sum(a["shape"])), "add the sizes of a shape"),
        (lambda blob: count(blob, lambda a: math.prod(a["shape"]) if a["shape"] else 0), "product of nothing"),
        (lambda blob: max(math.prod(a["shape"]) for a in header_of(blob).values()), "largest tensor alone"),
        (last_alone, "last tensor alone"),
        (lambda blob: count(blob, lambda a: math.prod(a["shape"][:2])), "more than two dimensions"),
        (lambda blob: sum(math.prod(a["shape"]) for a in header_of(blob).values()), "It stopped with"),
        (lambda blob: count(blob, lambda a: a["shape"][0] * a["shape"][1]), "The last of n numbers"),
        (lambda blob: json.loads(blob), "It stopped with"),
        (lambda blob: header_of(blob, "big"), "It stopped with"),
        (lambda blob: header_of(blob), "Expected one Python number"),
        (lambda blob: count(blob) + 1, "Print the header"),
        (lambda blob: float(count(blob)), "but a float"),
    ],
)
def test_wrong_count(refused, answer, words):
    refused("19.count_numbers", answer, words)


def test_the_file_is_one_that_safetensors_reads(tmp_path):
    from safetensors import safe_open

    (tmp_path / "a.safetensors").write_bytes(_blob({"a": [2, 3], "b": []}, "BF16"))
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert {name: list(file.get_tensor(name).shape) for name in file.keys()} == {"a": [2, 3], "b": []}  # noqa: SIM118


def sixteen(w, group, divisor=-8, low=-8, high=7, how=torch.round, most=lambda p: p.abs().argmax(1)):
    groups = w.unflatten(1, (-1, group)).flatten(0, 1)  # (groups, group)
    m = groups[torch.arange(len(groups)), most(groups)][:, None]
    s = m / divisor
    q = how(torch.nan_to_num(groups / s)).clamp(low, high)
    return (q * s).view_as(w)


def fifteen(w, group):
    groups = w.reshape(-1, group)
    s = groups.abs().amax(1, keepdim=True).clamp_min(1e-9) / 7
    return ((groups / s).round() * s).view_as(w)


def without_sign(w, group):
    groups = w.reshape(-1, group)
    s = groups.abs().amax(1, keepdim=True).clamp_min(1e-9) / 8
    return ((groups / s).round().clamp(-8, 7) * s).view_as(w)


def in_columns(w, group):
    return sixteen(w.T.contiguous(), group).T.contiguous()


def nan_for_zeros(w, group):
    groups = w.reshape(-1, group)
    s = groups.gather(1, groups.abs().argmax(1, keepdim=True)) / -8
    return ((groups / s).round().clamp(-8, 7) * s).view_as(w)


def in_place(w, group):
    w.mul_(2)
    return w


def test_right_levels(accepted):
    accepted("19.round_to_sixteen", sixteen)


@pytest.mark.parametrize(
    "answer, words",
    [
        (fifteen, "fifteen levels"),
        (without_sign, "lost the sign"),
        (lambda w, g: sixteen(w, g, 8), "m / 8"),
        (lambda w, g: sixteen(w, g, -7), "fifteen levels"),
        (lambda w, g: sixteen(w, g, -16), "only eight on the side"),
        (lambda w, g: sixteen(w, g, high=99), "four bits have no 8|You allow 8"),
        (lambda w, g: sixteen(w, g, low=0, high=15), "how they are packed"),
        (lambda w, g: sixteen(w, g, how=torch.floor), "You round down"),
        (lambda w, g: sixteen(w, g, how=torch.trunc), "cut off what stands behind"),
        (lambda w, g: sixteen(w.reshape(1, -1), w.numel()).view_as(w), "whole matrix"),
        (lambda w, g: sixteen(w, w.shape[1]), "for each row"),
        (lambda w, g: in_columns(w, min(g, w.shape[0])), "neighbours in a row|first, at"),
        (nan_for_zeros, "0 / 0 is no number"),
        (in_place, "in place"),
        (lambda w, g: sixteen(w, g).reshape(-1, g), "shape"),
        (lambda w, g: (sixteen(w, g), 1), "Expected a tensor"),
        (lambda w, g: w, "Take one group by hand"),
    ],
)
def test_wrong_levels(refused, answer, words):
    refused("19.round_to_sixteen", answer, words)


def test_sixteen_levels_are_those_of_q4_0():
    """Scales in 16 bits there: so up to a thousandth of a group's largest weight."""
    quants = pytest.importorskip("gguf", reason="needs the package gguf: the extra shipping").quants
    from gguf import GGMLQuantizationType as Type

    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(3))
    packed = quants.quantize(weight.numpy(), Type.Q4_0)  # (64, 3 · 18) bytes
    theirs = torch.from_numpy(quants.dequantize(packed, Type.Q4_0))
    assert ((theirs - _sixteen(weight, 32)).abs() < 2e-3 * weight.abs().max()).float().mean() > 0.999
    blocks = torch.from_numpy(packed.reshape(-1, 18).copy())
    scales = torch.from_numpy(blocks[:, :2].numpy().copy().view(np.float16)).float()
    whole = (theirs.view(-1, 32) / scales).round().to(torch.int8)
    assert torch.equal(blocks[:, 2:], _packed(whole))


def stream(lines, *, take=5, strip=True, role=True, null="", end=True, after=False):
    """A learner's loop, and its mistakes."""
    for line in lines:
        text = line.decode()
        text = text.strip() if strip else text
        if not text.startswith("data:"):
            continue
        text = text[take:].strip()
        if text == "[DONE]":
            if after:
                continue
            return
        for choice in json.loads(text)["choices"]:
            delta = choice["delta"]
            piece = delta.get("content", "") if role else delta["content"]
            if piece or not end:
                yield piece


def lines_of(lines, change):
    for piece in stream(lines):
        yield change(piece)


def by_json(lines):
    for line in lines:
        if line.startswith(b"data:") and b"[DONE]" not in line:
            yield line[5:].decode()


def every_line(lines):
    for line in lines:
        part = json.loads(line[6:])
        yield part["choices"][0]["delta"]["content"]


def first_choice(lines):
    for line in lines:
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            yield json.loads(line[5:])["choices"][0]["delta"].get("content") or ""


def test_right_stream(accepted):
    accepted("19.read_stream", stream)
    accepted("19.read_stream", lambda lines: list(stream(lines)))
    accepted("19.read_stream", lambda lines: ["".join(stream(lines))])


@pytest.mark.parametrize(
    "answer, words",
    [
        (every_line, "It stopped with"),
        (first_choice, "Behind [DONE] nothing counts|It stopped with"),
        (lambda lines: stream(lines, role=False), "no `content`|parts without content"),
        (lambda lines: stream(lines, end=False), "null of JSON is None"),
        (lambda lines: stream(lines, take=6), "no space behind the colon"),
        (lambda lines: stream(lines, after=True), "Behind [DONE] nothing counts"),
        (lambda lines: lines_of(lines, str.strip), "take them off the line, not off the content"),
        (lambda lines: lines_of(lines, str.encode), "Decode them"),
        (lambda lines: [*stream(lines), "[DONE]"], "[DONE] is no piece"),
        (lambda lines: list(stream(lines))[:-1], "The last piece is lost"),
        (lambda lines: list(stream(lines))[1:], "The first piece is lost|It stopped"),
        (by_json, "That is the JSON"),
        (lambda lines: [], "No piece at all"),
        (lambda lines: (line.removeprefix(b"data: ") for line in lines), "Decode them"),
        (lambda lines: [piece[::-1] for piece in stream(lines)], "It should say"),
        (lambda lines: 3, "one after the other"),
    ],
)
def test_wrong_stream(refused, answer, words):
    refused("19.read_stream", answer, words)


def pack(w, low=slice(0, 16), high=slice(16, 32), add=8, times=16, dtype=torch.uint8):
    w = w.to(torch.int32) + add
    return (w[:, low] + w[:, high] * times).to(dtype)


def unpack(p, sub=8):
    p = p.to(torch.int32)
    return (torch.cat([p % 16, p // 16], 1) - sub).to(torch.int8)


def test_right_packs(accepted):
    accepted("19.pack", (pack, unpack))
    accepted("19.pack", [_packed, unpack])


@pytest.mark.parametrize(
    "answer, words",
    [
        ((lambda w: pack(w, slice(16, 32), slice(0, 16)), unpack), "halves are exchanged"),
        ((lambda w: pack(w, slice(0, 32, 2), slice(1, 32, 2)), unpack), "neighbours into one byte"),
        ((lambda w: pack(w, slice(1, 32, 2), slice(0, 32, 2)), unpack), "neighbours into one byte"),
        ((lambda w: ((w[:, :16] & 15) | ((w[:, 16:] & 15) << 4)).to(torch.uint8), unpack), "8 was not added"),
        ((lambda w: pack(w, times=1), unpack), "You add the two numbers"),
        ((lambda w: pack(w, times=10), unpack), "decimal places"),
        ((lambda w: (w[:, :16] + 8).to(torch.uint8), unpack), "upper half of each byte is empty"),
        ((lambda w: ((w[:, 16:].long() + 8) << 4).to(torch.uint8), unpack), "lower half of each byte is empty"),
        ((lambda w: pack(w, dtype=torch.int32), unpack), "Bytes are torch.uint8"),
        ((lambda w: pack(w).view(torch.int8), unpack), "the bits are right"),
        ((lambda w: (w + 8).to(torch.uint8), unpack), "shape"),
        ((lambda w: pack(w) ^ 3, unpack), "Write that one in binary"),
        ((pack, lambda p: unpack(p, 0)), "8 was not taken away"),
        ((pack, lambda p: unpack(p, 16)), "taken away twice"),
        ((pack, lambda p: unpack(p).roll(16, 1)), "halves are exchanged"),
        ((pack, lambda p: unpack(p).view(-1, 2, 16).mT.flatten(1)), "side by side"),
        ((pack, lambda p: torch.cat([unpack(p)[:, :16]] * 2, 1)), "come twice"),
        ((pack, lambda p: torch.cat([(p.int() - 8).to(torch.int8), unpack(p)[:, 16:]], 1)), "keep four bits"),
        ((pack, lambda p: unpack(p).int()), "should be torch.int8"),
        ((pack, lambda p: unpack(p)[:, :16]), "shape"),
        (pack, "Give both functions"),
        ((pack, pack, unpack), "Return two things"),
        ((pack, 3), "Give its name, without calling it"),
    ],
)
def test_wrong_packs(refused, answer, words):
    refused("19.pack", answer, words)


def until(pieces, stop):
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            before = held[: held.index(stop)]
            if before:
                yield before
            return
        keep = max(n for n in range(len(stop)) if held.endswith(stop[:n]))
        ready, held = held[: len(held) - keep], held[len(held) - keep :]
        if ready:
            yield ready
    if held:
        yield held


def piece_by_piece(pieces, stop):
    for piece in pieces:
        if stop in piece:
            yield piece.partition(stop)[0]
            return
        yield piece


def all_at_the_end(pieces, stop):
    yield "".join(pieces).partition(stop)[0]


def always_holding(pieces, stop):
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held.partition(stop)[0]
            return
        ready, held = held[: len(held) - len(stop) + 1], held[len(held) - len(stop) + 1 :]
        if ready:
            yield ready
    yield held


def drops_what_it_held(pieces, stop):
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            if held.partition(stop)[0]:
                yield held.partition(stop)[0]
            return
        keep = max(n for n in range(len(stop)) if held.endswith(stop[:n]))
        if held[: len(held) - keep]:
            yield held[: len(held) - keep]
        held = held[len(held) - keep :]


def forgets_a_new_beginning(pieces, stop):
    """Holds only a whole piece, never a part of one."""
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            if held.partition(stop)[0]:
                yield held.partition(stop)[0]
            return
        if stop.startswith(held):
            continue
        yield held
        held = ""
    if held:
        yield held


def test_right_until(accepted):
    accepted("19.until", until)
    accepted("19.until", _until)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda pieces, stop: list(pieces), "Cut the piece there"),
        (piece_by_piece, "lies across two pieces"),
        (lambda pieces, stop: [*until(pieces, stop), stop], "stop text itself was sent"),
        (lambda pieces, stop: ["".join(pieces).replace(stop, "")], "taken out, and the rest was sent"),
        (lambda pieces, stop: [piece for piece in pieces if stop not in piece], "left out whole"),
        (lambda pieces, stop: [p for p in ["".join(pieces).rpartition(stop)[0] or "".join(pieces)] if p],
         "*last* stop text|later than it could"),
        (all_at_the_end, "One of them is empty|later than it could"),
        (always_holding, "might begin|is empty|later"),
        (drops_what_it_held, "send what you held|later"),
        (forgets_a_new_beginning, "already belonged|lies across two|itself was sent"),
        (lambda pieces, stop: [], "missing before the stop text|beginning of the piece"),
        (lambda pieces, stop: [""], "missing before|beginning of the piece"),
        (lambda pieces, stop: [p[0:1] for p in until(pieces, stop)], "missing before|Together it should be"),
        (lambda pieces, stop: list("".join(until(pieces, stop))), "in other pieces"),
        (lambda pieces, stop: "".join(until(pieces, stop)), "in other pieces"),
        (lambda pieces, stop: [1, 2], "is no text"),
        (lambda pieces, stop: 5, "one after the other"),
        (lambda pieces, stop: [p.strip() for p in until(pieces, stop)], "Together it should be|missing"),
    ],
)  # fmt: skip
def test_wrong_until(refused, answer, words):
    refused("19.until", answer, words)


@pytest.mark.parametrize("stop", ["।", "aab", "aa", "<|x|>"])
def test_what_is_sent_is_right_and_as_early_as_may_be(stop):
    """All ways of cutting a text: what was sent never begins the stop text, and the rest could not be sent."""
    draw = torch.Generator().manual_seed(5)
    signs = [*dict.fromkeys(stop), "क"]
    for _ in range(300):
        pieces = ["".join(signs[i] for i in torch.randint(len(signs), (n,), generator=draw))
                  for n in torch.randint(0, 4, (6,), generator=draw).tolist()]  # fmt: skip
        sent = _until(pieces, stop)
        assert "".join(sent) == "".join(pieces).partition(stop)[0] and "" not in sent
        assert sent == list(until(pieces, stop))
