"""Protects in which language checks and questions speak: as chosen, as the environment says, or English."""

import subprocess
import sys

import pytest

from ai4india_lib import checks


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    monkeypatch.setenv("AI4INDIA_LANGUAGE", "")  # what a test sets is undone


def test_without_a_choice_it_is_english():
    assert checks.language() == "en"


def test_a_choice_holds_until_the_next():
    assert [checks.language("hi"), checks.language(), checks.language("en"), checks.language()] == ["hi"] * 2 + [
        "en"
    ] * 2


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("AI4INDIA_LANGUAGE", "hi")
    assert checks.language() == "hi"


def test_processes_that_are_started_speak_it_too():
    checks.language("hi")
    code = "from ai4india_lib.checks.language import language; print(language())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "hi"


@pytest.mark.parametrize("code", ["fr", "HI", "hindi", "", 3, ["hi"]])
def test_another_code_is_refused_and_changes_nothing(code):
    checks.language("hi")
    with pytest.raises(ValueError, match=r'is not known: choose "en" \(English\), "hi" \(हिन्दी\)'):
        checks.language(code)
    assert checks.language() == "hi"


def test_another_code_in_the_environment_is_named(monkeypatch):
    monkeypatch.setenv("AI4INDIA_LANGUAGE", "ta")
    with pytest.raises(ValueError, match="the environment variable AI4INDIA_LANGUAGE is 'ta'"):
        checks.language()
    assert checks.language("hi") == "hi"
