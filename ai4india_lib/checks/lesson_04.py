"""Feedback for the exercises of lesson 04, counting: perplexity, smoothed bigrams, absolute discounting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from . import NotYet, call, exercise, expect_close, expect_number, expect_tensor, recognise, results, same

# wrong answers that a learner may give, each with the question that helps
WRONG_PERPLEXITIES: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda p: 1 / p.mean(),
     "You average the probabilities, and turn them round at the end. Each token's *surprise* counts: average those."),
    (lambda p: (1 / p).mean(), "You average 1/p. Average the surprises instead, and leave them only at the end."),
    (lambda p: -p.log().mean(), "That is the loss: the mean surprise in nats. How do you get from a logarithm back?"),
    (lambda p: -p.log2().mean(), "That is the mean surprise in bits. How do you get from a logarithm back?"),
    (lambda p: p.log().mean().exp(), "It is below 1, but perplexity is a number of choices. Look at the minus sign."),
    (lambda p: (-p.log2().mean()).exp(), "Your logarithm has base 2 and your power base e. Take one base for both."),
    (lambda p: 2 ** (-p.log().mean()), "Your logarithm has base e and your power base 2. Take one base for both."),
    (lambda p: (-p.log().sum()).exp(),
     "This grows with the length of the text: you add the surprises up. Perplexity is per token."),
    (lambda p: -p.log().sum(), "That is the surprise of the whole text. Two steps are left: per token, and back from "
     "the logarithm."),
    (lambda p: p.prod(), "That is the probability of the whole text. Perplexity is per token, and turned round."),
]  # fmt: skip


def _perplexity(p: Tensor) -> Tensor:
    return (-p.log().mean()).exp()


@exercise("04.perplexity")
def check_perplexity(answer: object) -> str:
    generator = torch.Generator().manual_seed(4)
    for p in (torch.tensor([0.5, 0.125, 0.25]), torch.rand(7, generator=generator) * 0.8 + 0.1, torch.ones(5)):
        _compare_perplexity(expect_number(call(answer, p)), p, "p = [" + ", ".join(f"{x:.3g}" for x in p) + "]")
    p = torch.rand(2000, generator=generator) * 0.5 + 0.01
    cause = "The product of so many probabilities is too small for any float. Add logarithms instead."
    try:
        got = expect_number(call(answer, p))
    except NotYet as error:
        raise NotYet(f"For a text of 2,000 tokens: {error} {cause}") from None
    if not math.isfinite(got) or got == 0:
        raise NotYet(f"For a text of 2,000 tokens you give {got}. {cause}")
    _compare_perplexity(got, p, "a text of 2,000 tokens")
    return "A model that is always sure and right has perplexity 1: one choice, no surprise."


def _compare_perplexity(got: float, p: Tensor, given: str) -> None:
    wanted, seen = float(_perplexity(p)), f"For {given} you give {got:.4g}."
    if not same(got, wanted):
        recognise(got, wanted, ((float(x), hint) for x, hint in results(WRONG_PERPLEXITIES, p)), seen=seen)
        raise NotYet(f"{seen} Work one small case by hand, and print each step beside it.")


def _smooth(counts: Tensor, k: float) -> Tensor:
    c = counts.float() + k
    return c / c.sum(1, keepdim=True)


WRONG_BIGRAMS: list[tuple[Callable[[Tensor, float], Tensor], str]] = [
    (lambda c, k: c / c.sum(1, keepdim=True), "k is not in your result: what was never seen still has probability 0."),
    (lambda c, k: _smooth(c, 1.0), "You add one, whatever k is."),
    (lambda c, k: (c + k) / c.sum(1, keepdim=True),
     "k is added above the line only, so each row sums to more than 1. How much was added to the row in all?"),
    (lambda c, k: (c + k) / (c.sum(1, keepdim=True) + k),
     "Below the line k is added once. But every word of the row got its own k."),
    (lambda c, k: (c + k) / (c.sum(1, keepdim=True) + k * (c > 0).sum(1, keepdim=True)),
     "Below the line you count only the words that were seen after the first one. Which words got a k?"),
    (lambda c, k: _smooth(c.T, k), "The table is turned: rows are the second word in yours. Is a row the first word?"),
    (lambda c, k: _smooth(c.T, k).T, "Your columns sum to 1. Given the *first* word, the rows must."),
    (lambda c, k: (c + k) / (c + k).sum(),
     "The whole table sums to 1: that is how likely a pair is, not the second word once the first is known."),
    (lambda c, k: (c + k) / (c.sum(1) + k * len(c)),
     "The sums of the rows, (vocab,), were spread along the wrong axis: row sums must stay a column, (vocab, 1)."),
    (lambda c, k: _smooth(c, k).log(), "These are logarithms. Asked are the probabilities."),
    (lambda c, k: c + k, "These are still counts. Divide each row, so that it sums to 1."),
]  # fmt: skip


@exercise("04.bigram_probability")
def check_bigram_probability(answer: object) -> str:
    generator = torch.Generator().manual_seed(4)
    for vocab, k in ((3, 0.5), (3, 1.0), (6, 0.01), (9, 0.2)):
        counts = torch.randint(0, 6, (vocab, vocab), generator=generator)
        counts[0, 1] = 3  # some pair that was seen, and one that was not
        counts[1, 0] = 0
        if vocab == 9:
            counts[4] = 0  # a word after which nothing was seen
        got = expect_tensor(call(answer, counts, k), _smooth(counts, k), what="the table")
        seen = f"For a table of {vocab} words and k={k} the numbers are not right."
        _compare_table(got, _smooth(counts, k), results(WRONG_BIGRAMS, counts, k), seen)
    return "After a word that was never seen, all words are equally likely: k alone decides."


def _compare_table(got: Tensor, wanted: Tensor, mistakes: Iterable[tuple[Tensor, str]], seen: str) -> None:
    """Hold a table of probabilities, each row a distribution, beside the right one."""
    if same(got, wanted):
        return
    recognise(got, wanted, mistakes, seen=seen)
    sums = got.sum(1)
    if not same(sums, torch.ones_like(sums), tolerance=1e-3):
        row = int((sums - 1).abs().argmax())
        raise NotYet(f"{seen} Row {row} sums to {sums[row]:.3g}; the probabilities of all words sum to 1.")
    expect_close(
        got, wanted, "Work one small case by hand, and print each step beside it.", what="the table", seen=seen
    )


def _discounted(c: Tensor, shorter: Tensor, discount: float, *, clamp=True, kinds=None, total=None) -> Tensor:
    """Absolute discounting; the named arguments put mistakes into it. Rows without counts fall back to `shorter`."""
    c = c.float()
    kept = (c - discount).clamp(min=0) if clamp else c - discount
    kinds = (c > 0).sum(1, keepdim=True) if kinds is None else kinds
    total = c.sum(1, keepdim=True) if total is None else total
    unseen = c.sum(1, keepdim=True) == 0
    return torch.where(unseen, shorter, (kept + discount * kinds * shorter) / total)


def _seen_only(way: Callable) -> Callable:
    """The mistake `way` in rows with counts; the fall-back elsewhere."""
    return lambda c, s, d: torch.where(c.sum(1, keepdim=True) == 0, s, way(c.float(), s, d))


WRONG_DISCOUNTS: list[tuple[Callable[[Tensor, Tensor, float], Tensor], str]] = [
    (lambda c, s, d: _discounted(c, s, d, clamp=False),
     "Words that were never seen lose a discount, too, and may fall below 0. From whom can you take?"),
    (lambda c, s, d: _discounted(c, s, d, kinds=0),
     "You take from the counts, but hand nothing out: rows sum to less than 1. Who should get it?"),
    (lambda c, s, d: _discounted(c, s, d, kinds=1),
     "You hand out one discount, but one was taken from every *different* word seen. How many were these?"),
    (lambda c, s, d: _discounted(c, s, d, kinds=c.shape[1]),
     "You hand out one discount for each word of the vocabulary. From how many was one taken?"),
    (lambda c, s, d: _discounted(c, s, d, kinds=(c > 0).sum()),
     "You count the different words of all histories together. Each row hands out its own."),
    (lambda c, s, d: _discounted(c, s, d, kinds=c.sum(1, keepdim=True)),
     "You hand out one discount for each *time* a word was seen. It was taken once from each different word."),
    (_seen_only(lambda c, s, d: (c + d * (c > 0).sum(1, keepdim=True) * s) / c.sum(1, keepdim=True)),
     "You hand out what you have not taken: rows sum to more than 1. Where do the counts lose their discount?"),
    (_seen_only(lambda c, s, d: (c + (c > 0).sum(1, keepdim=True) * s)
                / (c.sum(1, keepdim=True) + (c > 0).sum(1, keepdim=True))),
     "That is Witten–Bell of section 5. Here the new part comes out of the counts, `discount` from each."),
    (lambda c, s, d: _discounted(c, torch.full_like(s, 1 / c.shape[1]), d),
     "What is left is spread evenly. It should follow `shorter`, the guess of the shorter history."),
    (_seen_only(lambda c, s, d: c / c.sum(1, keepdim=True)), "Neither `discount` nor `shorter` shows in the result."),
]  # fmt: skip


@exercise("04.interpolate")
def check_interpolate(answer: object) -> str:
    generator = torch.Generator().manual_seed(4)
    for histories, vocab, discount, with_unseen in ((2, 5, 0.75, False), (4, 6, 0.5, False), (5, 7, 0.75, True)):
        counts = torch.randint(0, 5, (histories, vocab), generator=generator)
        counts[:, 0], counts[:, 1] = 3, 0
        counts[0] = torch.tensor([3, 0, 2, 1] + [0] * (vocab - 4))
        if with_unseen:
            counts[2] = 0
        shorter = torch.rand(histories, vocab, generator=generator).softmax(1)
        got = expect_tensor(call(answer, counts, shorter, discount), shorter, what="the table")
        if with_unseen and not (torch.isfinite(got[2]).all() and got[2].sum() > 0.01):
            raise NotYet(
                f"A history that was never seen gets {got[2, :2].tolist()} …: nothing divided by nothing. "
                "Whom can you ask when you have seen nothing yourself?"
            )
        seen = f"For {histories} histories, {vocab} words and discount={discount} the numbers are not right."
        if with_unseen and not same(got[2], shorter[2]):
            seen += " It is the history without counts that differs."
        wanted = _discounted(counts, shorter, discount)
        _compare_table(got, wanted, results(WRONG_DISCOUNTS, counts, shorter, discount), seen)
    return "With `shorter` made from continuation counts, this is Kneser–Ney."
