"""Tests of the story generator: right Hindi and English, exact probabilities, the same archives every time."""

from __future__ import annotations

import collections
import gzip
import io
import itertools
import json
import math
import random
import re
import tarfile
import unicodedata
from functools import cache
from pathlib import Path

import pytest

kahani = pytest.importorskip("data.kahani", reason="the story generator stands in data/, beside the library")
tomllib = pytest.importorskip("tomllib", reason="the story generator needs Python 3.11; the archives need no generator")

from data.kahani.__main__ import main  # noqa: E402
from data.kahani.archive import pack, tell_many  # noqa: E402
from data.kahani.en import grammar as english_grammar  # noqa: E402
from data.kahani.engine import Telling  # noqa: E402
from data.kahani.frames import Call, FrameError, OneOf, Slot, parse_line, read_plot  # noqa: E402
from data.kahani.hi import grammar  # noqa: E402

ROOT = Path(__file__).parents[2]
CODES = kahani.languages()


def archive_path(code):
    return ROOT / "data" / f"kahani-{code}.tar.gz"


@cache
def load(code):
    return kahani.load_language(code)


@cache
def told(code):
    """Three thousand stories of a language."""
    rng = random.Random(11)
    return [load(code).tell(rng) for _ in range(3000)]


@pytest.fixture(scope="module")
def hindi():
    return load("hi")


@pytest.fixture(scope="module")
def english():
    return load("en")


@pytest.fixture(scope="module", params=CODES)
def language(request):
    """Each language in turn: a test that takes this (or stories, or files) holds in every language."""
    return load(request.param)


@pytest.fixture(scope="module")
def stories(language):
    return told(language.code)


@pytest.fixture(scope="module")
def files(language):
    if not archive_path(language.code).exists():
        pytest.skip(f"{language.code} has no archive yet: `python -m data.kahani --language {language.code}` writes it")
    with tarfile.open(archive_path(language.code)) as tar:
        return {Path(entry.name).name: tar.extractfile(entry).read() for entry in tar.getmembers()}


def parts_of(line):
    """All slots and calls of a line, at any depth."""
    for part in line:
        if isinstance(part, OneOf):
            for option in part.options:
                yield from parts_of(option)
        else:
            yield part


def all_blocks(language):
    for plot in [*language.plots.values(), language.shared]:
        for block in [*plot.told, *plot.blocks.values()]:
            yield plot, block


# --- the Hindi grammar


@pytest.mark.parametrize(
    ("noun", "gender", "forms"),
    [
        ("लड़का", "m", "लड़के लड़के लड़कों"),
        ("घर", "m", "घर घर घरों"),
        ("हाथी", "m", "हाथी हाथी हाथियों"),
        ("लड्डू", "m", "लड्डू लड्डू लड्डुओं"),
        ("किताब", "f", "किताब किताबें किताबों"),
        ("लड़की", "f", "लड़की लड़कियाँ लड़कियों"),
        ("चिड़िया", "f", "चिड़िया चिड़ियाँ चिड़ियों"),
        ("माला", "f", "माला मालाएँ मालाओं"),
        ("झाड़ू", "f", "झाड़ू झाड़ुएँ झाड़ुओं"),
    ],
)
def test_nouns_take_their_forms(noun, gender, forms):
    """Oblique singular, direct plural and oblique plural, for each class of nouns."""
    got = [
        grammar.noun_form(noun, gender, oblique=True),
        grammar.noun_form(noun, gender, plural=True),
        grammar.noun_form(noun, gender, plural=True, oblique=True),
    ]
    assert got == unicodedata.normalize("NFC", forms).split()


