"""How likely does a model find a text? Log-probabilities of its tokens, and bits per byte.

A model is here a `DecoderLanguageModel`, or anything with a method `token_log_probabilities`, such as `NgramModel`.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..inference.sampling import DAMAGED
from ..text.packing import next_token_batch
from ..text.tokenizer import encode_for_scoring

TOKENS_AT_ONCE = 4096  # tokens in one pass through the model: bounds the memory that logits take


def logits_and_targets(model: nn.Module, rows: list[list[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Read rows of ids in batches: (numbers of the rows, logits (batch, time, vocab_size), targets (batch, time)).

    Targets are −100 behind a row's end. Rows of like length meet in a batch. One that is longer than the model's
    `context_size` + 1 is cut into pieces of that length, each read on its own; they come in order.
    """
    context = model.config.context_size
    pieces = [
        (number, row[start : start + context + 1])
        for number, row in enumerate(rows)
        for start in range(0, len(row) - 1, context)
    ]
    pieces.sort(key=lambda piece: len(piece[1]), reverse=True)  # stable: a long row's pieces stay in order
    was_training = model.training
    model.eval()
    try:
        while pieces:
            width = len(pieces[0][1]) - 1
            batch = pieces[: max(1, TOKENS_AT_ONCE // width)]
            pieces = pieces[len(batch) :]
            inputs, targets = next_token_batch([ids for _, ids in batch])  # (batch, time) each
            yield [number for number, _ in batch], model(inputs.to(model.device)), targets.to(model.device)
    finally:
        model.train(was_training)


@torch.inference_mode()
def token_log_probabilities(model: nn.Module, rows: list[list[int]]) -> list[Tensor]:
    """For each row of ids the log-probabilities (nats, float64, on the CPU) of its tokens, the first one left out; long
    rows are cut as in `logits_and_targets`. Raises FloatingPointError for a model whose logits are not numbers."""
    if hasattr(model, "token_log_probabilities"):
        return model.token_log_probabilities(rows)
    found: list[list[Tensor]] = [[] for _ in rows]
    for numbers, logits, targets in logits_and_targets(model, rows):
        losses = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
        losses = losses.cpu().double().view(targets.shape)  # (batch, time)
        if not losses.isfinite().all():
            raise FloatingPointError(DAMAGED)
        for number, row, wanted in zip(numbers, losses, targets.cpu(), strict=True):
            found[number].append(-row[wanted != -100])
    return [torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64) for parts in found]


def document_bits(model: nn.Module, tokenizer, lines: Iterable[str]) -> tuple[Tensor, Tensor]:
    """(surprise of each document in bits, its size in bytes), both (documents,) float64.

    Each line is read alone, after an end token, and is to be ended. As in a file its newline counts as a byte.
    """
    lines = list(lines)
    if not lines:
        raise ValueError("no documents to measure: lines is empty")
    rows = encode_for_scoring(tokenizer, lines)
    bits = [-float(row.sum()) / math.log(2) for row in token_log_probabilities(model, rows)]
    sizes = [len(line.encode("utf-8")) + 1 for line in lines]
    return torch.tensor(bits, dtype=torch.float64), torch.tensor(sizes, dtype=torch.float64)


def bits_per_byte(model: nn.Module, tokenizer, lines: Iterable[str]) -> float:
    """Surprise of a text per byte of UTF-8: comparable between tokenizers, though not between languages.

    `lines` are documents, each read alone; in training's measure short ones share a row, and the first is read before
    the second.
    """
    bits, sizes = document_bits(model, tokenizer, lines)
    return float(bits.sum() / sizes.sum())
