"""A fork without Python's warning, for tests whose runs are killed."""

import os
import warnings


def fork() -> int:
    """As `os.fork`. From Python 3.12 on it warns that this process is multi-threaded: here the others, of torch's and
    tokenizers' pools, wait idly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
