"""Preferences in a file → ids: one pair of texts a line, in the columns that TRL has too.

{"prompt": "…", "chosen": "…", "rejected": "…"}                                     plain texts
{"prompt": [{"role": "user", "content": "…"}], "chosen": [{"role": "assistant", "content": "…"}], "rejected": […]}
"""

from collections.abc import Callable
from pathlib import Path

from ..text.archives import CorpusError
from ..text.chat import check_messages, encode_conversation, encode_request
from ..text.corpus import json_lines
from ..text.reading import Record, explain_record, place_of
from ..text.tokenizer import encode_lines
from .dpo import Preference, encode_preferences

COLUMNS = ("prompt", "chosen", "rejected")
EXPECTED = '{"prompt": "…", "chosen": "…", "rejected": "…"}, plain texts or lists of chat messages'


def read_preferences(
    source: str | Path, tokenizer, context_size: int, *, say: Callable[[str], None] = lambda line: None
) -> tuple[list[Preference], bool]:
    """(pairs, are any of them chats) of a `.jsonl` file, or of an archive, folder or URL with a `train.jsonl`.

    Plain texts become ids as `encode_preferences` makes them, messages in the tokenizer's chat template, with the sign
    that ends the answer. Pairs of more than `context_size` + 1 ids are left out, and `say` is told how many.
    Raises CorpusError, with file and line, for a pair that nothing can be learned from.
    """
    found, chats, left_out = [], False, 0
    for number, line in enumerate(json_lines(source), 1):
        where = place_of(line, f"{source}, line {number}")
        with explain_record(where):
            pair = _encoded(tokenizer, line)
        chats = chats or not isinstance(line["prompt"], str)
        fits = len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) <= context_size + 1
        left_out += not fits
        found += [pair] if fits else []
    if not found:
        fitting = f"of at most context_size={context_size} tokens ({left_out} were longer)"
        raise CorpusError(f"{source} gives nothing to learn: it has no pair, or none {fitting}")
    say(f"{source}: {len(found):,} pairs" + (f"; {left_out:,} left out: too long" if left_out else ""))
    return found, chats


def _encoded(tokenizer, line: Record) -> Preference:
    """One line as ids. Raises ValueError for what is no pair."""
    if missing := [name for name in COLUMNS if name not in line]:
        has = ", ".join(map(str, line)) or "nothing"
        raise ValueError(f'it has no "{missing[0]}", but {has:.80}: expected {EXPECTED}')
    prompt, chosen, rejected = (line[name] for name in COLUMNS)
    if all(isinstance(text, str) for text in (prompt, chosen, rejected)):
        for name in COLUMNS[1:]:
            _check_not_empty(name, line[name])
        _check_different(chosen, rejected, *encode_lines(tokenizer, [chosen, rejected]))
        return encode_preferences(tokenizer, [(prompt, chosen, rejected)])[0]
    if not all(isinstance(messages, list) for messages in (prompt, chosen, rejected)):
        kinds = ", ".join(f"{name} is {line[name]!r:.40}" for name in COLUMNS)
        raise ValueError(f"its columns are not of one kind, as {kinds}: expected {EXPECTED}")
    asked = encode_request(tokenizer, prompt)
    answers = [_answer(tokenizer, prompt, line[name], name, asked) for name in COLUMNS[1:]]
    _check_different(*(line[name][0]["content"] for name in COLUMNS[1:]), *answers)
    return Preference(asked, *answers)


def _answer(tokenizer, prompt: list[dict], answer: list[dict], name: str, asked: list[int]) -> list[int]:
    """Ids of an answer, up to and with the sign that ends it, behind those of the prompt."""
    if len(answer) != 1 or not isinstance(answer[0], dict) or answer[0].get("role") != "assistant":
        wanted = f'"{name}": [{{"role": "assistant", "content": "…"}}]'
        raise ValueError(f"{name} must be one message, the assistant's answer: write {wanted}")
    if isinstance(answer[0].get("content"), str):
        _check_not_empty(name, answer[0]["content"])
    ids, learn = encode_conversation(tokenizer, check_messages([*prompt, *answer]))
    if ids[: len(asked)] != asked:
        raise ValueError("the chat template writes the prompt in another way once it is answered: give plain texts")
    end = len(learn) - learn[::-1].index(1)
    return ids[len(asked) : end]


def _check_not_empty(name: str, text: str) -> None:
    if not text.strip():
        raise ValueError(f"{name} is empty: write the text there, or leave the pair out")


def _check_different(chosen: str, rejected: str, chosen_ids: list[int], rejected_ids: list[int]) -> None:
    """Raises ValueError for two texts that are the same to a model."""
    if chosen_ids == rejected_ids:
        same = "the same" if chosen == rejected else "two ways to write the same"
        raise ValueError(f"chosen and rejected are {same}, {chosen[:60]!r}: make them differ, or leave the pair out")
