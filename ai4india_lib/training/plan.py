"""What is trained follows from how much text there is. That is decided here, and nowhere else.

A model that reads little text again and again learns it by heart. A strong weight decay holds that back (so found by
Kim et al., 2025, too: the best one for text that is read often is many times the usual one); fewer tokens in the
vocabulary are each seen more often; smaller batches make more steps of the same text. A run of few steps gains by a
start from word vectors, and by less momentum. How much each gives stands in the README of the benchmarks; `benchmark
quality` measures the whole.
"""

import math

from .hyperparameters import Hyperparameters, get_hyperparameters

LITTLE = 2_000_000  # bytes of text: below this, text is read so often that a model begins to learn it by heart
LITTLE_TEXT = {"vocab_size": 2048, "weight_decay": 1.0, "num_epochs": 5.0}
SMALL_BATCHES = {"batch_size": 8, "learning_rate": 6e-3}  # twice as many steps of the same text; on a CPU 7% slower
SHORT_RUN = {"word_vectors": True, "momentum": 0.85}  # a start that knows words, and less of what is long outdated


def plan_for_text(num_bytes: float, device: str = "cpu", **changes) -> Hyperparameters:
    """The settings of a model that is trained from nothing on a text of so many bytes; `changes` override them.

    Who says how many steps there shall be gets those of the preset "laptop", as far as the text is not little.

    >>> plan_for_text(1_000_000, minutes=3).vocab_size
    2048
    """
    if not num_bytes > 0:
        raise ValueError(f"num_bytes={num_bytes}: a text has at least one byte")
    is_little, by_clock = num_bytes < LITTLE, changes.get("minutes") is not None and not changes.get("max_steps")
    planned = dict(LITTLE_TEXT) if is_little else {}
    if is_little or by_clock:
        planned |= SHORT_RUN | (SMALL_BATCHES if device == "cpu" else {})
    if "batch_size" in changes:
        planned.pop("learning_rate", None)  # it belongs to those batches
    if changes.get("max_steps") is not None:  # who says how many steps wants them all
        planned.pop("num_epochs", None)
    return get_hyperparameters("laptop", **{**planned, **changes})


def plan_in_words(num_bytes: float, h: Hyperparameters) -> str:
    """One line about what was planned, and why."""
    size = f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{math.ceil(num_bytes / 1e3)} KB"
    often = f"read at most {h.num_epochs:g} times"
    little = " (little text is soon known by heart)" if num_bytes < LITTLE else ""
    begun = ", a start from word vectors" if h.word_vectors else ""
    return f"{size} of text: weight decay {h.weight_decay:g}, batches of {h.batch_size}{begun}, {often}{little}"
