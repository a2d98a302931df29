"""Tests of the tasks made from the stories: questions with answers that only the story tells, in every language."""

from __future__ import annotations

import collections
import gzip
import itertools
import json
import random
import re
import tarfile
import unicodedata
from functools import lru_cache
from pathlib import Path

import pytest

kahani = pytest.importorskip("data.kahani", reason="the story generator stands in data/, beside the library")
pytest.importorskip("tomllib", reason="the story generator needs Python 3.11; the archives need no generator")

from data.kahani.__main__ import main  # noqa: E402
from data.kahani.archive import pack  # noqa: E402
from data.kahani.chat import Chatter, chat_files  # noqa: E402
from data.kahani.chat_book import KEPT, in_words, read_chat_book  # noqa: E402
from data.kahani.engine import Telling  # noqa: E402
from data.kahani.frames import FrameError  # noqa: E402
from data.kahani.questions import Asker, QuestionBook, blind_scores, question_files, read_questions  # noqa: E402

ROOT = Path(__file__).parents[2]
LONGEST_OR_ALL = pytest.mark.parametrize(
    "most", [600, pytest.param(None, marks=pytest.mark.slow)], ids=["longest", "all"]
)
DATA = ROOT / "data"
LANGUAGES = [code for code in kahani.languages() if (DATA / f"kahani-questions-{code}.tar.gz").exists()]


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {Path(entry.name).name: tar.extractfile(entry).read() for entry in tar.getmembers()}


def lines_of(data: bytes) -> list[dict]:
    return [json.loads(line) for line in data.decode("utf-8").splitlines()]


@lru_cache(maxsize=64)  # one story is looked at for each of its questions
def words_of(text: str) -> list[str]:
    """Words of any script, with their marks: found here without the code that made the questions."""
    return re.findall(r"[^\s।,!?”“…:;.\"()-]+", text)


@lru_cache
def endings(code: str) -> list[str]:
    """What an answer may end in though the story does not say it (करण का), as `questions.txt` names it."""
    text = (DATA / "kahani" / code / "questions.txt").read_text(encoding="utf-8")
    return " ".join(re.findall(r"^endings = (.*)$", text, re.MULTILINE)).split()


def bare(language, answer: str) -> str:
    """An answer without such an ending: करण का -> करण."""
    words = answer.split()
    return " ".join(words[:-1] if len(words) > 1 and words[-1] in endings(language.code) else words)


def holds(text: str, words: str) -> bool:
    """Whether `words` stand in `text` one after the other, as whole words."""
    inner, outer = words_of(words.casefold()), words_of(text.casefold())
    owners = [word.removesuffix("'s") for word in outer]  # Ravi stands in: Ravi's kite
    places = range(len(outer) - len(inner) + 1)
    return any(inner in (outer[i : i + len(inner)], owners[i : i + len(inner)]) for i in places)


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request):
    return kahani.load_language(request.param)


@pytest.fixture
def with_chats(language):
    """A language may have stories and questions, and no chats yet."""
    if not (language.folder / "chats.txt").exists():
        pytest.skip(f"there are no chats in {language.code}")


@pytest.fixture(scope="module")
def questions(language):
    files = unpacked(DATA / f"kahani-questions-{language.code}.tar.gz")
    return {part: lines_of(files[f"{part}.jsonl"]) for part in ("train", "test", "first")} | {
        "about": json.loads(files["about.json"])
    }


@pytest.fixture(scope="module")
def stories(language):
    files = unpacked(DATA / f"kahani-{language.code}.tar.gz")
    return {part: files[f"{part}.txt"].decode("utf-8").splitlines() for part in ("train", "test")}


# --- questions


def test_questions_begin_as_they_did(language):
    """The test questions and the first training questions, made again; then the tar they lie in."""
    path = DATA / f"kahani-questions-{language.code}.tar.gz"
    files = unpacked(path)
    again = question_files(language, stories=1_000, first_stories=100)
    assert again["test.jsonl"] == files["test.jsonl"]
    assert files["train.jsonl"].startswith(again["train.jsonl"])
    assert gzip.decompress(path.read_bytes()) == pack(files, f"kahani-questions-{language.code}")


