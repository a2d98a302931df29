"""Sick and healthy runs for the doctor, evaluation/doctor/test_examination.py: small, some seconds each.

As a script it prints the two tables of tests/README.md, or a part of them:

    python tests/doctor_runs.py                    all 20 planted bugs, then all healthy runs
    python tests/doctor_runs.py sick 1 5 9         some of the bugs
    python tests/doctor_runs.py healthy 1 2        some of the healthy runs
    python tests/doctor_runs.py healthy --texts A.tar.gz B.txt    real texts of yours in the place of ours

Each sick run has one fault planted in the code or the data of an ordinary run. The doctor is asked twice: in the
notebook, where the fault is still there (live), and about the saved folder, opened with the right code (saved).
"""

import argparse
import copy
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

from ai4india_lib import (
    PackedTextDataset,
    TextLoader,
    WholeDocumentDataset,
    get_hyperparameters,
    load_model,
    make_model,
    save_model,
    train,
    train_and_test_lines,
    train_tokenizer,
)
from ai4india_lib.evaluation.doctor.examination import examine
from ai4india_lib.model import decoder
from ai4india_lib.training import loop, objective
from ai4india_lib.training.optimizers import make_optimizers
from ai4india_lib.tuning.finetuning import conversation_loaders, finetune

KAHANI = Path(__file__).parents[1] / "data" / "kahani-{}.tar.gz"


@cache
def text(language: str = "hi", train_count: int = 800, test_count: int = 40) -> tuple[list[str], list[str]]:
    """Some stories of the course."""
    both = train_and_test_lines(str(KAHANI).format(language))
    return list(islice(both[0], train_count)), list(islice(both[1], test_count))


@cache
def tokenizer_of(language: str = "hi", size: int = 512):
    return train_tokenizer(text(language)[0][:200], size)


def settings(**changes):
    """A run of some seconds."""
    shape = {"emb_dim": 64, "num_heads": 4, "num_kv_heads": 4, "num_blocks": 2, "context_size": 96, "vocab_size": 512}
    run = {"batch_size": 8, "max_steps": 200, "eval_every": 50, "eval_batches": 4, "precision": "no", "num_epochs": 999}
    run |= {"patience": 99, "warmup_fraction": 0.05}
    return get_hyperparameters("tiny", **{**shape, **run, **changes})


def loaders(h, lines, tests, tokenizer):
    size = {"context_size": h.context_size, "batch_size": h.batch_size}
    train_set = PackedTextDataset(lines, tokenizer, **size, shuffle_buffer=200, seed=h.seed)
    return TextLoader(train_set), TextLoader(WholeDocumentDataset(tests, tokenizer, **size))


@dataclass
class Run:
    """What a learner has after a run."""

    model: nn.Module
    tokenizer: object
    history: object
    loaders: tuple
    lines: tuple
    h: object
    before: object = None

    def live(self):
        return examine(
            self.model, self.tokenizer, self.history, train=self.loaders[0], test=self.loaders[1],
            hyperparameters=self.h, before=self.before,
        )  # fmt: skip

    def saved(self):
        """The folder, opened with the right code, and the texts."""
        with tempfile.TemporaryDirectory() as folder:
            save_model(self.model, self.tokenizer, Path(folder) / "mine")
            model, tokenizer = load_model(Path(folder) / "mine", "cpu")
        batches = loaders(self.h, *self.lines, tokenizer)
        more = {"train": batches[0], "test": batches[1], "hyperparameters": self.h, "before": self.before}
        return examine(model, tokenizer, self.history, **more)


def run(h=None, lines=None, tests=None, tokenizer=None, model=None, **more) -> Run:
    """An ordinary run."""
    h = h or settings()
    usual = text()
    lines, tests = lines or usual[0], tests or usual[1]
    tokenizer = tokenizer or tokenizer_of()
    before = copy.deepcopy(model) if model is not None else None
    model = model if model is not None else make_model(h, tokenizer)
    both = loaders(h, lines, tests, tokenizer)
    history = train(model, *both, h, device="cpu", progress=False, **more)
    return Run(model, tokenizer, history, both, (lines, tests), h, before)


# The bugs


def plain_attention(change: Callable):
    """`F.scaled_dot_product_attention` as attention calls it, with something changed."""
    right = nn.functional.scaled_dot_product_attention

    def attention(q, k, v, mask=None, *, is_causal=False, enable_gqa=False):
        return change(right, q, k, v, mask, is_causal, enable_gqa)

    return patch.object(decoder.F, "scaled_dot_product_attention", attention)


def no_mask():
    return plain_attention(lambda right, q, k, v, mask, causal, gqa: right(q, k, v, enable_gqa=gqa))


