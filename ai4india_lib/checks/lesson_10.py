"""Feedback for the exercises of lesson 10, Generation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..inference.sampling import Sampling, filter_logits
from . import NotYet, call, exercise, expect_close, expect_tensor


def _random(batch: int, vocab: int, seed: int) -> Tensor:
    return torch.randn(batch, vocab, generator=torch.Generator().manual_seed(seed)) * 2.5


def _untouched(before: Tensor, now: Tensor) -> None:
    if not torch.equal(before, now):
        raise NotYet("The logits you were given have changed. The caller may still need them: work on a copy.")


def _heated(logits: Tensor, temperature: Tensor) -> Tensor:
    rows = [filter_logits(row, Sampling(temperature=float(t))) for row, t in zip(logits, temperature, strict=True)]
    greedy = torch.zeros_like(logits).scatter(1, logits.argmax(-1, keepdim=True), 1.0)
    return torch.where(temperature[:, None] > 0, torch.stack(rows).softmax(-1), greedy)


@exercise("10.temperature")
def check_temperature(answer: object) -> str:
    for logits, temperature in (
        (torch.tensor([[2.0, 1.0, 0.5, -2.0], [2.0, 1.0, 0.5, -2.0]]), torch.tensor([0.5, 2.0])),
        (_random(3, 3, 1), torch.tensor([0.7, 1.0, 1.5])),  # square: a temperature along the wrong axis shows
        (_random(4, 9, 2), torch.tensor([0.0, 0.8, 0.0, 1.3])),
        (_random(2, 5, 3), torch.tensor([0.0, 0.0])),
    ):
        given = logits.clone()
        wanted = _heated(logits, temperature)
        got = expect_tensor(call(answer, given, temperature.clone()), wanted, what="the result")
        _untouched(logits, given)
        _hold_temperature(got, wanted, logits, temperature)
    return "Greedy and drawn texts can now share one batch: that is how a server answers many readers."


def _hold_temperature(got: Tensor, wanted: Tensor, logits: Tensor, temperature: Tensor) -> None:
    shown = f"temperatures {[round(t, 2) for t in temperature.tolist()]}"
    if got.isnan().any():
        raise NotYet(f"With {shown} there are NaN in the result. Which row divides by zero? What should stand there?")
    if torch.allclose(got, wanted, atol=1e-5):
        return
    column = torch.where(temperature > 0, temperature, 1.0)[:, None]
    usual = [
        (logits / column, "These are logits: they do not sum to 1. How do logits become probabilities?"),
        ((logits / column).log_softmax(-1), "These are logarithms of probabilities. The probabilities were asked for."),
        ((logits * column).softmax(-1), "A high temperature makes your rows sharper; it should make them flatter."),
        (logits.softmax(-1), "The temperature changes nothing. Where does it enter the formula?"),
        ((logits / column).softmax(0), "The columns sum to 1. Each row is one text: which dimension is softmax over?"),
        (logits.softmax(-1) / column, "You divide probabilities. The temperature acts before the softmax, on logits."),
    ]
    if len(logits) == logits.shape[1]:
        usual.append(((logits / column.T).softmax(-1),
                      "Each column was divided by a temperature. Each row has one: which shape meets it?"))  # fmt: skip
    for wrong, told in usual:
        if torch.allclose(got, wrong, atol=1e-5):
            raise NotYet(f"With {shown}: {told}")
    cold = temperature == 0
    if cold.any() and torch.allclose(got[~cold], wanted[~cold], atol=1e-5):
        row = int((cold & ~torch.isclose(got, wanted, atol=1e-5).all(-1)).nonzero()[0])
        raise NotYet(f"The warm rows are right, row {row} with temperature 0 is not: its largest is "
                     f"{got[row].max():.3g}. Greedy puts all probability on one token. Which?")  # fmt: skip
    expect_close(got, wanted, f"The temperatures are {shown}. Compute one row by hand.")


def _nucleus(logits: Tensor, p: float) -> Tensor:
    return torch.stack([filter_logits(row, Sampling(temperature=1.0, top_p=p)) for row in logits])


@exercise("10.top_p")
def check_top_p(answer: object) -> str:
    tiny = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.02, 0.03, 0.9, 0.05]]).log()
    for logits, p in ((tiny, 0.7), (_random(3, 40, 4), 0.9), (_random(5, 100, 5), 0.3), (torch.zeros(2, 4), 0.5)):
        given = logits.clone()
        wanted = _nucleus(logits, p)
        got = expect_tensor(call(answer, given, p), wanted, what="the result")
        _untouched(logits, given)
        _hold_top_p(got, wanted, logits, p)
    return "The nucleus is wide where many words fit, and one token where only one does."


def _hold_top_p(got: Tensor, wanted: Tensor, logits: Tensor, p: float) -> None:
    if got.isnan().any():
        raise NotYet("There are NaN in the result. Does a row lose all its tokens? The likeliest one always stays.")
    probabilities = logits.softmax(-1)
    kept, right = got.isfinite(), wanted.isfinite()
    if not torch.equal(kept.sum(-1), right.sum(-1)):
        if kept.all():
            if (got == 0).sum() > (logits == 0).sum():
                raise NotYet(
                    "The cut-off tokens have logit 0, which is still e⁰ before the softmax. What gives 0 there?"
                )
            raise NotYet("Nothing has been cut off. The others should have the logit -inf.")
        row = int((kept.sum(-1) != right.sum(-1)).nonzero()[0])
        many, few = int(kept[row].sum()), int(right[row].sum())
        told = f"With p={p}, row {row} keeps {many} tokens of together {probabilities[row][kept[row]].sum():.3f}"
        if torch.equal(kept.sum(-1), right.sum(-1) - 1):
            raise NotYet(told + ": too few, by one in each row. What about the token that crosses p?")
        if many == few + 1:
            raise NotYet(told + ": one too many. Had the others reached p without it?")
        if many < few:
            raise NotYet(told + f", but together they should reach {p}. From which end do you add up?")
        raise NotYet(told + f"; {few} reach p already. Is the sum over each row, likeliest first?")
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
        logits, texts = _random(len(texts), 8, seed), torch.tensor(texts)
        given, given_texts = logits.clone(), texts.clone()
        wanted = _penalised(logits, texts, penalty, pad_idx)
        got = expect_tensor(call(answer, given, given_texts, penalty, pad_idx), wanted, what="the result")
        _untouched(logits, given)
        _hold_penalty(got, wanted, logits, texts, penalty, pad_idx)
    return "In a dialogue, count only the answer's own tokens: the question's words may well come again."


def _hold_penalty(got: Tensor, wanted: Tensor, logits: Tensor, texts: Tensor, penalty: float, pad_idx: int) -> None:
    wrong = ~torch.isclose(got, wanted, atol=1e-5)
    if not wrong.any():
        return
    said = torch.zeros_like(logits, dtype=torch.bool).scatter(1, texts, True)
    pad = torch.zeros_like(said).scatter(1, torch.full((len(said), 1), pad_idx), True)
    if torch.allclose(got, logits):
        raise NotYet("No logit has changed. Which tokens of each row were said?")
    if torch.allclose(got[said & ~pad], (logits * penalty)[said & ~pad]):
        raise NotYet("All logits of said tokens are multiplied. Is a positive logit smaller after that?")
    row, token = wrong.nonzero()[0].tolist()
    told = f"Row {row}, token {token}: the logit {logits[row, token]:.3g} became {got[row, token]:.3g}. "
    if got[row, token] > logits[row, token]:
        raise NotYet(told + "That is larger, so a repeated token became more likely. What does dividing do below zero?")
    if pad[row, token] and said[row, token]:
        raise NotYet(told + "That is the padding, which nobody said. It must not count.")
    if not said[row, token]:
        elsewhere = " It stands in another row's text." if said[:, token].any() else ""
        raise NotYet(
            told + f"It does not stand in this text.{elsewhere} Each row is penalised for its own tokens only."
        )
    if (texts[row] == token).sum() > 1:
        raise NotYet(told + f"It was said {int((texts[row] == token).sum())} times. It counts once, however often.")
    if got[row, token] == logits[row, token]:
        raise NotYet(told + "It was said, and should have become smaller.")
    raise NotYet(told + f"With penalty {penalty} it should be {wanted[row, token]:.3g}: divide or multiply, "
                 "depending on the sign.")  # fmt: skip
