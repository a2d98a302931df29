"""Lesson 14's feedback: right answers pass, stubs are "not done yet", each usual mistake gets its own sentence."""

import pytest

from ai4india_lib.checks import check


def told(capsys, name, answer):
    verdict = check(f"14.{name}", answer)
    printed = capsys.readouterr().out
    assert printed.startswith(f"14.{name}: ") and printed.count("\n") == 1
    return verdict, printed


def assert_told(capsys, name, answer, words):
    verdict, printed = told(capsys, name, answer)
    assert verdict is False and "not yet" in printed and words in printed, printed


@pytest.mark.parametrize("name", ["render", "answer_mask", "merge"])
def test_a_stub_is_not_done_yet(capsys, name):
    def stub(*arguments): ...

    verdict, printed = told(capsys, name, stub)
    assert verdict is False and "not done yet" in printed


def render(messages, *, begin="<|begin|>", end="<|end_of_turn|>", safe=True, role=True, ask=None, glue=" "):
    text = begin
    for m in messages:
        content = m["content"].replace("<|", "< |") if safe else m["content"]
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
        ({"glue": ""}, "one blank"),
    ],
)
def test_render(capsys, changes, words):
    assert told(capsys, "render", render)[0] is True
    assert_told(capsys, "render", lambda messages: render(messages, **changes), words)
    assert_told(capsys, "render", lambda messages: list(render(messages)), "one string")
    assert_told(capsys, "render", lambda messages: render(messages)[:-1] + "x", "first wrong sign")


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
        (lambda ids, a, e: [*mask(ids, a, e)[1:], 0], "one place early"),
        (lambda ids, a, e: [0, *mask(ids, a, e)], "one for each id"),
        (lambda ids, a, e: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_answer_mask(capsys, answer, words):
    assert told(capsys, "answer_mask", mask)[0] is True
    assert_told(capsys, "answer_mask", answer, words)


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
        (lambda w, a, b, alpha: w - alpha / len(a) * b @ a, "wrong sign"),
        (lambda w, a, b, alpha: alpha / len(a) * b @ a, "correction alone"),
        (lambda w, a, b, alpha: w + alpha / len(a) * a @ b, "RuntimeError"),
        (lambda w, a, b, alpha: merge(w, a, b, alpha).T, "shape"),
        (lambda w, a, b, alpha: merge(w, a, b, alpha) * 1.01, "Write the shapes"),
        (in_place, "has changed"),
    ],
)
def test_merge(capsys, answer, words):
    assert told(capsys, "merge", merge)[0] is True
    assert_told(capsys, "merge", answer, words)