def swapped():
    return plain_attention(lambda right, q, k, v, mask, causal, gqa: right(k, q, v, is_causal=causal))


def unscaled():
    return plain_attention(
        lambda right, q, k, v, mask, causal, gqa: right(q, k, v, is_causal=causal, enable_gqa=gqa, scale=1.0)
    )


def unturned():
    return patch.object(decoder, "rope", lambda x, cos, sin: x)


def neighbours(x, cos, sin):
    first, second = x[..., ::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)


def mispaired():
    return patch.object(decoder, "rope", neighbours)


def no_residual():
    def forward(self, x, place):
        x = self.attention(self.attention_norm(x), place)
        return x + self.mlp(self.mlp_norm(x))

    return patch.object(decoder.DecoderBlock, "forward", forward)


def no_norm():
    def forward(self, x, place):
        x = x + self.attention(x, place)
        return x + self.mlp(x)

    return patch.object(decoder.DecoderBlock, "forward", forward)


class OtherTargets:
    """A loader whose targets are made otherwise."""

    def __init__(self, loader, change):
        self.loader, self.dataset, self.change = loader, loader.dataset, change

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def __iter__(self):
        for inputs, targets in self.loader:
            yield inputs, self.change(inputs, targets)


@contextmanager
def other_targets(change):
    """All loaders made here give other targets."""
    right = loaders

    def wrong(*arguments):
        return tuple(OtherTargets(loader, change) for loader in right(*arguments))

    with patch.object(sys.modules[__name__], "loaders", wrong):
        yield


def later(inputs, targets):
    moved = targets.roll(-1, 1)
    moved[:, -1] = -100
    return moved


@contextmanager
def never_cleared():
    with patch.object(torch.optim.Optimizer, "zero_grad", lambda self, set_to_none=True: None):
        yield


def partly_trained():
    def some(model, h):
        left_out = {id(p) for p in model.blocks[1].mlp.parameters()}
        optimizers = make_optimizers(model, h)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in left_out]
        return optimizers

    return patch.object(loop, "make_optimizers", some)


@contextmanager
def dropping(p=0.2):
    """Dropout in each block, and tests that do not switch it off."""

    def forward(self, x, place):
        x = x + nn.functional.dropout(self.attention(self.attention_norm(x), place), p, self.training)
        return x + nn.functional.dropout(self.mlp(self.mlp_norm(x)), p, self.training)

    with ExitStack() as stack:
        stack.enter_context(patch.object(decoder.DecoderBlock, "forward", forward))
        right = objective.compute_loss_and_perplexity

        def in_training(model, *arguments, **more):
            with patch.object(type(model), "eval", lambda self: self):
                return right(model, *arguments, **more)

        stack.enter_context(patch.object(objective, "compute_loss_and_perplexity", in_training))
        yield


def summed():
    right = objective.NextToken.loss

    def loss(self, model, batch):
        found, values = right(self, model, batch)
        times = self.h.accumulation_steps
        return found * times, {name: value * times for name, value in values.items()}

    return patch.object(objective.NextToken, "loss", loss)


def padded_rows():
    """Documents in rows of their own, padded, and the padding is learned."""

    def read(self, position, worker=0, num_workers=1):
        pad = self.tokenizer.pad_token_id
        rows = [ids.tolist()[: self.context_size + 1] for ids in self._documents(worker, num_workers, skip=0)]
        for start in range(0, len(rows), self.batch_size):
            some = rows[start : start + self.batch_size]
            block = torch.full((len(some), self.context_size + 1), pad)
            for number, ids in enumerate(some):
                ids = ids[: 40 + 7 * number]
                block[number, : len(ids)] = torch.tensor(ids)
            yield block[:, :-1], block[:, 1:], {"lines_used": start + len(some), "left": []}

    return patch.object(PackedTextDataset, "read", read)


def with_test_text():
    lines, tests = text()
    mixed = [*lines[:300], *tests]
    random.Random(0).shuffle(mixed)
    return run(lines=mixed)


def untied():
    made = run()
    made.model.head = nn.Linear(64, 512, bias=False)
    nn.init.normal_(made.model.head.weight, std=0.02)
    return made


def under(fault, **more):
    """A run with a fault that stays while the doctor looks."""

    def sick(ask):
        with fault():
            made = run(**more) if not callable(more.get("make")) else more["make"]()
            live = made.live() if "live" in ask else None
        return live, (made.saved() if "saved" in ask else None)

    return sick


def made_by(make, ways=("live", "saved")):
    def sick(ask):
        made = make()
        return (made.live() if "live" in ask and "live" in ways else None), (
            made.saved() if "saved" in ask and "saved" in ways else None
        )

    return sick


