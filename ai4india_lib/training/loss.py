"""How surprised a model is: cross-entropy of the next token, and perplexity."""

import math
from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..basics.arguments import at_least


def next_token_loss(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats of logits (…, vocab_size); targets (…), −100 where to leave one out."""
    return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction=reduction, ignore_index=-100)


@torch.no_grad()
def compute_loss_and_perplexity(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    device: str | torch.device | None = None,
    *,
    max_batches: int | None = None,
) -> tuple[float, float]:
    """Mean loss per token, in nats, over a loader's batches, and its exponential, the perplexity.

    Targets of −100 are left out. With several processes each reads its own part, and all get the mean of the whole.
    Raises ValueError if the loader gives nothing.
    """
    at_least(1, max_batches=max_batches)
    device = torch.device(device) if device is not None else next(model.parameters()).device
    was_training = model.training
    model.eval()
    total = torch.zeros(2, dtype=torch.float64, device="cpu" if device.type == "mps" else device)  # loss, tokens
    for inputs, targets in islice(loader, max_batches):
        targets = targets.to(device)
        loss = next_token_loss(model(inputs.to(device)), targets, reduction="sum")
        found = torch.stack([loss.float(), (targets != -100).sum().float()])
        total += found.to(total.device).to(total.dtype)  # in this order: Apple's GPU has no float64
    model.train(was_training)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    if not total[1]:
        raise ValueError("the loader gave no tokens: is the text shorter than two tokens, or every target -100?")
    loss = float(total[0] / total[1])
    return loss, math.exp(min(loss, 700.0))
