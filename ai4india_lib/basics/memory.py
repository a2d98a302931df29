"""How much memory there is, asked before something large is made: a sentence is better than a machine that hangs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SMALL = 2**26  # bytes that are always there: to ask costs more than it could save


def _container_limit() -> float:
    """The most that a container, as of Docker, lets its processes take, in bytes; infinite outside of one."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of cgroups 2, 1
        try:
            return int((Path("/sys/fs/cgroup") / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return float("inf")


def free_memory(device: torch.device | str | None = None) -> float:
    """Bytes that can still be taken on `device` (None: the CPU). On Apple's GPU, as on the CPU, those of the machine.

    On CUDA, what torch keeps of freed memory counts as free.
    """
    if device is not None and str(device).startswith("cuda"):
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    import psutil

    return min(psutil.virtual_memory().available, _container_limit())


def check_memory(needed: float, what: str, instead: str, device: torch.device | str | None = None) -> None:
    """Raises ValueError if `what`, in words, needs more bytes than there are; `instead` says what would need less.

    >>> check_memory(5e12, "this model", "choose a smaller emb_dim")
    ValueError: this model needs 5,000 GB of memory, 22.1 GB are free: choose a smaller emb_dim
    """
    if needed > SMALL and needed > (free := free_memory(device)):
        raise ValueError(f"{what} needs {in_gigabytes(needed)} of memory, {in_gigabytes(free)} are free: {instead}")


def in_gigabytes(size: float) -> str:
    """4.1e9 → "4.1 GB"; 5e12 → "5,000 GB"."""
    return f"{size / 1e9:,.{0 if size > 1e11 else 1}f} GB"