def other_tokenizer():
    made = run()
    made.tokenizer = tokenizer_of("en")
    made.loaders = loaders(made.h, *made.lines, made.tokenizer)
    return made


SICK: list[tuple[str, set[str], Callable]] = [
    ("no causal mask", {"no causal mask"}, under(no_mask)),
    ("targets not shifted", {"targets not shifted"}, under(lambda: other_targets(lambda x, y: x.clone()))),
    ("targets shifted twice", {"targets shifted twice"}, under(lambda: other_targets(later))),
    ("positions missing", {"positions missing"}, under(unturned)),
    ("rotation with wrong pairing", {"rotation with wrong pairing"}, under(mispaired)),
    ("queries and keys swapped", {"queries and keys swapped"}, under(swapped)),
    ("scale of the scores forgotten", {"scale of the scores forgotten"}, under(unscaled)),
    ("residual left out", {"residual left out"}, under(no_residual)),
    ("norm left out", {"norm left out"}, under(no_norm)),
    ("gradients never cleared", {"gradients never cleared"}, under(never_cleared)),
    ("optimizer on part of the weights", {"optimizer on part of the weights"}, under(partly_trained)),
    ("learning rate × 10", {"learning rate too high"}, made_by(lambda: run(settings(learning_rate=0.08)))),
    ("learning rate ÷ 30", {"learning rate too low"}, made_by(lambda: run(settings(learning_rate=8e-3 / 30)))),
    (
        "no warm-up, with a spike",
        {"no warm-up"},
        made_by(lambda: run(settings(warmup_fraction=0.0, learning_rate=0.15, optimizer="adamw"))),
    ),
    ("test text in the training text", {"test text in the training text"}, made_by(with_test_text)),
    (
        "one line of training text, repeated",
        {"training text repeated"},
        made_by(lambda: run(lines=text()[0][:1] * 500)),
    ),
    ("tokenizer of another model", {"tokenizer of another model"}, made_by(other_tokenizer)),
    ("padding counted as text", {"padding counted as text"}, under(padded_rows)),
    ("weights not tied after loading", {"weights not tied"}, made_by(untied, ways=("live",))),
    ("dropout left on while testing", {"dropout left on while testing"}, under(dropping)),
    (
        "loss averaged wrongly over accumulation",
        {"loss averaged wrongly"},
        under(summed, h=settings(batch_size=2, accumulation_steps=4)),
    ),
]


# The healthy runs


def plain(**changes):
    """An ordinary run with other settings, as a learner asks about it in a notebook."""
    return lambda texts: run(settings(**changes)).live()


def english(texts):
    lines, tests = text("en")
    return run(settings(max_steps=150), lines, tests, tokenizer_of("en")).saved()


def of_text(number: int):
    """A run on one of the real texts, split as `train` splits them."""

    def healthy(texts):
        lines, tests = (list(islice(part, most)) for part, most in zip(texts[number](), (3000, 150), strict=True))
        h = settings(vocab_size=768)
        return run(h, lines, tests, train_tokenizer(lines[:1000], 768)).saved()

    return healthy