@pytest.mark.parametrize(
    ("phrase", "feminine", "plural", "feminine_plural"),
    [
        ("गया था", "गई थी", "गए थे", "गई थीं"),
        ("आया", "आई", "आए", "आईं"),
        ("किया", "की", "किए", "कीं"),
        ("दिया है", "दी है", "दिए हैं", "दी हैं"),
        ("हुआ", "हुई", "हुए", "हुईं"),
        ("बोला", "बोली", "बोले", "बोलीं"),
        ("जाएगा", "जाएगी", "जाएँगे", "जाएँगी"),
        ("मिलेगा", "मिलेगी", "मिलेंगे", "मिलेंगी"),
        ("होगा", "होगी", "होंगे", "होंगी"),
        ("रहा है", "रही है", "रहे हैं", "रही हैं"),
        ("आया हूँ", "आई हूँ", "आया हूँ", "आई हूँ"),
        ("जाऊँगा", "जाऊँगी", "जाऊँगा", "जाऊँगी"),
    ],
)
def test_verbs_agree(phrase, feminine, plural, feminine_plural):
    """The nasal of the feminine plural stands once, at the end; मैं stays singular even when an elder speaks."""
    assert grammar.agree(phrase, "m") == phrase
    assert grammar.agree(phrase, "f") == feminine
    assert grammar.agree(phrase, "m", plural=True) == plural
    assert grammar.agree(phrase, "f", plural=True) == feminine_plural


def test_adjectives_agree():
    """Adjectives have no nasal, an oblique in -े, and those that do not end in -ा never change."""
    assert grammar.agree("पीला", "f", plural=True, verb=False) == "पीली"
    assert grammar.agree("पीला", "m", oblique=True) == "पीले"
    assert grammar.agree("नया", "f", verb=False) == "नई"
    assert grammar.agree("सीधा-सादा", "f", verb=False) == unicodedata.normalize("NFC", "सीधी-सादी")
    for word in ("लाल", unicodedata.normalize("NFC", "बढ़िया"), "सुंदर"):
        assert grammar.agree(word, "f", plural=True, verb=False) == word


@pytest.mark.parametrize(
    ("verb", "participle"),
    [
        ("बोलना", "बोला"),
        ("खाना", "खाया"),
        ("पीना", "पिया"),
        ("छूना", "छुआ"),
        ("जाना", "गया"),
        ("करना", "किया"),
        ("सोना", "सोया"),
    ],
)
def test_past_participles(verb, participle):
    assert grammar.past(verb) == participle


def test_words_that_agree_are_adjectives_or_verb_forms(hindi):
    """Every word in -ा that a frame bends is in the lexicon, so no adverb or noun is bent by mistake (घबरा -> घबरी)."""
    adjectives = {text for text, word in hindi.words.items() if "gender" not in word.features}
    verbs = [text for text, word in hindi.words.items() if "क्रिया" in word.tags]
    known = adjectives | grammar.POSSESSIVES | {"था"}
    known |= {grammar.past(verb) for verb in verbs} | {grammar.present(verb) for verb in verbs}
    unknown = set()
    for plot, block in all_blocks(hindi):
        for part in parts_of(sum(block.lines.options, ())):
            if isinstance(part, Slot) and ":" in part.text:
                for word in part.text.partition(":")[0].split():
                    bends = word.endswith(("ा", "आ")) and not word.endswith("गा") and "/" not in word
                    if bends and word not in known and word not in plot.sources:
                        unknown.add(f"{block.lines.what}: {word}")
    assert not unknown


def test_ne_stands_only_with_verbs_that_take_it(hindi):
    """In a frame `{X ने} … {verb:Y}` the first verb form after ने comes from a verb with ne = true."""
    forms = {grammar.past(text): word for text, word in hindi.words.items() if "क्रिया" in word.tags}
    wrong = []
    for _, block in all_blocks(hindi):
        for line in block.lines.options:
            flat = [part for part in line if not isinstance(part, str)]
            for first, second in itertools.pairwise(flat):
                if (
                    isinstance(first, Slot)
                    and first.text.endswith(" ने")
                    and isinstance(second, Slot)
                    and ":" in second.text
                ):
                    verb = second.text.partition(":")[0].split()[0]
                    subject = first.text.split()[0]
                    if verb in forms and not forms[verb].features["ne"] and second.text.endswith(":" + subject):
                        wrong.append(f"{block.lines.what}: {first.text} … {second.text}")
    assert not wrong


