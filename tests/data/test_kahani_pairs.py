"""Tests of the minimal pairs: with lexicon and grammar, but without the code that wrote them, they prove each pair.

A checker of a language says of a sentence whether the word at a position is right there. It finds out itself who agrees
with whom, and looks gender and number up in the lexicon. It must call the first half right and the second wrong.
"""

from __future__ import annotations

import collections
import json
import re
import unicodedata
from pathlib import Path

import pytest

kahani = pytest.importorskip("data.kahani", reason="the story generator stands in data/, beside the library")
pytest.importorskip("tomllib", reason="the story generator needs Python 3.11; the archives need no generator")

from data.kahani.__main__ import main  # noqa: E402
from data.kahani.frames import FrameError  # noqa: E402
from data.kahani.pairs import PAIRS, make_pairs, read_pairs, sentences_told, training_text  # noqa: E402

DATA = Path(__file__).parents[2] / "data"
LANGUAGES = [code for code in kahani.languages() if (DATA / "kahani" / f"pairs-{code}.jsonl").exists()]


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request):
    return kahani.load_language(request.param)


@pytest.fixture(scope="module")
def committed(language):
    path = DATA / "kahani" / f"pairs-{language.code}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def told(language):
    return training_text(language, DATA)


def words_of(text):
    return re.findall(r"[^\s।,!?”“…:;.\"()]+", text)


def difference(pair):
    """The words of both halves and the position of the first that differs."""
    right, wrong = words_of(pair["right"]), words_of(pair["wrong"])
    position = next(i for i, (one, other) in enumerate(zip(right, wrong, strict=False)) if one != other)
    return right, wrong, position


def clause_with_difference(pair):
    """The sentence of each half that holds the difference, as words and commas, and where it differs."""
    halves = []
    for half in (pair["right"], pair["wrong"]):
        sentences = re.split(r"(?<=[।.!?])”?\s+", half)
        halves.append([re.findall(r",|[^\s।,!?”“…:;.\"()]+", sentence) for sentence in sentences])
    for right, wrong in zip(*halves, strict=True):
        if right != wrong:
            position = next(i for i, (one, other) in enumerate(zip(right, wrong, strict=False)) if one != other)
            return right, wrong, position
    raise AssertionError(pair)


def test_pairs_are_made_again(language, committed, told):
    """The documented command gives the committed file."""
    assert make_pairs(language, told) == committed


def test_pairs_differ_in_one_word(language, committed):
    """200 pairs for each phenomenon, none twice; one word changed, or one word there or missing."""
    counts = collections.Counter(pair["phenomenon"] for pair in committed)
    assert set(counts.values()) == {PAIRS} == {200}
    assert len(counts) >= (10 if language.code == "hi" else 6)
    for phenomenon in counts:
        assert len({pair["right"] for pair in committed if pair["phenomenon"] == phenomenon}) == PAIRS
    for pair in committed:
        assert set(pair) == {"phenomenon", "right", "wrong"}
        right, wrong, position = difference(pair)
        changed = right[:position] + right[position + 1 :] == wrong[:position] + wrong[position + 1 :]
        longer, shorter = (right, wrong) if len(right) > len(wrong) else (wrong, right)
        left_out = longer[:position] + longer[position + 1 :] == shorter
        assert changed if len(right) == len(wrong) else left_out, pair
        for half in (pair["right"], pair["wrong"]):
            assert unicodedata.is_normalized("NFC", half)
            assert not re.search(r"[\[\]{}()|<>*~@]|  ", half)


def test_no_right_half_was_trained_on(committed, told):
    """Looked for in all training stories; and the search itself finds what is there."""
    assert sentences_told({pair["right"] for pair in committed}, told) == set()
    last = re.split(r"(?<=[।.!?]) ", told[77])[-1]
    middle = re.split(r"(?<=[।.!?]) ", told[5])[2]
    assert sentences_told([last, middle, "xyz zyx."], told[:100]) == {last, middle}


# --- Hindi: who agrees with whom

POSTPOSITIONS = {"ने", "को", "से", "में", "पर", "के", "की", "का", "तक"}
MORE_NOUNS = {"रंग": "m"}  # nouns and verbs of the sentences that stories never draw
MORE_VERBS = ("टटोलना", "हटाना")


