"""How long writing took: the wait for the first token, and the speed after it."""

import time
from dataclasses import dataclass, field


@dataclass
class Timing:
    """How long writing took, prefill and decoding apart. Pass an empty one to `generate_steps` or `stream_text`."""

    prompt_tokens: int = 0
    moments: list[float] = field(default_factory=list)  # the start, then when each step's tokens were there, in seconds
    new_tokens: int = 0

    @property
    def first_token_seconds(self) -> float:
        """From the call to the first new token: reading the prompt, and packing the weights if that was needed."""
        return self.moments[1] - self.moments[0] if len(self.moments) > 1 else float("nan")

    @property
    def tokens_per_second(self) -> float:
        """Of the tokens after the first step, all rows together."""
        if len(self.moments) < 3:
            return float("nan")
        return self.new_tokens / (self.moments[-1] - self.moments[1])

    def __str__(self) -> str:
        if len(self.moments) < 2:
            return "no token was written, so there is nothing to time"
        first = f"first token after {1000 * self.first_token_seconds:.0f} ms"
        return f"{first}, then {self.tokens_per_second:.0f} tokens/s" if len(self.moments) > 2 else f"{first}, no other"

    def start(self, prompts: list[list[int]]) -> None:
        self.prompt_tokens, self.new_tokens, self.moments = sum(map(len, prompts)), 0, [time.perf_counter()]

    def step(self, count: int) -> None:
        if len(self.moments) > 1:
            self.new_tokens += count
        self.moments.append(time.perf_counter())
