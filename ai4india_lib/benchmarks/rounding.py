"""What rounding a model's weights saves and costs: size, loss and speed, side by side."""

from __future__ import annotations

import statistics
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ..formats.gguf import save_gguf
from ..formats.pretrained import load_model
from ..formats.rounding import PRECISIONS, rounded_copy
from ..inference.fast import fast_decoder
from ..text.corpus import train_and_test_lines
from . import separate
from .generation import DOCUMENTS, decoded_bits_per_byte
from .profiling import machine, weight_bytes


class Rounded(NamedTuple):
    """One row of the table."""

    name: str
    megabytes: float
    bits: float  # per byte of the test text
    exact: float  # the same for the weights as they are
    speed: float | None  # new tokens per second

    def __str__(self) -> str:
        speed = "" if self.speed is None else f"{self.speed:,.0f}"
        loss = f"{self.bits:.4f} | {self.bits / self.exact - 1:+.1%}"
        return f"| {self.name} | {self.megabytes:.2f} | {loss} | {speed} |"


def measure(name: str, source: str, repeats: int, threads: int) -> list[Rounded]:
    """Each precision of a GGUF file, written by llama.cpp where it is installed; then float32 and int8 of ours.

    Bits are those of the first test texts of `source`, read by our model with the numbers that the file gives back.
    """
    model, tokenizer = load_model(name, "cpu")
    texts = list(islice(train_and_test_lines(source)[1], DOCUMENTS))
    exact = decoded_bits_per_byte(fast_decoder(model), tokenizer, texts)
    rows = []
    with TemporaryDirectory() as folder:
        files = {p: save_gguf(model, tokenizer, Path(folder) / f"{p}.gguf", precision=p) for p in PRECISIONS}
        contestants = {p: {"file": str(file), "threads": threads} for p, file in files.items()}
        contestants = contestants if separate.has_llama_cpp() else {}
        ours = {"ours, float32": False, "ours, int8": True}
        contestants |= {own: {"model": name, "threads": threads, "int8": int8, "compiled": False}
                        for own, int8 in ours.items()}  # fmt: skip
        speeds = {who: statistics.median(all_) for who, all_ in separate.measure(contestants, repeats)[0].items()}
        for p, file in files.items():
            bits = decoded_bits_per_byte(fast_decoder(rounded_copy(model, p)), tokenizer, texts)
            rows.append(Rounded(p, file.stat().st_size / 1e6, bits, exact, speeds.get(p)))
    for own, int8 in ours.items():
        decoder = fast_decoder(model, int8=int8)
        bits = decoded_bits_per_byte(decoder, tokenizer, texts)
        rows.append(Rounded(own, weight_bytes(decoder) / 1e6, bits, exact, speeds[own]))
    return rows


def print_rounding(name: str, source: str, repeats: int, threads: int) -> None:
    """Measure, and print the table."""
    print(machine())
    print(f"{name}: MB of the file (ours: of the matrices that a step reads), bits per byte of {DOCUMENTS} test texts,")
    print(f"new tokens per second (the first four by llama.cpp), {threads} threads, median of {repeats}")
    print("| weights | MB | bits per byte | loss | tokens/s |")
    print("|---|---|---|---|---|")
    for row in measure(name, source, repeats, threads):
        print(row, flush=True)
