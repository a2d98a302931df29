"""Chats about stories: does a model tell the story that was asked for, and refuse what a story does not tell?"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..basics.arguments import at_least
from ..model.decoder import DecoderLanguageModel
from ..text.chat import check_messages, encode_request
from ..text.corpus import json_lines
from ..text.reading import explain_record, place_of
from .questions import normalise_answer, written_answers

STORY = "story"
REFUSING = ("refusal", "other")  # kinds that are answered by saying that this is not told, or not known
LONGEST_ANSWER = 40  # tokens, of what is no story


@dataclass(frozen=True)
class Chat:
    """A conversation up to what the user said last, and the answer that is right; `wanted` must stand in a story."""

    kind: str
    messages: tuple[dict, ...]
    answer: str
    wanted: tuple[str, ...] = ()

    def in_words(self) -> str:
        """The kind, and for a story whether it is to name one or several."""
        named = {0: "", 1: ", with the name asked for"}.get(len(self.wanted), ", with all names asked for")
        return self.kind + named


def read_chats(source: str | Path, name: str = "test.jsonl", *, limit: int | None = None) -> list[Chat]:
    """Chats from JSON Lines: `{"messages": [… , {"role": "assistant", "content": …}], "kind": …, "wanted": […]}`.

    What the assistant says last is what a model shall say. `wanted`, which a story needs not have, are the names that
    it must speak of. With `limit` the first so many chats. Raises CorpusError, with the line, for what is no such chat.
    """
    at_least(1, limit=limit)
    return list(islice(_chats(source, name), limit))


def _chats(source: str | Path, name: str) -> Iterator[Chat]:
    for number, line in enumerate(json_lines(source, name), 1):
        with explain_record(place_of(line, f"{source}, line {number}")):
            messages, kind, wanted = check_messages(line.get("messages")), line.get("kind"), line.get("wanted", [])
            if messages[-1]["role"] != "assistant" or len(messages) < 2:
                raise ValueError("it must end with an answer of the assistant to the user")
            if not isinstance(kind, str):
                raise ValueError(f'"kind" must be a text such as "{STORY}"; got {kind!r:.40}')
            if not isinstance(wanted, list) or not all(isinstance(word, str) for word in wanted):
                raise ValueError(f'"wanted" must be a list of words; got {wanted!r:.40}')
        yield Chat(kind, tuple(messages[:-1]), messages[-1]["content"], tuple(wanted))


def answer_chats(model: DecoderLanguageModel, tokenizer, chats: Sequence[Chat], *, batch_size: int = 64) -> list[str]:
    """What the model says at the end of each chat, greedily; a story has the whole context for it."""
    at_least(1, batch_size=batch_size)
    answers = [""] * len(chats)
    for is_story in (True, False):
        own = [i for i, chat in enumerate(chats) if (chat.kind == STORY) == is_story]
        prompts = [encode_request(tokenizer, list(chats[i].messages)) for i in own]
        space = model.config.context_size - max(map(len, prompts), default=0)
        longest = max(1, space if is_story else LONGEST_ANSWER)
        said = written_answers(model, tokenizer, prompts, batch_size=batch_size, max_new_tokens=longest)
        for i, answer in zip(own, said, strict=True):
            answers[i] = answer
    return answers


def score_chats(chats: Sequence[Chat], answers: Sequence[str]) -> list[float]:
    """For each chat 1.0 or 0.0. A story is right if it speaks of all that is wanted and has at least half the words of
    the one in the chat; any other answer if it is the right one after `normalise_answer`."""
    return [float(_is_right(chat, answer)) for chat, answer in zip(chats, answers, strict=True)]


def _is_right(chat: Chat, answer: str) -> bool:
    if chat.kind != STORY:
        return normalise_answer(answer) == normalise_answer(chat.answer)
    long_enough = 2 * len(answer.split()) >= len(chat.answer.split())
    return long_enough and all(f" {_plain(word)} " in f" {_plain(answer)} " for word in chat.wanted)


def _plain(text: str) -> str:
    """Words with one space between them, without the signs around them: letters, marks and digits of any script."""
    text = unicodedata.normalize("NFC", text).casefold()
    return " ".join("".join(sign if unicodedata.category(sign)[0] in "LMN" else " " for sign in text).split())


def refusing_answers(chats: Sequence[Chat]) -> set[str]:
    """The sentences with which the assistant of these chats refuses, each as `normalise_answer` leaves it."""
    return {normalise_answer(chat.answer) for chat in chats if chat.kind in REFUSING}
