"""Chats around stories, as `messages` with `role` and `content`: someone asks, an assistant answers.

All stories are those of the archive, so that a chat holds no new story. The kinds:

    story       "Tell me a story with Ravi and a red kite."    the story; then perhaps a question about it
    question    a story and a question in one message          the answer; then up to three more questions
    refusal     the same, but one of the questions asks        that the story does not tell this
                for what this story does not tell
    greeting    "Hello!", "Who are you?", "Thank you."         an answer of the language's `chats.txt`
    other       a question about the world, or one about a     that it only knows stories
                story without the story

`first.jsonl` holds what is to be learned before the rest: greetings, wishes with the opening of the story alone, and
pieces of a sentence or two. Of such a piece one question in several asks what it does not tell, and others want a yes
or no; that is found sooner than in a story.
A chat of the test part ends with what is to be judged, and a story in it names what it must speak of ("wanted").

What is asked stands in the language's `questions.txt` (see `questions.py`) and `chats.txt` (see `chat_book.py`).
"""

from __future__ import annotations

import json
import random
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from .archive import jsonl
from .chat_book import ANY_STORY, NAMED, OTHER, in_words, read_chat_book
from .engine import Language, Telling
from .frames import parse_line
from .questions import REQUEST, SENTENCE, UNTOLD, YES_NO, Asker, Asking, NotTold, stands_in

SEED = 5001
MOST_QUESTIONS = 4
SHARES = {"question": 0.02, "refusal": 0.29, "story": 0.47, "greeting": 0.09, "other": 0.13}
TEST_SHARES = {"question": 0.15, "refusal": 0.4, "story": 0.25, "greeting": 0.05, "other": 0.15}
EASY_SHARES = {"piece": 0.48, "opening": 0.14, "greeting": 0.16, "other": 0.22}
MOST_PEOPLE = ("hero", "friend")  # the facts whose words a wish for a story can be measured by


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


def messages(*said: str) -> list[dict[str, str]]:
    """What was said in turns, the user first."""
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(said)]


class Chatter:
    """Makes chats of all kinds; those for `test` end with what is judged, and hold questions that no other has."""

    def __init__(self, language: Language, rng: random.Random, *, test: bool = False):
        self.asker, self.test = Asker(language, rng), test
        self.book, self.pick = read_chat_book(language), self.asker.pick
        self.untold, self.language = self.asker.book.untold, language

    def drawn_kind(self, shares: dict[str, float]) -> str:
        """One of these kinds, each with its share."""
        drawn, kinds = self.asker.rng.random(), iter(shares.items())
        kind, share = next(kinds)
        for other, more in kinds:
            if drawn < share:
                break
            drawn, kind, share = drawn - share, other, more
        return kind

    def chat(self, telling: Telling, text: str, kind: str) -> dict:
        """One chat of this kind; "piece" and "opening" are easy ones, about a few sentences of the story."""
        return getattr(self, f"_{kind}")(telling, text)

    def _greeting(self, telling: Telling, text: str) -> dict:
        turns = [self._small_talk() for _ in range(1 if self.test else 1 + self.pick(2))]
        return {"messages": messages(*sum(turns, ())), "kind": "greeting"}

    def _small_talk(self) -> tuple[str, str]:
        blocks = self.book.small_talk()
        block = blocks[self.pick(len(blocks) + 1) % len(blocks)]  # the first, which greets, twice as often
        return self._said(block.lines), block.answer

    def _said(self, lines: list) -> str:
        return in_words(lines[self.pick(len(lines))], self.language, self.pick)

    def _other(self, telling: Telling, text: str) -> dict:
        """A question about the world, or one about a story that nobody has told."""
        lines = self.book.others(test=self.test)
        asked = (
            None if self.pick(3) else next((one["question"] for one in self.asker.questions(telling, text, 1)), None)
        )
        turns = [(asked or self._said(lines), self.book.blocks[OTHER].answer)]
        if not self.test and not self.pick(3):
            turns.insert(0, self._small_talk())
        return {"messages": messages(*sum(turns, ())), "kind": "other"}

    def _story(self, telling: Telling, text: str) -> dict:
        """A wish and this story; half of them go on with a question about it."""
        asked, wanted = self.wish(telling)
        said = [asked, text]
        if self.test:
            return {"messages": messages(*said), "kind": "story", "wanted": wanted}
        if not self.pick(6):
            said = [*self._small_talk(), *said]
        elif self.pick(2):
            untold = None if self.pick(3) else untold_question(self.asker, telling)
            one = next(iter(self.asker.questions(telling, text, 1)), None)
            said += [untold, self.untold] if untold else [one["question"], one["answer"]] if one else []
        return {"messages": messages(*said), "kind": "story"}

    def _opening(self, telling: Telling, text: str) -> dict:
        """A wish, and of the story the sentences up to where all it asks for was named: two or more."""
        asked, wanted = self.wish(telling)
        sentences = [sentence.strip() for sentence in SENTENCE.findall(text)]
        told = sentences.pop(0)
        for number, sentence in enumerate(sentences):
            if number and all(stands_in(word, told) for word in wanted):
                break
            told += f" {sentence}"
        return {"messages": messages(asked, told), "kind": "story"}

    def wish(self, telling: Telling) -> tuple[str, list[str]]:
        """A wish for this story, and the names of children or animals that it asks for as they stand there."""
        drawn = self.pick(5)
        if not drawn and not self.test:
            return self._said(self.book.blocks[ANY_STORY].lines), []
        lines = self.asker.shuffled(self.book.blocks[NAMED].lines) if drawn in (1, 2) else []
        for entry in self.asker.shuffled(self.asker.entries(telling, REQUEST)):
            lines += self.asker.shuffled(entry.asked)
        for line in lines:
            asking = Asking(telling)
            try:
                asked = asking.fill(line, self.pick)
            except NotTold:
                continue
            people = (name for name, fact in telling.plot.facts.items() if fact in MOST_PEOPLE and name in asking.used)
            wanted = [telling.drawn[name].text for name in people]
            return asked, [word for word in wanted if stands_in(word, asked)]
        raise NotTold(f"no request in questions.txt fits a story of {telling.plot.name!r}")

    def _question(self, telling: Telling, text: str) -> dict:
        asked = self.asker.questions(telling, text, 1 if self.test else 1 + self.pick(MOST_QUESTIONS))
        said = [part for one in asked for part in (one["question"], one["answer"])]
        return {"messages": messages(f"{text} {said[0]}", *said[1:]), "kind": "question"}

    def _refusal(self, telling: Telling, text: str) -> dict:
        """A chat with one question that the story does not tell; a question where there is none."""
        untold = untold_question(self.asker, telling)
        if untold is None:
            return self._question(telling, text)
        asked = self.asker.questions(telling, text, self.pick(MOST_QUESTIONS))
        turns = [(one["question"], one["answer"]) for one in asked]
        place = self.pick(len(turns) + 1)
        turns = [*turns[:place], (untold, self.untold), *([] if self.test else turns[place:])]
        said = [part for turn in turns for part in turn]
        return {"messages": messages(f"{text} {said[0]}", *said[1:]), "kind": "refusal"}

    def _piece(self, telling: Telling, text: str) -> dict:
        """Some questions about a piece of the story, one that it does not tell most often among them."""
        piece, told, untold = cut_piece(self.asker, telling, text)
        turns = told[: 1 + self.pick(3)]
        if never := untold_question(self.asker, telling, here=False):
            untold.insert(self.pick(2), never)
        if untold and (not turns or self.pick(3)):
            turns.insert(self.pick(len(turns) + 1), (untold[0], self.untold))
        if not turns:
            return self._other(telling, text)
        said = [part for turn in turns for part in turn]
        kind = "refusal" if self.untold in said else "question"
        return {"messages": messages(f"{piece} {said[0]}", *said[1:]), "kind": kind}


