"""English grammar for the story frames: articles, plurals, possessives, pronouns, verbs, and the slots of the frames.

Frames are written as they shall read, capitals included. What stands between braces in a frame:

    {hero}                      the word as it is: Ravi
    {hero's}                    the possessive: Ravi's; {sheep*'s} in the plural
    {fruit*}                    the plural: mangoes
    {elder~}  {elder~'s}        a relation, written small after a possessive: her grandma, but her Aunt Leela
    {a fruit}  {A fruit}        with the right article: a mango, an apple; some rice; the Taj Mahal
    {a colour thing}            words in between, drawn or plain: an orange ball;  {a very old thing}: a very old ball
    {the helper}                with the, but none before a name: the potter, Uncle Iqbal
    {place @}                   a place with its preposition: at the market, on the roof;
    {quality place @}           and with an adjective: at the old market
    {number.less}               a word that the lexicon lists under this feature: three -> two
    {hobby.ing}  {hobby.past}   a form of a verb and what follows it: fly kites -> flying kites, flew kites;
    {hobby.done}                and its past participle: flown kites
    {he:hero}  {His:hero}       a pronoun, written as for a man: he, him, his, himself -> she, her, her, herself;
                                it, its for things and animals without gender; they, their in the plural
    {was:fruit*}                a verb, written as after he: was, is, has, looks -> were, are, have, look in the plural
    {he sings:hero+friend}      two are a plural: they sing
    {boy/girl:hero}             the first for a man or boy, the second for a woman or girl

A drawn word shows without its article, its 's and its preposition: these are the forms in the story's facts.
The functions below also work alone, with plain strings; `gender` is "m", "f" or None.
"""

from __future__ import annotations

import re
from functools import cache

from ..engine import Telling, Word

PRONOUNS = {  # masculine, feminine, neither, plural
    "he": ("he", "she", "it", "they"),
    "him": ("him", "her", "it", "them"),
    "his": ("his", "her", "its", "their"),
    "himself": ("himself", "herself", "itself", "themselves"),
}
PLURALS = {"is": "are", "was": "were", "has": "have", "does": "do", "goes": "go", "this": "these", "that": "those"}
ARTICLES = frozenset(["a", "an", "the"])
CONSONANT_SOUND = ("one", "uni", "use", "eu")  # a one-rupee coin, a uniform
VOWEL_SOUND = ("hour", "honest", "heir")  # an hour, an honest boy
CLOSING_SIGNS = ",.!?;:”"  # no blank stands before them
SENTENCE_START = re.compile(r"(?:^|[.!?] |\.” |“)[a-z]")  # not after !” and ?”: “Stop!” she said.


@cache
def article(following: str) -> str:
    """a or an, by the sound of the word that follows: a ball, an owl, an hour, an eight-year-old."""
    sound = following.lower()
    if sound.startswith(VOWEL_SOUND):
        return "an"
    return "an" if sound[0] in "aeiou" and not sound.startswith(CONSONANT_SOUND) else "a"


def plural(noun: str) -> str:
    """The regular plural: ball -> balls, box -> boxes, cherry -> cherries. Irregular ones stand in the lexicon."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def possessive(form: str) -> str:
    """Ravi -> Ravi's, but boys -> boys'. A name in -s takes the full 's: Thomas's."""
    return form + ("'" if form.endswith("s") and form[0].islower() else "'s")


def third(verb: str) -> str:
    """The form after he, she or it: look -> looks, carry -> carries, go -> goes, be -> is."""
    irregular = {"be": "is", "have": "has", "do": "does", "go": "goes"}
    return irregular.get(verb) or plural(verb)


def _doubles(verb: str) -> bool:
    """Whether the last consonant doubles before -ed and -ing: one vowel, one consonant (stop, but not look)."""
    return re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", verb.replace("qu", "q")) is not None


def past(verb: str, irregular: str | None = None) -> str:
    """The past tense: look -> looked, like -> liked, carry -> carried, stop -> stopped."""
    if irregular:
        return irregular
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + (verb[-1] if _doubles(verb) else "") + "ed"


def ing(verb: str) -> str:
    """The -ing form: look -> looking, make -> making, run -> running, see -> seeing."""
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if _doubles(verb) else "") + "ing"


def form_of(word: Word, *, many: bool = False) -> str:
    """A lexicon word in the singular or plural. A `plural` listed there wins; words without number never change."""
    if not many or is_mass(word) or word.features.get("many"):
        return word.text
    return word.features.get("plural") or plural(word.text)


def is_mass(word: Word) -> bool:
    """Whether a word has no plural and takes `some`, not `a`: rice, milk."""
    return bool(word.features.get("mass"))


def verb_form(phrase: str, form: str, words: dict[str, Word]) -> str:
    """`past`, `done` or `ing` of a verb and what follows it: fly kites -> flew kites, flown kites, flying kites.

    The lexicon knows irregular forms. Raises ValueError for a verb that it does not have.
    """
    verb, _, rest = phrase.removeprefix("to ").partition(" ")
    if f"to {verb}" not in words:
        raise ValueError(f"{phrase!r} begins with no verb of the lexicon: add 'to {verb}' to verbs.toml")
    listed = words[f"to {verb}"].features
    said = listed.get(form) or (ing(verb) if form == "ing" else past(verb, listed.get("past")))
    return f"{said} {rest}".strip()


def agree(word: str, gender: str | None, *, many: bool = False) -> str:
    """A pronoun, or a verb in the form after he, made to agree: he -> she, was -> were, carries -> carry."""
    if word.lower() in PRONOUNS:
        said = PRONOUNS[word.lower()][3 if many else {"m": 0, "f": 1}.get(gender, 2)]
        return said.capitalize() if word[0].isupper() else said
    if not many:
        return word
    if word.lower() in PLURALS:
        said = PLURALS[word.lower()]
        return said.capitalize() if word[0].isupper() else said
    if word.endswith("ies") and len(word) > 4:  # carries, but not ties
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes", "zes")) else word.removesuffix("s")


@cache
def parse_slot(slot: str) -> tuple[tuple[str, ...], str]:
    """A slot's words, and the nouns that they agree with, if any."""
    head, _, target = slot.partition(":")
    return tuple(head.split()), target


