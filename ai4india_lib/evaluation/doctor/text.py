"""What the texts show: is the test text new, is the training text more than a few lines, do batches ask for what they
should, and are the ids those of this model?
"""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import torch

from ...text.packing import count_text
from ..memorisation import TrainingText
from .findings import LIKELY, POSSIBLE, SURE, Finding
from .patient import Patient

RUN = 12  # words: shared runs of this length count
COMPARED = 100  # documents that are looked for


def look_at_batches(patient: Patient) -> Iterator[Finding]:
    """Targets are the inputs one step later, and −100 where there is only padding."""
    for part, batches in (("training", patient.train_batches), ("test", patient.test_batches)):
        if not batches:
            continue
        agree, total, padded = Counter(), 0, 0
        for inputs, targets in batches:
            time = inputs.shape[1]
            real = torch.ones_like(inputs, dtype=torch.bool)
            if patient.pad_id is not None:
                real = inputs.flip(1).eq(patient.pad_id).long().cumprod(1).flip(1).eq(0)  # not the end of a row
                padded += int((targets == patient.pad_id).sum())
            counted = (targets != -100) & real
            counted[:, max(1, time - 2) :] = False
            total += int(counted.sum())
            for shift in (0, 1, 2):
                aims = inputs.roll(-shift, 1)
                agree[shift] += int(((targets == aims) & counted).sum())
        if padded:
            yield Finding("padding counted as text", f"{padded} targets of the {part} batches are padding", SURE)
        if total and agree[1] < 0.9 * total:
            for shift, name in ((0, "targets not shifted"), (2, "targets shifted twice")):
                if agree[shift] > 0.9 * total:
                    share = agree[shift] / total
                    where = "at the same place" if shift == 0 else "two steps later"
                    yield Finding(name, f"{share:.0%} of the {part} targets are the inputs {where}", SURE)


def look_at_repetition(patient: Patient) -> Iterator[Finding]:
    """How much of the training text comes a second time?"""
    lines = [line.strip() for line in patient.train_sample]
    if not lines:
        yield from _repeated_batches(patient)
    if len(lines) < 10:
        if lines and patient.history.passes > 20:
            saw = f"the training text has {len(lines)} documents, read {patient.history.passes:.0f} times"
            yield Finding("training text repeated", saw, LIKELY)
        return
    size = sum(map(len, lines))
    distinct = sum(map(len, set(lines)))
    if distinct < 0.5 * size:
        line, times = Counter(lines).most_common(1)[0]
        saw = f"only {distinct / size:.0%} of the training text is not a repetition; one line comes {times} times"
        yield Finding("training text repeated", f"{saw}: {line[:40]!r}", SURE)


def _repeated_batches(patient: Patient) -> Iterator[Finding]:
    """As above, where only batches are known: how many pieces of 16 tokens come again?"""
    batches = [inputs for inputs, _ in patient.train_batches if inputs.shape[1] >= 16]
    runs = [tuple(piece.tolist()) for inputs in batches for piece in inputs.unfold(1, 16, 16).flatten(0, 1)]
    if len(runs) >= 50 and len(set(runs)) < 0.3 * len(runs):
        saw = f"of {len(runs)} pieces of 16 tokens in the first batches only {len(set(runs))} differ"
        yield Finding("training text repeated", saw, LIKELY)


def look_at_leaks(patient: Patient) -> Iterator[Finding]:
    """Do the test documents stand in the training text, more than its own documents stand in each other?"""
    if not (patient.train_lines and patient.test_sample):
        return
    draw = random.Random(0)
    tests = draw.sample(patient.test_sample, min(COMPARED, len(patient.test_sample)))
    whole = set()
    for line in islice(patient.train_lines, 20 * patient.documents):
        whole.add(hash((line if isinstance(line, str) else line["text"]).strip()))
    long = [line for line in tests if len(line.split()) >= 5] or tests
    same = sum(hash(line.strip()) in whole for line in long) / len(long)
    if same > 0.25:
        yield Finding(
            "test text in the training text", f"{same:.0%} of the test documents are training documents", SURE
        )
        return
    lines = patient.train_sample
    apart = min(COMPARED, len(lines) // 4)
    if apart < 5:
        return
    order = list(range(len(lines)))
    draw.shuffle(order)
    others, rest = [lines[i] for i in order[:apart]], [lines[i] for i in order[apart:]]
    text = TrainingText(rest)
    usual, found = (_share(text, some) for some in (others, tests))
    if found is not None and usual is not None and found > usual + 0.25:
        saw = (
            f"{found:.0%} of the runs of {RUN} words of the test text stand in the training text, usual is {usual:.0%}"
        )
        yield Finding("test text in the training text", saw, SURE if found > usual + 0.5 else LIKELY)


def _share(text: TrainingText, lines: list[str]) -> float | None:
    shares = [text.share(line, RUN) for line in lines if len(line.split()) >= RUN]
    return sum(shares) / len(shares) if len(shares) >= 5 else None


def look_at_tokenizer(patient: Patient) -> Iterator[Finding]:
    """Are the ids of this tokenizer those that the model knows?"""
    size = getattr(getattr(patient.model, "config", None), "vocab_size", None)
    if size is not None and len(patient.tokenizer) > size:
        saw = f"the tokenizer has {len(patient.tokenizer)} ids, the model knows {size}"
        yield Finding("tokenizer of another model", saw, SURE)
        return
    noted = patient.history.bytes_per_token
    conversations = not patient.test_sample or not patient.losses
    if noted and not conversations:
        now = count_text(patient.test_sample, patient.tokenizer).bytes_per_token
        if abs(now - noted) > 0.05 * noted:
            saw = f"a token has {now:.2f} bytes of the test text, while the run noted {noted:.2f}"
            yield Finding(
                "tokenizer of another model", saw, LIKELY if patient.losses[1].loss > patient.uniform else POSSIBLE
            )
    if not conversations:
        yield from _expects_other_tokens(patient)


def _expects_other_tokens(patient: Patient) -> Iterator[Finding]:
    """A model that has learned something (its guesses are far from even), and is worse than even on this text."""
    loss = patient.losses[1].loss
    log_p = patient.logits(patient.test_rows.ids[:8, :-1]).log_softmax(-1)
    own = -(log_p.exp() * log_p).sum(-1).mean().item()  # what the model thinks that it will lose
    if loss > patient.uniform and loss > own + 2.0:
        saw = (
            f"the loss on this text, {loss:.2f}, is above ln V = {patient.uniform:.2f}, and the model expects {own:.2f}"
        )
        history = patient.run_loss
        knew = history is not None and history < patient.uniform - 0.5
        yield Finding("tokenizer of another model", saw, LIKELY if knew else POSSIBLE)


LOOKS = (look_at_batches, look_at_repetition, look_at_leaks, look_at_tokenizer)
