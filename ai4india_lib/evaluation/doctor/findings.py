"""What the doctor can find, in words: for each disease of a run what it usually means, and what to look at first."""

from collections.abc import Iterable
from dataclasses import dataclass, field

SURE, LIKELY, POSSIBLE = 1.0, 0.7, 0.4  # proven; several signs; one sign that has other explanations too

# disease → (what it usually means, what to look at first)
DISEASES = {
    "no causal mask": (
        "a token sees those that it should predict, so the loss is low and the model cannot write",
        "the mask of attention: which triangle stays, and is it there in each block?",
    ),
    "targets not shifted": (
        "the model learns to repeat the token that it reads, which is easy and worth nothing",
        "inputs[0] and targets[0] side by side: targets must be the inputs one step later",
    ),
    "targets shifted twice": (
        "the model learns to predict the token after the next one; text that it writes lacks every other token",
        "who shifts? The loader does, so the loss must not do it again",
    ),
    "positions missing": (
        "attention cannot tell the order of the tokens before",
        "the call that turns queries and keys by their positions, in each block",
    ),
    "rotation with wrong pairing": (
        "queries and keys are turned, but not as the weights' format says, so other programs read another model",
        "rope: pair number i is (x[i], x[i + head_dim / 2]), and both queries and keys are turned, the same way",
    ),
    "queries and keys swapped": (
        "attention asks with keys and answers with queries",
        "the line that multiplies them: queries are the rows, keys the columns, and softmax goes along a row",
    ),
    "scale of the scores forgotten": (
        "scores that are too large make attention look at one token alone, too small ones at all alike",
        "the factor 1 / √head_dim before softmax",
    ),
    "residual left out": (
        "what a block reads does not flow on beside what it writes, so gradients and tokens are lost on the way",
        "x = x + attention(…) and x = x + mlp(…) in each block",
    ),
    "norm left out": (
        "numbers grow from block to block, and the learning rate that suits other runs does not suit this one",
        "one norm before attention, one before the MLP, one before the head (and on queries and keys, if qk_norm)",
    ),
    "gradients never cleared": (
        "each step follows the gradients of all steps before, so the run overshoots and swings",
        "optimizer.zero_grad() in each step, before backward or after step",
    ),
    "optimizer on part of the weights": (
        "what the optimizer was not given stays as the dice fell",
        "the list of parameters that the optimizer was made with, and requires_grad",
    ),
    "learning rate too high": (
        "steps jump over the valley: the loss leaps, or is stuck high",
        "the learning rate: try a tenth of it",
    ),
    "learning rate too low": (
        "steps are so short that the run ends long before it arrives",
        "the learning rate: try ten times as much, until it leaps; then a third of that",
    ),
    "no warm-up": (
        "the first steps are the longest while the optimizer knows least, and spoil the fresh weights",
        "warmup_fraction, or the rise of the learning rate in the first steps",
    ),
    "test text in the training text": (
        "the test measures memory, and the loss on new text is higher than it says",
        "how the text was split, and whether documents come twice in it",
    ),
    "training text repeated": (
        "there is less to learn from than the size of the text says; the model learns a few lines by heart",
        "the lines of the training text, sorted and counted",
    ),
    "tokenizer of another model": (
        "the ids mean other pieces of text to the model than to this tokenizer",
        "which tokenizer made the ids in training; it belongs into the model's folder",
    ),
    "padding counted as text": (
        "the model learns to predict padding, which is easy, and the loss looks better than it is",
        "targets at padded places: they must be −100",
    ),
    "weights not tied": (
        "the model reads with one table and writes with another that was not trained with it",
        "after loading: model.head.weight is model.embedding.weight",
    ),
    "dropout left on while testing": (
        "a part of the model is switched off by chance while it is measured, so it looks worse than it is",
        "model.eval() before each test, and dropout's p must be 0 where self.training is False",
    ),
    "loss averaged wrongly": (
        "gradients of several batches do not add up to the gradient of one large batch",
        "each batch's loss times its share of the step's tokens, once",
    ),
    "loss below what is possible": (
        "no model can be better than the source of the text; what was measured is not the prediction of new text",
        "the mask, the shift of the targets, and whether test text stands in the training text",
    ),
    "damaged weights": (
        "numbers became infinite, or no numbers at all; nothing can be computed from there",
        "the step at which the loss became nan: a lower learning rate, and clipping",
    ),
    "first weights too large": (
        "fresh weights should find all tokens about equally likely; these were sure of wrong ones from the start",
        "how the weights are drawn: about 0.02 wide, and smaller where blocks add to the stream",
    ),
    "overfitting": (
        "the training text is learned by heart, and new text is not served by that",
        "more text, fewer steps, a smaller model; `train` keeps the weights that were best on the test text",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One guess of the doctor: a disease, what was seen with its number, and how sure it is (0 to 1)."""

    name: str
    saw: str
    sure: float

    @property
    def means(self) -> str:
        return DISEASES[self.name][0]

    @property
    def look(self) -> str:
        return DISEASES[self.name][1]

    def in_words(self) -> str:
        degree = "certainly" if self.sure >= SURE else "probably" if self.sure >= LIKELY else "perhaps"
        return f"{degree}: {self.name}\n  seen: {self.saw}\n  it means: {self.means}\n  look first at: {self.look}"


@dataclass
class Report:
    """What an examination found, the surest first, and the figures that it compared."""

    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)  # nats per token, by what they are
    looked_at: list[str] = field(default_factory=list)

    @property
    def is_healthy(self) -> bool:
        return not self.findings

    @property
    def guesses(self) -> list[str]:
        """The diseases' names, the likeliest first."""
        return [finding.name for finding in self.findings]

    @property
    def verdict(self) -> str:
        """One line."""
        if self.findings:
            first, *others = self.findings
            more = f" (or {others[0].name})" if others and others[0].sure >= first.sure * 0.6 else ""
            return f"the doctor suspects: {first.name}{more}: {first.saw}"
        where = self._between()
        return "the doctor finds nothing wrong" + (f": {where}" if where else "")

    def _between(self) -> str:
        """Where the loss stands among the yardsticks."""
        if (loss := self.figures.get("this run, test text")) is None:
            return ""
        marks = {name: value for name, value in self.figures.items() if not name.startswith("this run")}
        above = min(((v, n) for n, v in marks.items() if v >= loss), default=None)
        below = max(((v, n) for n, v in marks.items() if v < loss), default=None)
        placed = [f"{word} {name} ({value:.2f})" for word, found in (("below", above), ("above", below)) if found
                  for value, name in (found,)]  # fmt: skip
        return f"test loss {loss:.2f}, {' and '.join(placed)}"

    def __str__(self) -> str:
        parts = [self.verdict]
        if self.figures:
            rows = sorted(self.figures.items(), key=lambda item: -item[1])
            parts.append("\n".join(f"  {value:7.3f}  {name}" for name, value in rows))
        parts += [finding.in_words() for finding in self.findings]
        if self.looked_at:
            parts.append(f"looked at: {', '.join(self.looked_at)}")
        return "\n".join(parts)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """The surest first, each disease once."""
    best: dict[str, Finding] = {}
    for finding in findings:
        if finding.name not in best or finding.sure > best[finding.name].sure:
            best[finding.name] = finding
    return sorted(best.values(), key=lambda finding: -finding.sure)
