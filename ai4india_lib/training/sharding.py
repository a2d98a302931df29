"""Weights that are cut up over processes (FSDP2): made whole to be kept, and cut up again to go on.

A tensor that is cut up is a `DTensor`: each process holds some rows of it. To make one whole, all processes must ask.
What is not cut up passes through, so that callers need not know.
"""

import torch
from torch import Tensor, nn


def is_cut(tensor: Tensor) -> bool:
    """Does each process hold a part of it only?"""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of `tensor`, on its device."""
    return tensor.full_tensor() if is_cut(tensor) else tensor


def cut_like(tensor: Tensor, example: Tensor) -> Tensor:
    """`tensor`, which all processes have as a whole, cut up as `example` is."""
    if not is_cut(example):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    mesh, there = example.device_mesh, tensor.to(device=example.device, dtype=example.dtype)
    same = DTensor.from_local(there, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return same.redistribute(placements=example.placements)


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies on the CPU of the weights that are not frozen, by name, each one whole."""
    return {name: whole(p.detach()).cpu().clone() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def put_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give the model these weights, by name; others stay as they are."""
    for name, p in model.named_parameters():
        if name in weights:
            p.copy_(cut_like(weights[name], p))
