"""What the tests of all exercises share: what `check` printed about an answer, and whether that is what was due."""

import re

import pytest

from ai4india_lib import check
from ai4india_lib.checks.translation import in_hindi


@pytest.fixture
def verdict(capsys):
    """(name, answer) -> what is printed. It names the exercise, is one line but for an error, and tells the truth."""

    def verdict(name, answer):
        passed = check(name, answer)
        printed = capsys.readouterr().out
        assert printed.startswith(f"{name}: ") and passed is printed.startswith(f"{name}: right. ")
        assert printed.count("\n") == 1 or "It stopped with" in printed, printed
        return printed

    return verdict


def assert_hindi(name, printed):
    message = printed.removeprefix(f"{name}: ").rstrip("\n")
    assert in_hindi(message, name.split(".")[0]), f"some of this has no Hindi in checks/hindi/: {message}"


@pytest.fixture
def accepted(verdict):
    """(name, answer): the answer is right, and this can be said in Hindi."""

    def accepted(name, answer):
        printed = verdict(name, answer)
        assert ": right. " in printed, printed
        assert_hindi(name, printed)

    return accepted


@pytest.fixture
def refused(verdict):
    """(name, answer, words): wrong; the feedback holds one of the words, separated by |, and can be said in Hindi."""

    def refused(name, answer, words):
        printed = verdict(name, answer)
        assert ": not yet. " in printed and any(word in printed for word in words.split("|")), printed
        assert not re.search(r"wrong in (\d+) of \1 ", printed), "this says nothing about the mistake"
        assert_hindi(name, printed)

    return refused