def cut_piece(asker: Asker, telling: Telling, text: str) -> tuple[str, list[tuple[str, str]], list[str]]:
    """One or two sentences of a story, questions that they answer alone with the answers, and questions of the story
    that they do not answer. Of yes and no each is asked only where the word in question stands in the piece."""
    sentences = [sentence.strip() for sentence in SENTENCE.findall(text)]
    start, length = asker.pick(len(sentences)), 1 + asker.pick(2)
    piece = " ".join(sentences[start : start + length])
    told, untold = {}, []
    for entry in asker.shuffled(asker.entries(telling)):
        if (found := asker._ask(entry, telling, text)) is None:
            continue
        one, needed = found
        if entry.kind == YES_NO:
            if all(_shown(name, telling, piece) for name in needed | {entry.answer}):
                told[one["question"]] = one["answer"]
        elif asker._answers(piece, one, needed, telling):
            told[one["question"]] = one["answer"]
        elif not stands_in(asker.book.bare(one["answer"]), piece):
            untold.append(one["question"])
    return piece, list(told.items()), [question for question in untold if question not in told]


def _shown(name: str, telling: Telling, piece: str) -> bool:
    return any(stands_in(form, piece) for form in telling.shown.get(name, ()))


def untold_question(asker: Asker, telling: Telling, *, here: bool = True) -> str | None:
    """A question that this story does not answer: one that no story answers, or (`here`) one for a word that was not
    drawn."""
    never = asker.entries(telling, UNTOLD)
    undrawn = [
        one for one in asker.entries(telling) if one.kind != YES_NO and not one.told and not _drawn(one.answer, telling)
    ]
    first, second = (never, undrawn) if not here or asker.pick(2) else (undrawn, never)
    for entry in asker.shuffled(first) + asker.shuffled(second if here else []):
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


def chat_files(
    language: Language,
    archive: Path,
    *,
    stories: int = 9_600,
    test_stories: int = 700,
    first_stories: int | None = None,
    seed: int = SEED,
) -> dict[str, bytes]:
    """The files of `kahani-chat-<language>.tar.gz`: one chat about each of the first stories of the archive's parts,
    and about each of the next training stories (default: half of `stories`) an easy one."""
    train, test = archive_tellings(language, archive)
    chatter, examiner = Chatter(language, random.Random(seed)), Chatter(language, random.Random(seed + 1), test=True)
    easy = stories // 2 if first_stories is None else first_stories
    files: dict[str, bytes] = {}
    about: dict[str, object] = {"language": language.code, "seed": seed, "may_be_asked": chatter.book.shown}
    for part, who, tellings, count, shares in (
        ("test", examiner, test, test_stories, TEST_SHARES),
        ("train", chatter, train, stories, SHARES),
        ("first", chatter, train, easy, EASY_SHARES),
    ):
        chats = [who.chat(*told, who.drawn_kind(shares)) for told in islice(tellings, count)]
        files[f"{part}.jsonl"] = jsonl(chats)
        about[f"{part}_chats"] = dict(sorted(Counter(one["kind"] for one in chats).items()))
    files["about.json"] = (json.dumps(about, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode("utf-8")
    return files