@pytest.mark.slow
def test_questions_are_made_again(language, questions):
    """The documented command gives all of the committed archive, byte for byte inside."""
    files = question_files(language, stories=questions["about"]["train_stories"])
    assert files == unpacked(DATA / f"kahani-questions-{language.code}.tar.gz")


def test_question_stories_are_new(questions, stories):
    """No story of the questions stands in the story archive, and no test story in the training part."""
    texts = {part: [item["story"] for item in questions[part]] for part in ("train", "test")}
    everything = [*texts["train"], *texts["test"]]
    assert len(set(everything)) == len(everything)
    assert not set(everything) & {*stories["train"], *stories["test"]}
    assert len(texts["train"]) >= 6000
    assert len(texts["test"]) == 500


def follows(language, story: str, answer: str) -> bool:
    """Whether the story tells the answer: in its words, or, where answers are dictionary forms, in another form."""
    answer = bare(language, answer)
    return holds(story, answer) or (read_questions(language).dictionary and answer in language.words)


def test_answers_stand_in_the_story(language, questions):
    """Each answer is a few words of its own story (करण का: but for its ending), or yes or no; no question tells it.

    Where answers are dictionary forms (पुणे for पुण्यात), it is a word of the lexicon.
    """
    book = read_questions(language)
    assert max(len(item["questions"]) for item in questions["test"]) == 5
    for item in itertools.chain(questions["train"], questions["test"]):
        assert 4 <= len(item["questions"]) <= 7
        for one in item["questions"]:
            assert unicodedata.is_normalized("NFC", one["question"] + one["answer"])
            assert one["question"].endswith("?")
            assert not re.search(r"[{}()|*~\[\]]|  ", one["question"] + one["answer"])
            if one["kind"] == "yes_no":
                assert one["answer"] in (book.yes, book.no)
            else:
                assert follows(language, item["story"], one["answer"]), (one, item["story"])
                assert not holds(one["question"], bare(language, one["answer"]))
                assert len(one["answer"].split()) <= book.most_words <= 4


def test_excerpts_answer_their_questions_alone(language, questions):
    """One or two sentences of new stories, to be learned first: no quotation is cut, and the answers stand in them."""
    assert len(questions["first"]) >= 5000
    some = "\n".join(item["story"] for item in questions["test"])
    words = [len(words_of(item["story"])) for item in questions["first"]]
    assert max(words) <= 100 and sum(words) / len(words) < 25
    assert sum(item["story"] in some for item in questions["first"]) < 0.1 * len(questions["first"])
    for item in questions["first"]:
        assert item["questions"] and item["story"].count("“") == item["story"].count("”")
        for one in item["questions"]:
            assert one["kind"] != "yes_no"
            answer = bare(language, one["answer"])
            assert any(holds(text, answer) for text in (item["story"], item["story"].replace("'s", "")))
            assert not holds(one["question"], answer)


def test_no_question_has_two_answers(questions):
    """The same question about the same story never has two answers, in whatever way it is asked."""
    for item in itertools.chain(questions["train"], questions["test"], questions["first"]):
        answers = collections.defaultdict(set)
        for one in item["questions"]:
            answers[one["question"]].add(one["answer"])
            answers[one["form"]].add(one["answer"])
        assert all(len(found) == 1 for found in answers.values()), item


def replay(language, choices):
    """The telling that these choices lead to, and its text; None if they lead nowhere."""
    script = iter(choices)

    def pick(options):
        taken = next(script)
        if taken >= options:
            raise StopIteration
        return taken

    try:
        telling = Telling(language, pick)
    except (StopIteration, RuntimeError):
        return None
    return telling, telling.story().text


