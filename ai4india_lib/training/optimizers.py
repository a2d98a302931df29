"""How the weights follow the gradient: the learning rate over time, and which weights AdamW and Muon move."""

import torch
from torch import Tensor

from ..basics.device import pick_precision
from ..model.decoder import DecoderLanguageModel
from ..model.lora import lora_modules
from .hyperparameters import Hyperparameters
from .muon import Muon
from .sharding import cut_like, whole

A_RATE = 0.2  # of the learning rate, for the A of an adapter


def learning_rate_at(step: int, total_steps: int, h: Hyperparameters, warmup_steps: int | None = None) -> float:
    """Warm-up, stable, decay (Hu et al., 2024, §4.1): a linear rise, a plateau, and a linear fall to zero at the end.

    `step` counts from 0. The rise takes `warmup_steps`, or if that is None the part of all steps that `h` says.
    """
    warmup_steps = round(h.warmup_fraction * total_steps) if warmup_steps is None else warmup_steps
    rise = (step + 1) / (warmup_steps + 1)
    fall = (total_steps - step) / (round(h.decay_fraction * total_steps) + 1)
    return h.learning_rate * min(rise, 1.0, fall)


def make_optimizers(model: DecoderLanguageModel, h: Hyperparameters) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov & Hutter, 2019), and with `optimizer="muon"` `Muon` for the matrices inside the blocks.

    Gains are not decayed, frozen weights are left out. Of an adapter's two matrices A learns more slowly than B,
    `A_RATE` times as fast: it only chooses what B, which began at zero, looks at (LoRA+; Hayou et al., 2024).

    Raises ValueError if all weights are frozen.
    """
    inside = {id(p) for p in model.blocks.parameters() if p.dim() == 2 and h.optimizer == "muon"}
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("all weights of the model are frozen: add_lora(model) or model.requires_grad_(True) first")
    matrices = [p for p in trained if id(p) in inside]
    tables = [p for p in trained if p.dim() == 2 and id(p) not in inside]
    gains = [p for p in trained if p.dim() < 2]
    slow = {id(module.lora_A.weight) for module in lora_modules(model).values()}
    groups = [*_groups(tables, slow), *_groups(gains, slow, weight_decay=0.0)]
    settings = {"lr": h.learning_rate, "weight_decay": h.weight_decay}
    optimizers: list[torch.optim.Optimizer] = []
    if groups:
        fused = model.device.type in ("cpu", "cuda")
        optimizers.append(torch.optim.AdamW(groups, betas=(min(h.momentum, 0.9), 0.95), fused=fused, **settings))
    if matrices:
        halves = h.precision in ("auto", "bf16") and pick_precision(model.device) == "bf16"
        dtype = torch.bfloat16 if halves else torch.float32
        optimizers.append(Muon(_groups(matrices, slow), dtype=dtype, momentum=h.momentum, **settings))
    return optimizers


def _groups(weights: list[Tensor], slow: set[int], **settings) -> list[dict]:
    """Parameter groups for an optimizer: the weights, and apart from them those that learn more slowly."""
    parts = {1.0: [p for p in weights if id(p) not in slow], A_RATE: [p for p in weights if id(p) in slow]}
    return [{"params": part, "rate_factor": factor, **settings} for factor, part in parts.items() if part]


def set_learning_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    """Let the next step of all optimizers be of this rate, times the factor that `make_optimizers` gave a group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)


def optimizer_tensors(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The optimizers' memories of each parameter, as "optimizer.parameter.name": safetensors keeps a flat dict."""
    return {
        f"{number}.{parameter}.{name}": whole(value.detach()).cpu().contiguous()
        for number, optimizer in enumerate(optimizers)
        for parameter, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
    }


def load_optimizer_tensors(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Bring back what `optimizer_tensors` gave."""
    memories: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in tensors.items():
        number, parameter, name = key.split(".")
        memories[int(number)].setdefault(int(parameter), {})[name] = value.clone()
    for optimizer, memory in zip(optimizers, memories, strict=True):
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        for number, kept in memory.items():
            kept |= {name: cut_like(value, weights[number]) for name, value in kept.items() if value.dim()}
        optimizer.load_state_dict({"state": memory, "param_groups": optimizer.state_dict()["param_groups"]})
