"""Marathi grammar for two plots. A postposition joins the stem: पुणे and त give पुण्यात, so texts show stems.

{नायक}            the word as it is;     {फळ*}  in the plural
{शहर त}           the stem with what follows: पुण्यात, स्वातीने
{गेला:नायक}        agrees: गेला, गेली, गेले
{रंग:वस्तू}          so does an adjective: निळी छत्री;  {नायक चा:वस्तू} the owner: स्वातीची छत्री
{मुलगा/मुलगी:नायक}   the first for a boy, the second for a girl
"""

from __future__ import annotations

from data.kahani.engine import Telling


def agree(word: str, gender: str) -> str:
    """A word in -ा made to agree: निळा, निळी, निळे."""
    return word[:-1] + {"m": "ा", "f": "ी", "n": "े"}[gender] if word.endswith("ा") else word


def fill(slot: str, telling: Telling) -> str:
    """The text of a slot."""
    head, _, target = slot.partition(":")
    words = head.split()
    if not target:
        name = words[0].rstrip("*")
        word = telling.word(name)
        if "*" in words[0]:
            return telling.show(name, word.features["plural"])
        if len(words) == 1:
            return telling.show(name, word.text)
        stem = word.features.get("stem", word.text)
        return telling.show(name, stem) + words[1]
    owner = telling.word(target)
    gender = owner.features["gender"]
    if "/" in head:
        return head.split("/")[gender == "f"]
    if words[0] in telling.plot.sources:
        word = telling.word(words[0])
        if len(words) == 1:
            return telling.show(words[0], agree(word.text, gender))
        return telling.show(words[0], word.features.get("stem", word.text)) + agree(words[1], gender)
    return " ".join(agree(word, gender) for word in words)


def finish(text: str) -> str:
    """Single spaces, none before . , ! ? ” and none after “."""
    text = " ".join(text.split())
    for sign in ".,!?”":
        text = text.replace(" " + sign, sign)
    return text.replace("“ ", "“")
