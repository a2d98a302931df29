"""What a run learns from: the batches of a step, and the loss of a batch.

That of a text stands here, those for preferences (DPO) and rewards (GRPO) in the room `tuning`.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..basics.files import fingerprint_tensors
from ..text.packing import PackedTextDataset
from ..text.resumable import TextLoader
from ..text.tokenizer import fingerprint_tokenizer
from .compiling import Loss, compiled_loss, is_earned
from .distillation import check_teacher, distillation_loss
from .history import History
from .hyperparameters import plan_steps
from .loss import compute_loss_and_perplexity, loss_of_hidden, next_token_loss


class Objective:
    """What a run learns from. A kind of training is a class of its own that writes `prepare`, `batches` and `loss`.

    A step adds up the gradients of several batches, which can be anything that `loss` understands.
    """

    name = "training"  # what the progress bar says
    updates = 1  # how often a step learns from its batches
    facts: ClassVar[dict[str, object]] = {}  # what a resumed run must have in common with the one that was saved
    data = None  # what knows this process's position in its data: it has `state_dict` and `load_state_dict`

    def prepare(self, run) -> History:
        """Look at what there is to learn, once, and return the plan: a history with its `total_steps`. The `loop.Run`
        that asks knows the model, the device, and how many processes there are."""
        raise NotImplementedError

    def fingerprints(self) -> dict[str, str]:
        """Of what is too large for `facts`: what is said of a saved run that had another, and the fingerprint."""
        return {}

    def batches(self) -> list:
        """What the next step learns from."""
        raise NotImplementedError

    def size(self, batch) -> int:
        """Over how many things (tokens, pairs, texts) the loss of this batch is a mean: its weight in the step."""
        return len(batch)

    def loss(self, model: nn.Module, batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to follow, and what to note in the history, by name and without gradients: "loss", and more. All are
        means over the batch; the history gets the mean of a step."""
        raise NotImplementedError

    def measured(self) -> dict[str, float | str]:
        """What else to note of the step that was done, by name: what is not the mean of something over batches."""
        return {}

    def look(self, model: nn.Module, max_batches: int | None = None, *, going_on=lambda: True) -> float | None:
        """The loss on the test text, or on so many batches of it, and on less if `going_on()` turns false; None where
        there is no test text."""
        return None

    def test_batches(self) -> float:
        """About how many batches the test text has."""
        return 0.0


class NextToken(Objective):
    """Predict each next token of a text, or with a teacher what the teacher predicts there. Arguments: see `train`."""

    def __init__(self, train_loader: TextLoader, test_loader: TextLoader, h, teacher=None, floor_bits_per_byte=None):
        self.data, self.test_loader, self.h = train_loader, test_loader, h
        self.teacher, self.floor_bits_per_byte = teacher, floor_bits_per_byte
        self.facts = {"kind": self.name, "teacher": teacher is not None}
        self.compiled: Loss | None = None
        self._endless = self._endless_batches()

    def prepare(self, run) -> History:
        self.device, self.head, data = run.device, run.plain_model.head, self.data.dataset
        self.is_sharded = run.is_sharded
        if run.is_sharded and not self.test_loader.dataset.share_rows:
            raise ValueError("FSDP needs as many test batches in each process: make the datasets with share_rows=True")
        for name in ("batch_size", "context_size"):
            if (has := getattr(data, name)) != (wanted := getattr(self.h, name)):
                raise ValueError(f"the train_loader has {name}={has}, the hyperparameters {wanted}: make both the same")
        if {data.world_size, self.test_loader.dataset.world_size} != {run.processes}:
            raise ValueError(
                f"{run.processes} processes train, but the loaders deal the text out to world_size={data.world_size}: "
                "give each process its own rank and the same world_size"
            )
        if self.teacher is not None:
            check_teacher(self.teacher, run.plain_model, self.h)
            self.teacher.to(self.device).eval()
        steps, per_step, passes = plan_steps(self.h, data.num_tokens(), run.processes)
        whole_blocks = self.teacher is None and isinstance(data, PackedTextDataset)
        if whole_blocks and is_earned(self.h, self.device, steps, run.processes):
            self.compiled = compiled_loss(run, (self.h.batch_size, self.h.context_size))
        self.data.rewind()
        return History(steps, per_step, passes, self.test_loader.dataset.bytes_per_token(), self.floor_bits_per_byte)

    def fingerprints(self) -> dict[str, str]:
        tokenizer, marks = getattr(self.data.dataset, "tokenizer", None), {}
        if tokenizer is not None:  # conversations come as ids
            marks["had another tokenizer"] = fingerprint_tokenizer(tokenizer)
        marks["read another text, or in another order"] = self.data.dataset.fingerprint()
        marks["was tested on another text"] = self.test_loader.dataset.fingerprint()
        if self.teacher is not None:
            marks["had another teacher"] = fingerprint_tensors(self.teacher.named_parameters())
        return marks

    def _endless_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        empty_passes = 0  # the first may be empty, where a run goes on behind the last batch of a pass
        while empty_passes < 2:
            empty_passes += 1
            for batch in self.data:
                empty_passes = 0
                yield batch
        raise ValueError("the training text gives no batch: it needs two tokens or more for each process")

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        return [next(self._endless) for _ in range(self.h.accumulation_steps)]

    def size(self, batch: tuple[Tensor, Tensor]) -> int:
        return int((batch[1] != -100).sum())

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        learned = batch[1] != -100  # asked before the batch is on its way: a GPU need not be waited for
        everywhere, whole = bool(learned.all()), batch[0].shape == (self.h.batch_size, self.h.context_size)
        inputs, targets, learned = (x.to(self.device, non_blocking=True) for x in (*batch, learned))  # (batch, time)
        if self.compiled is not None and everywhere and whole:
            loss = self.compiled(inputs, targets)
            return loss, {"loss": loss.detach().clone()}  # the next call writes where this one wrote
        some = {} if everywhere else {"where": learned}
        targets = targets if everywhere else targets[learned]
        if not len(targets):  # rows of another process: only its share in the gradients' sum is asked for, none
            nothing = model(inputs, logits=False).sum() * 0.0
            return nothing, {"loss": nothing.detach()}
        if self.teacher is None and self.is_sharded:  # the head is whole only within the model's own call
            loss = next_token_loss(model(inputs, **some), targets)
            return loss, {"loss": loss.detach()}
        if self.teacher is None:
            loss = loss_of_hidden(model(inputs, **some, logits=False), self.head, targets)
            return loss, {"loss": loss.detach()}
        logits = model(inputs, **some)
        with torch.no_grad():
            taught = self.teacher(inputs, **some)
        return distillation_loss(logits, taught), {"loss": next_token_loss(logits.detach(), targets)}

    def look(self, model: nn.Module, max_batches: int | None = None, *, going_on=lambda: True) -> float:
        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in self.test_loader:
                yield batch
                if not going_on():
                    return

        return compute_loss_and_perplexity(model, batches(), self.device, max_batches=max_batches)[0]

    def test_batches(self) -> float:
        return self._test_batches

    @cached_property
    def _test_batches(self) -> float:
        data = self.test_loader.dataset
        return data.num_tokens() / (data.batch_size * data.context_size * data.world_size)
