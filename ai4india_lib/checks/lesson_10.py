"""Feedback for the exercises of lesson 10, Generation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..inference.sampling import Sampling, filter_logits
from . import NotYet, call, exercise, expect_close, expect_tensor, random_tensor, recognise, same


def _random_logits(batch: int, vocab: int, seed: int) -> Tensor:
    return random_tensor(batch, vocab, seed=seed) * 2.5


def _heated(logits: Tensor, temperature: Tensor) -> Tensor:
    rows = [filter_logits(row, Sampling(temperature=float(t))) for row, t in zip(logits, temperature, strict=True)]
    greedy = torch.zeros_like(logits).scatter(1, logits.argmax(-1, keepdim=True), 1.0)
    return torch.where(temperature[:, None] > 0, torch.stack(rows).softmax(-1), greedy)


@exercise("10.temperature")
def check_temperature(answer: object) -> str:
    for logits, temperature in (
        (torch.tensor([[2.0, 1.0, 0.5, -2.0], [2.0, 1.0, 0.5, -2.0]]), torch.tensor([0.5, 2.0])),
        (_random_logits(3, 3, 1), torch.tensor([0.7, 1.0, 1.5])),  # square: a temperature along the wrong axis shows
        (_random_logits(4, 9, 2), torch.tensor([0.0, 0.8, 0.0, 1.3])),
        (_random_logits(2, 5, 3), torch.tensor([0.0, 0.0])),
    ):
        wanted = _heated(logits, temperature)
        _compare_temperature(expect_tensor(call(answer, logits, temperature), wanted), wanted, logits, temperature)
    return "Greedy and drawn texts can now share one batch: that is how a server answers many readers."


def _compare_temperature(got: Tensor, wanted: Tensor, logits: Tensor, temperature: Tensor) -> None:
    seen = f"With temperatures {[round(t, 2) for t in temperature.tolist()]}"
    if got.isnan().any():
        raise NotYet(f"{seen} there are NaN in the result. Which row divides by zero? What should stand there?")
    if same(got, wanted):
        return
    column = torch.where(temperature > 0, temperature, 1.0)[:, None]
    warm = logits / column
    mistakes = [
        (warm, "These are logits: they do not sum to 1. How do logits become probabilities?"),
        (warm.log_softmax(-1), "These are logarithms of probabilities. The probabilities were asked for."),
        ((logits * column).softmax(-1), "A high temperature makes your rows sharper; it should make them flatter."),
        (logits.softmax(-1), "The temperature changes nothing. Where does it enter the formula?"),
        (warm.softmax(0), "The columns sum to 1. Each row is one text: which dimension is softmax over?"),
        (logits.softmax(-1) / column, "You divide probabilities. The temperature acts before the softmax, on logits."),
        (logits.softmax(-1) ** column,
         "You raise probabilities to a power, and they no longer sum to 1. The temperature acts on logits."),
        ((logits / column[0]).softmax(-1), "All rows have the temperature of the first. Each row has its own."),
        (warm.exp(), "The exponentials do not sum to 1: what are they divided by?"),
        (torch.zeros_like(logits).scatter(1, logits.argmax(-1, keepdim=True), 1.0),
         "Every row puts all probability on one token. That is right for temperature 0 alone."),
    ]  # fmt: skip
    if len(logits) == logits.shape[1]:
        across = (logits / column.T).softmax(-1)
        mistakes.append((across, "Each column was divided by a temperature. Each row has one: which shape meets it?"))
    recognise(got, wanted, mistakes, seen=f"{seen}:")
    cold = temperature == 0
    if cold.any() and same(got[~cold], wanted[~cold]):
        row = next(int(row) for row in cold.nonzero() if not same(got[row], wanted[row]))
        raise NotYet(f"The warm rows are right, row {row} with temperature 0 is not: its largest is "
                     f"{got[row].max():.3g}. Greedy puts all probability on one token. Which?")  # fmt: skip
    expect_close(got, wanted, "Compute one row by hand.", seen=f"{seen}:")


def _nucleus(logits: Tensor, p: float) -> Tensor:
    return torch.stack([filter_logits(row, Sampling(temperature=1.0, top_p=p)) for row in logits])


@exercise("10.top_p")
def check_top_p(answer: object) -> str:
    tiny = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.02, 0.03, 0.9, 0.05]]).log()
    for logits, p in (
        (tiny, 0.7),
        (_random_logits(3, 40, 4), 0.9),
        (_random_logits(5, 100, 5), 0.3),
        (torch.zeros(2, 4), 0.5),
    ):
        wanted = _nucleus(logits, p)
        _compare_top_p(expect_tensor(call(answer, logits, p), wanted), wanted, logits, p)
    return "The nucleus is wide where many words fit, and one token where only one does."


def _compare_top_p(got: Tensor, wanted: Tensor, logits: Tensor, p: float) -> None:
    if got.isnan().any():
        raise NotYet("There are NaN in the result. Does a row lose all its tokens? The likeliest one always stays.")
    probabilities = logits.softmax(-1)
    kept, right = got.isfinite(), wanted.isfinite()
    if torch.equal(kept, _nucleus(logits.mT, p).mT.isfinite()) and not torch.equal(kept, right):
        raise NotYet(
            "Each column was cut by itself. Each row is one text: over which dimension do softmax and sum run?"
        )
    if not torch.equal(kept.sum(-1), right.sum(-1)):
        if kept.all():
            if (got == 0).sum() > (logits == 0).sum():
                raise NotYet(
                    "The cut-off tokens have logit 0, which is still e⁰ before the softmax. What gives 0 there?"
                )
            raise NotYet("Nothing has been cut off. The others should have the logit -inf.")
        row = int((kept.sum(-1) != right.sum(-1)).nonzero()[0])
        many, few = int(kept[row].sum()), int(right[row].sum())
        seen = f"With p={p}, row {row} keeps {many} tokens of together {probabilities[row][kept[row]].sum():.3f}"
        if torch.equal(kept.sum(-1), right.sum(-1) - 1):
            raise NotYet(f"{seen}: too few, by one in each row. What about the token that crosses p?")
        if many == few + 1:
            raise NotYet(f"{seen}: one too many. Had the others reached p without it?")
        if many < few:
            raise NotYet(f"{seen}, but together they should reach {p}. From which end do you add up?")
        raise NotYet(f"{seen}; {few} reach p already. Is the sum over each row, likeliest first?")
    if p != 0.5 and not torch.equal(kept, right):  # at 0.5 all are equal: any two will do
        row = int((kept != right).any(-1).nonzero()[0])
        raise NotYet(f"Row {row} keeps the right number of tokens, but the wrong ones: token "
                     f"{int((kept & ~right)[row].nonzero()[0])} is not among the likeliest. "
                     "After sorting, has each verdict gone back to its own token?")  # fmt: skip
    if torch.allclose(got[kept], probabilities[kept]) and not torch.allclose(got[kept], logits[kept]):
        raise NotYet("The kept numbers are probabilities. The logits were asked for: more filters may follow.")
    if not torch.allclose(got[kept], logits[kept]):
        raise NotYet("The right tokens stay, but their logits have changed. Only the others should get -inf.")


def _penalised(logits: Tensor, texts: Tensor, penalty: float, pad_idx: int) -> Tensor:
    settings = Sampling(temperature=1.0, repetition_penalty=penalty)
    return torch.stack([
        filter_logits(row, settings, [i for i in ids.tolist() if i != pad_idx])
        for row, ids in zip(logits, texts, strict=True)
    ])  # fmt: skip


@exercise("10.repetition_penalty")
def check_repetition_penalty(answer: object) -> str:
    for seed, texts, penalty, pad_idx in (
        (6, [[1, 2, 3], [4, 5, 6]], 1.5, 0),
        (7, [[2, 2, 2, 3], [5, 1, 5, 1]], 1.3, 0),
        (8, [[0, 0, 4, 4, 1], [0, 2, 3, 3, 6], [7, 6, 5, 4, 3]], 2.0, 0),
        (9, [[6, 1, 6, 6], [1, 2, 3, 0]], 1.2, 6),
    ):
        logits, texts = _random_logits(len(texts), 8, seed), torch.tensor(texts)
        wanted = _penalised(logits, texts, penalty, pad_idx)
        got = expect_tensor(call(answer, logits, texts, penalty, pad_idx), wanted)
        _compare_penalty(got, wanted, logits, texts, penalty, pad_idx)
    return "In a dialogue, count only the answer's own tokens: the question's words may well come again."


def _compare_penalty(got: Tensor, wanted: Tensor, logits: Tensor, texts: Tensor, penalty: float, pad_idx: int) -> None:
    wrong = ~torch.isclose(got, wanted, atol=1e-5)
    if not wrong.any():
        return
    said = torch.zeros_like(logits, dtype=torch.bool).scatter(1, texts, True)
    pad = torch.zeros_like(said).scatter(1, torch.full((len(said), 1), pad_idx), True)
    counted = said & ~pad
    recognise(got[counted], wanted[counted], [
        (logits[counted], "No logit of a token that was said has changed. Which tokens of each row were said?"),
        ((logits * penalty)[counted], "Logits of said tokens are multiplied. Is a positive logit smaller after that?"),
        ((logits - penalty)[counted],
         "You subtract the penalty. It divides a positive logit, and multiplies a negative one."),
        (torch.full_like(logits, -torch.inf)[counted],
         "You forbid every token that was said. It should become less likely, not impossible."),
    ])  # fmt: skip
    row, token = wrong.nonzero()[0].tolist()
    seen = f"Row {row}, token {token}: the logit {logits[row, token]:.3g} became {got[row, token]:.3g}."
    if got[row, token] > logits[row, token]:
        raise NotYet(f"{seen} That is larger: a repeated token became more likely. What does dividing do below zero?")
    if pad[row, token] and said[row, token]:
        raise NotYet(f"{seen} That is the padding, which nobody said. It must not count.")
    if not said[row, token]:
        elsewhere = " It stands in another row's text." if said[:, token].any() else ""
        raise NotYet(
            f"{seen} It does not stand in this text.{elsewhere} Each row is penalised for its own tokens only."
        )
    if (texts[row] == token).sum() > 1:
        raise NotYet(f"{seen} It was said {int((texts[row] == token).sum())} times. It counts once, however often.")
    if got[row, token] == logits[row, token]:
        raise NotYet(f"{seen} It was said, and should have become smaller.")
    raise NotYet(f"{seen} With penalty {penalty} it should be {wanted[row, token]:.3g}: divide or multiply, "
                 "depending on the sign.")  # fmt: skip
