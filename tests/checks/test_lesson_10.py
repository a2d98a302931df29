"""Lesson 10's feedback: right answers pass, and each usual mistake gets its own sentence."""

import pytest
import torch


def safe(temperature):
    return torch.where(temperature > 0, temperature, 1.0)[:, None]


def heated(logits, temperature):
    greedy = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).float()
    return torch.where(temperature[:, None] > 0, (logits / safe(temperature)).softmax(-1), greedy)


def in_place(logits, temperature):
    wanted = heated(logits, temperature)
    logits /= 2
    return wanted


def test_right_temperature(accepted):
    accepted("10.temperature", heated)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda z, t: (z / t[:, None]).softmax(-1), "divides by zero"),
        (lambda z, t: (z / safe(t)[0]).softmax(-1), "temperature of the first"),
        (lambda z, t: (z / safe(t)).exp(), "exponentials do not sum"),
        (lambda z, t: z / safe(t), "These are logits"),
        (lambda z, t: (z / safe(t)).log_softmax(-1), "logarithms"),
        (lambda z, t: (z * safe(t)).softmax(-1), "sharper"),
        (lambda z, t: z.softmax(-1), "changes nothing"),
        (lambda z, t: (z / safe(t)).softmax(0), "columns sum to 1"),
        (lambda z, t: z.softmax(-1) / safe(t), "You divide probabilities"),
        (lambda z, t: (z / safe(t)).softmax(-1), "temperature 0 is not"),
        (lambda z, t: (z / (safe(t).T if z.shape[0] == z.shape[1] else safe(t))).softmax(-1), "Each column"),
        (lambda z, t: (z / safe(t)).softmax(-1)[0], "shape"),
        (lambda z, t: heated(z, t).double(), "float64"),
        (lambda z, t: z / t, "is `keepdim=True` missing"),
        (lambda z, t: z.softmax(-1) ** safe(t), "You raise probabilities to a power"),
        (lambda z, t: torch.nn.functional.one_hot(z.argmax(-1), z.shape[-1]).float(), "for temperature 0 alone"),
        (lambda z, t: (z / safe(t).sqrt()).softmax(-1), "Compute one row by hand"),
        (lambda z, t: heated(z, t).tolist(), "Expected a tensor"),
        (lambda z, t: heated(z, t).argmax(-1), "One dimension is gone"),
        (in_place, "in place"),
    ],
)
def test_wrong_temperature(refused, answer, words):
    refused("10.temperature", answer, words)


def nucleus(logits, p, *, strict=False, include=False, ascending=False, scatter=True, fill=-torch.inf):
    ordered, index = logits.softmax(-1).sort(descending=not ascending)
    total = ordered.cumsum(-1) - (0 if include else ordered)
    cut = total > p if strict else total >= p
    if scatter:
        cut = torch.zeros_like(cut).scatter(1, index, cut)
    return logits.masked_fill(cut, fill)


def test_right_top_p(accepted):
    accepted("10.top_p", nucleus)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda z, p: nucleus(z, p, include=True), "crosses p"),
        (lambda z, p: nucleus(z, p, strict=True), "one too many"),
        (lambda z, p: nucleus(z, p, ascending=True), "cut off"),
        (lambda z, p: nucleus(z, p, scatter=False), "gone back to its own token"),
        (lambda z, p: nucleus(z, p, fill=0.0), "e⁰"),
        (lambda z, p: z.clone(), "Nothing has been cut off"),
        (lambda z, p: z.softmax(-1).masked_fill(nucleus(z, p).isinf(), -torch.inf), "are probabilities"),
        (lambda z, p: nucleus(z, p) * 2, "their logits have changed"),
        (lambda z, p: nucleus(z, p)[0], "shape"),
        (lambda z, p: nucleus(z, p).isfinite(), "bool"),
        (lambda z, p: nucleus(z, p, include=True).log_softmax(-1), "The likeliest one always stays"),
        (lambda z, p: nucleus(z, 1.2 * p, include=False), "one too many"),
        (lambda z, p: nucleus(z, min(1.0, p + 0.25)), "Is the sum over each row, likeliest first"),
        (lambda z, p: nucleus(z.mT, p).mT, "Each column was cut by itself"),
        (lambda z, p: nucleus(z, p / 3), "From which end do you add up"),
        (lambda z, p: nucleus(z, p).tolist(), "Expected a tensor"),
        (lambda z, p: nucleus(z, p).sort(descending=True).values, "gone back to its own token"),
    ],
)
def test_wrong_top_p(refused, answer, words):
    refused("10.top_p", answer, words)


def penalised(logits, texts, penalty, pad_idx, *, pad=False, all_rows=False, sign=True, times=False, multiply=False):
    result = logits.clone()
    for row, ids in enumerate(texts.tolist()):
        ids = texts.flatten().tolist() if all_rows else ids
        for token in ids if times else set(ids):
            if token != pad_idx or pad:
                down = (result[row, token] > 0 or not sign) and not multiply
                result[row, token] *= 1 / penalty if down else penalty
    return result


def said_in(logits, texts):
    return torch.zeros_like(logits).scatter(1, texts, 1.0).bool()


def change_in_place(logits, *others):
    logits.copy_(penalised(logits, *others))
    return logits


def test_right_penalty(accepted):
    accepted("10.repetition_penalty", penalised)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda *a: penalised(*a, sign=False), "below zero"),
        (lambda *a: penalised(*a, multiply=True), "Is a positive logit smaller"),
        (lambda *a: penalised(*a, pad=True), "padding"),
        (lambda *a: penalised(*a, all_rows=True), "another row's text"),
        (lambda *a: penalised(*a, times=True), "however often"),
        (lambda z, *others: z.clone(), "No logit of a token that was said has changed"),
        (lambda z, *others: penalised(z, *others) - 1 * ~said_in(z, others[0]), "own tokens only"),
        (lambda *a: penalised(*a)[0], "shape"),
        (lambda z, texts, penalty, pad: penalised(z, texts, 1.0, pad) - penalty * said_in(z, texts), "You subtract"),
        (lambda z, texts, *a: z.masked_fill(said_in(z, texts), -torch.inf), "You forbid"),
        (lambda z, texts, *a: penalised(z, texts[:, :1], *a), "It was said, and should have become smaller"),
        (lambda z, texts, penalty, pad: penalised(z, texts, 1.1 * penalty, pad), "depending on the sign"),
        (lambda *a: penalised(*a).softmax(-1), "Row 0, token"),
        (lambda *a: penalised(*a).tolist(), "Expected a tensor"),
        (change_in_place, "in place"),
    ],
)
def test_wrong_penalty(refused, answer, words):
    refused("10.repetition_penalty", answer, words)