def test_answers_follow_the_story(language):
    """Told again with the same choices but for the word that was asked for, a story has another answer: the new word.

    So the answer hangs on the text of the story, and on the right word of it.
    """
    asker = Asker(language, random.Random(3))
    followed = collections.Counter()
    for _ in range(120):
        telling, text = asker.tell()
        for entry in asker.book.entries[telling.plot.name]:
            one = asker.ask(entry, telling, text)
            name = re.match(r"\{([^ :.*~}]+)", entry.answer)
            if one is None or name is None:
                continue
            what = f"{telling.plot.name}.{name[1]}"
            script = [
                (choice.taken + 1) % choice.options if choice.what == what else choice.taken
                for choice in telling.choices
            ]
            changed = replay(language, script)
            if changed is None or changed[1] == text:
                continue
            again = asker.ask(entry, *changed)
            if again is not None:
                followed[one["kind"]] += 1
                assert again["answer"] != one["answer"], (one, again, text, changed[1])
                assert follows(language, changed[1], again["answer"])
                assert abs(len(words_of(text)) - len(words_of(changed[1]))) < 15  # other choices may follow from it
    assert all(followed[kind] > 20 for kind in ("who", "where", "what", "colour", "how_many")), followed


def test_yes_and_no_are_equally_frequent(language, questions):
    book = read_questions(language)
    for part in ("train", "test"):
        said = collections.Counter(
            one["answer"] for item in questions[part] for one in item["questions"] if one["kind"] == "yes_no"
        )
        share = said[book.yes] / (said[book.yes] + said[book.no])
        assert abs(share - 0.5) < (0.01 if part == "train" else 0.06)


def test_answers_cannot_be_guessed_without_the_story(language, questions):
    """The best answer that ignores the story: a coin's luck for yes or no, and well under one in six for the rest.

    A small language has fewer words to choose from: one in four.
    """
    most = 0.15 if len(language.words) > 1000 else 0.25
    scores = blind_scores(questions["train"], questions["test"])
    assert scores == questions["about"]["story_blind_accuracy"]
    assert 0.4 < scores.pop("yes_no") < 0.56
    assert scores.pop("all") < 0.2
    few = {kind for kind, count in questions["about"]["test_questions"].items() if count < 100}
    assert all(score < most for kind, score in scores.items() if kind not in few), scores
    assert all(score < 0.25 for score in scores.values()), scores
    assert {"who", "where", "what", "colour", "how_many"} <= set(scores)


def test_blind_scores_on_a_small_example():
    """Two forms: one whose answer is always the same, one that has a favourite; counted by hand."""

    def item(*pairs):
        return {"questions": [{"kind": k, "question": q, "answer": a, "form": k} for k, q, a in pairs]}

    train = [item(("who", "w?", "x"), ("what", "t?", "a"))] * 3 + [item(("what", "t?", "b"))]
    test = [item(("who", "w?", "x"), ("what", "t?", "b")), item(("what", "t?", "a"), ("what", "u?", "a"))]
    assert blind_scores(train, test) == {"all": 0.75, "what": round(2 / 3, 4), "who": 1.0}


