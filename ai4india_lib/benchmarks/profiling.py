"""Where time goes: contestants measured in turns, what the machine could do, and what the profiler sees."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..inference.packed import FastDecoder

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "linear", "_linear_pointwise", "_weight_int8pack_mm")


def in_turns(contestants: dict[str, Callable[[], object]], repeats: int) -> tuple[dict[str, float], dict[str, object]]:
    """Median seconds of each contestant, and what it returned last. One round before to warm up."""
    seconds, last = {name: [] for name in contestants}, {}
    for turn in range(repeats + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            last[name] = run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}, last


def weight_bytes(decoder: FastDecoder) -> int:
    """What is read of the weights for one step."""
    matrices = [m for b in decoder.blocks for m in (b.qkv, b.output, b.gate_up, b.down)] + [decoder.output]
    return sum(m.weight.numel() * m.weight.element_size() for m in matrices)


def reading_speed(size: int) -> float:
    """Bytes per second with which this machine sums up `size` bytes that it has just had: the caches help, as they do
    when the same weights are read step after step."""
    numbers = torch.ones(size // 4)
    seconds, _ = in_turns({"sum": numbers.sum}, 30)
    return size / seconds["sum"]


def peak_of_products(size: int = 2048, repeats: int = 3) -> float:
    """Operations per second in a product of two large float32 matrices: the most that can be hoped for."""
    a = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        a @ a
        taken.append(time.perf_counter() - start)
    return 2 * size**3 / min(taken)


def machine() -> str:
    """The processor, what torch uses of it, and the versions, in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    parts = [names[0] if names else platform.processor() or platform.machine(), torch.backends.cpu.get_cpu_capability()]
    for package in ("torch", "transformers"):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"no {package}")
    return ", ".join(parts)


def where_time_goes(run: Callable[[], object]) -> str:
    """Shares of one run's time: in products of matrices, attention, other operations, and between operations (Python).

    By PyTorch's profiler, which itself adds a little to each operation.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        start = time.perf_counter()
        run()
        whole = time.perf_counter() - start
    inside = {"products of matrices": 0.0, "attention": 0.0, "other operations": 0.0, "compiled code": 0.0}
    for operation in profile.key_averages():
        kind = "products of matrices" if operation.key.split("::")[-1] in PRODUCTS else "other operations"
        if "CompiledFxGraph" in operation.key:
            kind = "compiled code"
        elif "scaled_dot_product" in operation.key:
            kind = "attention"
        inside[kind] += operation.self_cpu_time_total / 1e6 / whole
    inside["Python between them"] = max(0.0, 1 - sum(inside.values()))
    shown = [
        (kind, min(1.0, part)) for kind, part in inside.items() if part or kind not in ("attention", "compiled code")
    ]
    return "time: " + ", ".join(f"{part:.0%} {kind}" for kind, part in shown)