def test_no_word_of_a_verb_is_a_name_of_the_plot(hindi):
    """{डर गया:नायक} in a plot that calls its fear डर would say "साँप गया": only a noun before का may be such a name."""
    mistaken = []
    for plot, block in all_blocks(hindi):
        for slot in slots_of(block.lines):
            words = slot.text.partition(":")[0].split() if ":" in slot.text else []
            for word, following in itertools.pairwise([*words, ""]):
                if len(words) > 1 and word in plot.sources and following != "का":
                    mistaken.append(f"{block.lines.what}: {{{slot.text}}}")
    assert not mistaken


def slots_of(part):
    """All gaps in a part of a frame."""
    if isinstance(part, Slot):
        yield part
    elif not isinstance(part, str):
        for inner in getattr(part, "options", part if isinstance(part, tuple) else ()):
            yield from slots_of(inner)


def test_agreement_in_the_hindi_text(hindi):
    """Looked at from outside: name + participle, and genitive + noun, in three thousand finished stories."""
    gender = {word.text: word.features["gender"] for word in hindi.tagged("बच्चा")}
    elders = {w.text: w.features["gender"] for tag in ("घरवाला", "कामवाला", "यात्री") for w in hindi.tagged(tag)}
    ending = {"m": "ा", "f": "ी"}
    seen = 0
    for story in told("hi"):
        for name, verb in re.findall(r"(?:^|[।”] )(\S+) (?:[^।“”]* )?(रहत[ाी] थ[ाी]|चिल्ला\S+|लौट[ाी])।", story.text):
            if name in gender:
                seen += 1
                assert verb[-1] == ending[gender[name]] or verb in ("चिल्लाया", "चिल्लाई"), (name, verb, story.text)
        for elder, sex in elders.items():
            for form in re.findall(rf"{elder} (बोल\S+|आ(?:या|ई|ए|ईं)|मुस्कुरा\S+)[,।]", story.text):
                seen += 1
                assert form[-1] in ("े", "ए") if sex == "m" else form.endswith("ं"), (elder, form, story.text)
        for possessive, noun in re.findall(
            r"\b(उसक[ाीे]) (माँ|पिताजी|दादी|नानी|दादाजी|नानाजी|मामा|चाचा|बुआ|मौसी)(?= |।)", story.text
        ):
            seen += 1
            assert possessive == ("उसकी" if elders[noun] == "f" else "उसके"), story.text
    assert seen > 800


# --- the English grammar


@pytest.mark.parametrize(
    ("following", "article"),
    [
        ("ball", "a"),
        ("owl", "an"),
        ("eight", "an"),
        ("hour", "an"),
        ("honest", "an"),
        ("uniform", "a"),
        ("one-rupee", "a"),
        ("Uncle", "an"),
    ],
)
def test_articles_follow_the_sound(following, article):
    assert english_grammar.article(following) == article


def test_english_nouns_take_their_forms(english):
    """Plurals by rule and from the lexicon, words without a plural, and the possessive."""
    plurals = "ball balls box boxes diary diaries toy toys torch torches puppy puppies monkey monkeys".split()
    for noun, many in zip(plurals[::2], plurals[1::2], strict=True):
        assert english_grammar.plural(noun) == many
    for noun, many in [
        ("mango", "mangoes"),
        ("scarf", "scarves"),
        ("calf", "calves"),
        ("sheep", "sheep"),
        ("rice", "rice"),
    ]:
        assert english_grammar.form_of(english.words[noun], many=True) == many
    assert [english_grammar.possessive(form) for form in ("Ravi", "Thomas", "boys")] == ["Ravi's", "Thomas's", "boys'"]


