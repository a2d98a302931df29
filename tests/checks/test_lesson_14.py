"""Lesson 14's feedback: right answers pass, and each usual mistake gets its own sentence."""

import pytest


def render(messages, *, begin="<|begin|>", end="<|end_of_turn|>", safe=True, role=True, ask=None, glue=" ", each=""):
    text = begin
    for m in messages:
        content = m["content"].replace("<|", "< |") if safe else m["content"]
        text += each if text != begin else ""
        text += (f"<|{m['role']}|>" if role else "") + glue + content + end
    asks = messages[-1]["role"] == "user" if ask is None else ask
    return text + ("<|assistant|>" if asks else "")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"begin": ""}, "very beginning"),
        ({"end": ""}, "No turn ends"),
        ({"safe": False}, "ended its own turn"),
        ({"role": False}, "Who speaks"),
        ({"ask": False}, "The user spoke last"),
        ({"ask": True}, "has spoken already"),
        ({"each": "<|begin|>"}, "begins a document"),
        ({"glue": ""}, "one space"),
    ],
)
def test_render(accepted, refused, changes, words):
    accepted("14.render", render)
    refused("14.render", lambda messages: render(messages, **changes), words)
    refused("14.render", lambda messages: list(render(messages)), "Join its parts into one str")
    refused("14.render", lambda messages: render(messages)[:-1] + "x", "first wrong character")


def mask(ids, assistant, end, *, sign=False, ending=True, closes=True):
    found, speaks = [], False
    for token in ids:
        found.append(int((speaks and (ending or token != end)) or (sign and token == assistant)))
        speaks = token == assistant or (speaks and (token != end or not closes))
    return found


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda ids, a, e: [1] * len(ids), "Everything is learned"),
        (lambda ids, a, e: [0] * len(ids), "Nothing is learned"),
        (lambda ids, a, e: mask(ids, a, e, sign=True), "We write it, to ask"),
        (lambda ids, a, e: mask(ids, a, e, ending=False), "when to stop"),
        (lambda ids, a, e: mask(ids, a, e, closes=False), "turn was over"),
        (lambda ids, a, e: [*mask(ids, a, e)[1:], 0], "one position early"),
        (lambda ids, a, e: [0, *mask(ids, a, e)[:-1]], "one position late"),
        (lambda ids, a, e: [1 - x for x in mask(ids, a, e)], "upside down"),
        (lambda ids, a, e: first_turn_alone(ids, a, e), "more than once"),
        (lambda ids, a, e: [0, *mask(ids, a, e)], "one for each id"),
        (lambda ids, a, e: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_answer_mask(accepted, refused, answer, words):
    accepted("14.answer_mask", mask)
    refused("14.answer_mask", answer, words)


def first_turn_alone(ids, assistant, end):
    stop = ids.index(end, ids.index(assistant)) + 1
    return mask(ids, assistant, end)[:stop] + [0] * (len(ids) - stop)


def merge(weight, a, b, alpha):
    return weight + alpha / len(a) * b @ a


def in_place(weight, a, b, alpha):
    weight += alpha / len(a) * b @ a
    return weight


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda w, a, b, alpha: w + b @ a, "How strongly"),
        (lambda w, a, b, alpha: w + alpha * b @ a, "divided by"),
        (lambda w, a, b, alpha: w + len(a) / alpha * b @ a, "rank / alpha"),
        (lambda w, a, b, alpha: w.clone(), "old weight"),
        (lambda w, a, b, alpha: w + b @ a / len(a), "Where is alpha"),
        (lambda w, a, b, alpha: w + alpha / len(b) * b @ a, "number of outputs"),
        (lambda w, a, b, alpha: alpha / len(a) * (w + b @ a), "scale the frozen weight"),
        (lambda w, a, b, alpha: w - alpha / len(a) * b @ a, "wrong sign"),
        (lambda w, a, b, alpha: alpha / len(a) * b @ a, "correction alone"),
        (lambda w, a, b, alpha: w + alpha / len(a) * a @ b, "adds up over the last size"),
        (lambda w, a, b, alpha: merge(w, a, b, alpha).T, "shape"),
        (lambda w, a, b, alpha: merge(w, a, b, alpha) * 1.01, "Write the shapes"),
        (in_place, "changed `weight` in place"),
    ],
)
def test_merge(accepted, refused, answer, words):
    accepted("14.merge", merge)
    refused("14.merge", answer, words)
