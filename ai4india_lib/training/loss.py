"""How surprised a model is: cross-entropy of the next token, and perplexity."""

import math
from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..basics.arguments import at_least
from ..model import by_hand


def next_token_loss(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats of logits (…, vocab_size); targets (…), −100 where to leave one out."""
    return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction=reduction, ignore_index=-100)


AT_ONCE = 2**21  # logits that are held at a time, by `loss_of_hidden`: they fit into a processor's caches


def loss_of_hidden(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """`next_token_loss(head(hidden), targets)`: hidden (…, emb_dim), targets (…), none of them −100.

    In training on a CPU the logits, the largest tensor of a step, are never there as a whole: some rows are computed,
    and at once what follows from them, their loss and its gradients.
    """
    rows = hidden.flatten(0, -2)  # (tokens, emb_dim)
    plain = type(head) is nn.Linear and head.bias is None
    if plain and by_hand.pays(hidden):
        return _LossInParts.apply(rows, head.weight, targets.flatten())
    return next_token_loss(head(rows), targets.flatten())


class _LossInParts(torch.autograd.Function):
    """The mean cross-entropy of rows @ weight.T. Of a row's logits the gradient is their softmax, less 1 at the target:
    it is there as soon as the loss is, so that nothing but the gradients of rows and weight need be kept."""

    @staticmethod
    def forward(ctx, rows: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        loss = rows.new_zeros(())
        rows_gradient = torch.empty_like(rows)
        turned = rows.new_zeros(weight.shape[::-1])  # (emb_dim, vocab_size), the weight's gradient: faster this way up
        step = max(1, AT_ONCE // len(weight))
        for part, target, gradient in zip(*(x.split(step) for x in (rows, targets, rows_gradient)), strict=True):
            logits, target = part @ weight.T, target[:, None]  # (step, vocab_size), (step, 1)
            chances = logits.softmax(-1)
            hit = chances.gather(-1, target)
            logs = hit.log()
            if not hit.all():  # too small for a float32: the logarithm is not
                logs = logits.log_softmax(-1).gather(-1, target)
            loss -= logs.sum()
            chances.scatter_(-1, target, hit - 1)
            torch.mm(chances, weight, out=gradient)
            turned.addmm_(part.T, chances)
        ctx.save_for_backward(rows_gradient, turned)
        return loss / len(rows)

    @staticmethod
    def backward(ctx, g: Tensor):
        rows_gradient, turned = ctx.saved_tensors
        share = g / len(rows_gradient)
        return rows_gradient * share, (turned * share).T, None


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
