"""Small models that learn Chauraha: one size, one text, one run to its end. For lesson 18, and for its stored runs."""

import torch
from torch import Tensor, nn

from ai4india_lib.model.decoder import DecoderLanguageModel
from ai4india_lib.training.hyperparameters import Hyperparameters
from ai4india_lib.training.loss import loss_of_hidden
from ai4india_lib.training.optimizers import learning_rate_at, make_optimizers, set_learning_rate

from . import ROW, WORDS, Chauraha

BATCH = 8  # rows in a step
TEST_WORDS = 16384
MUP_BASE = 16  # the width at which both ways of setting rates agree


def settings(width: int, rate: float = 0.04, optimizer: str = "muon") -> Hyperparameters:
    """Of a run. The usual rate is about the best one for Muon, whatever the width: see the script's part "rates"."""
    return Hyperparameters(
        vocab_size=len(WORDS), emb_dim=width, num_heads=max(1, width // 16), num_blocks=1, context_size=ROW,
        batch_size=BATCH, learning_rate=rate, decay_fraction=0.6, weight_decay=0.0, precision="no", optimizer=optimizer,
    )  # fmt: skip


def small_model(width: int, seed: int = 0) -> DecoderLanguageModel:
    """One block of this width, with its first weights."""
    h = settings(width)
    torch.manual_seed(seed)
    return DecoderLanguageModel(
        len(WORDS), width, h.num_heads, 1, None, num_kv_heads=h.num_heads, mlp_dim=4 * width, context_size=ROW
    )


def learn(model: DecoderLanguageModel, text: Tensor, h: Hyperparameters, *, on_step=None, mup: bool = False) -> None:
    """Read `text` (rows, `ROW` + 1) once, from its first row to its last, `BATCH` rows a step: the loop of lesson 09.

    With `mup` (Yang et al., 2022), a model of n times the base's width has 1/n of its rate inside the block, and 1/n
    of its logits: then one rate suits all widths. For AdamW.
    """
    optimizers, narrow = make_optimizers(model, h), MUP_BASE / h.emb_dim if mup else 1.0
    if mup:
        optimizers = [_by_width(model, h, narrow)]
    batches = text.split(BATCH)
    for step, rows in enumerate(batches):
        set_learning_rate(optimizers, learning_rate_at(step, len(batches), h))
        hidden = model(rows[:, :-1], logits=False)  # (batch, time, width)
        loss_of_hidden(hidden * narrow, model.head, rows[:, 1:]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), h.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if on_step is not None:
            on_step(step + 1)


def _by_width(model: DecoderLanguageModel, h: Hyperparameters, narrow: float) -> torch.optim.Optimizer:
    inside = {id(p) for p in model.blocks.parameters() if p.dim() == 2}
    groups = [
        {"params": [p for p in model.parameters() if (id(p) in inside) == is_inside], "rate_factor": factor}
        for is_inside, factor in ((True, narrow), (False, 1.0))
    ]
    return torch.optim.AdamW(groups, lr=h.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)


@torch.inference_mode()
def loss_of(model: DecoderLanguageModel, language: Chauraha, text: Tensor | None = None, narrow: float = 1.0) -> float:
    """Bits a word on a text that was not learned from: 1.75 is the floor."""
    text = language.text(TEST_WORDS, seed=99) if text is None else text
    parts = text.split(64)
    found = [language.loss((model(rows[:, :-1]) * narrow).log_softmax(-1), rows) * len(rows) for rows in parts]
    return sum(found) / len(text)
