"""Several tokens per pass, same distribution: a draft proposes, the model checks all proposals in one pass.

Writing a token costs a whole pass of the model, because each token needs the one before it. Checking needs no such
wait: k proposed tokens go through in one pass, which costs little more than a pass over one. Each proposal is accepted
or refused so that the text is drawn exactly as if the model had written alone (Leviathan et al., 2023; Chen et al.,
2023).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from ..basics.arguments import at_least
from ..model.decoder import DecoderLanguageModel
from .fast import pick_decoder
from .generation import prefill, remembered_from
from .interruption import tells_when_broken_off
from .packed_steps import FEW
from .requests import checked_count, checked_prompt, checked_stops
from .sampling import Sampling, draw, filter_logits, known, likeliest, random_numbers

LONGEST_DRAFT = 16  # an adapting k goes no higher
CHECKING = 0.05  # what one more token adds to a pass of the model, about (lesson 13 measures it)


@dataclass(frozen=True)
class Round:
    """One round: what was proposed, and what became of it."""

    tokens: list[int]  # new ids of the text: the accepted ones, then one of the model's own
    proposed: int  # drafted tokens that the model checked
    accepted: int  # how many of them, from the first on, it agreed to
    k: int  # how many the draft was asked for
    draft_seconds: float
    target_seconds: float


@dataclass
class Speculation:
    """What `speculative_generate` wrote, and how it came about."""

    ids: list[int] = field(default_factory=list)  # the new ids
    rounds: list[Round] = field(default_factory=list)

    def add(self, r: Round) -> Round:
        self.ids += r.tokens
        self.rounds.append(r)
        return r

    @property
    def proposed(self) -> int:
        return sum(r.proposed for r in self.rounds)

    @property
    def accepted(self) -> int:
        return sum(r.accepted for r in self.rounds)

    @property
    def acceptance(self) -> float:
        """Share of the proposed tokens that were accepted, 0 if none were proposed."""
        return self.accepted / max(self.proposed, 1)

    @property
    def tokens_per_pass(self) -> float:
        """New tokens per pass of the model; without a draft it would be 1."""
        return len(self.ids) / max(len(self.rounds), 1)

    def __str__(self) -> str:
        accepted = f"{self.accepted} of {self.proposed} proposals accepted ({self.acceptance:.0%})"
        return f"{accepted}, {self.tokens_per_pass:.2f} tokens per pass of the model"


class TextReader:
    """One model reading one text, which grows, and shrinks again when proposals are refused.

    Beyond the model's `context_size` it forgets as `generate_steps` does: the older half, once the text is longer.
    """

    def __init__(self, model: DecoderLanguageModel, prompt_length: int, longest: int, compiled: bool = False):
        self.model, self.context = model, model.config.context_size
        self.decoder = pick_decoder(model, longest - prompt_length, compiled=compiled)
        self.start = max(prompt_length - self.context, 0)  # where the part of the text begins that is remembered
        self.cache = model.new_cache(1, min(self.context, longest))

    def room(self, length: int) -> int:
        """How many tokens can be read behind a text of `length` tokens before it must be forgotten in part."""
        start = remembered_from(self.start, length, self.context)
        if start != self.start:
            self.start = start
            self.cache.set_lengths([0])
        return self.context - (length - start)

    def read(self, ids: list[int], count: int) -> Tensor:
        """Logits after each of the last `count` tokens of `ids`, (count, vocab_size).

        Only those and what is new before them goes through the model: all but the last `count` must be as before.
        """
        known = len(ids) - self.start - count
        if known < self.cache.longest:
            self.cache.set_lengths([known])
        unread = ids[self.start + self.cache.longest :]
        if len(unread) > max(count, FEW):
            prefill(self.decoder, self.cache, [unread[:-count]])
            unread = unread[-count:]
        newest = torch.tensor([unread], device=self.model.device)  # (1, count or a few more)
        return self.decoder(newest, self.cache)[0, -count:]


class ModelDraft:
    """A smaller model with the same vocabulary proposes what it would write itself, under the same `Sampling`."""

    def __init__(self, model: DecoderLanguageModel, *, compiled: bool = False):
        self.model, self.compiled = model, compiled

    def begin(self, model, prompt: list[int], *, longest: int, sampling: Sampling, generator) -> None:
        """Make ready for one text that may reach `longest` tokens, to be checked by `model`."""
        ours, theirs = self.model.config.vocab_size, model.config.vocab_size
        if ours != theirs:
            fix = "so train the draft with `python -m ai4india_lib train --teacher NAME_OF_THE_MODEL`"
            raise ValueError(f"the draft knows {ours} tokens, the model {theirs}: they must share one tokenizer, {fix}")
        if self.model.device != model.device:
            raise ValueError(f"the draft is on {self.model.device}, the model on {model.device}: put both on one")
        self.cost = self.model.num_parameters() / model.num_parameters()  # every weight is read once a token
        self.reader = TextReader(self.model, len(prompt), longest, self.compiled)
        self.sampling, self.generator = sampling, generator

    def propose(self, text: list[int], k: int) -> tuple[list[int], Tensor | None]:
        """At most k ids to follow `text`, and the distributions they were drawn from, (proposed, vocab_size)."""
        ids, distributions = list(text), []
        for _ in range(min(k, self.reader.room(len(text)) + 1)):
            logits = filter_logits(self.reader.read(ids, 1)[0], self.sampling, ids)  # (vocab_size,)
            if self.sampling.temperature == 0:
                ids += known(likeliest(logits[None]), logits)
            else:
                distributions.append(logits.softmax(-1))
                ids.append(draw(distributions[-1], self.generator))
        return ids[len(text) :], torch.stack(distributions) if distributions else None


class NgramDraft:
    """No model: what followed the last few tokens when they stood in the text before? (prompt look-up, Saxena, 2023)

    The longest match of at most `longest` tokens counts, the latest one if there are several. `texts`, lists of ids,
    are looked up too where the text itself has no match: what followed most often there.
    """

    cost = 0.0

    def __init__(self, longest: int = 4, *, shortest: int = 2, texts: Iterable[list[int]] = ()):
        at_least(1, longest=longest, shortest=shortest)
        if shortest > longest:
            raise ValueError(f"shortest={shortest} and longest={longest}: a match has from 1 to `longest` tokens")
        self.sizes = range(longest, shortest - 1, -1)
        followers: defaultdict[tuple[int, ...], Counter] = defaultdict(Counter)
        for ids in texts:
            for end in range(shortest, len(ids)):
                for size in range(shortest, min(longest, end) + 1):
                    followers[tuple(ids[end - size : end])][ids[end]] += 1
        self.usual = {context: counts.most_common(1)[0][0] for context, counts in followers.items()}

    def begin(self, model, prompt: list[int], *, longest: int, sampling: Sampling, generator) -> None:
        """Make ready for one text."""
        self.latest: dict[tuple[int, ...], int] = {}  # a few tokens → what followed them last
        self.indexed = 0

    def propose(self, text: list[int], k: int) -> tuple[list[int], None]:
        """At most k ids to follow `text`; certain of them as it is, it has no distribution to tell."""
        for end in range(max(self.indexed, 1), len(text)):
            for size in self.sizes:
                if size <= end:
                    self.latest[tuple(text[end - size : end])] = text[end]
        self.indexed = len(text)
        ids = text[-self.sizes[0] :]
        known = len(ids)
        while len(ids) < known + k and (token := self._next(ids)) is not None:
            ids.append(token)
        return ids[known:], None

    def _next(self, ids: list[int]) -> int | None:
        found = (table.get(tuple(ids[-size:])) for table in (self.latest, self.usual) for size in self.sizes)
        return next((token for token in found if token is not None), None)


class DraftLength:
    """How many tokens to ask for: the k that writes most per cost, as far as the acceptance so far can tell.

    With acceptance a, a round of k proposals writes (1 − a^(k+1)) / (1 − a) tokens on average (Leviathan et al., 2023,
    eq. 1) and costs 1 + k · (cost + CHECKING) passes of the model. Recent rounds count most: stories have easy and hard
    stretches. `cost` is that of a proposal; if the guess is wrong, that costs time and changes no text's distribution.
    """

    memory = 0.9  # weight that is left of a round in the next

    def __init__(self, cost: float):
        self.cost = cost
        self.accepted, self.seen = 3.0, 4.0  # a first guess, as if four proposals had been checked

    def next(self) -> int:
        a = self.accepted / self.seen

        def written_per_cost(k: int) -> float:
            written = k + 1 if a == 1 else (1 - a ** (k + 1)) / (1 - a)
            return written / (1 + k * (self.cost + CHECKING))

        return max(range(1, LONGEST_DRAFT + 1), key=written_per_cost)

    def learn(self, proposed: int, accepted: int) -> None:
        """Take in one round. Behind the first refused proposal nothing was learnt."""
        if proposed:
            self.accepted = self.accepted * self.memory + accepted
            self.seen = self.seen * self.memory + min(accepted + 1, proposed)


def accept(p: Tensor, q: Tensor | None, drafted: list[int], generator: torch.Generator) -> tuple[int, int]:
    """How many of the drafted tokens stand, and the token to write behind them.

    `p` (proposed + 1, vocab_size): the model's probabilities at each drafted token and behind the last. `q` (proposed,
    vocab_size): those that the tokens were drawn from; None: each was certain of itself.

    Drafted token x stands with probability min(1, p(x) / q(x)). At the first that does not, what q proposes too seldom
    is made up for: the new token is drawn from max(p − q, 0), brought to sum 1. Together each token has probability
    min(p, q) + max(p − q, 0) = p (Leviathan et al., 2023, appendix A.1).
    """
    proposed, accepted = len(drafted), 0
    if proposed:
        index = torch.tensor(drafted, device=p.device)[:, None]  # (proposed, 1)
        chance = p[:proposed].gather(1, index) / (1 if q is None else q.gather(1, index))
        stands = torch.rand(chance.shape, generator=generator).to(p.device) < chance
        accepted = int(stands.long().cumprod(0).sum())
    left = p[accepted]
    if accepted < proposed:
        left = left.index_fill(0, index[accepted], 0) if q is None else (left - q[accepted]).clamp(min=0)
        if not left.sum() > 0:  # p and q are the same but for rounding
            left = p[accepted]
    return accepted, draw(left, generator)


def _verify(logits: Tensor, text: list[int], drafted: list[int], q, sampling: Sampling, generator) -> tuple[int, int]:
    """How many drafted tokens stand and the token behind them, from the model's logits (proposed + 1, vocab_size)."""
    used = [text + drafted[:i] for i in range(len(logits))] if sampling.repetition_penalty != 1 else ()
    logits = filter_logits(logits, sampling, used)
    if sampling.temperature == 0:
        best = likeliest(logits)
        accepted = next((i for i, token in enumerate(drafted) if token != best[i]), len(drafted))
        return accepted, *known([best[accepted]], logits)
    return accept(logits.softmax(-1), q, drafted, generator)


