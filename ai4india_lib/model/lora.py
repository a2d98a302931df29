"""Low-rank adaptation: train a small correction of each matrix, and leave the matrices alone (Hu et al., 2021).

A matrix W (out, in) stays as it is. Beside it stand two thin ones, A (rank, in) and B (out, rank), and together they
compute W x + alpha/rank · B A x (§4.1). B starts at zero, so that at first nothing changes. Only A and B train.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..basics.arguments import above, at_least
from .decoder import DecoderLanguageModel

LORA_TARGETS = ("query", "key", "value", "output", "gate", "up", "down")
"""The matrices of a block that can have an adapter."""


class LoRALinear(nn.Linear):
    """A linear layer whose own weight is frozen, with a trainable correction of low rank beside it.

    Shapes: (..., in_features) -> (..., out_features).
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float):
        nn.Module.__init__(self)  # nn.Linear's own would draw weights in vain
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.rank, self.alpha = rank, alpha
        like = {"device": linear.weight.device, "dtype": torch.float32}  # small steps would be lost in half precision
        self.lora_A = nn.Linear(self.in_features, rank, bias=False, **like)
        self.lora_B = nn.Linear(rank, self.out_features, bias=False, **like)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // self.in_features
        if rows > 2 * max(self.in_features, self.out_features) and self.weight.dtype == self.lora_A.weight.dtype:
            # one product for many rows: a fifth less time for a step of training, and W + BA is small beside them
            parts = self.weight, self.lora_B.weight, self.lora_A.weight
            return nn.functional.linear(x, torch.addmm(*parts, alpha=self.alpha / self.rank), self.bias)
        seen = self.lora_A(x.to(self.lora_A.weight.dtype)) * (self.alpha / self.rank)  # (..., rank)
        y = super().forward(x)  # (..., out_features)
        return y + self.lora_B(seen).to(y.dtype)

    def merged(self) -> nn.Linear:
        """One plain linear layer that computes the same."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        correction = self.lora_B.weight.float() @ self.lora_A.weight.float() * (self.alpha / self.rank)  # (out, in)
        linear.weight = nn.Parameter((self.weight.float() + correction).to(self.weight.dtype))
        return linear


def add_lora(
    model: DecoderLanguageModel, rank: int = 16, alpha: float | None = None, targets=LORA_TARGETS, *, seed: int = 0
) -> DecoderLanguageModel:
    """Freeze `model` and put an adapter beside the `targets` of each block, in place; only adapters train from here on.

    `alpha` (default 2 · rank) sets how strongly a correction counts. Returns the same model.
    Raises ValueError for an unknown target, or if the model has adapters already.
    """
    targets = tuple(targets)
    if unknown := [name for name in targets if name not in LORA_TARGETS]:
        raise ValueError(f"no matrix of a block is called {unknown[0]!r}: there are {', '.join(LORA_TARGETS)}")
    if not targets:
        raise ValueError(f"no targets: name one or more of {', '.join(LORA_TARGETS)}")
    names = [name for name, _ in model.named_modules() if name.startswith("blocks.") and name.endswith(targets)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        put_adapters(model, names, rank, 2 * rank if alpha is None else alpha)
    return model


def put_adapters(model: DecoderLanguageModel, names: Iterable[str], rank: int, alpha: float) -> None:
    """Freeze `model` and put an adapter beside each matrix of these names, such as "blocks.0.mlp.up"."""
    at_least(1, rank=rank)  # usual values are 4 to 64
    above(0, alpha=alpha)  # a usual value is twice the rank
    if has_lora(model):
        raise ValueError("the model has adapters already: merge_lora(model) makes them part of it first")
    model.requires_grad_(False)
    for name in names:
        model.set_submodule(name, LoRALinear(model.get_submodule(name), rank, alpha))


def merge_lora(model: DecoderLanguageModel) -> DecoderLanguageModel:
    """Add each correction to its matrix, in place: the same logits from a plain model, all of which can train again."""
    for name, module in lora_modules(model).items():
        model.set_submodule(name, module.merged())
    return model.requires_grad_(True)


def has_lora(model: nn.Module) -> bool:
    """Whether any linear layer of `model` has an adapter beside it that is not merged yet."""
    return bool(lora_modules(model))


def lora_modules(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers with an adapter, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}
