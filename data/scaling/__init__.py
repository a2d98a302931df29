"""Chauraha (चौराहा, a crossroads): a language whose floor is known, and that a small model learns in seconds.

Every word is a crossroads from which four ways lead on: one of four words follows, with probability 1/2, 1/4, 1/8 and
1/8. So the entropy is 1/2 · 1 + 1/4 · 2 + 2 · 1/8 · 3 = 1.75 bits a word, and no model can lose less. Which words
follow was drawn once for each word, frequent ones more often: so a few words are everywhere and most are rare, as in a
real text (Zipf, 1935). The words mean nothing.

`runs` trains small models on it; `python -m data.scaling` wrote the files beside this one. See data/README.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WORDS = [
    first + vowel + second + "ो" for vowel in "ाि" for first in "कखगचजतदनपबमरलवसह" for second in "कचजतनपमरलवसहटबयध"
]  # 512: काको, काचो, … हिधो
CHANCES = (1 / 2, 1 / 4, 1 / 8, 1 / 8)
ENTROPY = -sum(p * math.log2(p) for p in CHANCES)  # bits a word: 1.75
ROW = 32  # words that a model predicts in one row
BEFOREHAND = 20  # words that are told and thrown away, so that a row begins in the middle of a text


class Chauraha:
    """The language with this `seed`: another seed has other ways. A text of it is made of ids, which `WORDS` spells.

    `ways` (words, 4) holds the words that can follow each word, likeliest first. With `like`, another language, only a
    part `own` of all words have ways of their own, drawn at random: sisters that share most of what can be said.
    """

    def __init__(self, seed: int = 0, *, like: Chauraha | None = None, own: float = 1.0):
        generator, count = torch.Generator().manual_seed(seed), len(WORDS)
        weights = -torch.arange(1, count + 1, dtype=torch.float64).log()  # Zipf: the 10th word a tenth as often
        luck = torch.rand(count, count, generator=generator, dtype=torch.float64)
        score = weights - (-luck.log()).log()  # its highest: a draw without replacement (Gumbel, 1954)
        self.ways = score.topk(len(CHANCES)).indices
        if like is not None:
            differs = torch.rand(count, generator=generator) < own
            self.ways = torch.where(differs[:, None], self.ways, like.ways)

    def text(self, words: int, seed: int = 0) -> Tensor:
        """At least so many words to predict, as rows of ids (rows, `ROW` + 1): each row is a piece of a text."""
        if words < 1:
            raise ValueError(f"words={words}: a text has at least one")
        rows, generator = math.ceil(words / ROW), torch.Generator().manual_seed(seed)
        told = [torch.randint(len(WORDS), (rows,), generator=generator)]
        steps = BEFOREHAND + ROW
        throws = torch.multinomial(torch.tensor(CHANCES), rows * steps, replacement=True, generator=generator)
        for throw in throws.view(steps, rows):
            told.append(self.ways[told[-1], throw])
        return torch.stack(told[BEFOREHAND:], 1)

    def loss(self, log_chances: Tensor, text: Tensor) -> float:
        """Bits a word that a model loses on a text, on average over all four words that could have followed each word.

        log_chances (rows, `ROW`, words): natural logarithms of the model's probabilities after each word of
        `text` (rows, `ROW` + 1).
        """
        chances = torch.tensor(CHANCES, dtype=log_chances.dtype)
        return float(-(log_chances.gather(-1, self.ways[text[:, :-1]]) @ chances).mean()) / math.log(2)


def spelled(ids: Tensor) -> str:
    """A row of ids as words."""
    return " ".join(WORDS[i] for i in ids.tolist())
