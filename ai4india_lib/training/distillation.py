"""A model learns from a larger one: not which token came next, but how likely each would have been.

A text shows one next word, a teacher all that could have stood there. So a small model learns more from each token, and
becomes most like its teacher: a good draft for it (Hinton et al., 2015; for drafts Zhou et al., DistillSpec, 2024).

>>> train(small, train_loader, test_loader, h, teacher=large)
"""

from torch import Tensor
from torch.nn import functional as F

from ..model.decoder import DecoderLanguageModel
from .hyperparameters import Hyperparameters


def distillation_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """How far a model is from its teacher: KL(teacher ‖ model) in nats, mean over tokens; 0 where they agree.

    Both are logits (…, vocab_size) for the same tokens. No gradient flows to the teacher.
    """
    student, teacher = (x.flatten(0, -2).float().log_softmax(-1) for x in (logits, teacher_logits.detach()))
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean")


def check_teacher(teacher: DecoderLanguageModel, model: DecoderLanguageModel, h: Hyperparameters) -> None:
    """Raises ValueError for a teacher that knows other tokens, or that cannot read as far as the model shall."""
    theirs, ours = teacher.config, model.config
    if teacher is model:
        raise ValueError("a model can't be its own teacher: give it another one")
    if theirs.vocab_size != ours.vocab_size:
        known = f"the teacher knows {theirs.vocab_size} tokens, the model {ours.vocab_size}"
        raise ValueError(f"{known}: they must share one tokenizer")
    if theirs.context_size < h.context_size:
        reads = f"the teacher reads at most {theirs.context_size} tokens, the hyperparameters say {h.context_size}"
        raise ValueError(f"{reads}: set context_size={theirs.context_size} or less")