@cache
def without_marks(token: str) -> str:
    """fruit in fruit*, hero in hero's, number in number.less."""
    return re.split(r"[*.'~]", token, maxsplit=1)[0]


def fill(slot: str, telling: Telling) -> str:
    """The text of a slot (see the top of this file for all kinds)."""
    tokens, target = parse_slot(slot)
    return fill_agreement(tokens, target, telling) if target else fill_noun(tokens, telling)


def fill_noun(tokens: tuple[str, ...], telling: Telling) -> str:
    """Nouns, adjectives and plain words, with an article or a preposition if the slot asks for it."""
    first = tokens[0] if tokens[0].lower() in ARTICLES else None
    here = tokens[-1] == "@"
    said, last = [], None
    for token in tokens[first is not None : len(tokens) - here]:
        name = without_marks(token)
        if name in telling.plot.sources:
            last = telling.word(name)
            said.append(drawn_form(name, token.removeprefix(name), last, telling))
        else:
            said.append(token)
    if last is None:
        raise ValueError(f"the plot {telling.plot.name!r} has no name in the slot {{{' '.join(tokens)}}}")
    if here:
        said.insert(0, last.features["at"])
    if first is None:
        return " ".join(said)
    chosen = choose_article(first.lower(), last, said[0])
    return " ".join([chosen.capitalize() if first[0].isupper() else chosen, *said]).strip()


def drawn_form(name: str, marks: str, word: Word, telling: Telling) -> str:
    """The form of a drawn word that its marks ask for (none, *, ~, 's, *'s, .past, .ing, .feature), noted as shown."""
    if marks in (".past", ".done", ".ing"):
        return telling.show(name, verb_form(word.text, marks[1:], telling.language.words))
    if marks.startswith("."):  # this shows the feature, not the word: another slot must show that
        return word.features[marks[1:]]
    if marks not in ("", "*", "'s", "*'s", "~", "~'s"):
        raise ValueError(
            f"the plot {telling.plot.name!r} asks for {name + marks!r}: marks: *, ~, 's, .past, .done, .ing, .feature"
        )
    said = form_of(word, many="*" in marks)
    form = telling.show(name, said.lower() if "~" in marks and word.features.get("relation") else said)
    return possessive(form) if marks.endswith("'s") else form


def choose_article(wanted: str, word: Word, following: str) -> str:
    """The article before a word: a or an; some before rice; the before the Taj Mahal; none before a name."""
    if word.features.get("name"):
        return ""
    if wanted == "the" or word.features.get("unique"):
        return "the"
    return "some" if is_mass(word) or word.features.get("many") else article(following)


def fill_agreement(tokens: tuple[str, ...], target: str, telling: Telling) -> str:
    """Pronouns and verbs that agree with one or more nouns of the plot."""
    nouns = [name.strip() for name in target.split("+")]
    words = [telling.word(noun.rstrip("*")) for noun in nouns]
    one = words[0]
    gender = one.features.get("gender")
    many = len(words) > 1 or bool(one.features.get("many")) or ("*" in target and not is_mass(one))
    said = []
    for token in tokens:
        if "/" in token:
            said.append(token.split("/")[gender == "f"])
            continue
        verb = "to " + agree(token, None, many=True)
        if not (token.lower() in PRONOUNS or token.lower() in PLURALS or verb in telling.language.words):
            raise ValueError(f"the plot {telling.plot.name!r} bends {token!r}, but the lexicon has no verb {verb!r}")
        said.append(agree(token, gender, many=many))
    return " ".join(said)


def finish(text: str) -> str:
    """Single spaces, none before , . ! ? ” and none after “; a capital where a sentence starts."""
    text = " ".join(text.split())
    for sign in CLOSING_SIGNS:
        text = text.replace(" " + sign, sign)
    text = text.replace("“ ", "“")
    return SENTENCE_START.sub(lambda found: found[0][:-1] + found[0][-1].upper(), text)
