"""python -m ai4india_lib benchmark: how fast text is written, held against other ways, in one table."""

import argparse

from ..benchmarks.generation import ROWS
from ..benchmarks.table import print_table
from ..inference.compiled import can_compile
from . import check_at_least


def add_to(subparsers) -> None:
    """Add this command to the sub-commands of an argument parser."""
    about = "Each row is measured in turns with its peer, in one run; the speedup is the ratio of medians."
    parser = subparsers.add_parser("benchmark", help="measure how fast text is written", description=about)
    parser.set_defaults(run=run)
    parser.add_argument("what", choices=["generation"], help="what to measure")
    parser.add_argument("--rows", help="only these rows, such as s1,m8 (default: all that can be measured here)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="cores to use (%(default)s)")


def run(options: argparse.Namespace) -> None:
    """Print the table, row by row as they are measured."""
    check_at_least(options, 1, "repeats threads")
    possible = [name for name in ROWS if not name.endswith("-compiled") or can_compile()]
    names = options.rows.split(",") if options.rows else possible
    if unknown := [name for name in names if name not in ROWS]:
        raise ValueError(f"no row is called {', '.join(unknown)}: there are {', '.join(ROWS)}")
    print_table([ROWS[name] for name in names], options.repeats, options.threads)
