"""Questions about stories, with answers that are known because the story knows its facts.

A language's `questions.txt` says what can be asked. It uses the signs of the frame files (see `frames.py`)::

    yes = हाँ
    no = नहीं
    untold = कहानी में यह नहीं बताया गया।
    answers = dictionary                an answer is the form of the lexicon, also where the story shows only another
    endings = ने का                     an answer may end in one of these where the story has only the word: करण का

    == kite_festival garden              the plots that this holds for; `all` for every plot
    colour = {रंग:पतंग}                   a kind of question, and its answer
    ? {साथी} {लाया:साथी}                  said only if the story says this (any of the ways in round brackets)
    - {साथी की} पतंग किस रंग की थी?        ways to ask
    - {साथी} किस रंग की पतंग {लाया:साथी}?
    yes_no = रंग                         here half the time another word stands for this name: then it is no
    - क्या {नायक की} पतंग {रंग:पतंग} थी?
    untold = -                           asks what no story tells; `request = -` asks for this story (see `chat.py`)
    - {नायक की} माँ का नाम क्या था?

The story's own words fill the gaps. A question is asked only if all its words were drawn for this story, if its answer
stands in the text, and if no other thing of the story goes by the same word (two coats make "which colour" unclear).
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from .archive import jsonl
from .engine import Language, Telling, Word
from .frames import OneOf, Part, Place, Slot, parse_line
from .question_book import REQUEST, UNTOLD, YES_NO, Entry, QuestionBook, read_questions

SENTENCE = re.compile(r"(?:“[^”]*”|[^।!?.“])+[।!?.]*")  # what is said inside is not cut
MOST_EXCERPTS = 3  # of a story
MORE = 2  # questions about a training story than about a test story
SEED = 4001


class NotTold(Exception):
    """The story has no word for something that a question speaks about."""


class Asking(Telling):
    """A finished telling, opened again to fill gaps with its words (or with `exchanged` ones). It draws no new word."""

    def __init__(self, telling: Telling, exchanged: dict[str, Word] | None = None, place: Place | None = None):
        self.language, self.plot, self.place = telling.language, telling.plot, place
        self.drawn = telling.drawn | (exchanged or {})
        self.used: set[str] = set()

    def word(self, name: str) -> Word:
        if name not in self.drawn:
            raise NotTold(name)
        self.used.add(name)
        return self.drawn[name]

    def show(self, name: str, form: str) -> str:
        return form

    def choose(self, what: str, options: int) -> int:
        raise NotTold(what)

    def fill(self, parts: tuple[Part, ...], choose: Callable[[int], int]) -> str:
        """The text of a line. `choose(n)` picks one of n parts in round brackets. Raises NotTold."""
        return self.language.grammar.finish(self._joined(parts, choose))

    def words(self, parts: tuple[Part, ...], choose: Callable[[int], int]) -> str:
        """The same, but as the words stand inside a sentence: an answer has no capital of its own."""
        return " ".join(self._joined(parts, choose).split())

    def _joined(self, parts: tuple[Part, ...], choose: Callable[[int], int]) -> str:
        said = []
        for part in parts:
            if isinstance(part, Slot):
                said.append(self.fill_slot(part.text))
            elif isinstance(part, OneOf):
                said.append(self._joined(part.options[choose(len(part.options))], choose))
            else:
                said.append(part)
        return "".join(said)

    def ways(self, parts: tuple[Part, ...]) -> Iterator[str]:
        """All texts of a line, one for each way through its round brackets."""
        for chosen in range(max([len(part.options) for part in parts if isinstance(part, OneOf)], default=1)):
            yield self.fill(parts, lambda options, chosen=chosen: min(chosen, options - 1))


def stands_in(words: str, text: str) -> bool:
    r"""Whether these words stand in the text as whole words. (Regex \b would see a word end before ा and ि.)"""
    words, text, start = words.lower(), text.lower(), -1
    while (start := text.find(words, start + 1)) >= 0:
        end = start + len(words)
        around = text[max(start - 1, 0) : start] + text[end : end + 1]
        if all(unicodedata.category(sign)[0] not in "LMN" for sign in around):
            return True
    return False


class Asker:
    """Asks about tellings. Remembers for each form whether yes or no is due, so that both are equally frequent."""

    def __init__(self, language: Language, rng: random.Random):
        self.language, self.rng = language, rng
        self.book: QuestionBook = read_questions(language)
        self.due: dict[str, bool] = {}

    def pick(self, options: int) -> int:
        """One of n, by the numbers that every Python version gives alike (see Language.tell)."""
        return int(self.rng.random() * options)

    def shuffled(self, items: list) -> list:
        """A copy in random order."""
        rest = list(items)
        return [rest.pop(self.pick(len(rest))) for _ in items]

    def tell(self) -> tuple[Telling, str]:
        """Tells a new story: its telling, which knows the words, and its text."""
        telling = Telling(self.language, self.pick)
        return telling, telling.story().text

    def entries(self, telling: Telling, *kinds: str) -> list[Entry]:
        """The entries of this story's plot: those of these kinds, or all questions that a story may answer."""
        entries = self.book.entries[telling.plot.name]
        return [one for one in entries if (one.kind in kinds if kinds else one.kind not in (UNTOLD, REQUEST))]

    def ask(self, entry: Entry, telling: Telling, text: str) -> dict[str, str] | None:
        """One question with the keys kind, question, answer, form; or None where the story does not tell the answer."""
        asked = self._ask(entry, telling, text)
        return asked and asked[0]

    def _ask(self, entry: Entry, telling: Telling, text: str) -> tuple[dict[str, str], set[str]] | None:
        """The same, with the names of the story whose words one must have read to answer."""
        asking, answered = Asking(telling, place=entry.place), set()
        try:
            if not all(any(stands_in(way, text) for way in asking.ways(line)) for line in entry.told):
                return None
            asked = entry.asked[self.pick(len(entry.asked))]
            if entry.kind == YES_NO:
                answer, exchanged = self._yes_or_no(entry, telling)
                asking = Asking(telling, exchanged, entry.place)
                question = asking.fill(asked, self.pick)
                things = asking.used - {entry.answer}
            else:
                answer = asking.words(parse_line(entry.answer, entry.form), self.pick)
                answered = asking.used
                asking = Asking(telling, place=entry.place)
                question, things = asking.fill(asked, self.pick), asking.used
        except NotTold:
            return None
        bare = self.book.bare(answer)
        told = stands_in(bare, text) or (self.book.dictionary and answered <= telling.shown.keys())
        told = entry.kind == YES_NO or (told and not stands_in(bare, question))
        if not told or len(answer.split()) > self.book.most_words or shares_a_word(things, telling):
            return None
        if entry.kind == YES_NO:
            self.due[entry.form] = answer == self.book.no
        return {"kind": entry.kind, "question": question, "answer": answer, "form": entry.form}, things

    def excerpts(self, telling: Telling, text: str) -> list[dict]:
        """Up to `MOST_EXCERPTS` pieces of a story, a sentence or two each, with all that can be asked about them alone:
        they hold the answer and each word of the story that the question speaks of. No yes or no."""
        asked = [self._ask(e, telling, text) for e in self.shuffled(self.entries(telling)) if e.kind != YES_NO]
        sentences, found = [sentence.strip() for sentence in SENTENCE.findall(text)], {}
        for _ in range(MOST_EXCERPTS):
            start, length = self.pick(len(sentences)), 1 + self.pick(2)
            piece = " ".join(sentences[start : start + length])
            questions = [one for one, needed in filter(None, asked) if self._answers(piece, one, needed, telling)]
            texts = Counter(one["question"] for one in questions)
            if questions := [one for one in questions if texts[one["question"]] == 1]:  # two would have two answers
                found[piece] = {"story": piece, "questions": questions}
        return list(found.values())

    def _answers(self, piece: str, question: dict[str, str], needed: set[str], telling: Telling) -> bool:
        if not stands_in(self.book.bare(question["answer"]), piece):
            return False
        return all(any(stands_in(form, piece) for form in telling.shown.get(name, ())) for name in needed)

    def _yes_or_no(self, entry: Entry, telling: Telling) -> tuple[str, dict[str, Word]]:
        """Yes with the story's own word, or no with another from the same source; in turns for each form."""
        if entry.answer not in telling.drawn:
            raise NotTold(entry.answer)
        if self.due.setdefault(entry.form, self.pick(2) == 1):
            return self.book.yes, {}
        own = telling.drawn[entry.answer]
        words = self.language.options(telling.plot.sources[entry.answer], telling)
        others = [word for word in words if word.text != own.text]
        return self.book.no, {entry.answer: others[self.pick(len(others))]}

    def questions(self, telling: Telling, text: str, most: int) -> list[dict[str, str]]:
        """Up to `most` questions about a story in random order: one of each kind it offers, then second ones."""
        waiting: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.shuffled(self.entries(telling)):
            waiting[entry.kind].append(entry)
        asked: list[dict[str, str]] = []
        while waiting and len(asked) < most:
            for kind in self.shuffled(list(waiting))[: most - len(asked)]:
                one = None
                while waiting[kind] and one is None:
                    one = self.ask(waiting[kind].pop(), telling, text)
                if one is None:
                    del waiting[kind]
                else:
                    asked.append(one)
        return self.shuffled(asked)


