"""The settings of a training run, and sets of them for different machines."""

import math
from dataclasses import dataclass, fields, replace

from ..basics.arguments import above, at_least, between, check_types


@dataclass(frozen=True)
class Hyperparameters:
    """Every number that a training run depends on. `dataclasses.replace(h, batch_size=8)` makes a changed copy."""

    # the model
    vocab_size: int = 4096  # of the tokenizer, where one is trained
    emb_dim: int = 192
    num_heads: int = 4
    num_blocks: int = 3
    num_kv_heads: int = 2
    context_size: int = 256  # tokens
    qk_norm: bool = True
    word_vectors: bool = False  # the embeddings begin as word vectors that are counted in the text (`first_weights.py`)
    # the run
    batch_size: int = 16  # blocks of context_size tokens in one pass through the model
    accumulation_steps: int = 1  # passes whose gradients are added up for one step
    num_epochs: float = 6.0  # read the text at most so many times,
    max_steps: int | None = 600  # take at most so many steps; None: only the others count,
    minutes: float | None = None  # and at most so long, by the clock (`clock.py`): what ends first counts
    optimizer: str = "muon"  # for the matrices inside the blocks (Jordan et al., 2024), or "adamw" for everything
    learning_rate: float = 8e-3  # the highest; see `learning_rate_at`
    warmup_fraction: float = 0.02  # of all steps: rise to the highest rate; with `minutes` of at most 200
    decay_fraction: float = 0.4  # of all steps, at the end: fall to zero
    weight_decay: float = 0.1
    momentum: float = 0.95  # how much of the former steps goes on in Muon's; in AdamW's too, but there at most 0.9
    clip_norm: float = 1.0  # longest gradient that is followed in full
    precision: str = "auto"  # "no" (float32), "bf16", "fp16", or what pays on the device
    compile: bool = True  # on a GPU, where the run is long enough to earn it (`compiling.py`)
    seed: int = 0
    # looking and keeping
    eval_every: int = 100  # steps between looks at the test text; with `minutes` at least so many
    eval_batches: int | None = 8  # how much of it is read then; the whole text is read at the end
    patience: int = 4  # stop after so many looks without a better one
    checkpoint_every: int = 100  # steps; with `minutes` at least so many

    def __post_init__(self):
        check_types(self)
        shape = ("vocab_size", "emb_dim", "num_heads", "num_blocks", "num_kv_heads", "context_size")
        run = ("batch_size", "accumulation_steps", "max_steps")
        rhythm = ("eval_every", "eval_batches", "patience", "checkpoint_every")
        at_least(1, **{name: getattr(self, name) for name in (*shape, *run, *rhythm)})
        above(0, num_epochs=self.num_epochs, clip_norm=self.clip_norm, learning_rate=self.learning_rate)
        above(0, minutes=self.minutes)
        between(0, 1, warmup_fraction=self.warmup_fraction, decay_fraction=self.decay_fraction)
        between(0, math.inf, weight_decay=self.weight_decay)
        between(0, 0.999, momentum=self.momentum)
        between(0, 2**63 - 1, seed=self.seed)  # what torch takes
        for name, known in (("optimizer", ("muon", "adamw")), ("precision", ("auto", "no", "bf16", "fp16"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known: use one of {', '.join(known)}")


# the fields that fix a new model's shape: where a model is trained further, it has its shape already
MODEL_SHAPE = ("vocab_size", "emb_dim", "num_heads", "num_blocks", "num_kv_heads", "qk_norm")
NEW_MODEL = (*MODEL_SHAPE, "word_vectors")  # and those of its first weights

_FINETUNE = Hyperparameters(
    batch_size=8, num_epochs=2, max_steps=720, learning_rate=1.8e-3, warmup_fraction=0.05, decay_fraction=0.6,
    eval_every=200, eval_batches=4,
)  # fmt: skip

PRESETS = {
    "laptop": Hyperparameters(),  # a storyteller on two cores; `minutes` instead of its steps where they are slow
    "quick": Hyperparameters(  # lesson 00
        emb_dim=128, num_blocks=2, batch_size=8, max_steps=400, eval_every=80, eval_batches=4,
    ),
    "colab": Hyperparameters(  # a larger storyteller, within six minutes on a T4 (arithmetic: benchmarks/README.md)
        emb_dim=384, num_heads=6, num_blocks=8, context_size=512, batch_size=32, max_steps=800, learning_rate=2e-3,
    ),
    "finetune": _FINETUNE,  # a trained model on conversations: about three minutes on two cores
    "finetune-lora": replace(_FINETUNE, learning_rate=6.5e-3, weight_decay=0.0),  # the same for adapters
    "dpo": Hyperparameters(  # preferences; batch_size counts pairs
        batch_size=32, num_epochs=2, max_steps=None, optimizer="adamw", learning_rate=3e-4, warmup_fraction=0.1,
        weight_decay=0.0,
    ),
    "grpo": Hyperparameters(  # rewards; batch_size counts tasks, max_steps batches of texts
        batch_size=8, max_steps=40, optimizer="adamw", learning_rate=3e-4, warmup_fraction=0.1, weight_decay=0.0,
    ),
    "tiny": Hyperparameters(  # seconds: for tests
        vocab_size=512, emb_dim=32, num_heads=2, num_blocks=2, num_kv_heads=1, context_size=64, batch_size=8,
        max_steps=40, eval_every=10, eval_batches=2, checkpoint_every=10,
    ),
}  # fmt: skip

NO_END = 10**9  # steps: more than any run takes

TEXT_PRESETS = tuple(name for name in PRESETS if name not in ("dpo", "grpo"))  # for texts and conversations


def get_hyperparameters(preset: str = "laptop", **changes) -> Hyperparameters:
    """The settings called "laptop", "quick", "colab", "finetune", … (all: `PRESETS`), with any field changed by name.

    Who gives `minutes` and no `max_steps` lets the clock decide: then the preset's own `max_steps` does not count.

    >>> get_hyperparameters("laptop", batch_size=8).batch_size
    8
    """
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is not known: there are {', '.join(PRESETS)}")
    known = {f.name for f in fields(Hyperparameters)}
    if unknown := set(changes) - known:
        raise ValueError(f"no hyperparameter is called {sorted(unknown)[0]!r}: there are {', '.join(sorted(known))}")
    if changes.get("minutes") is not None:
        changes = {"max_steps": None, **changes}
    return replace(PRESETS[preset], **changes)


def given_or_preset(given: Hyperparameters | None, preset: str) -> Hyperparameters:
    """The settings that a function was given, or those of its preset. Raises ValueError for what are no settings."""
    if given is not None and not isinstance(given, Hyperparameters):
        made = f"get_hyperparameters({preset!r}, batch_size=8) makes some"
        raise ValueError(f"hyperparameters={given!r:.60} must be Hyperparameters, or None: {made}")
    return get_hyperparameters(preset) if given is None else given


def shared_anew(h: Hyperparameters, had: int, processes: int, *, by_batch: bool = False) -> Hyperparameters:
    """`h` of a run of `had` processes for another number of them: a step has as many rows as before.

    Each takes as many at once as before, or fewer, and takes more turns; `by_batch`: it takes more or fewer at once, in
    as many turns. Raises ValueError where the rows cannot be shared out evenly.
    """
    at_once = h.batch_size * had * (1 if by_batch else h.accumulation_steps)
    if at_once % processes:
        shared = f"{processes} processes cannot share out the {at_once} rows that a step of this run has"
        raise ValueError(f"{shared}: resume it with a number of processes that divides {at_once}")
    own = at_once // processes
    if by_batch:
        return replace(h, batch_size=own)
    batch_size = max(size for size in range(1, min(own, h.batch_size) + 1) if own % size == 0)
    return replace(h, batch_size=batch_size, accumulation_steps=own // batch_size)


def count_steps(h: Hyperparameters, items: float, per_step: int) -> int:
    """Steps that read `items` items `num_epochs` times, `per_step` of them a step; at most `max_steps`."""
    steps = max(1, math.ceil(h.num_epochs * items / per_step))
    return steps if h.max_steps is None else min(steps, h.max_steps)


def plan_steps(h: Hyperparameters, tokens: float, processes: int = 1) -> tuple[int, int, float]:
    """(steps of a run, tokens per step, times a text of `tokens` tokens is read)."""
    per_step = h.batch_size * h.context_size * h.accumulation_steps * processes
    steps = count_steps(h, tokens, per_step)
    return steps, per_step, steps * per_step / tokens
