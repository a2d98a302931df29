"""Feedback for the exercises of lesson 19 about streams: the client's half, and a text at which to stop."""

from __future__ import annotations

import json

from . import NotYet, call_list, describe, exercise, expect_list, recognise

# Core: a stream of server-sent events


def _event(delta: dict | None, *, space: str = " ", **more) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta}]
    return f"data:{space}{json.dumps({'choices': choices, **more}, ensure_ascii=False)}\n".encode()


DONE, EMPTY = b"data: [DONE]\n", b"\n"
STREAMS = [  # lines, pieces, what is special
    ([_event({"content": "एक"}), EMPTY, _event({"content": " दिन"}), EMPTY, DONE, EMPTY], ["एक", " दिन"], "plain"),
    ([_event({"role": "assistant"}), EMPTY, _event({"content": "चाय"}), EMPTY, _event({}), EMPTY, DONE], ["चाय"],
     "parts without content, at the beginning and at the end"),
    ([_event({"content": None}), _event({"content": "a"}), _event({"content": ""}), DONE], ["a"],
     "a content that is null, and an empty one"),
    ([b": still thinking\n", EMPTY, b"event: message\n", _event({"content": "हाँ"}), DONE], ["हाँ"],
     "lines that do not begin with data:"),
    ([_event({"content": "क"}, space=""), _event({"content": "ख"}, space=""), b"data:[DONE]\n"], ["क", "ख"],
     "no space behind the colon"),
    ([_event({"content": "अब"}), DONE, _event({"content": "नहीं"})], ["अब"], "something behind [DONE]"),
    ([_event({"content": "data: x "}), _event({"content": "[DONE]"}), DONE], ["data: x ", "[DONE]"],
     "a content that looks like the format"),
    ([_event({"content": "\n"}), _event({"content": " x "}), DONE], ["\n", " x "], "line ends and spaces in a content"),
    ([_event({"content": "ab"}).replace(b"\n", b"\r\n"), b"\r\n", b"data: [DONE]\r\n"], ["ab"], "line ends of Windows"),
    ([_event({"content": "x"}), _event(None, usage={"total_tokens": 9}), DONE], ["x"], "a last part without choices"),
]  # fmt: skip


@exercise("19.read_stream")
def check_read_stream(answer: object) -> str:
    for lines, wanted, special in STREAMS:
        try:
            got = [piece for piece in call_list(answer, list(lines)) if piece != ""]
        except NotYet as wrong:
            if "It stopped with" not in str(wrong):
                raise
            raise NotYet(f"A stream with {special}: {wrong}") from None
        _compare_pieces(got, wanted, lines, f"A stream with {special}:")
    return "Every chat page that you have seen is made of such lines."


def _compare_pieces(got: list, wanted: list[str], lines: list[bytes], seen: str) -> None:
    if odd := [piece for piece in got if not isinstance(piece, str)]:
        hint = " The value null of JSON is None here: it says nothing." if odd[0] is None else ""
        hint = " Decode them: JSON is text in UTF-8." if isinstance(odd[0], bytes) else hint
        raise NotYet(f"{seen} a piece is {describe(odd[0])}; it should be text.{hint}")
    if got == wanted:
        return
    told = f"{seen} your pieces are {got!r}."[:300]
    text = "".join(got)
    if text == "".join(wanted):
        return  # cut otherwise: the same text
    mistakes = [
        ("".join(wanted[:-1]), "The last piece is lost. What ends your loop?"),
        ("".join(wanted[1:]), "The first piece is lost."),
        ("".join(piece.strip() for piece in wanted),
         "Spaces and line ends of a content are lost: take them off the line, not off the content."),
        ("".join(wanted) + "[DONE]", "[DONE] is no piece: it says that the stream is over."),
    ]  # fmt: skip
    recognise(text, "".join(wanted), mistakes, seen=told)
    if "choices" in text:
        raise NotYet(f"{told} That is the JSON. Take the content out of it.")
    if "नहीं" in text:
        raise NotYet(f"{told} Behind [DONE] nothing counts: leave the loop there.")
    if not got:
        raise NotYet(f"{told} No piece at all. Print a line: what stands behind `data:`, and is it there in `delta`?")
    raise NotYet(f"{told} It should say {''.join(wanted)!r}.")


