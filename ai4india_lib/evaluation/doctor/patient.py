"""Who is examined: a model with its history and texts, and what is measured of it, once, when it is first needed.

All is computed anew, apart from the code that trained and tested: the targets are made from the inputs here.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from ...text.ngrams import NgramModel
from ...text.packing import WholeDocumentDataset
from ...text.tokenizer import encode_for_scoring, encode_lines
from ...training.history import History
from .given import first_batches, first_documents, lines_and_loader, rewound
from .reference import NO_FAULT, Reference, faults_for, weights_of
from .rows import Measured, Rows, measure, padded, padding_of, skips_inside

DOCUMENTS = 3000  # of a text that are looked at
SOME = 4_096  # tokens on which faults are compared
YARDSTICKS = {1: "counting tokens (unigram)", 2: "counting pairs (bigram)", 5: "counting five in a row (5-gram)"}


class Patient:
    """A model and what is known about it. Arguments: see `examine`."""

    def __init__(self, model: nn.Module, tokenizer, history, train, test, hyperparameters, before, quick=False):
        self.model, self.tokenizer, self.h, self.before = model, tokenizer, hyperparameters, before
        self.documents = DOCUMENTS // 6 if quick else DOCUMENTS
        self.most_tokens = 4_096 if quick else 65_536
        losses = [] if isinstance(history, History) else [float(loss) for loss in history or ()]
        self.history = history if isinstance(history, History) else History(total_steps=len(losses), train_loss=losses)
        self.is_next_token = not self.history.measured  # preferences and rewards have losses of other kinds
        self.has_history = bool(self.history.train_loss or self.history.eval_loss)
        self.train_lines, self.train_loader = lines_and_loader(train)
        self.test_lines, self.test_loader = lines_and_loader(test)
        self.device = next(model.parameters()).device
        config = getattr(model, "config", None)
        rows = self.test_batches[0][0] if self.test_batches else None
        self.context = getattr(config, "context_size", None) or (rows.shape[1] if rows is not None else 128)
        if self.h is not None:
            self.context = min(self.context, self.h.context_size)

    # the texts

    @cached_property
    def train_sample(self) -> list[str]:
        return first_documents(self.train_lines, self.documents)

    @cached_property
    def test_sample(self) -> list[str]:
        return first_documents(self.test_lines, self.documents)

    @cached_property
    def train_batches(self) -> list[tuple[Tensor, Tensor]]:
        return first_batches(self.train_loader)

    @cached_property
    def test_batches(self) -> list[tuple[Tensor, Tensor]]:
        return first_batches(self.test_loader)

    @cached_property
    def is_conversation(self) -> bool:
        """Are there words that are read and not learned? Their answers may begin as the model never expected it."""
        return any(skips_inside(*batch) for batch in (*self.train_batches, *self.test_batches))

    @property
    def pad_id(self) -> int | None:
        """The padding token, where it stands for nothing else."""
        pad = self.tokenizer.pad_token_id
        return None if pad in (self.tokenizer.eos_token_id, self.tokenizer.bos_token_id) else pad

    @cached_property
    def tokens(self) -> int:
        """How many tokens are measured: fewer with a large model."""
        return int(min(self.most_tokens, max(2_048, 4e10 / max(1, sum(p.numel() for p in self.model.parameters())))))

    @cached_property
    def test_rows(self) -> Rows | None:
        """Of the test text, made from its lines or the loader's inputs; those of a look, if they are known."""
        looked_at = None
        if self.h is not None and self.h.eval_batches is not None and self.history.eval_loss:
            looked_at = self.h.eval_batches * self.h.batch_size
        return self._rows(self.test_sample, self.test_batches, looked_at)

    @cached_property
    def train_rows(self) -> Rows | None:
        return self._rows(self.train_sample, self.train_batches)

    def _rows(
        self, lines: list[str], batches: list[tuple[Tensor, Tensor]], looked_at: int | None = None
    ) -> Rows | None:
        if lines and not any((targets == -100).any() and skips_inside(inputs, targets) for inputs, targets in batches):
            dataset = WholeDocumentDataset(lines, self.tokenizer, self.context)
            rows = list(dataset.rows())
            if looked_at is not None and looked_at * self.context <= 2 * self.tokens:
                return padded(rows[:looked_at], True)
            keep = max(1, self.tokens // self.context)
            step = max(1, len(rows) // keep)
            return padded(rows[::step][:keep], len(rows) <= keep and len(lines) < self.documents)
        if not batches:
            return None
        rows, counted = [], []
        for inputs, targets in batches:
            for row, aim in zip(inputs, targets, strict=True):
                length = len(row) - padding_of(row, self.tokenizer.pad_token_id)
                if length > 2:
                    rows.append(row[:length].tolist())
                    counted.append((aim[: length - 1] != -100).tolist())
        return padded(rows[: max(1, self.tokens // self.context)], False, counted)

    # the model

    @contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """The model in this mode, without gradients; as it was afterwards."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.train(training)
        try:
            with torch.no_grad():
                yield
        finally:
            for module, was in modes:
                module.training = was

    def logits(self, ids: Tensor, *, training: bool = False) -> Tensor:
        """(batch, time) -> (batch, time, vocab_size) float32 on the CPU."""
        with self.mode(training):
            found = self.model(ids.to(self.device))
            return getattr(found, "logits", found).float().cpu()

    @cached_property
    def reference(self) -> Reference | None:
        """The decoder as it should be, with this model's weights; None where these have other names."""
        weights = weights_of(self.model)
        return Reference({n: p.cpu() for n, p in weights.items()}, self.model.config) if weights else None

    @cached_property
    def probe(self) -> Tensor:
        """Some ids of real text, (2, time); of an unknown text random ones."""
        time = min(48, self.context)
        if self.test_rows is not None and self.test_rows.ids.shape[1] >= 8:
            ids = self.test_rows.ids[:2, :time]
            return ids if len(ids) == 2 else ids.repeat(2, 1)
        generator = torch.Generator().manual_seed(0)
        return torch.randint(3, len(self.tokenizer), (2, time), generator=generator)

    @cached_property
    def chance(self) -> float:
        """How far the logits of the same text, computed twice, lie apart: 0, unless something is drawn."""
        first, second = (self.logits(self.probe) for _ in range(2))
        return (first - second).abs().amax().item()

    @cached_property
    def losses(self) -> dict[int, Measured]:
        """On the test text, by shift."""
        return {} if self.test_rows is None else measure(self.logits, self.test_rows)

    @cached_property
    def loss_among_used(self) -> float:
        """On the test text, if only tokens could come that occur in the texts. `train` moves the others once a run is
        over (`new_tokens.give_places`), which makes a narrow model a little worse than the run noted."""
        used = torch.zeros(self.vocab_size, dtype=torch.bool)
        for rows in filter(None, (self.train_rows, self.test_rows)):
            used[rows.ids.unique()] = True
        for ids in encode_lines(self.tokenizer, self.train_sample):
            used[torch.tensor(ids, dtype=torch.long)] = True
        return measure(lambda ids: self.logits(ids).masked_fill(~used, -torch.inf), self.test_rows, (1,))[1].loss

    @cached_property
    def train_losses(self) -> dict[int, Measured]:
        return {} if self.train_rows is None else measure(self.logits, self.train_rows)

    @cached_property
    def faulty_losses(self) -> dict[str, float]:
        """The loss on some of the test text that the weights give without and with each fault of `reference`."""
        if self.reference is None or self.test_rows is None:
            return {}
        faults = [NO_FAULT, *faults_for(self.model.config)]
        count = max(1, SOME // self.test_rows.ids.shape[1])
        few = Rows(self.test_rows.ids[:count], self.test_rows.counted[:count], False)
        return {fault: measure(lambda ids, fault=fault: self.reference.logits(ids, fault), few, (1,))[1].loss
                for fault in faults}  # fmt: skip

    # the run

    @cached_property
    def run_loss(self) -> float | None:
        """The test loss that the run noted for the weights that it kept, on `test_rows` if these are of a look."""
        noted, best = self.history.test_loss, min(self.history.eval_loss, default=None)
        if noted is None or (self.h is not None and self.test_rows is not None and self.test_rows.is_whole):
            return best if best is not None else noted
        return noted

    @property
    def has_last_weights(self) -> bool:
        """Are the weights those of the run's last steps?"""
        return not self.history.eval_loss or self.history.steps_since_best() <= 0.1 * self.history.steps

    def is_above(self, length: int) -> bool:
        """Does the run end above what counting so many tokens in a row reaches?"""
        loss = self.run_loss
        if loss is None and (losses := self.losses or self.train_losses):
            loss = losses[1].loss
        return loss is not None and loss > self.counted.get(length, 0.5 * self.uniform)

    def batches_of_training(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of the training loader from the first one on."""
        return iter(rewound(self.train_loader))

    # the yardsticks

    @property
    def uniform(self) -> float:
        return math.log(self.vocab_size)

    @cached_property
    def vocab_size(self) -> int:
        size = getattr(getattr(self.model, "config", None), "vocab_size", None)
        return size or self.logits(self.probe[:1, :2]).shape[-1]

    @cached_property
    def counted(self) -> dict[int, float]:
        """1, 2 and 5 → the loss on the test text that counting so many tokens in a row reaches."""
        if not (self.train_sample and self.test_sample):
            return {}
        few = self.test_sample[:: max(1, len(self.test_sample) // 200)][:200]
        tests = encode_for_scoring(self.tokenizer, few)
        model = NgramModel.from_lines(self.train_sample, self.tokenizer, max(YARDSTICKS))
        return {n: -float(torch.cat(model.up_to(n).token_log_probabilities(tests)).mean()) for n in YARDSTICKS}