def own_text(texts):
    """A learner's own short text, in a .txt: too little of it, so that the best weights are not the last."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.txt"
        path.write_text("\n".join(made_up(400, seed=5)), encoding="utf-8")
        lines, tests = (list(part) for part in train_and_test_lines(path, folder=folder))
    return run(settings(max_steps=150), lines, tests, train_tokenizer(lines, 512)).live()


def tuned(texts):
    """A model trained further on other text, at a lower rate."""
    made = run(settings(max_steps=150))
    lines, tests = text(train_count=1600)[0][800:], text(test_count=80)[1][40:]
    h = settings(max_steps=100, learning_rate=1e-3)
    return run(h, lines, tests, model=made.model).live()


def on_conversations(texts):
    made = run(settings(max_steps=150, vocab_size=640), tokenizer=tokenizer_of("hi", 640))
    before = copy.deepcopy(made.model)
    h = get_hyperparameters("finetune", batch_size=4, max_steps=60, context_size=96, eval_every=20, precision="no")
    talks = [{"messages": talk} for talk in conversations(240)]
    history = finetune(made.model, made.tokenizer, talks, h, device="cpu", progress=False)
    parts = conversation_loaders(made.tokenizer, talks, replace(h, context_size=96))
    more = {"train": parts[0], "test": parts[1], "before": before}
    return examine(made.model, made.tokenizer, history, **more)


def by_clock(texts):
    return run(settings(minutes=0.25, max_steps=None, eval_every=20)).live()


def resumed(texts):
    """Stopped after a third, and gone on with."""
    h = settings(checkpoint_every=25)

    def stop(history):
        if history.steps == 100:
            raise SystemError("the power is gone")

    with tempfile.TemporaryDirectory() as folder:
        with suppress(SystemError):
            run(h, folder=folder, on_evaluation=stop)
        return run(h, folder=folder, resume=True).saved()


HEALTHY: list[tuple[str, Callable]] = [
    ("Hindi, Muon", plain()),
    ("another seed", plain(seed=1)),
    ("a third seed, in bf16", plain(seed=2, precision="bf16")),
    ("AdamW", plain(optimizer="adamw", learning_rate=3e-3)),
    ("AdamW, a lower rate, more steps", plain(optimizer="adamw", learning_rate=1e-3, max_steps=350)),
    ("one block", plain(num_blocks=1)),
    ("four narrow blocks", plain(num_blocks=4, emb_dim=48, num_kv_heads=2)),
    ("wide, few steps", plain(emb_dim=128, num_blocks=1, max_steps=100, num_kv_heads=1)),
    ("without norms of queries and keys", plain(qk_norm=False, learning_rate=4e-3)),
    ("small batches", plain(batch_size=2, max_steps=300, learning_rate=4e-3)),
    ("accumulation", plain(batch_size=2, accumulation_steps=4, max_steps=120)),
    ("English", english),
    ("real text 1", of_text(0)),
    ("real text 2", of_text(1)),
    ("real text 3", of_text(2)),
    ("a text of one's own", own_text),
    ("trained further", tuned),
    ("conversations", on_conversations),
    ("by the clock", by_clock),
    ("resumed", resumed),
]


def made_up(count: int, seed: int) -> list[str]:
    """Sentences of a small grammar of no language."""
    draw = random.Random(seed)
    signs = ["ka", "mi", "tu", "re", "no", "sa", "li", "po", "va", "den"]
    words = ["".join(draw.choices(signs, k=draw.randint(1, 4))) for _ in range(300)]
    weights = [1 / (rank + 2) for rank in range(len(words))]
    after = {word: draw.choices(words, weights, k=4) for word in words}
    lines = []
    for _ in range(count):
        word, line = draw.choice(words), []
        for _ in range(draw.randint(12, 40)):
            line.append(word)
            word = draw.choice(after[word]) if draw.random() < 0.7 else draw.choices(words, weights)[0]
        lines.append(" ".join(line) + ".")
    return lines


def conversations(count: int) -> list[list[dict]]:
    """Questions about the first words of stories."""
    talks = []
    for story in text()[0][:count]:
        words = story.split()
        asked = {"role": "user", "content": " ".join(words[:5])}
        talks.append([asked, {"role": "assistant", "content": " ".join(words[5:12])}])
    return talks


def real_texts(paths: list[str]) -> list[Callable]:
    """Three pairs of training and test text: of the given files, and where these are too few, made up."""
    given = [lambda path=path: train_and_test_lines(path) for path in paths]
    made = [lambda n=n: (made_up(1500, n), made_up(1560, n)[1500:]) for n in range(3)]
    return [*given, *made][:3]


def tell_sick(number: int) -> bool:
    """Print whether the doctor names this bug among its first two guesses, each way that it is asked."""
    name, wanted, sick = SICK[number - 1]
    right = True
    for way, report in zip(("live", "saved"), sick(("live", "saved")), strict=True):
        if report is not None:
            named = bool(wanted & set(report.guesses[:2]))
            right &= named
            guesses = ", ".join(report.guesses[:2]) or "nothing"
            print(f"| {number} | {name} | {way} | {guesses} | {'yes' if named else 'NO'} |", flush=True)
    return right


def tell_healthy(number: int, texts: list[Callable]) -> bool:
    """Print what the doctor says of this healthy run."""
    name, healthy = HEALTHY[number - 1]
    report = healthy(texts)
    print(f"| {number} | {name} | {', '.join(report.guesses) or 'nothing'} |", flush=True)
    if not report.is_healthy:
        print(report, file=sys.stderr)
    return report.is_healthy


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", nargs="?", choices=["sick", "healthy"])
    parser.add_argument("numbers", nargs="*", type=int)
    parser.add_argument("--texts", nargs="*", default=[])
    options = parser.parse_args(arguments)
    if options.part != "healthy":
        found = [tell_sick(n) for n in options.numbers or range(1, len(SICK) + 1)]
        print(f"named among the first two guesses: {sum(found)} of {len(found)}")
    if options.part != "sick":
        texts = real_texts(options.texts)
        found = [tell_healthy(n, texts) for n in options.numbers or range(1, len(HEALTHY) + 1)]
        print(f"no alarm: {sum(found)} of {len(found)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
