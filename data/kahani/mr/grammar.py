"""Marathi grammar. A postposition joins the stem: पुणे and त give पुण्यात, so texts often show only stems.

{नायक}             the word as it is;     {भाजी*}  in the plural
{शहर त}            the stem with what follows: पुण्यात, स्वातीने, आजोबांनी
{गेला:नायक}         agrees: गेला, गेली, गेले;   {झाला:भाजी*}  with the plural: झाले, झाल्या, झाली
{गेला:नायक+मित्र}     with both: गेले, or गेल्या for two girls
{रंग:वस्तू}           so does an adjective: निळी छत्री;   {नायक चा:वस्तू}  the owner: स्वातीची छत्री
{तो/ती/ते:जनावर}     the first for a masculine word, the second for a feminine one, the third (or first) for a neuter
"""

from __future__ import annotations

from data.kahani.engine import Telling, Word

ENDINGS = {"m": "ा", "f": "ी", "n": "े"}
PLURAL_ENDINGS = {"m": "े", "f": "्या", "n": "ी"}
RESPECTFUL = {"ने": "नी", "ला": "ना"}  # after the stem of a word that is spoken of in the plural: आजोबांनी


def agree(phrase: str, gender: str, *, plural: bool = False) -> str:
    """Each word in -ा made to agree: निळा, निळी, निळे; in the plural निळे, निळ्या, निळी."""
    ending = (PLURAL_ENDINGS if plural else ENDINGS)[gender]
    return " ".join(word[:-1] + ending if word.endswith("ा") else word for word in phrase.split())


def joined(word: Word, postposition: str) -> str:
    """A word's stem with a postposition: पुण्यात, स्वातीला, आजोबांना."""
    if word.features.get("respect"):
        postposition = RESPECTFUL.get(postposition, postposition)
    return word.features.get("stem", word.text) + postposition


def agreement(target: str, telling: Telling) -> tuple[str, bool]:
    """Gender and number of what stands after the colon: one word, its plural (भाजी*), or two people (नायक+मित्र)."""
    words = [telling.word(name) for name in target.rstrip("*").split("+")]
    feminine = all(word.features["gender"] == "f" for word in words)
    gender = words[0].features["gender"] if len(words) == 1 else "f" if feminine else "m"
    return gender, len(words) > 1 or target.endswith("*") or bool(words[0].features.get("respect"))


def fill(slot: str, telling: Telling) -> str:
    """The text of a slot."""
    head, _, target = slot.partition(":")
    name, _, postposition = head.partition(" ")
    known = name.rstrip("*") in telling.plot.sources
    if not target:
        word = telling.word(name.rstrip("*"))
        form = word.features["plural"] if name.endswith("*") else word.text
        return telling.show(name.rstrip("*"), joined(word, postposition) if postposition else form)
    gender, plural = agreement(target, telling)
    if "/" in head:
        forms = head.split("/")
        return forms["mfn".index(gender) % len(forms)]
    if known and postposition:
        word = telling.word(name)
        return telling.show(name, joined(word, agree(postposition, gender, plural=plural)))
    if known:
        return telling.show(name, agree(telling.word(name).text, gender, plural=plural))
    return agree(head, gender, plural=plural)


def finish(text: str) -> str:
    """Single spaces, none before . , ! ? ” and none after “."""
    text = " ".join(text.split())
    for sign in ".,!?”":
        text = text.replace(" " + sign, sign)
    return text.replace("“ ", "“")