@pytest.mark.parametrize(
    ("verb", "third", "past", "ing"),
    [
        ("look", "looks", "looked", "looking"),
        ("love", "loves", "loved", "loving"),
        ("carry", "carries", "carried", "carrying"),
        ("play", "plays", "played", "playing"),
        ("stop", "stops", "stopped", "stopping"),
        ("watch", "watches", "watched", "watching"),
        ("open", "opens", "opened", "opening"),
        ("go", "goes", "went", "going"),
        ("fly", "flies", "flew", "flying"),
        ("begin", "begins", "began", "beginning"),
        ("tie", "ties", "tied", "tying"),
        ("free", "frees", "freed", "freeing"),
    ],
)
def test_english_verbs_take_their_forms(english, verb, third, past, ing):
    assert english_grammar.third(verb) == third
    assert english_grammar.verb_form(f"{verb} away", "past", english.words) == f"{past} away"
    assert english_grammar.verb_form(verb, "ing", english.words) == ing
    assert english_grammar.verb_form("break it", "done", english.words) == "broken it"
    assert english_grammar.agree(third, "m", many=True) == verb


def test_english_words_agree():
    """Pronouns by gender and number, with their capitals; was and were."""
    assert [english_grammar.agree("he", gender) for gender in ("m", "f", None)] == ["he", "she", "it"]
    assert english_grammar.agree("His", "f") == "Her"
    assert english_grammar.agree("himself", "f", many=True) == "themselves"
    assert english_grammar.agree("was", "f") == "was"
    assert english_grammar.agree("was", None, many=True) == "were"


def test_english_sentences_begin_with_a_capital():
    """But not the words after a cry: “Stop!” she said."""
    assert english_grammar.finish("on the roof sat  a cat . “stop!” she said , laughing. “i” it said.") == (
        "On the roof sat a cat. “Stop!” she said, laughing. “I” it said."
    )


def test_agreement_in_the_english_text():
    """From outside: where all persons have one gender, no pronoun of the other stands; a and an; was and were."""
    other = {"m": {"she", "her", "hers", "herself"}, "f": {"he", "him", "his", "himself"}}
    wrong = re.compile(
        r"\b(?:they|we|you|these|those) (?:was|is|has)\b|\b(?:he|she|it|this|that) (?:were|are|have)\b"
        r"|\ban (?!hour|honest)[^aeiou]|\ba (?:[aeiou]|hour|honest)|\b(?:a|an|the) (?:a|an|the)\b|\bher her\b"
    )
    seen = 0
    for story in told("en"):
        text = story.text.lower()
        assert not wrong.search(text), (wrong.search(text), story.text)
        assert not re.search(r"(?:^|[.?] |\.” |“)[a-z]", story.text), story.text
        genders = {value for name, value in story.facts.items() if name.endswith("_gender")}
        if len(genders) == 1:
            seen += 1
            assert not other[genders.pop()] & set(re.findall("[a-z]+", text)), story.text
    assert seen > 100


def test_irregular_verbs_stand_right_in_the_english_text(english):
    """No rule was used where the lexicon knows better: goed, flyed, catched never occur."""
    wrong = {
        english_grammar.past(text.removeprefix("to "))
        for text, word in english.words.items()
        if "past" in word.features and text != "to be"
    }
    wrong -= {word.features.get("past") for word in english.tagged("verb")}  # read, put
    words = {word for story in told("en") for word in re.findall("[a-z]+", story.text)}
    assert not words & wrong


# --- the stories


TAGS = {  # what the languages call the kinds of words that the datasheet counts
    "hi": {
        "names": ["बच्चा"],
        "boys": ["लड़का"],
        "girls": ["लड़की"],
        "cities": ["शहर"],
        "animals": ["जानवर"],
        "places": ["जगह"],
        "verbs": ["क्रिया"],
        "things": ["चीज़", "घर का सामान", "टूटने वाली", "पानी का बर्तन", "रोशनी", "चीज़ें", "आवाज़", "इनाम", "खाना"],
    },
    "en": {
        "names": ["child"],
        "boys": ["boy"],
        "girls": ["girl"],
        "cities": ["city"],
        "animals": ["animal"],
        "places": ["place"],
        "verbs": ["verb"],
        "things": ["thing", "breakable", "water pot", "light", "sea thing", "sound", "prize", "eatable"],
    },
}
ADJECTIVES = {
    "hi": lambda word: "gender" not in word.features and "क्रिया" not in word.tags,
    "en": lambda word: word.tags & {"nature", "place quality", "colour", "coat colour", "number", "big number"},
}
LETTERS = {"hi": r"[\u0900-\u0963\u0970-\u097f]+", "en": r"[a-z]+(?:['-][a-z]+)*"}


