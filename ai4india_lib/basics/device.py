"""Where to compute, and in which precision: the one place that decides."""

import ctypes
import os
import platform

import torch

from .processes import rank_and_world_size


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device called `name`, or the best one there is: CUDA, then Apple's MPS, then the CPU.

    AI4INDIA_DEVICE names one for all that would choose by themselves: `cpu`, where a GPU is there and does not work.
    Of several processes on a machine with several GPUs each gets one of its own.
    Raises ValueError for a device that this machine lacks.
    """
    if str(name) == "cuda" and torch.cuda.is_available():
        return _own_gpu()
    if name is None or name == "auto":
        chosen = os.environ.get("AI4INDIA_DEVICE", "auto")
        return _best_device() if chosen == "auto" else pick_device(chosen)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device {name!r} is not known: use cpu, cuda, cuda:1, mps or auto") from None
    cuda, mps = torch.cuda.device_count() > (device.index or 0), torch.backends.mps.is_available()
    if not {"cpu": True, "cuda": cuda, "mps": mps}.get(device.type, False):
        best = str(_best_device())
        raise ValueError(f"device {str(device)!r} is not on this machine: leave it out to use {best!r}")
    return device


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return _own_gpu()
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _own_gpu() -> torch.device:
    local = int(os.environ.get("LOCAL_RANK", 0))  # which of the processes on this machine
    several = rank_and_world_size()[1] > 1 and local < torch.cuda.device_count()
    return torch.device("cuda", local) if several else torch.device("cuda")


def pick_precision(device: torch.device) -> str:
    """Mixed precision that pays on `device`, by accelerate's names: "bf16", "fp16" or "no" (all in float32).

    bf16 where the hardware multiplies it fast (Ampere GPUs and later, CPUs with AMX or AVX512-BF16), fp16 on older
    GPUs such as Colab's T4.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # older versions of torch lack them
    fast = device.type == "cpu" and any(getattr(torch.cpu, test, lambda: False)() for test in tests)
    return "bf16" if fast else "no"


def may_lack_threads() -> bool:
    """May OpenMP start fewer threads than torch asks for? OMP_THREAD_LIMIT and OMP_DYNAMIC allow it.

    Products by oneDNN, which `torch.compile` may choose, are dealt out to as many threads as were asked for: what the
    missing ones should have done is left undone, and the result is garbage, without an error (seen with torch 2.13).
    """
    dynamic = os.environ.get("OMP_DYNAMIC", "").strip().lower()
    return "OMP_THREAD_LIMIT" in os.environ or dynamic in ("true", "1")


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next tensor instead of handing it back to the system each time.

    A training step on a CPU frees and takes the same large blocks again and again; with glibc (Linux) each round trip
    costs page faults. Does nothing, and returns False, elsewhere.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_max = -1, -4  # names in <malloc.h>: M_TRIM_THRESHOLD, M_MMAP_MAX
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**31 - 1))
