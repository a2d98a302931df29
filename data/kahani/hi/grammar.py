"""Hindi grammar for the story frames: forms of nouns and verbs, agreement, postpositions, and the slots of the frames.

What stands between braces in a frame:

    {नायक}             the word as it is: रवि
    {नायक ने}           with one or more postpositions, so in the oblique: रवि ने, लड़के ने, दादी के पास
    {फल*}  {फल* में}     in the plural: केले, केलों में
    {रंग~} रंग का        in the oblique without a postposition: पीले रंग का
    {जगह @}            a place with its own postposition: बाज़ार में, छत पर, नदी के किनारे
    {संख्या.less}         a word that the lexicon lists under this feature: तीन -> दो
    {गया था:नायक}       words that agree with a noun: गया था, गई थी; for elders and in the plural गए थे, गई थीं
    {रंग:पतंग}           an adjective that agrees with a noun: पीली पतंग;  {रंग:छाता~} for a noun in the oblique: पीले छाते में
    {नायक का:पतंग}       का agrees with the thing owned: रवि की पतंग
    {हँसा:नायक+साथी}     agreement with two: हँसे, or हँसीं if both are feminine
    {बेटा/बेटी:नायक}      the first for a masculine noun, the second for a feminine one

The functions below also work alone, with plain strings; `gender` is "m" or "f".
"""

from __future__ import annotations

from functools import cache

from ..engine import Telling, Word

# Words in -ा that agree like adjectives: their feminine plural has no nasal (मेरी किताबें, but किताबें गिरीं).
POSSESSIVES = frozenset(
    [
        "का",
        "मेरा",
        "हमारा",
        "तुम्हारा",
        "आपका",
        "उसका",
        "उनका",
        "इसका",
        "अपना",
        "किसका",
        "वाला",
        "इतना",
        "कितना",
        "सारा",
        "सा",
    ]
)
UNCHANGING = frozenset(["बढ़िया", "ताज़ा", "ज़्यादा"])
IRREGULAR_PAST = {"जाना": "गया", "करना": "किया", "होना": "हुआ", "देना": "दिया", "लेना": "लिया", "पीना": "पिया"}
CLOSING_SIGNS = "।,!?”…"  # no blank stands before them


def noun_form(noun: str, gender: str, *, plural: bool = False, oblique: bool = False, fixed: bool = False) -> str:
    """One of the four forms of a noun: लड़का, लड़के, लड़के, लड़कों; किताब, किताबें, किताब, किताबों.

    `fixed` is for masculine nouns in -ा that do not change (राजा, दादा, all given names).
    """
    if not plural:
        return noun[:-1] + "े" if oblique and gender == "m" and noun.endswith("ा") and not fixed else noun
    if gender == "m" and noun.endswith("ा") and not fixed:
        return noun[:-1] + ("ों" if oblique else "े")
    if noun.endswith("िया") and gender == "f":
        return noun[:-1] + ("ों" if oblique else "ाँ")
    if noun.endswith(("ी", "ि")):
        return noun if gender == "m" and not oblique else noun[:-1] + ("ियों" if oblique else "ियाँ")
    if noun.endswith("ू"):
        return noun if gender == "m" and not oblique else noun[:-1] + ("ुओं" if oblique else "ुएँ")
    vowel_end = noun[-1] in "ाेैोौुआईएओ"
    if oblique:
        return noun + ("ओं" if vowel_end else "ों")
    if gender == "m":
        return noun
    return noun + ("एँ" if vowel_end else "ें")


def form_of(word: Word, *, plural: bool = False, oblique: bool = False) -> str:
    """The form of a lexicon word. A form listed there (`plural`, `oblique`, `oblique_plural`) wins over the rule."""
    features = word.features
    listed = ("oblique_plural" if oblique else "plural") if plural else "oblique" if oblique else None
    if listed in features:
        return features[listed]
    return noun_form(
        word.text, features.get("gender", "m"), plural=plural, oblique=oblique, fixed=features.get("fixed", False)
    )


@cache
def agree_word(word: str, gender: str, plural: bool, *, nasal: bool = False, oblique: bool = False) -> str:
    """One word in the masculine singular, made to agree. `nasal`: it ends a verb, so गई becomes गईं in the plural."""
    if "-" in word:  # सीधा-सादा -> सीधी-सादी
        return "-".join(agree_word(part, gender, plural, nasal=nasal, oblique=oblique) for part in word.split("-"))
    if word == "है":
        return "हैं" if plural else "है"
    if word.endswith("ूँगा") or word.endswith("ऊँगा"):  # first person: मैं जाऊँगा, and also when an elder speaks
        return word[:-1] + ("ी" if gender == "f" else "ा")
    if word == "होगा":
        return ("हों" if plural else "हो") + ("गी" if gender == "f" else "गे" if plural else "गा")
    if word.endswith("ेगा") or word.endswith("एगा"):
        stem = word[:-2] + ("ँ" if word.endswith("एगा") else "ं") if plural else word[:-2]
        return stem + "ग" + ("ी" if gender == "f" else "े" if plural else "ा")
    if word in UNCHANGING or not word.endswith(("ा", "आ")):
        return word
    if gender == "m":
        if not (plural or oblique):
            return word
        return word[:-2] + "ए" if word.endswith("या") else word[:-1] + ("ए" if word.endswith("आ") else "े")
    if word.endswith("िया"):
        stem, ending = word[:-3], "ी"
    elif word.endswith("या"):
        stem, ending = word[:-2], "ई"
    else:
        stem, ending = word[:-1], "ई" if word.endswith("आ") else "ी"
    return stem + ending + ("ं" if nasal and plural else "")