def test_bad_question_files_are_refused(language, tmp_path, monkeypatch):
    """A message names the file and the line."""
    monkeypatch.setattr(language, "folder", tmp_path)
    path = tmp_path / "questions.txt"
    for text, message in (
        ("yes = y\n", "no and untold are missing"),
        ("yes = y\nno = n\n== nowhere\n", "questions.txt:3.*nowhere"),
        ("yes = y\nno = n\n== all\nwho who\n", "questions.txt:4.*who who"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(FrameError, match=message):
            read_questions(language)
    path.write_text("yes = y\nno = n\nuntold = ?\n== all\nwho = {x}\n- {x (y)}?\n", encoding="utf-8")
    assert isinstance(read_questions(language), QuestionBook)


@LONGEST_OR_ALL
def test_questions_fit_into_256_tokens(language, questions, most):
    """Story, question and answer with the signs of a chat, in the tokenizer of the language's model."""
    folder = ROOT / "models" / f"kahani-{language.code}"
    if not folder.exists():
        pytest.skip(f"there is no model kahani-{language.code}")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    items = sorted([*questions["test"], *questions["train"]], key=lambda item: -len(item["story"]))
    for item in items[:most]:
        longest = max(item["questions"], key=lambda one: len(one["question"]) + len(one["answer"]))
        messages = [
            {"role": "user", "content": f"{item['story']}\n{longest['question']}"},
            {"role": "assistant", "content": longest["answer"]},
        ]
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert len(ids) <= 256


def test_command_line_makes_questions(language, tmp_path, capsys):
    path = tmp_path / "questions.tar.gz"
    options = ["--language", language.code, "--make", "questions", "--stories", "20", "--test-stories", "5"]
    assert main([*options, "--output", str(path)]) == 0
    assert "140 questions" in capsys.readouterr().out
    assert len(lines_of(unpacked(path)["train.jsonl"])) == 20
    assert [file.name for file in tmp_path.iterdir()] == ["questions.tar.gz"]


# --- chats


@pytest.fixture(scope="module")
def chats(language):
    path = DATA / f"kahani-chat-{language.code}.tar.gz"
    if not path.exists():
        pytest.skip(f"there are no chats in {language.code}")
    files = unpacked(path)
    return {part: lines_of(files[f"{part}.jsonl"]) for part in ("train", "test", "first")} | {
        "about": json.loads(files["about.json"])
    }


def said_in(chat: dict) -> list[str]:
    return [message["content"] for message in chat["messages"]]


def every(chats: dict, *kinds: str) -> list[dict]:
    """The chats of all parts, of these kinds if any are named."""
    return [chat for part in ("train", "test", "first") for chat in chats[part] if not kinds or chat["kind"] in kinds]


def test_chats_begin_as_they_did(language, chats):
    """The test chats and the first training chats, made again; then the tar they lie in."""
    path = DATA / f"kahani-chat-{language.code}.tar.gz"
    files = unpacked(path)
    again = chat_files(language, DATA / f"kahani-{language.code}.tar.gz", stories=300, first_stories=1)
    assert again["test.jsonl"] == files["test.jsonl"]
    assert files["train.jsonl"].startswith(again["train.jsonl"])
    assert gzip.decompress(path.read_bytes()) == pack(files, f"kahani-chat-{language.code}")


@pytest.mark.slow
def test_chats_are_made_again(language, chats):
    """The documented command gives all of the committed archive, byte for byte inside."""
    files = chat_files(language, DATA / f"kahani-{language.code}.tar.gz")
    assert files == unpacked(DATA / f"kahani-chat-{language.code}.tar.gz")


def test_chats_have_the_usual_form(language, chats):
    """User and assistant in turns, the user first; every kind often; a few thousand to train, some hundred to test."""
    assert len(chats["train"]) >= 5000 and len(chats["test"]) >= 500 and len(chats["first"]) >= 1500
    for part in ("train", "test", "first"):
        kinds = collections.Counter(chat["kind"] for chat in chats[part])
        assert set(kinds) == {"question", "refusal", "story", "greeting", "other"}
        assert min(kinds.values()) > 0.01 * len(chats[part])
        assert kinds == chats["about"][f"{part}_chats"]
    for chat in every(chats):
        assert set(chat) == {"messages", "kind"} | ({"wanted"} if "wanted" in chat else set())
        roles = [message["role"] for message in chat["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message["content"].strip() == message["content"] != "" for message in chat["messages"])
    assert chats["about"]["may_be_asked"] == read_chat_book(language).shown


def test_chat_stories_are_of_the_same_part_of_the_archive(chats, stories):
    """So chats to train on hold no story of a test, and chats to test on none that a model has read."""
    for part in ("train", "test"):
        known = set(stories[part])
        for chat in chats[part]:
            said = said_in(chat)
            if chat["kind"] == "story":
                assert any(told in known for told in said[1::2])
            elif chat["kind"] in ("question", "refusal"):
                ends = [m.end() for m in re.finditer(r"[।.!?]”?(?= )", said[0])]
                assert any(said[0][:end] in known for end in ends), said[0]
    whole = "\n".join(stories["train"])
    pieces = every({"train": [], "test": [], "first": chats["first"]}, "question", "refusal")
    for chat in pieces[:200]:  # a piece ends where its first question begins
        ends = [m.end() for m in re.finditer(r"[।.!?]”?(?= )", said_in(chat)[0])]
        assert any(said_in(chat)[0][:end] in whole for end in ends), chat


def test_a_wish_names_what_the_story_tells(chats):
    """In the test part the story is the last word, and what it is judged by stands in the wish and in the story."""
    wishes = [chat for chat in chats["test"] if chat["kind"] == "story"]
    for chat in wishes:
        asked, told = said_in(chat)
        assert all(holds(asked, word) and holds(told, word) for word in chat["wanted"])
    assert sum(bool(chat["wanted"]) for chat in wishes) > 0.6 * len(wishes)
    assert all("wanted" not in chat for chat in [*chats["train"], *chats["first"]])


def test_chat_answers_are_right(language, chats):
    """An answer stands in the story, or is yes or no; a refusal is refused once, and only in a chat of that kind."""
    book = read_questions(language)
    for chat in every(chats, "question", "refusal"):
        said = said_in(chat)
        answers, told = said[1::2], said[0]
        assert answers.count(book.untold) == (chat["kind"] == "refusal")
        assert all(holds(told, bare(language, one)) or one in (book.yes, book.no, book.untold) for one in answers)
        assert all(question.endswith("?") for question in said[::2])
    assert all(said_in(chat)[-1] == book.untold for chat in chats["test"] if chat["kind"] == "refusal")


def test_what_a_piece_does_not_tell_is_refused_and_what_it_tells_is_not(language, with_chats):
    """The same question is answered about a piece that tells the answer: to refuse hangs on what was read."""
    chatter, book = Chatter(language, random.Random(5)), read_questions(language)
    asked = collections.defaultdict(set)
    for _ in range(400):
        chat = chatter.chat(*chatter.asker.tell(), "piece")
        said = said_in(chat)
        if chat["kind"] in ("question", "refusal"):
            first = re.split(r"[।.!?]”? ", said[0])[-1]
            for question, answer in zip([first, *said[2::2]], said[1::2], strict=True):
                asked[" ".join(words_of(question)[-3:])].add(answer == book.untold)
    assert sum(len(kinds) == 2 for kinds in asked.values()) >= 20


def test_refusals_cannot_be_told_from_the_question(language, chats):
    """Part of the refused questions are answered in other chats: whether to refuse hangs on the story."""
    book = read_questions(language)
    asked = collections.defaultdict(set)
    for chat in every(chats, "question", "refusal"):
        said = said_in(chat)
        first = re.split(r"[।.!?]”? ", said[0])[-1]
        for question, answer in zip([first, *said[2::2]], said[1::2], strict=True):
            asked[" ".join(words_of(question)[-3:])].add(answer == book.untold)
    assert sum(len(kinds) == 2 for kinds in asked.values()) >= 50


def test_small_talk_has_its_answer_and_what_is_no_story_says_so(language, chats):
    """Each answer is that of its block of chats.txt; questions of the test about the world are in no other chat."""
    book = read_chat_book(language)
    only = book.blocks["other"].answer
    answers = {block.answer for block in book.small_talk()}
    for chat in every(chats, "greeting", "other"):
        assert set(said_in(chat)[1::2]) <= answers | ({only} if chat["kind"] == "other" else set())
        assert (said_in(chat)[-1] == only) == (chat["kind"] == "other")
    kept = {said_in(chat)[-2] for chat in chats["test"] if chat["kind"] == "other"}
    known = {part for chat in [*chats["train"], *chats["first"]] for part in said_in(chat)[::2]}
    about_the_world = {one for one in kept if any(one == way for way in ways_to_say(book.others(test=True), language))}
    assert len(about_the_world) > 10 and not about_the_world & known


def ways_to_say(lines: list, language) -> set[str]:
    """Many ways to say these lines, drawn."""
    rng = random.Random(1)
    return {in_words(line, language, lambda n: int(rng.random() * n)) for line in lines for _ in range(300)}


def test_every_fifth_question_about_the_world_is_kept(language, with_chats):
    book = read_chat_book(language)
    kept, others = book.others(test=True), book.others(test=False)
    assert len(others) >= 20 and len(kept) == (len(kept) + len(others)) // KEPT
    assert not set(map(str, kept)) & set(map(str, others))


def test_children_greet_in_devanagari_and_in_latin(language, with_chats):
    """What people type first gets an answer in every language of the course."""
    book = read_chat_book(language)
    ways = ways_to_say([line for block in book.small_talk() for line in block.lines], language)
    assert {"hello", "hi", "Hello!", "नमस्ते", "thank you", "bye"} <= ways


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("shown =", "seen ="), "chats.txt:2: expected"),
        (lambda text: text.replace("== named", "== nobody"), "block named is missing"),
        (lambda text: text.replace("shown = ", "# "), "what may be asked"),
        (lambda text: text.replace("== bye\n=", "== bye\n#"), "block bye needs lines and"),
        (lambda text: text + "\nhow are you\n", "chats.txt:.*how are you"),
        (lambda text: text + "- (half\n", "not closed"),
        (None, "chats.txt is missing"),
    ],
)
def test_bad_chat_files_are_refused(language, with_chats, tmp_path, monkeypatch, change, message):
    """A message names the file, and the line where there is one."""
    text = (DATA / "kahani" / language.code / "chats.txt").read_text(encoding="utf-8")
    monkeypatch.setattr(language, "folder", tmp_path)
    if change is not None:
        (tmp_path / "chats.txt").write_text(change(text), encoding="utf-8")
    with pytest.raises(FrameError, match=message):
        read_chat_book(language)


@LONGEST_OR_ALL
def test_chats_fit_into_256_tokens(language, chats, most):
    """But for a few, which lose their last turns in training; the first answer of each fits."""
    folder = ROOT / "models" / f"kahani-{language.code}"
    if not folder.exists():
        pytest.skip(f"there is no model kahani-{language.code}")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    everything = sorted(every(chats), key=lambda chat: -sum(map(len, said_in(chat))))[:most]
    lengths = [len(tokenizer.apply_chat_template(c["messages"], tokenize=True, return_dict=False)) for c in everything]
    assert sum(length > 256 for length in lengths) < 0.05 * len(every(chats))
    for chat, length in zip(everything, lengths, strict=True):
        if length > 256:  # a chat that fits has a first answer that fits
            assert len(tokenizer.apply_chat_template(chat["messages"][:2], tokenize=True, return_dict=False)) <= 256


def test_a_model_can_write_what_the_assistant_says(language):
    """An adapter leaves the table of tokens alone: each token of an answer must have a place of its own in it."""
    folder = ROOT / "models" / f"kahani-{language.code}"
    if not folder.exists():
        pytest.skip(f"there is no model kahani-{language.code}")
    library = pytest.importorskip("ai4india_lib")
    model, tokenizer = library.load_model(folder, "cpu")
    book = read_chat_book(language)
    answers = [block.answer for block in book.blocks.values() if block.answer] + [read_questions(language).untold]
    for answer in answers:
        ids = tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
        lost = tokenizer.convert_ids_to_tokens(library.untrained_tokens(model, ids))
        assert not lost, (answer, [tokenizer.convert_tokens_to_string([token]) for token in lost])
