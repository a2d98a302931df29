"""python -m ai4india_lib benchmark: how fast a model writes and trains, how soon it is good, what rounding costs."""

import argparse

from ..basics.extras import check_installed
from ..benchmarks import generation, training
from ..benchmarks.quality import print_quality
from ..benchmarks.rounding import print_rounding
from ..benchmarks.table import print_table
from . import check_at_least, model_of, refuse
from .options import HINDI_STORIES


def run(options: argparse.Namespace) -> None:
    """Print the table, row by row as they are measured."""
    check_at_least(options, 1, "repeats threads")
    if options.what != "rounding":
        refuse(options, "model", f"with {options.what}")
    if options.what == "quality":
        refuse(options, "rows", "with quality", "name texts with --data")
        seconds = options.seconds or [60.0, 120.0, 180.0]
        if min(seconds) < 20:
            raise ValueError(f"--seconds {min(seconds):g} is too short to train anything: give at least 20")
        print_quality(options.data or [HINDI_STORIES], seconds, options.repeats, options.threads, options.results)
        return
    if options.what == "rounding":
        refuse(options, "rows seconds results", "with rounding")
        check_installed("rounding", ("gguf",), "shipping")
        if len(options.data or [""]) > 1:
            raise ValueError(f"--data names {len(options.data)} texts: with rounding one is measured")
        print_rounding(model_of(options), (options.data or [HINDI_STORIES])[0], options.repeats, options.threads)
        return
    refuse(options, "data seconds results", f"with {options.what}")
    if options.what == "training":
        rows, possible = training.SHAPES, list(training.USUAL)
    else:
        rows = generation.ROWS
        possible = [name for name in rows if generation.can_be_measured(name)]
    names = options.rows.split(",") if options.rows else possible
    if unknown := [name for name in names if name not in rows]:
        raise ValueError(f"no row is called {', '.join(unknown)}: there are {', '.join(rows)}")
    if options.what == "training":
        training.print_table(names, options.repeats, options.threads)
    else:
        print_table([rows[name] for name in names], options.repeats, options.threads)
