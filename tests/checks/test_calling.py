"""Protects how a learner's function is run: the learner's own line, the arguments, the sizes that do not fit."""

import functools
import linecache

import pytest
import torch
from torch.nn import functional as F

from ai4india_lib.checks import NotDone, NotYet, call, call_list, describe

q, k, mask = torch.ones(2, 3, 4, 16), torch.ones(2, 3, 7, 16), torch.ones(4, 7).bool()


def said(function, *arguments, **named):
    with pytest.raises(NotYet) as error:
        call(function, *arguments, **named)
    return str(error.value)


def scores(q, k, mask, step=0):
    wide = k.sum(-1)
    return q * wide


def test_an_error_shows_line_values_and_a_question():
    lines = said(scores, q, k, mask, step=3).split("\n  ")
    number = scores.__code__.co_firstlineno + 2
    assert lines[0] == f"It stopped with RuntimeError in line {number}: `return q * wide`, at `q * wide`"
    assert lines[1].startswith("The error says: The size of tensor a (16) must match the size of tensor b (7)")
    assert lines[2] == "In this line: wide (2, 3, 7) float32"
    assert lines[3] == "It was called with q (2, 3, 4, 16) float32, k (2, 3, 7, 16) float32, mask (4, 7) bool, step 3"
    assert lines[4].startswith("In dimension 3 (counted from 0) size 16 meets size 7.") and "keepdim" in lines[4]


def test_an_argument_that_was_given_a_new_value_is_shown_too():
    def answer(x):
        x = x.sum(-1)
        return x @ torch.ones(3)

    assert "In this line: x (4,) float32" in said(answer, torch.ones(4, 2))


def test_the_deepest_line_of_the_learners_counts_not_the_librarys():
    def inner(x):
        return F.softmax(x, dim=7)

    def outer(x):
        return inner(x) + 1

    assert f"in line {inner.__code__.co_firstlineno + 1}: `return F.softmax(x, dim=7)`" in said(outer, torch.ones(2))


CELL = "def shape_of(क):\n    चौड़ाई = 'पाँच'\n    return क + (चौड़ाई @ क)\n"


def defined(filename):
    names = {}
    exec(compile(CELL, filename, "exec"), names)
    return names["shape_of"]


def test_a_cell_of_a_notebook_shows_its_source(monkeypatch):
    name = "<cell 1>"
    monkeypatch.setitem(linecache.cache, name, (len(CELL), None, CELL.splitlines(True), name))
    assert "in line 3: `return क + (चौड़ाई @ क)`, at `चौड़ाई @ क`" in said(defined(name), 2)


def test_without_source_the_number_of_the_line_is_shown():
    assert said(defined("<string>"), 2).startswith("It stopped with TypeError in line 3\n")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda: torch.ones(2, 4) @ torch.ones(2, 4), "left side, here 4, and over the last size but one of its right"),
        (lambda: torch.ones(3, 2, 4) @ torch.ones(3, 2, 4), "last size but one of its right side, here 2"),
        (lambda: torch.ones(3, 4) @ torch.ones(5), "here 4, and over the last size but one of its right side, here 5"),
        (lambda: torch.ones(4) @ torch.ones(5), "one has 4 numbers, the other 5"),
        (lambda: torch.ones(8).view(2, 3), "There are 8 numbers, and the sizes of [2, 3]"),
        (lambda: torch.cat((torch.ones(2, 3), torch.ones(2, 4))), "3 meets 4"),
        (lambda: torch.ones(3).expand(4, 4), "size 4 meets size 3"),
        (lambda: torch.ones(3).sum(1), "You name dimension 1, but the last one is 0"),
        (lambda: torch.ones(3, 3)[torch.ones(2, 3).bool()], "they part in dimension 0"),
        (lambda: torch.ones(3, 3) @ torch.ones(3, 3).double(), "numbers of different types"),
        (lambda: torch.arange(3).softmax(0), "What makes them float"),  # torch raises a NotImplementedError
        (lambda: torch.arange(3).mean(), "What makes them float"),
        (lambda: min(1.0, torch.ones(3)), "this tensor holds many"),
        (lambda: torch.ones(3).item(), "this tensor holds many"),
        (lambda: torch.ones(3).masked_fill(torch.ones(3), 0), "A mask is a bool tensor"),
        (lambda: (0.5).clamp(max=1), "a plain Python float can't"),
        (lambda: torch.log(0.5), "a plain Python float can't"),
        (lambda: [1, 2][2], "has the index n − 1"),
        (lambda: torch.ones(3)[3], "has the index n − 1"),
        (lambda: no_such_name, "an import missing"),  # noqa: F821
        (lambda: 1 / 0, "makes the divisor 0"),
    ],
)
def test_usual_errors_bring_a_question(answer, words):
    assert words in said(answer)


def test_wrong_arguments():
    assert "The check hands 2 arguments over" in said(lambda x: x, 1, 2)
    assert "It was called with x 1, argument 2 'text', top 2.5" in said(lambda x, *, most: x, 1, "text", top=2.5)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda x: x.mul_(2), "changed `x` in place"),
        (lambda x: x.__setitem__(0, 5) or x, "make a new tensor"),
        (lambda x: x, None),
    ],
)
def test_a_changed_tensor_is_seen(change, words):
    if words is None:
        assert call(change, torch.ones(2)).equal(torch.ones(2))
    else:
        assert words in said(change, torch.ones(2))


def test_changed_lists_and_dicts_are_seen():
    assert "work on a copy, or build a new list" in said(lambda ids: ids.sort() or ids, [2, 1])
    assert "changed `texts` in place" in said(lambda texts: texts[0].append(1) or 5, [[2], [1]])
    assert "changed `merges` in place. Who called it may still need it as it was: work on a copy" in said(
        lambda merges: merges.update(b=1) or 5, {"a": 1}
    )
    assert "returned nothing: is `return` missing? It changed `ids` in place" in said(lambda ids: ids.sort(), [2, 1])


def test_stubs_are_found_without_their_source():
    for body in ("...", "pass", "'''What it does.'''", "return None", "'''What.'''\n    ..."):
        names = {"outside": 1}
        exec(f"def stub(x):\n    {body}\nclass Stub:\n    def __call__(self, x):\n        ...", names)
        for stub in (
            names["stub"],
            functools.partial(names["stub"], 1),
            names["Stub"](),
            functools.cache(names["stub"]),
        ):
            with pytest.raises(NotDone):
                call(stub, *([] if isinstance(stub, functools.partial) else [1]))
    for body in ("x = 1", "if x: return 1", "print(end='')", "x + 1", "...; len('x')"):
        names = {}
        exec(f"def begun(x):\n    {body}", names)
        assert "returned nothing" in said(names["begun"], 0)


def test_call_list_goes_to_the_end():
    def counts(n):
        yield from range(n)
        assert n < 3, "too many"

    assert call_list(counts, 2) == [0, 1] and call_list(list, "ab") == ["a", "b"]
    with pytest.raises(NotYet, match="AssertionError in line"):
        call_list(counts, 3)
    with pytest.raises(NotYet, match="one after the other"):
        call_list(lambda n: n, 3)
    with pytest.raises(NotDone):
        call_list(lambda n: None, 3)


def test_describe():
    assert describe(torch.ones(2, 3)) == "tensor (2, 3) float32"
    assert describe(("a", q)) == "tuple of 2" and describe([1, 2]) == "list [1, 2]" and describe("x") == "str 'x'"
    assert describe(None) == "None" and describe(list(range(99))) == "list of 99" and describe(len).endswith("function")