COUNTS = {  # as in the datasheet; `words` are the different word forms of the training text
    "hi": {
        "names": 104, "boys": 52, "girls": 52, "cities": 50, "animals": 55, "places": 120, "verbs": 151, "things": 204,
        "adjectives": 112, "entries": 1588, "plots": 25, "frames": 1163, "words": 3458,
    },
    "en": {
        "names": 104, "boys": 52, "girls": 52, "cities": 50, "animals": 78, "places": 108, "verbs": 156, "things": 181,
        "adjectives": 70, "entries": 1427, "plots": 25, "frames": 1167, "words": 3114,
    },
}  # fmt: skip


def test_richness(language, files):
    """The numbers that the datasheet promises, counted from lexicon, frames and training text."""
    if language.code not in TAGS:
        pytest.skip(f"the datasheet says nothing of {language.code}")
    counts = {
        kind: len({word for tag in tags for word in language.tagged(tag)}) for kind, tags in TAGS[language.code].items()
    }
    counts["adjectives"] = sum(bool(ADJECTIVES[language.code](word)) for word in language.words.values())
    counts["entries"] = len(language.words)
    counts["plots"] = len(language.plots)
    counts["frames"] = sum(len(block.lines.options) for plot, block in all_blocks(language))
    words = " ".join(set(files["train.txt"].decode("utf-8").lower().split()))
    counts["words"] = len(set(re.findall(LETTERS[language.code], words)))
    assert counts == COUNTS[language.code]
    assert counts["plots"] >= 24 and counts["words"] >= 3000


def test_every_word_can_be_drawn(language):
    """The lexicon holds no dead words: each is a verb or adjective of the frames, or some plot can draw it."""
    sources = [source for plot in language.plots.values() for source in plot.sources.values()]
    drawn = {word.text for source in sources if source.tags for word in language.tagged(*source.tags)}
    for source in sources:
        if source.owner:
            drawn.update(*(word.features.get(source.feature, []) for word in language.words.values()))
    grammatical = {"क्रिया", "विशेषण", "verb"}
    assert [text for text, word in language.words.items() if text not in drawn and not word.tags & grammatical] == []


def test_every_frame_can_be_said(language):
    """Each slot of each frame is filled without an error, with the first and with the last word of every list."""
    for pick in (lambda options: 0, lambda options: options - 1):
        for plot in language.plots.values():
            for block in [*plot.told, *plot.blocks.values(), *language.shared.blocks.values()]:
                telling = Telling(language, pick)
                telling.plot, telling.drawn = plot, {}
                for part in parts_of(sum(block.lines.options, ())):
                    if isinstance(part, Slot):
                        assert language.grammar.fill(part.text, telling)


def test_facts_have_the_same_names_in_every_language():
    """Lessons ask the same questions in every language. The plots' file names are the same, too.

    A new language may have fewer plots, and facts, than Hindi.
    """
    names = {}
    for code in CODES:
        names[code] = {
            name: {*plot.facts.values(), *(block.fact for block in plot.told if block.fact)}
            for name, plot in load(code).plots.items()
        }
    assert names["en"] == names["hi"]
    for code in CODES:
        unknown = {(name, fact) for name, facts in names[code].items() for fact in facts - names["hi"].get(name, set())}
        assert not unknown, f"{code}: facts that Hindi does not have in this plot"


LENGTHS = {"hi": (67, 159, 118), "en": (77, 158, 120)}  # words of the shortest, longest, mean training story


def test_every_plot_is_told_and_lengths_stay_in_bounds(language, stories):
    """Children's stories of 50 to 160 words, every plot about equally often."""
    plots = collections.Counter(story.facts["plot"] for story in stories)
    assert set(plots) == set(language.plots)
    lengths = [len(story.text.split()) for story in stories]
    assert min(lengths) >= 50
    assert max(lengths) <= 160


