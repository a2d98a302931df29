"""The table: what each row of it says, and how it is printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .profiling import machine


@dataclass
class Result:
    """One row of the table. Speeds are new tokens per second, all texts together."""

    name: str
    ours: float
    peer: str  # what it is held against
    theirs: float
    target: float | None = None  # the ratio we want
    same: bool | None = None  # did both write the same tokens?
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    def __str__(self) -> str:
        target = f"{self.target:g}" if self.target else ""
        same = {None: "", True: "yes", False: "NO"}[self.same]
        speeds = f"{self.ours:,.0f} | {self.peer} | {self.theirs:,.0f} | {self.ratio:.2f}"
        return f"| {self.name} | {speeds} | {target} | {same} |"


def print_table(rows: Sequence[Callable[[int], list[Result]]], repeats: int, threads: int) -> None:
    """Measure each row on `threads` cores and print it at once; what there is to say about them comes at the end."""
    torch.set_num_threads(threads)
    print(machine())
    print(f"greedy, fp32 unless said, {threads} threads; new tokens per second, median of {repeats}")
    print("| what | tokens/s | against | tokens/s | speedup | wanted | same tokens |")
    print("|---|---|---|---|---|---|---|")
    notes = []
    for measure in rows:
        for result in measure(repeats):
            print(result, flush=True)
            notes += [f"{result.name}: {result.note}"] if result.note else []
    print(*notes, sep="\n")