@tells_when_broken_off
@torch.inference_mode()
def speculative_steps(
    model: DecoderLanguageModel,
    prompt: list[int],
    draft: DecoderLanguageModel | ModelDraft | NgramDraft,
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop_ids: Iterable[int] = (),
    k: int | None = None,
    compiled: bool = False,
) -> Iterator[Round]:
    """Write on one prompt and yield each round as it is done: its `tokens` are the next 1 to k + 1 ids of the text.

    `draft` proposes `k` tokens a round (None: as many as its acceptance so far makes worth while). The text ends with
    the first of `stop_ids` or after `max_new_tokens`, also in the midst of accepted tokens. `compiled` as in
    `generate_steps`, for the model, and for a draft that is given as a plain model.

    Drawn is from the same distribution as in `generate_steps`, whatever the draft; the same seed gives the same text
    again, but not the one that `generate_steps` draws with it. Greedy (temperature 0) writes the same text, but for
    this: a pass over several tokens rounds otherwise than a pass over one, so where two tokens are equally likely
    within rounding (some 1e-5 in their logits), the other may be taken.

    Beyond `context_size` the text is forgotten in part at the same tokens as in `generate_steps`; proposals never reach
    across such a point. A draft with a smaller `context_size` forgets on its own.

    Raises ValueError for a draft with another vocabulary or device, and for k < 1.
    """
    prompt, max_new_tokens = checked_prompt(model, prompt), checked_count(max_new_tokens)
    at_least(1, k=k)  # None: let it adapt
    sampling, stop_ids = sampling or Sampling(), checked_stops(stop_ids)
    generator = random_numbers(sampling.seed)
    draft = ModelDraft(draft, compiled=compiled) if isinstance(draft, DecoderLanguageModel) else draft
    if not hasattr(draft, "propose"):
        raise ValueError(f"draft must be a model, ModelDraft(…) or NgramDraft(), not {draft!r:.60}")
    text, end = list(prompt), len(prompt) + max_new_tokens
    draft.begin(model, text, longest=end, sampling=sampling, generator=generator)
    reader, length = TextReader(model, len(text), end, compiled), DraftLength(draft.cost)
    while len(text) < end:
        asked, begun = k or length.next(), perf_counter()
        drafted, q = draft.propose(text, min(asked, end - len(text) - 1, reader.room(len(text))))
        drafted_at = perf_counter()
        logits = reader.read(text + drafted, len(drafted) + 1)  # (proposed + 1, vocab_size)
        accepted, token = _verify(logits, text, drafted, q, sampling, generator)
        length.learn(len(drafted), accepted)
        new = [*drafted[:accepted], token]
        new = next((new[: i + 1] for i, token in enumerate(new) if token in stop_ids), new)
        text += new
        yield Round(new, len(drafted), accepted, asked, drafted_at - begun, perf_counter() - drafted_at)
        if new[-1] in stop_ids:
            return


def speculative_generate(
    model: DecoderLanguageModel, prompt: list[int], draft: DecoderLanguageModel | ModelDraft | NgramDraft, **settings
) -> Speculation:
    """The new ids for a prompt with all that happened on the way; `settings` as in `speculative_steps`.

    >>> speculative_generate(model, prompt, NgramDraft(), max_new_tokens=100, sampling=Sampling(temperature=0)).ids
    """
    done = Speculation()
    for r in speculative_steps(model, prompt, draft, **settings):
        done.add(r)
    return done
