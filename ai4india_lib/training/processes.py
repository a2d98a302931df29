"""Several processes that share a run, by `accelerate`."""

import torch

from ..basics.device import rank_and_world_size


def make_accelerator(device: torch.device):
    """What joins the processes of a run; one alone has it too."""
    from accelerate import Accelerator  # here: it takes a second, and only a run needs it
    from accelerate.utils import DistributedDataParallelKwargs

    several = rank_and_world_size()[1] > 1
    if not several and device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # for accelerate, and for kernels that ask which GPU is the present one
    # buffers are constants: to send them would only wait for a process that has no test lines
    settings = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    return Accelerator(mixed_precision="no", cpu=several and device.type == "cpu", kwargs_handlers=settings)
