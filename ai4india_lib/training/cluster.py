"""What a training run on many GPUs takes, worked out beforehand: memory, messages, days, rupees, kWh.

Arithmetic, and a few rates that others measured or published. Each rate stands in `SOURCES` with where it is from, and
can be overridden. `PUBLISHED` has runs that this is held against: see SCALING.md.
"""

import math
from dataclasses import dataclass

from ..basics.arguments import above, at_least, between

HOURS_A_DAY, SECONDS_AN_HOUR = 24, 3600
PER_MACHINE = 8  # GPUs
KEPT = 77  # bytes that a block keeps for the way back, for each token and unit of width
ASPECT = 128  # width / layers of a model whose shape is not given: as Llama 3 8B has it (4096 / 32)


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU. `inside` is what one sends to others in its machine, bytes/s; `between` what a whole machine sends
    to others: sums over all GPUs go round in rings, so that each of its network cards carries a part."""

    flops: float  # a second, in the half precision that training uses, dense
    memory: float  # bytes
    watts: float
    inside: float
    between: float
    rupees: float | None  # an hour
    one_machine: float  # part of `flops` that a well-made run uses, in one machine
    cluster: float  # and in many


GPUS = {
    "h100": Gpu(989e12, 80e9, 700, 450e9, 400e9, 92, one_machine=0.53, cluster=0.25),
    "h200": Gpu(989e12, 141e9, 700, 450e9, 400e9, None, one_machine=0.53, cluster=0.25),
    "a100": Gpu(312e12, 80e9, 400, 300e9, 200e9, 65, one_machine=0.50, cluster=0.43),
    "l4": Gpu(121e12, 24e9, 72, 16e9, 3e9, None, one_machine=0.40, cluster=0.25),
    "t4": Gpu(65e12, 16e9, 70, 8e9, 3e9, None, one_machine=0.30, cluster=0.20),
}
WHOLE_MACHINE = 1.8  # a machine's watts, as a multiple of those of its GPUs

SOURCES = {
    "flops, memory, watts": "NVIDIA's data sheets of H100 SXM, H200 SXM, A100 80 GB SXM, L4, T4 (from memory)",
    "inside": "NVLink of those data sheets, one direction; PCIe for L4 and T4 (from memory)",
    "between": "eight network cards of 400 Gb/s (DGX H100) or 200 Gb/s (DGX A100), one of 25 Gb/s else (from memory)",
    "one_machine, h100": "nanochat, dev/LEADERBOARD.md, run 1 of 29 January 2026: 8.76e9 tokens in 10,949 s on 8",
    "cluster, h100": "between Llama 3 8B and 70B: model card of 18 April 2024, 1.3 and 6.4 million GPU-hours",
    "cluster, a100": "Llama 2 13B: model card of 18 July 2023, 368,640 GPU-hours",
    "one_machine and cluster of others": "assumed: nobody's measurement",
    "rupees": "IndiaAI compute portal, ₹92 (H100) and ₹65 (A100) a GPU-hour, as reported on 9 May 2026 (aicredits.dev)",
    "whole machine": "DGX H100: at most 10.2 kW, of which 8 × 700 W are its GPUs' (data sheet, from memory)",
}


@dataclass(frozen=True)
class Published:
    """A run that others published: what they say of it, and where."""

    parameters: float
    tokens: float
    gpu: str
    gpus: int  # where it is not said: many
    gpu_hours: float
    layers: int
    width: int
    context_size: int
    source: str
    fitted: bool = False  # is a rate above taken from it? Then it proves nothing


_LLAMA_2 = "Llama 2 model card, 18 July 2023"
_LLAMA_3 = "Llama 3 model card, 18 April 2024"
_NANOCHAT = "nanochat, dev/LEADERBOARD.md"
PUBLISHED = {
    "nanochat run 1": Published(
        730e6, 16704 * 524288, "h100", 8, 8 * 10949 / 3600, 24, 1536, 2048, f"{_NANOCHAT}, 29 January 2026", fitted=True
    ),
    "nanochat run 6 (GPT-2 in 1.65 h)": Published(
        730e6, 8 * 730e6, "h100", 8, 8 * 1.65, 24, 1536, 2048, f"{_NANOCHAT}, 14 March 2026"
    ),
    "Llama 2 7B": Published(6.74e9, 2e12, "a100", 1024, 184_320, 32, 4096, 4096, _LLAMA_2),
    "Llama 2 13B": Published(13.0e9, 2e12, "a100", 1024, 368_640, 40, 5120, 4096, _LLAMA_2, fitted=True),
    "Llama 2 70B": Published(69.0e9, 2e12, "a100", 1024, 1_720_320, 80, 8192, 4096, _LLAMA_2),
    "Llama 3 8B": Published(8.03e9, 15e12, "h100", 1024, 1.3e6, 32, 4096, 8192, _LLAMA_3, fitted=True),
    "Llama 3 70B": Published(70.6e9, 15e12, "h100", 1024, 6.4e6, 80, 8192, 8192, _LLAMA_3, fitted=True),
}


def shape_for(parameters: float) -> tuple[int, int]:
    """(layers, width) of a usual model with so many: 12 · layers · width², and width = `ASPECT` · layers."""
    layers = max(1, round((parameters / (12 * ASPECT**2)) ** (1 / 3)))
    return layers, max(1, round((parameters / (12 * layers)) ** 0.5))


def operations_per_token(parameters: float, layers: int, width: int, context_size: int) -> float:
    """Of training: 6 for each parameter, and those of attention (Chowdhery et al., 2022, appendix B)."""
    return 6 * parameters + 12 * layers * width * context_size


@dataclass(frozen=True)
class Plan:
    """A run that is planned. Bytes and seconds are those of one GPU."""

    memory: dict[str, float]  # by part
    is_sharded: bool
    sent: float  # bytes a step
    sending: float  # seconds a step, which mostly pass while others compute
    computing: float  # seconds a step
    tokens_per_second: float  # of all GPUs
    days: float
    gpu_hours: float
    kwh: float
    rupees: float | None


@dataclass(frozen=True)
class Wish:
    """What a run shall be: `plan_run` says what it takes. None: as is usual.

    Args:
        parameters: those that multiply: an embedding that is not the head as well does not.
        tokens: to be read; None: 20 for each parameter (Hoffmann et al., 2022).
        tokens_per_step: of all GPUs together; None: 65,536 a GPU, at most 4 million.
        tokens_per_pass: that a GPU takes at once; None: one row of `context_size`, or what a step has for it.
        utilisation: the part of a GPU's operations a second that is used; None: see `GPUS`.
        rupees, watts: of one GPU, an hour and at work.
    """

    parameters: float
    tokens: float | None = None
    gpu: str = "h100"
    gpus: int = 8
    context_size: int = 4096
    vocab_size: int = 32768
    layers: int | None = None
    width: int | None = None
    tokens_per_step: float | None = None
    tokens_per_pass: float | None = None
    utilisation: float | None = None
    rupees: float | None = None
    watts: float | None = None
    per_machine: int = PER_MACHINE

    def __post_init__(self):
        above(0, parameters=self.parameters, tokens=self.tokens, tokens_per_step=self.tokens_per_step)
        above(0, tokens_per_pass=self.tokens_per_pass, utilisation=self.utilisation, watts=self.watts)
        at_least(1, gpus=self.gpus, context_size=self.context_size, vocab_size=self.vocab_size, layers=self.layers)
        at_least(1, width=self.width, per_machine=self.per_machine)
        between(0, 1, utilisation=self.utilisation)
        between(0, math.inf, rupees=self.rupees)
        if self.gpu not in GPUS:
            raise ValueError(f"no GPU is called {self.gpu!r} here: there are {', '.join(GPUS)}")

    @property
    def all_tokens(self) -> float:
        return 20 * self.parameters if self.tokens is None else self.tokens

    @property
    def step(self) -> float:
        """Tokens of a step, of all GPUs."""
        return min(65536 * self.gpus, 2**22) if self.tokens_per_step is None else self.tokens_per_step

    @property
    def shape(self) -> tuple[int, int]:
        layers, width = shape_for(self.parameters)
        return self.layers or layers, self.width or width

    @property
    def used(self) -> float:
        """The part of a GPU's operations that is used."""
        kind = GPUS[self.gpu]
        usual = kind.one_machine if self.gpus <= self.per_machine else kind.cluster
        return usual if self.utilisation is None else self.utilisation


