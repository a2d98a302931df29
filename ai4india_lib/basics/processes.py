"""Several processes of one run (`torchrun`, `accelerate launch`): which is the first one, and one voice for all.

Only the first process prints and writes. What ends a run is said once, by whichever process saw it first: where one
process fails, the launcher ends all others.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

MOST_WAITING = 5.0  # seconds for the question whether another process has spoken


def rank_and_world_size() -> tuple[int, int]:
    """(this process's number, how many there are): `torchrun` and `accelerate launch` tell each process who it is.

    Raises ValueError where `accelerate launch` was asked for several processes on CPUs, and started one in silence.
    """
    if "WORLD_SIZE" not in os.environ and "MASTER_ADDR" in os.environ and "ACCELERATE_USE_CPU" in os.environ:
        one = "accelerate launch starts only one process on CPUs with --cpu, unless MPI starts them"
        raise ValueError(f"{one}: give it --multi_gpu --num_processes 2, which are two on CPUs too, or use torchrun")
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def silent_unless_first() -> Iterator[None]:
    """Inside of it nothing comes from any process but the first."""
    if rank_and_world_size()[0] == 0:
        yield
        return
    with ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        stack.enter_context(redirect_stdout(nowhere))
        stack.enter_context(redirect_stderr(nowhere))
        yield


def tell_once(line: str, stream: TextIO) -> None:
    """Say why this process ends, unless another one has said already why the run ends."""
    if _is_first_to_tell():
        print(line, file=stream, flush=True)


def _is_first_to_tell() -> bool:
    """The processes of a run share a store of numbers, at MASTER_ADDR: the first to count there is the one."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    from datetime import timedelta

    from torch.distributed import TCPStore

    started = f"ai4india_lib told, start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    try:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(*place, is_master=False, timeout=timedelta(seconds=MOST_WAITING), wait_for_workers=False)
        return store.add(started, 1) == 1
    except (KeyError, ValueError, RuntimeError):  # it is not there, or not any more
        return True
