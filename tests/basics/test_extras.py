"""Protects what a learner reads where a package is missing, instead of a traceback."""

import subprocess
import sys

import pytest

from ai4india_lib import __main__
from ai4india_lib.basics.extras import check_installed


def test_a_python_without_the_course_says_where_to_go():
    """A new terminal, in which nobody went into the environment: -S leaves out what pip installed."""
    ran = subprocess.run(
        [sys.executable, "-S", "-m", "ai4india_lib", "train"], capture_output=True, text=True, encoding="utf-8"
    )
    assert ran.returncode == 1 and ran.stderr.count("\n") == 1
    assert ran.stderr.startswith(f"error: {sys.executable} lacks ") and "Two commands" in ran.stderr


def test_a_mistake_of_ours_is_no_missing_package(monkeypatch):
    def lacks(*_):
        raise ModuleNotFoundError("No module named 'ai4india_lib.nowhere'", name="ai4india_lib.nowhere")

    monkeypatch.setattr(__main__, "import_module", lacks)
    with pytest.raises(ModuleNotFoundError):
        __main__.main(["lessons"])


def test_what_lacks_is_named_with_its_extra():
    check_installed("this", ("json",), "serving")
    with pytest.raises(ValueError, match=r'^this needs no_such, no.part, not .* pip install -e "\.\[serving\]" in'):
        check_installed("this", ("no_such", "json", "no.part"), "serving")