def memory_of(wish: Wish, *, sharded: bool) -> dict[str, float]:
    """Bytes that one GPU needs, by part, in mixed precision with AdamW (Rajbhandari et al., 2020, §3.1).

    Each parameter has 4 bytes of weight, 4 of gradient, and 8 that AdamW remembers. Sharded (FSDP2), each GPU has its
    part of them, and two layers as a whole. Activations: `KEPT` bytes for each token, layer and unit of width, and 10
    for each logit of a token: what `tuning.finetuning.training_memory` counts for our block, where heads share no keys.
    """
    layers, width = wish.shape
    own = wish.parameters / (wish.gpus if sharded else 1)
    tokens = min(wish.tokens_per_pass or wish.context_size, wish.step / wish.gpus)
    parts = {"weights": 4 * own, "gradients": 4 * own, "AdamW": 8 * own}
    if sharded:
        parts["two whole layers"] = 2 * 8 * wish.parameters / layers
    parts["activations"] = tokens * (KEPT * layers * width + 10 * wish.vocab_size)
    return parts


def plan_run(wish: Wish) -> Plan:
    """What a run takes. Steps take as long as computing, or as sending, where that is longer."""
    kind, alone = GPUS[wish.gpu], wish.gpus == 1
    whole = memory_of(wish, sharded=False)
    is_sharded = not alone and sum(whole.values()) > 0.9 * kind.memory
    memory = memory_of(wish, sharded=True) if is_sharded else whole
    # DDP: each gradient goes out and its sum comes back; FSDP2: weights come twice and gradients go out once
    per_parameter = 0 if alone else 4 * (3 if is_sharded else 2) * (1 - 1 / wish.gpus)
    sent = wish.parameters * per_parameter
    sending = sent / (kind.inside if wish.gpus <= wish.per_machine else min(kind.inside, kind.between))
    layers, width = wish.shape
    operations = operations_per_token(wish.parameters, layers, width, wish.context_size)
    computing = wish.step * operations / (wish.gpus * kind.flops * wish.used)
    tokens_per_second = wish.step / max(computing, sending)
    hours = wish.all_tokens / tokens_per_second / SECONDS_AN_HOUR
    gpu_hours = hours * wish.gpus
    rate = kind.rupees if wish.rupees is None else wish.rupees
    return Plan(
        memory, is_sharded, sent, sending, computing, tokens_per_second, hours / HOURS_A_DAY, gpu_hours,
        gpu_hours * (wish.watts or kind.watts) * WHOLE_MACHINE / 1000, None if rate is None else gpu_hours * rate,
    )  # fmt: skip


def wish_of(run: Published) -> Wish:
    """What would have been asked before a published run."""
    step = {"tokens_per_step": 2**22 if run.gpus > PER_MACHINE else 2**19}
    shape = {"layers": run.layers, "width": run.width, "context_size": run.context_size}
    return Wish(run.parameters, run.tokens, run.gpu, run.gpus, **shape, **step)
