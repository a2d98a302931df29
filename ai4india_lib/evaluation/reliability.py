"""Calibration: can the probabilities of a model be believed?"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inference.sampling import DAMAGED
from ..model.decoder import DecoderLanguageModel
from ..text.tokenizer import encode_for_scoring
from .likelihood import logits_and_targets


@dataclass(frozen=True)
class Calibration:
    """Predictions sorted into bins by confidence: does a model that says 80% come true in 80 of 100 cases?"""

    count: Tensor  # (bins,) predictions in each bin
    confidence: Tensor  # (bins,) mean probability given to the predicted token; 0 in an empty bin
    accuracy: Tensor  # (bins,) fraction of right predictions; 0 in an empty bin

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al., 2017): mean gap of confidence and accuracy, weighted by count."""
        return float((self.count * (self.confidence - self.accuracy).abs()).sum() / self.count.sum())


def calibrate(confidence: Tensor, correct: Tensor, *, bins: int = 10) -> Calibration:
    """Sort predictions into `bins` equally wide bins: confidence (n,) from 0 to 1, correct (n,) true or false.

    A bin holds confidences above its lower edge and up to its upper one.
    """
    if confidence.shape != correct.shape or not confidence.numel():
        shapes = f"confidence {tuple(confidence.shape)} and correct {tuple(correct.shape)}"
        raise ValueError(f"{shapes} must have one shape, and not be empty")
    confidence, correct = confidence.cpu(), correct.cpu()  # first: Apple's GPU has no float64
    number = ((confidence.double() * bins).ceil().long() - 1).clamp(0, bins - 1)  # (n,): of each one's bin
    count = torch.bincount(number, minlength=bins)
    sums = [torch.bincount(number, weights=x.double(), minlength=bins) for x in (confidence, correct)]
    return Calibration(count, *(total / count.clamp(min=1) for total in sums))


@torch.inference_mode()
def calibration(model: DecoderLanguageModel, tokenizer, lines: Iterable[str], *, bins: int = 10) -> Calibration:
    """How far the probability of a model's likeliest next token can be believed, over all tokens of some documents."""
    confidence, correct = [], []
    for _, logits, targets in logits_and_targets(model, encode_for_scoring(tokenizer, lines)):
        real = targets != -100  # (batch, time)
        highest, token = logits.float().softmax(-1).max(-1)  # (batch, time) each
        confidence.append(highest[real].cpu())
        correct.append((token == targets)[real].cpu())
    if not confidence:
        raise ValueError("no documents to measure: lines is empty")
    confidence = torch.cat(confidence)
    if not confidence.isfinite().all():
        raise FloatingPointError(DAMAGED)
    return calibrate(confidence, torch.cat(correct), bins=bins)
