"""python -m ai4india_lib benchmark: how fast text is written, held against other ways, in one table."""

from __future__ import annotations

import argparse

import torch


def add_to(commands) -> None:
    """Add this command to the sub-commands of an argument parser."""
    benchmark = commands.add_parser(
        "benchmark",
        help="measure how fast text is written",
        description="Each row is measured in turns with its peer, in one run; the speedup is the ratio of medians.",
    )
    benchmark.set_defaults(run=run)
    benchmark.add_argument("what", choices=["generation"], help="what to measure")
    benchmark.add_argument("--rows", help="only these rows, such as s1,m8 (default: all that can be measured here)")
    benchmark.add_argument("--repeats", type=int, default=3, help="how often each is measured (%(default)s)")
    benchmark.add_argument("--threads", type=int, default=2, help="cores to use (%(default)s)")


def run(options: argparse.Namespace) -> None:
    """Print the table, row by row as they are measured."""
    from ..benchmarks.generation import ROWS
    from ..inference.compiled import can_compile

    possible = [name for name in ROWS if can_compile() or not name.endswith("-compiled")]
    names = options.rows.split(",") if options.rows else possible
    if unknown := [name for name in names if name not in ROWS]:
        raise ValueError(f"no row is called {', '.join(unknown)}: there are {', '.join(ROWS)}")
    if options.repeats < 1 or options.threads < 1:
        raise ValueError(f"--repeats {options.repeats} and --threads {options.threads} must be at least 1")
    torch.set_num_threads(options.threads)
    print(f"greedy, fp32 unless said, {options.threads} threads; new tokens per second, median of {options.repeats}")
    print("| what | tokens/s | against | tokens/s | speedup | wanted | same tokens |")
    print("|---|---|---|---|---|---|---|")
    notes = []
    for name in names:
        for result in ROWS[name](options.repeats):
            target = f"{result.target:g}" if result.target else ""
            same = "" if result.same is None else "yes" if result.same else "NO"
            speeds = f"{result.ours:,.0f} | {result.peer} | {result.theirs:,.0f} | {result.ratio:.2f}"
            print(f"| {result.name} | {speeds} | {target} | {same} |", flush=True)
            notes += [f"{result.name}: {result.note}"] if result.note else []
    print(*notes, sep="\n")
