"""How fast a step of training is: ours with AdamW, ours with Muon, and `transformers` with AdamW, in turns in one run.

All take the same batches, compute the same loss, clip, and follow the gradient. What is kept of freed memory
(`basics.device.keep_freed_memory`) goes for the whole process, and so for both sides.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..basics.device import keep_freed_memory
from ..formats.llama_format import hugging_face_name
from ..model.decoder import DecoderLanguageModel
from ..training.hyperparameters import Hyperparameters, get_hyperparameters
from ..training.loss import loss_of_hidden
from ..training.optimizers import make_optimizers
from .profiling import machine, peak_of_products, where_time_goes

STEPS = 3  # of each contestant in one turn


@dataclass(frozen=True)
class Shape:
    """A model, and how much it reads in a step."""

    emb_dim: int
    num_blocks: int
    num_heads: int
    num_kv_heads: int
    qk_norm: bool = False
    vocab_size: int = 4096
    batch_size: int = 16
    context_size: int = 256

    @property
    def tokens(self) -> int:
        return self.batch_size * self.context_size


def shape_of(preset: str) -> Shape:
    """The model of a preset, and how much it reads in a step."""
    h = get_hyperparameters(preset)
    return Shape(*(getattr(h, name) for name in Shape.__dataclass_fields__))


SHAPES = {"s": Shape(128, 4, 4, 4), "m": Shape(256, 6, 8, 8), "laptop": shape_of("laptop"), "colab": shape_of("colab")}
USUAL = ("s", "m", "laptop")  # what is measured if nothing is asked for


def make_pair(shape: Shape) -> tuple[DecoderLanguageModel, nn.Module]:
    """A model with drawn weights, and the same weights in the class that `transformers` has for it."""
    import transformers

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = DecoderLanguageModel(
        shape.vocab_size, shape.emb_dim, shape.num_heads, shape.num_blocks, None,
        num_kv_heads=shape.num_kv_heads, context_size=shape.context_size, qk_norm=shape.qk_norm,
    )  # fmt: skip
    kind = "Qwen3" if shape.qk_norm else "Llama"
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=shape.vocab_size, hidden_size=shape.emb_dim, intermediate_size=model.config.mlp_dim,
        num_hidden_layers=shape.num_blocks, num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads, head_dim=model.config.head_dim,
        max_position_embeddings=shape.context_size, rms_norm_eps=model.config.norm_eps, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=None, pad_token_id=0, use_cache=False,
    )  # fmt: skip
    theirs = getattr(transformers, f"{kind}ForCausalLM")(config)
    theirs.load_state_dict({hugging_face_name(name): p for name, p in model.named_parameters()}, strict=False)
    return model.train(), theirs.train()


def operations(model: DecoderLanguageModel, tokens: int) -> float:
    """Floating-point operations of a step (Chowdhery et al., 2022, appendix B): six for each number of the matrices and
    token, the vocabulary's counted once, and 12 · blocks · emb_dim · context for attention, as if it looked ahead too.
    """
    c = model.config
    matrices = sum(p.numel() for p in model.blocks.parameters() if p.dim() == 2) + model.head.weight.numel()
    return tokens * (6.0 * matrices + 12 * c.num_blocks * c.num_heads * c.head_dim * c.context_size)


def our_loss(model: DecoderLanguageModel, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss that `train` follows: ids and targets are (batch, time)."""
    return loss_of_hidden(model(ids, logits=False), model.head, targets)


def their_loss(theirs: nn.Module, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The same loss, as `transformers` computes it."""
    return theirs(input_ids=ids, labels=targets, shift_labels=targets).loss


def make_step(model: nn.Module, loss_of: Callable, optimizers: list, shape: Shape, device) -> Callable[[], float]:
    """A function that does one step on the next of four batches, always the same ones, and gives its loss."""
    draw = torch.Generator().manual_seed(1)
    size = (4, shape.batch_size, shape.context_size + 1)
    batches = torch.randint(1, shape.vocab_size, size, generator=draw).to(device)
    model.to(device)
    done = 0

    def step() -> float:
        nonlocal done
        ids = batches[done % len(batches)]
        done += 1
        loss = loss_of(model, ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    return step


def contestants(shape: Shape, h: Hyperparameters, device) -> dict[str, Callable[[], float]]:
    """Steps of the three, each with a model of its own."""
    adamw, theirs = make_pair(shape)
    muon, _ = make_pair(shape)
    rates = {"lr": h.learning_rate, "weight_decay": h.weight_decay, "betas": (0.9, 0.95), "fused": True}
    sides = {
        "ours, AdamW": (adamw, our_loss, make_optimizers(adamw.to(device), replace(h, optimizer="adamw"))),
        "ours, Muon": (muon, our_loss, make_optimizers(muon.to(device), h)),
        "transformers, AdamW": (theirs, their_loss, [torch.optim.AdamW(theirs.to(device).parameters(), **rates)]),
    }
    return {name: make_step(*side, shape, device) for name, side in sides.items()}


def measure(name: str, repeats: int) -> tuple[list[str], str]:
    """The table's lines for one of `SHAPES`, and a note on it. Each contestant takes `STEPS` steps in each turn."""
    shape, h = SHAPES[name], replace(get_hyperparameters(), learning_rate=1e-3, precision="no")
    steps = contestants(shape, h, "cpu")
    taken: dict[str, list[float]] = {side: [] for side in steps}  # seconds a step
    peaks = []
    for turn in range(repeats + 1):  # the first one warms up
        peaks.append(peak_of_products())
        for side, step in steps.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            if turn:
                taken[side].append((time.perf_counter() - start) / STEPS)
    work, peak = operations(make_pair(shape)[0], shape.tokens), max(peaks)
    theirs, lines = statistics.median(taken["transformers, AdamW"]), []
    for side, seconds in taken.items():
        median = statistics.median(seconds)
        spread = f"{shape.tokens / max(seconds):,.0f} to {shape.tokens / min(seconds):,.0f}"
        shares = f"{theirs / median:.2f} | {work / median / peak:.0%}"
        lines.append(f"| {name}, {side} | {shape.tokens / median:,.0f} | {spread} | {shares} |")
    note = f"{name}: {work / 1e9:.1f} GFLOP a step, products of matrices at most {peak / 1e9:.0f} GFLOP/s; ours, Muon: "
    return lines, note + where_time_goes(steps["ours, Muon"])


def print_table(names: list[str], repeats: int, threads: int) -> None:
    """Measure these of `SHAPES` on `threads` cores, and print each at once."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    print(machine())
    print(f"float32, not compiled, {threads} threads; tokens per second, median of {repeats} turns of {STEPS} steps")
    print("| model, optimizer | tokens/s | from, to | against transformers | of the peak |")
    print("|---|---|---|---|---|")
    notes = []
    for name in names:
        lines, note = measure(name, repeats)
        print(*lines, sep="\n", flush=True)
        notes.append(note)
    print(*notes, sep="\n")