def test_lengths_in_the_archive_are_those_of_the_datasheet(language, files):
    """Shortest, longest and mean story of the training text, in words."""
    if language.code not in LENGTHS:
        pytest.skip(f"the datasheet says nothing of {language.code}")
    lengths = [line.count(" ") + 1 for line in files["train.txt"].decode("utf-8").splitlines()]
    assert (min(lengths), max(lengths), round(sum(lengths) / len(lengths))) == LENGTHS[language.code]


TWICE = {"hi": {"गाना"}}  # words that may stand twice in a row: the pastime गाना गाना
STRAY = {  # what must not be left over in a text
    "hi": r"[\[\]{}()|<>*~@_\n\t\"'.]|  | [।,!?”]|“ |।।",
    "en": r"[\[\]{}()|<>*~@_\n\t\"’]|  | [.,!?”]|“ |[.,] ?[.,]|\.[A-Za-z]",
}


def test_text_is_clean(language, stories):
    """NFC, one style of punctuation, no brackets left over, no space before a sign, no word twice in a row."""
    for story in stories:
        text = story.text
        assert unicodedata.normalize("NFC", text) == text
        assert not re.search(STRAY.get(language.code, STRAY["en"]), text), text
        assert text.count("“") == text.count("”")
        assert text[-1] in "।.!?”", text
        twice = re.findall(r"(?:^| )([^ ]{2,}) \1(?= |।|\.)", text)
        assert set(twice) <= TWICE.get(language.code, set()), text


def test_facts_stand_in_the_text(stories):
    """A fact is a word (or sentence) of the story; gender and plot are the only others. Hero and friend differ.

    Where the story shows another form than that of the lexicon, that form is a fact, too.
    """
    for story in stories:
        for name, value in story.facts.items():
            if name != "plot" and not name.endswith("_gender"):
                assert story.facts.get(f"{name}_shown", value) in story.text, (name, value, story.text)
        assert {"plot", "hero"} <= set(story.facts)
        assert len(story.facts) >= 8
        assert story.facts["hero"] != story.facts.get("friend")


# --- the probabilities


def test_bits_are_the_sum_of_the_choices(stories):
    for story in stories[:500]:
        assert story.bits == pytest.approx(-math.log2(math.prod(1 / choice.options for choice in story.choices)))
        assert all(0 <= choice.taken < choice.options and choice.options > 1 for choice in story.choices)


def test_choices_are_uniform(stories):
    """Chi-square of every choice seen often: no further than five standard deviations above its mean."""
    seen = collections.defaultdict(collections.Counter)
    for story in stories:
        for choice in story.choices:
            seen[choice.what, choice.options][choice.taken] += 1
    tested = 0
    for (what, options), counts in seen.items():
        total = sum(counts.values())
        if total < 20 * options:
            continue
        tested += 1
        expected = total / options
        chi2 = sum((counts[taken] - expected) ** 2 / expected for taken in range(options))
        spread = 2 / (9 * (options - 1))  # Wilson and Hilferty, 1931: the cube root of chi2/freedom is nearly normal
        deviation = ((chi2 / (options - 1)) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
        assert deviation < 5, (what, chi2, options)
    assert tested > min(100, len(seen) // 2)  # a small language has fewer choices


def test_a_telling_repeats_from_its_choices(language, stories):
    """The recorded choices are all there is: they alone give the same story again."""
    for story in stories[:300]:
        rest = iter(story.choices)

        def replay(options, rest=rest):
            choice = next(rest)
            assert choice.options == options
            return choice.taken

        assert Telling(language, replay).story() == story
        assert next(rest, None) is None


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 8), marks=pytest.mark.slow)], ids=str)
def test_each_text_has_one_derivation(language, seeds):
    """Found by search through all ways to tell a text. Then -log2 p of the derivation is -log2 p of the text."""
    for seed in seeds:
        story = language.tell(seed)
        assert kahani.derivations(language, story.text) == [story]
    for text in ("यह कहानी कोई नहीं कहता।", "Nobody tells this story."):
        assert kahani.derivations(language, text) == []


