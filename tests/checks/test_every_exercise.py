"""Protects what holds for every exercise: a stub is "not done yet", a forgotten `return` and an error are shown as
such, and no result, however odd, makes `check` raise."""

import functools
import importlib
import pkgutil

import pytest
import torch

from ai4india_lib import check, checks

LESSONS = [module.name for module in pkgutil.iter_modules(checks.__path__) if module.name.startswith("lesson_")]
for lesson in LESSONS:
    importlib.import_module(f"ai4india_lib.checks.{lesson}")
NAMES = sorted(checks._EXERCISES)


MORE = {"17": 5, "18": 6, "19": 6}  # the others have three


def test_each_lesson_has_its_exercises():
    lessons = {name.split(".")[0] for name in NAMES}
    assert lessons == {name.removeprefix("lesson_") for name in LESSONS if len(name) == len("lesson_01")}
    assert {lesson: sum(name.startswith(lesson) for name in NAMES) for lesson in lessons} == {
        lesson: MORE.get(lesson, 3) for lesson in lessons
    }


def dots(*given, **named): ...


def documented(*given, **named):
    """What it should do."""
    pass


def raises(*given, **named):
    raise NotImplementedError("yours")


def gives_dots(*given, **named):
    return ...


STUBS = (dots, documented, raises, gives_dots, lambda *given, **named: ..., functools.partial(dots, 1), None, ...)


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_done_yet(verdict, name):
    for stub in STUBS:
        said = f"{name}: not done yet. Replace the dots with your own code, then run this cell again.\n"
        assert verdict(name, stub) == said, stub


@pytest.mark.parametrize("name", NAMES)
def test_a_forgotten_return_is_seen(refused, name):
    def forgets(*given, **named):
        result = [given, named]
        result.reverse()

    for answer in (forgets, functools.partial(forgets), lambda *given, **named: print(end="")):
        refused(name, answer, "Your function ran and returned nothing: is `return` missing?")


@pytest.mark.parametrize("name", NAMES)
def test_an_error_shows_the_learners_line(refused, name):
    def answer(*given, **named):
        table = {}
        return table["x"]

    refused(name, answer, """, at `table["x"]`\n  The error says: 'x'\n  It was called with argument 1 """)


class Odd:
    """Something that no exercise asks for."""

    def __eq__(self, other):
        return False


ODD_RESULTS = [
    *(0, 1.5, -1, True, float("nan"), float("inf"), 10**40, 1j, "x", "", b"x", Odd(), Odd, print),
    *([], (), {}, set(), [None], (None, None), (None, None, None), [[]], ["x"], [Odd()], {"a": 1}, [[1], [2, 3]]),
    *((0, 0), (0.5, None), ("a", "b", "c"), [(0, 1), (2, "x")], [(99, 99)], [1.5] * 6, [torch.zeros(2)] * 2),
    *(torch.zeros(0), torch.tensor(1.0), torch.tensor(3), torch.ones(3), torch.ones(2, 3).bool()),
    *(torch.ones(2, 2) * 1j, torch.full((3, 3), torch.nan), torch.zeros(1, 1, 1), torch.randn(4, 4).double()),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_result_makes_check_raise(capsys, name):
    for odd in ODD_RESULTS:
        assert check(name, lambda *given, odd=odd, **named: odd) is False, repr(odd)
        assert capsys.readouterr().out.startswith(f"{name}: not yet. "), repr(odd)


@pytest.mark.parametrize("name", NAMES)
def test_odd_answers(refused, name):
    refused(name, torch.zeros(3, 3), "Give its name, without calling it")
    refused(name, 3, "Give its name, without calling it")
    refused(name, lambda: 1, "It stopped with TypeError")