def shares_a_word(names: set[str], telling: Telling) -> bool:
    """Whether a thing that a question names goes by the same word as another thing of the story."""
    texts = Counter(word.text for word in telling.drawn.values())
    return any(texts[telling.drawn[name].text] > 1 for name in names)


def make_questions(
    language: Language,
    *,
    stories: int = 7_500,
    test_stories: int = 500,
    first_stories: int | None = None,
    seed: int = SEED,
    most: int = 5,
) -> dict[str, list[dict]]:
    """New stories with questions: {"train": [{"story", "questions"}], "test": [...], "first": [...]}, told in the order
    test, train, first. The last are excerpts of stories of their own (two for each three of `stories`), to be learned
    before the others. A test story has at most `most` questions, a training story up to `MORE` besides.

    Raises ValueError if a story comes twice.
    """
    asker, second = (Asker(language, random.Random(seed + n)) for n in (0, 1))
    parts: dict[str, list[dict]] = {}
    for part, count in (("test", test_stories), ("train", stories)):
        parts[part] = []
        for _ in range(count):
            telling, text = asker.tell()
            questions = asker.questions(telling, text, most)
            if part == "train":
                known = {one[key] for one in questions for key in ("form", "question")}
                others = second.questions(telling, text, 2 * most)
                questions += [one for one in others if not known & {one["form"], one["question"]}][:MORE]
            parts[part].append({"story": text, "questions": questions})
    parts["first"] = []
    for _ in range(2 * stories // 3 if first_stories is None else first_stories):
        parts["first"] += asker.excerpts(*asker.tell())
    texts = [item["story"] for part in ("train", "test") for item in parts[part]]
    if len(set(texts)) < len(texts):
        raise ValueError(f"{len(texts) - len(set(texts))} stories came twice with seed {seed}: take another seed")
    return parts


def question_files(language: Language, **counts: int) -> dict[str, bytes]:
    """The files of `kahani-questions-<language>.tar.gz`; the arguments are those of `make_questions`."""
    parts = make_questions(language, **counts)
    about: dict[str, object] = {"language": language.code, "seed": counts.get("seed", SEED)}
    for part, items in parts.items():
        about[f"{part}_stories" if part != "first" else "first_pieces"] = len(items)
        kinds = Counter(one["kind"] for item in items for one in item["questions"])
        about[f"{part}_questions"] = dict(sorted(kinds.items()))
    about["story_blind_accuracy"] = blind_scores(parts["train"], parts["test"])
    told = json.dumps(about, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    return {f"{part}.jsonl": jsonl(items) for part, items in parts.items()} | {"about.json": told.encode("utf-8")}


def blind_scores(train: list[dict], test: list[dict]) -> dict[str, float]:
    """Share of right answers, by kind and in all, of the best answer that ignores the story.

    It gives the most frequent answer in training to exactly this question, or, below twenty of those, to its form.
    """
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for item in train:
        for one in item["questions"]:
            seen[one["question"]][one["answer"]] += 1
            seen[one["form"]][one["answer"]] += 1
    right, asked = Counter(), Counter()
    for item in test:
        for one in item["questions"]:
            counts = seen[one["question"]] if seen[one["question"]].total() >= 20 else seen[one["form"]]
            guess = max(sorted(counts), key=counts.__getitem__) if counts else None
            for kind in (one["kind"], "all"):
                asked[kind] += 1
                right[kind] += guess == one["answer"]
    return {kind: round(right[kind] / asked[kind], 4) for kind in sorted(asked)}