@pytest.mark.parametrize("count", [45_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_stories_never_meet(language, files, count):
    """No text comes twice among so many stories: those of the archive and as many new ones as it takes."""
    texts = {hash(line) for part in ("train", "test") for line in files[f"{part}.txt"].decode("utf-8").splitlines()}
    rng = random.Random(99)
    texts.update(hash(language.tell(rng).text) for _ in range(count - len(texts)))
    assert len(texts) == count


# --- the archive


def test_archive_begins_with_the_same_stories(language, files):
    """The test stories and the first training stories, told again from the archive's own about.json; then its tar."""
    about = json.loads(files["about.json"])
    again = tell_many(language, 4_000, about["test_stories"], about["seed"])
    assert again["test.txt"] == files["test.txt"]
    assert files["train.txt"].startswith(again["train.txt"])
    path = archive_path(language.code)
    assert gzip.decompress(path.read_bytes()) == pack(files, f"kahani-{language.code}")


@pytest.mark.slow
def test_archive_is_reproduced(language, files):
    """All of the committed archive, told again: the same bytes."""
    about = json.loads(files["about.json"])
    assert tell_many(language, about["train_stories"], about["test_stories"], about["seed"]) == files


def test_archive_is_as_promised(language, files):
    """Counts, sizes, floor, one story per line, NFC, and no test story in the training text."""
    about = json.loads(files["about.json"])
    assert about["language"] == language.code
    assert about["train_stories"] >= 40_000
    assert about["test_stories"] >= 1_000
    assert archive_path(language.code).stat().st_size < 12_000_000
    lines = {}
    for part in ("train", "test"):
        data = files[f"{part}.txt"]
        lines[part] = data.decode("utf-8").splitlines()
        assert len(lines[part]) == about[f"{part}_stories"]
        assert len(data) == about[f"{part}_bytes"]
        assert about[f"{part}_floor_bits_per_byte"] == pytest.approx(about[f"{part}_bits"] / len(data), abs=1e-6)
        assert all(lines[part])
    assert not set(lines["train"]) & set(lines["test"])
    assert len(set(lines["train"])) == len(lines["train"])
    assert unicodedata.is_normalized("NFC", "\n".join(lines["train"]))


@pytest.mark.parametrize("code", CODES)
def test_command_line(code, tmp_path, capsys):
    """It writes an archive, twice the same; for an unknown language it names the known ones and writes nothing."""
    one, two = tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"
    for path in (one, two):
        arguments = ["--language", code, "--stories", "30", "--test-stories", "5", "--seed", "3", "--output", str(path)]
        assert main(arguments) == 0
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(one.read_bytes())) as tar:
        assert sorted(tar.getnames()) == [f"kahani-{code}/{name}" for name in ("about.json", "test.txt", "train.txt")]
    capsys.readouterr()
    assert main(["--language", "xx", "--output", str(tmp_path / "three.tar.gz")]) == 2
    error = capsys.readouterr().err
    assert "xx" in error
    assert all(known in error for known in CODES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tar.gz", "two.tar.gz"]
    assert main(["--stories", "0"]) == 2


# --- the frame files


def test_all_calls_and_names_exist(language):
    for plot, block in all_blocks(language):
        for part in parts_of(sum(block.lines.options, ())):
            if isinstance(part, Call):
                assert part.block in plot.blocks or part.block in language.shared.blocks, (plot.name, part.block)


@pytest.mark.parametrize("line", ["एक (दो|तीन", "एक दो)", "एक {दो", "एक (दो|दो)"])
def test_bad_lines_are_refused(line):
    with pytest.raises(FrameError, match="frame"):
        parse_line(line, "frame")


def test_bad_files_are_refused(tmp_path):
    path = tmp_path / "bad.txt"
    for text, message in (
        ("== अ\nएक\nएक\n", "twice"),
        ("एक\n", "expected"),
        ("== अ\n", "no lines"),
        ("++ अ\nएक\n++ अ\nदो\n", "two blocks"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(FrameError, match=message):
            read_plot(path)
