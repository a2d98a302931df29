"""What a reader sees of a run while it goes on: a bar, how fast it is, how long it will take, what was found."""

from tqdm.auto import tqdm

from .history import History

SHOWN = ("accuracy", "reward")  # of what a kind of training measures: what it is about


class Progress:
    """A bar of a run's steps, with tokens per second. Nothing is shown unless `shows`; TQDM_DISABLE=1 hides the bar."""

    def __init__(self, history: History, name: str, shows: bool):
        self.history, self.shows, self.found = history, shows, ""
        silent = {} if shows else {"disable": True}  # TQDM_DISABLE=1 counts only where `disable` is not given
        total = None if history.is_open else history.total_steps
        self.bar = tqdm(total=total, initial=history.steps, desc=name, unit="step", **silent)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self.shows:
            self.bar.write(line)

    def step_done(self) -> None:
        """The bar grows by a step."""
        self._write_beside()
        self.bar.update()

    def looked(self) -> None:
        """Show what the last look at the test text found."""
        bits = self.history.eval_bits_per_byte[-1]
        self.found = f"perplexity {self.history.eval_perplexity[-1]:.2f}, bits per byte {bits:.3f}"
        self._write_beside()

    def fixed(self, line: str | None) -> None:
        """The number of steps is known now, or better than before; `line` says it in words."""
        self.bar.total = self.history.total_steps
        if line is not None:
            self.say(line)

    def _write_beside(self) -> None:
        rate = self.bar.format_dict.get("rate") or 0.0  # steps per second
        speed = f"{rate * self.history.tokens_per_step:,.0f} tokens/s" if rate and self.history.tokens_per_step else ""
        measured = [f"{name} {values[-1]:.3f}" for name, values in self.history.measured.items() if name in SHOWN]
        self.bar.set_postfix_str(", ".join(filter(None, (speed, self.found, *measured))), refresh=False)
