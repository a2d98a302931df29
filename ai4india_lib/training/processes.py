"""Several processes that share a run, by `accelerate`: how they meet, wait for each other, and notice a lost one."""

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TypeVar

import torch

from ..basics.processes import rank_and_world_size
from ..model.decoder import DecoderBlock, DecoderLanguageModel

PATIENCE = timedelta(hours=1)  # for processes that wait, while the first learns a vocabulary, say
Made = TypeVar("Made")


def meet(device: torch.device):
    """Bring the processes of a run together, once: accelerate's `PartialState`. One alone has it too."""
    from accelerate import PartialState  # here: it takes a second, and only a run needs it

    several = rank_and_world_size()[1] > 1
    more = {"timeout": PATIENCE} if several else {}
    return PartialState(cpu=several and device.type == "cpu", **more)


def make_accelerator(device: torch.device):
    """What joins the processes of a run; one alone has it too."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    several = rank_and_world_size()[1] > 1
    if not several and device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # for accelerate, and for kernels that ask which GPU is the present one
    with partners_may_end():
        meet(device)
        # buffers are constants: to send them would only wait for a process that has no test lines
        settings = [DistributedDataParallelKwargs(broadcast_buffers=False)]
        made = Accelerator(mixed_precision="no", cpu=several and device.type == "cpu", kwargs_handlers=settings)
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and several and not cuts_up(made):
        fault = "takes FSDP2 on GPUs only" if made.device.type == "cpu" else "was asked for FSDP1"
        raise ValueError(f"accelerate {fault}: give --fsdp_version 2 on GPUs, or leave FSDP out")
    return made


def cuts_up(accelerator) -> bool:
    """Is the model of a run cut up over its processes (FSDP2)?"""
    return getattr(accelerator, "is_fsdp2", False)  # accelerate knows FSDP2 from 1.6 on


def prepared(accelerator, model: DecoderLanguageModel, optimizers: list) -> list:
    """[model, *optimizers] as `accelerate` joins the processes' own ones: wrapped (DDP), or cut up (FSDP2)."""
    if cuts_up(accelerator):
        from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy  # here: only these runs need it

        plugin = accelerator.state.fsdp_plugin
        plugin.cpu_ram_efficient_loading = False  # it would untie the tied weights
        plugin.auto_wrap_policy = partial(transformer_auto_wrap_policy, transformer_layer_cls={DecoderBlock})
    with partners_may_end(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*broadcast_buffers")  # its new name is not known to torch 2.6
        placed = [False] * (1 + len(optimizers))  # the model is on its device already, or gets there in parts
        return accelerator.prepare(model, *optimizers, device_placement=placed)


def from_first(make: Callable[[], Made], device: torch.device) -> Made:
    """What `make` gives, made by the first process alone; each other one gets a copy, and waits for it."""
    if rank_and_world_size()[1] == 1:
        return make()
    with partners_may_end():
        state = meet(device)
    made = [make() if state.is_main_process else None]
    from accelerate.utils import broadcast_object_list

    with partners_may_end():
        return broadcast_object_list(made)[0]


def all_wait() -> None:
    """Go on when all processes of the run are here."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        with partners_may_end():
            torch.distributed.barrier()


def leave() -> None:
    """The run is over: wait for the others, and part.

    A model that DDP wrapped keeps the group's threads: one that outlives the group can crash the process as it ends.
    So those of runs that are over are let go first, and a caller keeps none.
    """
    gc.collect()
    all_wait()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def partners_may_end() -> Iterator[None]:
    """Inside of it a process that waited in vain for another raises ConnectionError."""
    try:
        yield
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        ended = "another process of this run ended, or cannot be reached, so this one ends too"
        raise ConnectionError(f"{ended}: start the run again with --resume, it goes on from its checkpoint") from error


def _is_lost_connection(error: RuntimeError) -> bool:
    if rank_and_world_size()[1] == 1:
        return False
    told = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or "gloo" in told or "nccl" in told
