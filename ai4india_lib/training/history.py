"""What happened in a training run: kept for plots, for comparing runs, and for going on."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from ..basics.files import read_json, write_json


@dataclass
class History:
    """What happened in a run, step by step. What a kind of training measures beside its loss, such as the rewards of
    GRPO, stands in `measured`, and can be read as if it were a field: `history.reward`."""

    total_steps: int = 0
    tokens_per_step: int = 0  # 0 where a step does not read a fixed number of them
    passes: float = 0.0  # how many times the text is read in `total_steps`
    bytes_per_token: float | None = None  # of the test text: turns loss per token into bits per byte
    floor_bits_per_byte: float | None = None  # the lowest that any model can reach, where it is known
    train_loss: list[float] = field(default_factory=list)  # one per step, nats per token
    learning_rate: list[float] = field(default_factory=list)  # one per step
    measured: dict[str, list] = field(default_factory=dict)  # name → one value per step
    pace: dict[str, float | None] = field(default_factory=dict)  # of a run by the clock: what it fixed (`clock.py`)
    eval_step: list[int] = field(default_factory=list)  # steps done at each look at the test text
    eval_loss: list[float] = field(default_factory=list)
    # of the weights that were kept, over the whole test text; after Ctrl-C, over as much as a look reads
    test_loss: float | None = None
    seconds: float = field(default=0.0, compare=False)  # two runs are equal if they did the same
    ended: str = ""  # why the run ended, in words
    data: list[str] = field(default_factory=list, compare=False)  # the texts that were read, as they were named

    def __getattr__(self, name: str) -> list:
        """Called for names that are no fields: what was measured under this name."""
        measured = self.__dict__.get("measured", {})
        if name in measured:
            return measured[name]
        raise AttributeError(f"this run measured no {name!r}: it has {', '.join(measured) or 'only its loss'}")

    @property
    def steps(self) -> int:
        return len(self.train_loss)

    @property
    def loss(self) -> list[float]:
        return self.train_loss

    @property
    def eval_perplexity(self) -> list[float]:
        return [math.exp(loss) for loss in self.eval_loss]

    @property
    def eval_bits_per_byte(self) -> list[float]:
        return [self.in_bits_per_byte(loss) for loss in self.eval_loss]

    @property
    def floor_loss(self) -> float | None:
        """The floor as nats per token of this run's tokenizer, or None where it is not known."""
        if self.floor_bits_per_byte is None or self.bytes_per_token is None:
            return None
        return self.floor_bits_per_byte * self.bytes_per_token * math.log(2)

    @property
    def text_tokens(self) -> float:
        """Tokens of the text; 0 where that is not counted."""
        return self.total_steps * self.tokens_per_step / self.passes if self.passes else 0.0

    def set_total_steps(self, steps: int) -> None:
        """Let the run have so many steps."""
        self.passes *= steps / self.total_steps
        self.total_steps = steps

    def in_bits_per_byte(self, loss: float) -> float:
        """Loss per token, in nats, as bits per byte of text: comparable between tokenizers and scripts."""
        return loss / math.log(2) / self.bytes_per_token if self.bytes_per_token else math.nan

    def looks_since_best(self) -> int:
        return len(self.eval_loss) - 1 - self.eval_loss.index(min(self.eval_loss)) if self.eval_loss else 0

    def steps_since_best(self) -> int:
        """Steps from the best look to the last one."""
        return self.eval_step[-1] - self.eval_step[-1 - self.looks_since_best()] if self.eval_step else 0

    def plan_in_words(self) -> str:
        """What a run is going to do, for the reader to see before it starts."""
        going_on = f", going on after step {self.steps}" if self.steps else ""
        if self.is_open:
            return f"{self._minutes()} of training: the first steps tell how many that will be{going_on}"
        return f"{self.total_steps} steps of {self.tokens_per_step} tokens {self._readings()}{going_on}"

    def pace_in_words(self, most_steps: int) -> str:
        """What a run by the clock has fixed; it could have had `most_steps`."""
        if self.total_steps == most_steps:
            return f"all {most_steps} steps fit into {self._minutes()} on this machine"
        reads = f", they {self._readings()}" if self.passes else ""
        return f"about {self.total_steps} steps in {self._minutes()} on this machine{reads}"

    @property
    def is_open(self) -> bool:
        """Has a run by the clock not fixed its number of steps yet? Then `total_steps` is the most that it may be."""
        return bool(self.pace) and "step_seconds" not in self.pace

    def _minutes(self) -> str:
        minutes = self.pace["minutes"]
        return f"{minutes:g} minute" + ("s" if minutes != 1 else "")

    def _readings(self) -> str:
        times = f"{self.passes:.2g} times" if self.passes < 10 else f"{self.passes:.0f} times"
        return f"read the text {'once' if 0.95 < self.passes < 1.05 else times}"

    def result_in_words(self) -> str:
        """How a run ended, in one line."""
        if not self.eval_loss:
            return f"{self.ended} after {self.steps} steps, {self.seconds:.0f} s"
        best = self.eval_step[self.eval_loss.index(min(self.eval_loss))]
        kept = "" if best == self.steps else f" (weights of step {best}, the best on the test text)"
        parts = [
            f"{self.ended} after {self.steps} steps, {self.seconds:.0f} s{kept}: test loss {self.test_loss:.3f}",
            f"perplexity {math.exp(self.test_loss):.2f}",
            f"{self.in_bits_per_byte(self.test_loss):.3f} bits per byte",
        ]
        if self.floor_loss:
            parts.append(f"{self.test_loss / self.floor_loss:.2f} × the floor")
        return ", ".join(parts)

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, asdict(self), indent=1)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. Raises ValueError, with the file's name, for what is damaged, or no history."""
        content, empty = read_json(path), cls()
        for name, value in content.items():
            usual = empty.__dict__.get(name, 0)  # None and numbers may take each other's place
            if name not in empty.__dict__ or (isinstance(usual, (list, dict, str)) and type(value) is not type(usual)):
                raise ValueError(f"{path} is not the history of a run: it has {name}={value!r:.60}")
        return cls(**content)
