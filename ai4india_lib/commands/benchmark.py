"""python -m ai4india_lib benchmark: how fast text is written, how soon a model is good, held against other ways."""

import argparse

from ..benchmarks.generation import ROWS, can_be_measured
from ..benchmarks.quality import print_quality
from ..benchmarks.table import print_table
from . import check_at_least, refuse
from .options import HINDI_STORIES


def run(options: argparse.Namespace) -> None:
    """Print the table, row by row as they are measured."""
    check_at_least(options, 1, "repeats threads")
    if options.what == "quality":
        refuse(options, "rows", "with quality", "name texts with --data")
        seconds = options.seconds or [60.0, 120.0, 180.0]
        if min(seconds) < 20:
            raise ValueError(f"--seconds {min(seconds):g} is too short to train anything: give at least 20")
        print_quality(options.data or [HINDI_STORIES], seconds, options.repeats, options.threads)
        return
    refuse(options, "data seconds", "with generation")
    names = options.rows.split(",") if options.rows else [name for name in ROWS if can_be_measured(name)]
    if unknown := [name for name in names if name not in ROWS]:
        raise ValueError(f"no row is called {', '.join(unknown)}: there are {', '.join(ROWS)}")
    print_table([ROWS[name] for name in names], options.repeats, options.threads)