# Stretch: a stop text in a stream


def _until(pieces: list[str], stop: str) -> list[str]:
    """The pieces that may be sent, each as soon as it may."""
    sent, held = [], ""
    for piece in pieces:
        held += piece
        if (at := held.find(stop)) >= 0:
            return [*sent, held[:at]] if at else sent
        keep = next(n for n in range(min(len(held), len(stop) - 1), -1, -1) if held.endswith(stop[:n]))
        ready, held = held[: len(held) - keep], held[len(held) - keep :]
        sent += [ready] if ready else []
    return [*sent, held] if held else sent


TALKS = [
    (["एक ", "दिन। ", "फिर"], "।", "the stop text within a piece"),
    (["वह ", "गया <", "/s", "> और"], "</s>", "the stop text in three pieces"),
    (["a<", "b<", "/", "c"], "</s>", "beginnings of the stop text that come to nothing"),
    (["x", "aa", "ab", "y"], "aab", "a stop text that begins again within itself"),
    (["मीरा ", "ने ", "कहा"], "।", "no stop text"),
    (["अंत", "</", "s"], "</s>", "an end in the midst of the stop text"),
    (["।", "यह"], "।", "the stop text at once"),
    (["a", "", "b|", "|c"], "||", "an empty piece, and a stop text across two"),
    (["one. two. three"], ". ", "the stop text twice in a piece"),
]


@exercise("19.until")
def check_until(answer: object) -> str:
    for pieces, stop, special in TALKS:
        wanted = _until(pieces, stop)
        got = expect_list(call_list(answer, list(pieces), stop), "pieces")
        seen = f"Pieces {pieces!r}, stop {stop!r} ({special}): you send {got!r}."[:300]
        if odd := [piece for piece in got if not isinstance(piece, str)]:
            raise NotYet(f"{seen} {describe(odd[0])} is no text.")
        if got == wanted:
            continue
        _compare_sent("".join(got), "".join(wanted), pieces, stop, seen)
        if "" in got:
            raise NotYet(f"{seen} One of them is empty: a client would draw nothing, so do not send it.")
        if len(got) < len(wanted):
            hint = "That is the right text, but it comes later than it could: the reader waits."
            raise NotYet(f"{seen} {hint} Hold back only what might begin the stop text.")
        raise NotYet(f"{seen} That is the right text in other pieces; as early as may be they would be {wanted!r}.")
    return "Servers do the same with tokens that are half a letter: what may still change is not sent."


def _compare_sent(got: str, wanted: str, pieces: list[str], stop: str, seen: str) -> None:
    """Whether the whole text is right."""
    if got == wanted:
        return
    text = "".join(pieces)
    mistakes = [
        (text, "The stop text was sent, and what came behind it. It lies across two pieces: hold back what might begin "
               "it." if not any(stop in piece for piece in pieces) else "The stop text was sent. Cut the piece there."),
        (wanted + stop, "The stop text itself was sent. The answer ends before it."),
        (text.replace(stop, ""), "The stop text was taken out, and the rest was sent. The answer is over there."),
        (text.rpartition(stop)[0], "You end at the *last* stop text. The first one counts."),
        ("".join(piece for piece in pieces if stop not in piece), "A piece with the stop text was left out whole, and "
         "the rest was sent."),
        ("".join(pieces[: _piece_with(pieces, stop)]), "The beginning of the piece with the stop text is lost: what "
         "stands before it may be sent."),
    ]  # fmt: skip
    recognise(got, wanted, mistakes, seen=seen)
    if wanted.startswith(got) and stop not in text:
        raise NotYet(f"{seen} The end is lost: when no more pieces come, send what you held.")
    if wanted.startswith(got):
        raise NotYet(f"{seen} {wanted[len(got) :]!r} is missing before the stop text.")
    if got.startswith(wanted):
        raise NotYet(f"{seen} {got[len(wanted) :]!r} was sent too much: that already belonged to the stop text.")
    raise NotYet(f"{seen} Together it should be {wanted!r}.")


def _piece_with(pieces: list[str], stop: str) -> int:
    return next((number for number, piece in enumerate(pieces) if stop in piece), len(pieces))