def agree(phrase: str, gender: str, *, plural: bool = False, oblique: bool = False, verb: bool = True) -> str:
    """A phrase in the masculine singular (चला गया था, छोटा, मेरा) made to agree: चली गई थी, छोटे, मेरी.

    In a verb only the last word takes the nasal of the feminine plural: चली गई थीं; with है the nasal is there: चली गई हैं.
    """
    words = phrase.split()
    if "हूँ" in words:  # मैं आई हूँ: the first person is singular even when an elder speaks
        plural = False
    last = len(words) - 1
    return " ".join(
        agree_word(word, gender, plural, nasal=verb and i == last, oblique=oblique) for i, word in enumerate(words)
    )


def past(verb: str) -> str:
    """The perfective participle of an infinitive: बोलना -> बोला, खाना -> खाया, पीना -> पिया, जाना -> गया."""
    if verb in IRREGULAR_PAST:
        return IRREGULAR_PAST[verb]
    stem = verb.removesuffix("ना")
    if stem[-1] == "ी":
        return stem[:-1] + "िया"
    if stem[-1] == "ू":
        return stem[:-1] + "ुआ"
    return stem + ("या" if stem[-1] in "ाेोआएओ" else "ा")


def present(verb: str) -> str:
    """The imperfective participle of an infinitive: बोलना -> बोलता."""
    return verb.removesuffix("ना") + "ता"


def is_adjective(word: str, telling: Telling) -> bool:
    """Whether a word agrees as an adjective (no nasal in the feminine plural), rather than as a verb."""
    entry = telling.language.words.get(word)
    return word in POSSESSIVES or (entry is not None and "gender" not in entry.features and "क्रिया" not in entry.tags)


@cache
def parse_slot(slot: str) -> tuple[tuple[str, ...], tuple[str, ...], bool, bool]:
    """A slot's words, the nouns they agree with, and whether those are in the plural and in the oblique."""
    head, _, target = slot.partition(":")
    plain = target.replace("*", "").replace("~", "")
    nouns = tuple(name.strip() for name in plain.split("+")) if plain else ()
    return tuple(head.split()), nouns, "*" in target, "~" in target


@cache
def without_marks(token: str) -> str:
    """फल in फल*, संख्या in संख्या.less."""
    return token.rstrip("*~").partition(".")[0]


def variable(token: str, telling: Telling) -> str | None:
    """The name of the plot in a slot's word (फल in फल*), or None when it is an ordinary word."""
    name = without_marks(token)
    return name if name in telling.plot.sources else None


def fill(slot: str, telling: Telling) -> str:
    """The text of a slot (see the top of this file for all kinds)."""
    words, nouns, plural, oblique = parse_slot(slot)
    return fill_agreement(words, nouns, plural, oblique, telling) if nouns else fill_noun(words, telling)


def fill_noun(words: tuple[str, ...], telling: Telling) -> str:
    """A noun of the plot, with its postpositions if there are any."""
    token, postpositions = words[0], list(words[1:])
    name = variable(token, telling)
    if name is None:
        raise ValueError(
            f"the plot {telling.plot.name!r} has no name {token!r}, which the slot {{{' '.join(words)}}} needs"
        )
    word = telling.word(name)
    if "." in token:  # this shows the feature, not the word: another slot must show that
        return word.features[token.partition(".")[2]]
    form = form_of(word, plural="*" in token, oblique="~" in token or bool(postpositions))
    if postpositions == ["@"]:
        return telling.show(name, f"{form} {word.features['at']}")
    return " ".join([telling.show(name, form), *postpositions])


def fill_agreement(
    words: tuple[str, ...], nouns: tuple[str, ...], plural: bool, oblique: bool, telling: Telling
) -> str:
    """Words that agree with one or more nouns of the plot."""
    owners = [telling.word(noun) for noun in nouns]
    gender = "f" if all(owner.features["gender"] == "f" for owner in owners) else "m"
    plural = plural or len(owners) > 1 or bool(owners[0].features.get("honorific"))
    verb = not is_adjective(words[-1], telling)
    if "हूँ" in words:  # मैं आई हूँ: the first person is singular even when an elder speaks
        plural = False
    said = []
    for position, token in enumerate(words):
        name = variable(token, telling)
        if name is None:
            nasal = verb and position == len(words) - 1
            chosen = token.split("/")[gender == "f"] if "/" in token else None
            said.append(chosen or agree_word(token, gender, plural, nasal=nasal, oblique=oblique))
        elif "gender" in (word := telling.word(name)).features:  # a noun before का
            said.append(telling.show(name, form_of(word, plural="*" in token, oblique=True)))
        else:
            said.append(telling.show(name, agree_word(word.text, gender, plural, oblique=oblique)))
    return " ".join(said)


def finish(text: str) -> str:
    """Single spaces, none before । , ! ? ” and none after “."""
    text = " ".join(text.split())
    for sign in CLOSING_SIGNS:
        text = text.replace(" " + sign, sign)
    return text.replace("“ ", "“")