class Hindi:
    """Judges Hindi words by the lexicon's genders and by the endings that schoolbooks teach."""

    looks_at = staticmethod(clause_with_difference)

    def __init__(self, language):
        grammar, words = language.grammar, language.words.values()
        self.readings = collections.defaultdict(set)  # form -> {(gender, s or p, d or o for direct and oblique)}
        self.honorific, self.numbers = set(), {w.text for w in words if w.tags & {"संख्या", "बड़ी संख्या"}}
        for word in words:
            if "gender" in word.features and not word.tags & {"ठिकाना", "दुकान का ठिकाना", "पालतू नाम", "शौक", "सामग्री"}:
                for plural, oblique in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    form = grammar.form_of(word, plural=bool(plural), oblique=bool(oblique))
                    self.readings[form].add((word.features["gender"], "sp"[plural], "do"[oblique]))
                if word.features.get("honorific"):
                    self.honorific.add(word.text)
        for noun, gender in MORE_NOUNS.items():
            self.readings[noun] |= {(gender, "s", "d"), (gender, "s", "o")}
        verbs = {w.text: w.features["ne"] for w in words if "क्रिया" in w.tags} | dict.fromkeys(MORE_VERBS, True)
        self.takes_ne = {
            grammar.agree(grammar.past(verb), gender, plural=plural): ne
            for verb, ne in verbs.items()
            for gender in "mf"
            for plural in (False, True)
        }

    def nouns(self, words):
        """All nouns in order: (position, form, position after it, whether a postposition follows). The longest wins."""
        found, start = [], 0
        while start < len(words):
            after = next((e for e in range(start + 4, start, -1) if " ".join(words[start:e]) in self.readings), start)
            if after > start:
                after = min(after, len(words))
                postposed = after < len(words) and words[after] in POSTPOSITIONS
                found.append((start, " ".join(words[start:after]), after, postposed))
            start = max(after, start + 1)
        return found

    @staticmethod
    def shows(word):
        """What an ending shows, as {(gender, number)}; before a postposition -े is the masculine singular too ("o")."""
        for ending, shown in (
            (("ीं", "ईं"), {("f", "p")}),
            (("ी", "ई"), {("f", "s"), ("f", "p")}),
            (("े", "ए"), {("m", "p"), ("m", "o")}),
            (("ा", "आ"), {("m", "s")}),
        ):
            if word.endswith(ending):
                return shown
        raise AssertionError(f"{word} shows no gender")

    def with_noun_after(self, words, position):
        """An adjective or का agrees with the noun that it stands before, in gender, number and case.

        Many nouns look alike in both numbers: then a numeral before them, or the verb at the end (खाए), tells.
        """
        _, form, _, postposed = self.nouns(words[position + 1 :])[0]
        numeral = words[position - 1] in self.numbers
        counted = not postposed and words[position - 1] != "एक" and (numeral or words[-1].endswith(("े", "ए")))
        allowed = set()
        for gender, number, case in self.readings[form]:
            if (case == "o") == postposed and not (counted and number == "s"):
                allowed |= {("f", "s"), ("f", "p")} if gender == "f" else {("m", "o" if postposed else number)}
        return bool(allowed & self.shows(words[position]))

    def subject(self, words, position):
        """The form of the first noun without a postposition, its position, and its number."""
        start, form, *_ = next(n for n in self.nouns(words) if not n[3] and n[0] < position)
        plural = form in self.honorific or any(word in self.numbers for word in words[max(start - 2, 0) : start])
        return form, "p" if plural else "s"

    def verb(self, words, position):
        """A verb agrees with its subject; after ने with its object, the noun of the clause that has no postposition."""
        word = words[position]
        if "ने" in words[:position]:
            form = [n for n in self.nouns(words) if not n[3] and n[0] < position][-1][1]
            options = {(g, n) for g, n, case in self.readings[form] if case == "d"}
        else:
            form, number = self.subject(words, position)
            options = {(g, number) for g, _, case in self.readings[form] if case == "d"}
        return bool(options & self.shows(word))

    def honorific_verb(self, words, position):
        """After an elder the verb is plural: आए, and for a woman with the nasal: आईं."""
        form = next(n[1] for n in self.nouns(words) if n[1] in self.honorific)
        woman = ("f", "s", "d") in self.readings[form]
        return words[position].endswith(("ीं", "ईं") if woman else ("े", "ए"))

    def has_ne(self, words, position):
        """ने stands after the subject just where the clause ends in a perfective verb that takes it."""
        ends = [i for i, w in enumerate(words) if w in (",", "और") and i > position] + [len(words)]
        verbs = [self.takes_ne[w] for w in words[: ends[0]] if w in self.takes_ne]
        return ("ने" in words[: ends[0]]) == verbs[-1]

    def judge(self, phenomenon, words, position):
        if phenomenon in ("adjective_gender", "adjective_number", "genitive", "oblique_adjective"):
            return self.with_noun_after(words, position)
        if phenomenon in ("subject_verb", "object_verb", "distance"):
            return self.verb(words, position)
        if phenomenon == "oblique_noun":
            assert words[position + 1] in POSTPOSITIONS
            return any((n, case) == ("s", "o") for _, n, case in self.readings[words[position]])
        if phenomenon == "number_noun":
            one = any(word in ("एक", "एक-एक") for word in words[:position])
            assert one != any(word in self.numbers for word in words[:position])
            if words[position] in ("का", "के"):  # of a noun that is the same in both numbers (लड्डू)
                return (words[position] == "का") == one
            texts = [words[position], " ".join(words[position - 1 : position + 1])]  # काजू कतली is one noun
            readings = {reading for text in texts for reading in self.readings[text]}
            return any((n, case) == ("s" if one else "p", "d") for _, n, case in readings)
        if phenomenon == "hai_hain":
            return words[position] == ("हैं" if self.subject(words, position)[1] == "p" else "है")
        return {"honorific": self.honorific_verb, "ne": self.has_ne}[phenomenon](words, position)


