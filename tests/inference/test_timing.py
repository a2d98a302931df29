"""Protects inference.timing: what cannot be measured is told in words, not as "nan"."""

import re

import pytest

from ai4india_lib.inference.generation import generate
from ai4india_lib.inference.timing import Timing


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "no token was written, so there is nothing to time"),
        (1, r"first token after \d+ ms, no other"),
        (2, r"first token after \d+ ms, then \d+ tokens/s"),
    ],
)
def test_few_tokens_are_timed_in_words(make_model, count, told):
    timing = Timing()
    generate(make_model(), [[1, 40]], max_new_tokens=count, timing=timing)
    assert re.fullmatch(told, str(timing))
