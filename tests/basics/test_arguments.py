"""Protects basics.arguments: a value that makes no sense is refused by its name, and no other is."""

import pytest

from ai4india_lib.basics.arguments import above, at_least, between


def test_sensible_values_pass():
    at_least(1, batch_size=1, max_steps=None, context_size=10**9)
    above(0, beta=1e-9, clip_norm=float("inf"), floor=None)
    between(0, 1, warmup_fraction=0, decay_fraction=1.0, level=None)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: at_least(1, batch_size=8, context_size=0), "^context_size=0 must be a whole number of at least 1$"),
        (lambda: at_least(2, size=2.5), r"^size=2\.5 must be a whole number of at least 2$"),
        (lambda: at_least(1, vocab_size="256"), "^vocab_size='256' must be a whole number"),
        (lambda: above(0, clip_norm=1, beta=0), "^beta=0 must be above 0$"),
        (lambda: above(0, beta=float("nan")), "^beta=nan must be above 0$"),
        (lambda: between(0, 1, decay_fraction=1.1), r"^decay_fraction=1\.1 must lie between 0 and 1$"),
        (lambda: between(0, 1, decay_fraction=float("nan")), "^decay_fraction=nan must lie"),
    ],
)
def test_others_are_refused_by_name(check, message):
    with pytest.raises(ValueError, match=message):
        check()