# --- English

PRONOUNS = {"he": "m", "him": "m", "his": "m", "she": "f", "her": "f"}


class English:
    """Judges English words by the lexicon's genders and plurals, and by the rules of a first grammar."""

    looks_at = staticmethod(difference)

    def __init__(self, language):
        words = language.words.values()
        self.gender = {word.text: word.features["gender"] for word in words if word.tags & {"child"}}
        self.numbers = {word.text for word in words if word.tags & {"number", "big number"}}
        forms = [(w.text, language.grammar.form_of(w, many=True)) for w in words if "verb" not in w.tags]
        self.singular = {one for one, many in forms if one != many}
        self.plural = {many for one, many in forms if one != many}

    def article(self, words, position):
        """an before a vowel sound: an owl, an eight-year-old, an honest boy, but a unicorn, a one-rupee coin."""
        following = words[position + 1].lower()
        vowel = following[0] in "aeiou" and not following.startswith(("uni", "one", "use", "eu"))
        return words[position] == ("an" if vowel or following.startswith(("honest", "hour")) else "a")

    def is_plural(self, words, position):
        """Whether the subject of a verb is plural: two names joined by and, a number after there, or a plural noun."""
        before, names = words[:position], [i for i, w in enumerate(words[:position]) if w in self.gender]
        if before[-1] == "there":
            return words[position + 1] in self.numbers
        if before[-1].lower() in ("he", "she"):
            return False
        if names:
            return len(names) > 1 and "and" in before[names[0] : names[-1]]
        return any(" ".join(before[-size:]) in self.plural for size in (1, 2)) or any(w in self.plural for w in before)

    def judge(self, phenomenon, words, position):
        word = words[position]
        if phenomenon == "article":
            return self.article(words, position)
        if phenomenon == "number_noun":
            assert any(w in self.numbers for w in words[:position])
            texts = [" ".join(words[first : position + 1]) for first in (position, position - 1)]
            return any(text in self.plural for text in texts)
        if word.lower() in PRONOUNS:
            gender = self.gender[next(w for w in words if w in self.gender)]
            assert ("girl" if gender == "f" else "boy") in words  # a reader need not know the name
            return gender == PRONOUNS[word.lower()]
        plural = word in ("were", "have") or not word.endswith("s")
        return plural == self.is_plural(words, position)


CHECKERS = {"hi": Hindi, "en": English}


@pytest.fixture
def checker(language):
    if language.code not in CHECKERS:
        pytest.skip(f"nobody has written a checker of {language.code}: see Hindi above")
    return CHECKERS[language.code](language)


def test_right_is_right_and_wrong_is_wrong(checker, committed):
    """The proof: for every pair the checker calls the first half right and the second wrong."""
    for pair in committed:
        right, wrong, position = checker.looks_at(pair)
        assert checker.judge(pair["phenomenon"], right, position) is True, pair
        assert checker.judge(pair["phenomenon"], wrong, position) is False, pair


def test_the_checker_finds_a_changed_word(checker, committed):
    """Pairs turned round fail: the proof is not one that agrees with everything."""
    for pair in committed[::37]:
        wrong, right, position = checker.looks_at({**pair, "right": pair["wrong"], "wrong": pair["right"]})
        verdicts = (
            checker.judge(pair["phenomenon"], wrong, position),
            checker.judge(pair["phenomenon"], right, position),
        )
        assert verdicts == (False, True)


# --- the file and the command


def test_bad_pair_files_are_refused(language, tmp_path, monkeypatch):
    monkeypatch.setattr(language, "folder", tmp_path)
    path = tmp_path / "pairs.txt"
    for text, message in (
        ("x = y\n== one\nno brackets here\n", "pairs.txt:3"),
        ("== one\na <b|c> d <e|f>\n", "pairs.txt:2"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(FrameError, match=message):
            read_pairs(language)
    path.write_text("== one\na <b|c> d\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'one' give only 1 new sentences of 200"):
        make_pairs(language, [])


def test_command_line_makes_pairs(language, committed, told, tmp_path, capsys, monkeypatch):
    def few(of, folder):
        assert (of.code, folder) == (language.code, DATA)
        return told[:2000]  # not to search all of it again

    monkeypatch.setattr("data.kahani.pairs.training_text", few)
    path = tmp_path / "pairs.jsonl"
    assert main(["--language", language.code, "--make", "pairs", "--seed", "1", "--output", str(path)]) == 0
    assert f"{len(committed)} pairs" in capsys.readouterr().out
    made = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert made != committed
    assert len(made) == len(committed)
