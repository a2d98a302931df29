"""Chats around stories, as `messages` with `role` and `content`: someone asks, an assistant answers.

Three kinds, all from the stories of the archive, so that a chat holds no new story:

    story       "Tell me a story with Ravi and a red kite."    the story
    question    a story and a question in one message          the answer; then up to three more questions
    refusal     the same, but one of the questions asks        that the story does not tell this
                for what this story does not tell

What is asked stands in the language's `questions.txt` (see `questions.py`).
"""

from __future__ import annotations

import json
import random
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .archive import jsonl
from .engine import Language, Telling
from .frames import parse_line
from .questions import REQUEST, UNTOLD, YES_NO, Asker, Asking, NotTold

SEED = 5001
MOST_QUESTIONS = 4
SHARES = {"question": 0.5, "refusal": 0.25, "story": 0.25}


def archive_tellings(language: Language, archive: Path) -> tuple[Iterator[tuple[Telling, str]], ...]:
    """The tellings behind the archive's stories, told again: (training, test), each as pairs of telling and text."""
    with tarfile.open(archive) as tar:
        about = json.loads(tar.extractfile(f"kahani-{language.code}/about.json").read())
    rng = random.Random(about["seed"])

    def pick(options: int) -> int:
        return int(rng.random() * options)

    def told(count: int) -> Iterator[tuple[Telling, str]]:
        for _ in range(count):
            telling = Telling(language, pick)
            yield telling, telling.story().text

    test = list(told(about["test_stories"]))  # told first, as in archive.tell_many
    return told(about["train_stories"]), iter(test)


def untold_question(asker: Asker, telling: Telling) -> str | None:
    """A question that this story does not answer: one that no story answers, or one for a word that was not drawn."""
    never = asker.entries(telling, UNTOLD)
    here = [
        one for one in asker.entries(telling) if one.kind != YES_NO and not one.told and not _drawn(one.answer, telling)
    ]
    first, second = (never, here) if asker.pick(2) else (here, never)
    for entry in asker.shuffled(first) + asker.shuffled(second):
        try:
            return Asking(telling).fill(entry.asked[asker.pick(len(entry.asked))], asker.pick)
        except NotTold:
            continue
    return None


def _drawn(answer: str, telling: Telling) -> bool:
    try:
        Asking(telling).fill(parse_line(answer, "answer"), lambda options: 0)
    except NotTold:
        return False
    return True


def request(asker: Asker, telling: Telling) -> str:
    """A wish for this story, by what it is about. Raises NotTold if no wish fits."""
    for entry in asker.shuffled(asker.entries(telling, REQUEST)):
        for asked in asker.shuffled(entry.asked):
            try:
                return Asking(telling).fill(asked, asker.pick)
            except NotTold:
                continue
    raise NotTold(f"no request in questions.txt fits a story of {telling.plot.name!r}")


def messages(*said: str) -> list[dict[str, str]]:
    """What was said in turns, the user first."""
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(said)]


def chat(asker: Asker, telling: Telling, text: str, kind: str) -> dict:
    """One chat of this kind about a story. A refusal that finds nothing to refuse becomes a question."""
    if kind == "story":
        return {"messages": messages(request(asker, telling), text), "kind": kind}
    asked = asker.questions(telling, text, 1 + asker.pick(MOST_QUESTIONS))
    turns = [(one["question"], one["answer"]) for one in asked]
    if kind == "refusal":
        untold = untold_question(asker, telling)
        if untold is None:
            return chat(asker, telling, text, "question")
        turns = turns[: MOST_QUESTIONS - 1]
        turns.insert(asker.pick(len(turns) + 1), (untold, asker.book.untold))
        turns = turns[asker.pick(2) :] if turns[0][0] != untold else turns
    said = [part for turn in turns for part in turn]
    return {"messages": messages(f"{text} {said[0]}", *said[1:]), "kind": kind}


def chat_files(
    language: Language, archive: Path, *, stories: int = 2_400, test_stories: int = 300, seed: int = SEED
) -> dict[str, bytes]:
    """The files of `kahani-chat-<language>.tar.gz`: one chat about each of the first stories of the archive's parts."""
    asker = Asker(language, random.Random(seed))
    files: dict[str, bytes] = {}
    about: dict[str, object] = {"language": language.code, "seed": seed}
    for part, tellings, count in zip(
        ("train", "test"), archive_tellings(language, archive), (stories, test_stories), strict=True
    ):
        chats = []
        for (telling, text), _ in zip(tellings, range(count), strict=False):
            drawn, kinds = asker.rng.random(), iter(SHARES.items())
            kind, share = next(kinds)
            while drawn >= share:
                drawn -= share
                kind, share = next(kinds)
            chats.append(chat(asker, telling, text, kind))
        files[f"{part}.jsonl"] = jsonl(chats)
        about[f"{part}_chats"] = dict(sorted(Counter(one["kind"] for one in chats).items()))
    files["about.json"] = (json.dumps(about, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode("utf-8")
    return files
