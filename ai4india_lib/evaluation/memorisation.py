"""Does a text stand in the training text, word for word? Finds shared runs of words, in tens of megabytes per second.

Each run of n words gets a number, a *rolling hash* (Karp & Rabin, 1987): the sum of its words' random numbers, each
times a power of one odd number. Such a sum is the difference of two running sums, so that all runs of any length cost
two operations on whole tensors. Two different runs have the same 64-bit number with a chance of about 2⁻⁶⁴.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..basics.arguments import at_least

_FACTOR = 0x2545F4914F6CDD1D  # odd, so that its powers can be undone in arithmetic modulo 2⁶⁴
_UNDO = pow(_FACTOR, -1, 2**64)
_UNDO -= 2**64 * (_UNDO >= 2**63)  # as a signed number


def _running_sums(signs: Tensor) -> tuple[Tensor, Tensor]:
    """For the signs of words, (words,): the sums of sign · factor^position over all words before each position,
    (words + 1,), and what undoes the power of each position, (words,); all modulo 2⁶⁴."""
    powers = torch.full_like(signs, _FACTOR).cumprod(0)
    return torch.cat([signs.new_zeros(1), (signs * powers).cumsum(0)]), torch.full_like(signs, _UNDO).cumprod(0)


def _runs(sums: Tensor, undo: Tensor, n: int) -> Tensor:
    """The number of each run of `n` words, wherever it stands: (words − n + 1,)."""
    count = max(len(undo) - n + 1, 0)
    return (sums[n : n + count] - sums[:count]) * undo[:count]


class TrainingText:
    """The words of a training text (what stands between spaces), kept so that runs of them in one line are found fast.

    58 MB of Hindi stories take some seconds to read, and 120 MB of memory.
    """

    def __init__(self, lines: Iterable[str]):
        self.numbers: dict[str, int] = {}  # word → its number; 0 stands between lines
        ids: list[int] = []
        for line in lines:
            ids += [*(self.numbers.setdefault(word, len(self.numbers) + 1) for word in line.split()), 0]
        if not self.numbers:
            raise ValueError("no words to look in: lines is empty or blank")
        generator = torch.Generator().manual_seed(0)
        size = len(self.numbers) + 2  # the last one is for words that the text does not have
        self._signs = torch.randint(-(2**63), 2**63 - 1, (size,), generator=generator)
        self._sums, self._undo = _running_sums(self._signs[torch.tensor(ids)])

    def found(self, words: Sequence[str], n: int) -> Tensor:
        """For each run of `n` words: does it stand in the training text? (len(words) − n + 1,) true or false."""
        if n < 1:
            raise ValueError(f"n={n} must be at least 1: the number of words in a run")
        unknown = len(self._signs) - 1
        ids = torch.tensor([self.numbers.get(word, unknown) for word in words], dtype=torch.long)
        wanted = _runs(*_running_sums(self._signs[ids]), n)  # (runs,)
        if not len(wanted):
            return torch.zeros(0, dtype=torch.bool)
        endings = torch.zeros(2**16, dtype=torch.bool)
        endings[wanted & 0xFFFF] = True
        here = _runs(self._sums, self._undo, n)
        return torch.isin(wanted, here[endings[here & 0xFFFF]])  # most runs have none of the wanted endings

    def share(self, text: str, n: int = 8) -> float:
        """Fraction of the text's runs of `n` words that stand in the training text; nan for a shorter text."""
        at_least(1, n=n)
        found = self.found(text.split(), n)
        return float(found.double().mean()) if len(found) else float("nan")

    def longest_run(self, text: str) -> list[str]:
        """The longest run of words of `text` that stands in the training text (the first of several)."""
        words = text.split()
        low, high = 0, len(words)  # a run of `low` words is found, one of more than `high` is not
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.found(words, middle).any() else (low, middle - 1)
        if not low:
            return []
        start = int(self.found(words, low).nonzero()[0])
        return words[start : start + low]
