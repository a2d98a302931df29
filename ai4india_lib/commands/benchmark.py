"""python -m ai4india_lib benchmark: how fast text is written, held against other ways, in one table."""

import argparse

from ..benchmarks.generation import ROWS
from ..benchmarks.table import print_table
from ..inference.compiled import can_compile
from . import check_at_least


def run(options: argparse.Namespace) -> None:
    """Print the table, row by row as they are measured."""
    check_at_least(options, 1, "repeats threads")
    possible = [name for name in ROWS if not name.endswith("-compiled") or can_compile()]
    names = options.rows.split(",") if options.rows else possible
    if unknown := [name for name in names if name not in ROWS]:
        raise ValueError(f"no row is called {', '.join(unknown)}: there are {', '.join(ROWS)}")
    print_table([ROWS[name] for name in names], options.repeats, options.threads)
