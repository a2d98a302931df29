"""Conversations → ids, and for each id whether the model should learn to write it → batches.

One line of a data set is a JSON object of one of three kinds:

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}   learned: the assistant's
    {"story": "…", "questions": [{"question": "…", "answer": "…"}, …]}                         the same, as messages
    {"text": "…"}                                                                              learned: all of it
"""

import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from torch import Tensor

from ..basics.arguments import at_least
from ..basics.files import fingerprint_json
from ..text.archives import CorpusError
from ..text.chat import check_messages, encode_conversation, encode_conversations, question_messages
from ..text.packing import in_groups, next_token_batch
from ..text.reading import explain_record, place_of
from ..text.resumable import BatchDataset
from ..text.tokenizer import encode_documents

EXPECTED = '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}'
AT_ONCE = 256  # conversations given to the tokenizer together
GROUP = 32  # batches whose conversations are sorted by length together


@dataclass
class Examples:
    """Encoded conversations and texts, and what became of the others."""

    ids: list[list[int]] = field(default_factory=list)
    learn: list[list[int]] = field(default_factory=list)  # 1: to be learned
    shortened: int = 0  # lost their last turns, to fit
    left_out: int = 0  # did not fit even so
    bytes: int = 0  # of UTF-8 in all that is to be learned

    def __add__(self, other: Self) -> Self:
        return Examples(**{name: mine + getattr(other, name) for name, mine in vars(self).items()})

    def add(self, ids: list[int], learn: list[int], learned: Iterable[str]) -> None:
        """One more example, of which the texts `learned` are to be learned."""
        self.ids.append(ids)
        self.learn.append(learn)
        self.bytes += sum(len(text.encode()) + 1 for text in learned)

    def in_words(self) -> str:
        tokens, learned = sum(map(len, self.ids)), sum(map(sum, self.learn))
        words = f"{len(self.ids):,} examples, {tokens:,} tokens, {learned:,} of them to be learned"
        words += f"; {self.shortened:,} too long: last turns left out" if self.shortened else ""
        return words + (f"; {self.left_out:,} left out: too long" if self.left_out else "")


def encode_examples(lines: Iterable[dict], tokenizer, context_size: int, *, source: str = "the data") -> Examples:
    """Encode a data set, of the kinds named at the top of this module.

    What is longer than `context_size` tokens loses its last turns, and is left out if its first answer does not fit;
    of a text the beginning is kept. All that is counted.
    Raises CorpusError, with its file and line where it has some, for one that cannot be learned from.
    """
    found = Examples()
    for group in in_groups(enumerate(lines, 1), AT_ONCE):
        read = [_read(line, place_of(line, f"{source}, line {number}")) for number, line in group]
        talks = [entry for entry in read if isinstance(entry, list)]
        encoded = iter(encode_conversations(tokenizer, talks) if talks else [])
        documents = iter(encode_documents(tokenizer, [entry for entry in read if isinstance(entry, str)]))
        for entry in read:
            if isinstance(entry, str):
                ids = next(documents)[: context_size + 1]
                found.add(ids, [1] * len(ids), [entry])
                continue
            kept, ids, learn = _whole_turns(tokenizer, entry, *next(encoded), context_size + 1)
            if kept:
                found.add(ids, learn, (message["content"] for message in kept if message["role"] == "assistant"))
            found.left_out += not kept
            found.shortened += 0 < len(kept) < len(entry)
    if not found.ids:
        fits = f"at most context_size={context_size} tokens ({found.left_out} were longer)"
        raise CorpusError(f"{source} gives nothing to learn: it has no line, or none of {fits}")
    return found


def _read(line: dict, where: str) -> list[dict] | str:
    """The messages of a line, or its text; an error begins with `where` the line stands."""
    with explain_record(where):
        if not isinstance(line, dict):
            raise ValueError(f"{line!r:.60} is no conversation: expected {EXPECTED}")
        if isinstance(line.get("text"), str):
            return line["text"]
        if "messages" in line:
            return check_messages(line["messages"])
        if "questions" in line:
            return check_messages(question_messages(line["story"], line["questions"]))
        seen = ", ".join(map(str, line)) or "nothing"
        raise ValueError(f'it has neither "messages" nor "text", but {seen:.80}: expected {EXPECTED}')


def _whole_turns(tokenizer, messages: list[dict], ids: list[int], learn: list[int], longest: int) -> tuple:
    """The first messages, up to an answer, that fit into `longest` ids; their ids and `learn`; all empty if none do."""
    while len(ids) > longest:
        ends = [i for i, message in enumerate(messages[:-1]) if message["role"] == "assistant"]
        messages = messages[: ends[-1] + 1] if ends else []
        ids, learn = encode_conversation(tokenizer, messages) if messages else ([], [])
    return messages, ids, learn


class ConversationDataset(BatchDataset):
    """Batches (inputs, targets) of whole conversations, each in a row of its own; one pass over all `examples`.

    A row begins with its conversation's begin token. Rows are filled up at their right end: inputs with the padding
    token, targets with −100, as all that is not to be learned. Conversations of like length meet in a batch, so that
    little is filled up (`padding_share`: about 1 in 100), and a batch takes as many rows as fit into batch_size ×
    context_size tokens. That costs less than packing several into a row, where each may look only at its own part:
    attention with such a mask is slower than the plain triangle.

    The first `first` examples, easy ones, come before all others in the first pass and not in later ones (a curriculum:
    Bengio et al., 2009). The last `replay` examples, texts of an earlier training, have batches of their own, which
    grow more frequent through the pass (see `mixed_with_replay`). So answers are learned soon, and what was forgotten
    meanwhile comes back at the end. A pass ends after `longest_pass` batches, if given.

    Each `epoch` has another order, unless `shuffle` is False. The rows of each batch, which is then `world_size` times
    as large, are dealt out over so many processes (see `BatchDataset`).
    """

    def __init__(
        self,
        examples: Examples,
        pad_id: int,
        context_size: int,
        batch_size: int = 1,
        *,
        first: int = 0,
        replay: int = 0,
        longest_pass: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__(context_size, batch_size, rank, world_size, share_rows=True)
        at_least(0, first=first, replay=replay)
        at_least(1, longest_pass=longest_pass)
        if not 0 <= first <= len(examples.ids):
            raise ValueError(f"first={first}: there are {len(examples.ids)} examples, so many can come first at most")
        if not 0 <= replay <= len(examples.ids) - first:
            raise ValueError(f"replay={replay}: only {len(examples.ids) - first} examples do not come first")
        self.examples, self.pad_id, self.first, self.replay = examples, pad_id, first, replay
        self.longest_pass, self.shuffle, self.seed = longest_pass, shuffle, seed

    def num_tokens(self) -> float:
        """Tokens of all examples, for all processes, with what is filled up."""
        return self._tokens(batch for batches in self._by_kind(0) for batch in batches)

    def padding_share(self) -> float:
        """Which part of a batch is only filled up, on average."""
        batches = self._batches_for_all(self.epoch)
        return 1 - sum(self._width(number) for batch in batches for number in batch) / self._tokens(batches)

    def bytes_per_token(self) -> float:
        """Bytes of UTF-8 per token, of what is to be learned."""
        return self.examples.bytes / sum(map(sum, self.examples.learn))

    def fingerprint(self) -> str:
        order = [self.first, self.replay, self.longest_pass, self.shuffle, self.seed]
        return fingerprint_json([self.examples.ids, self.examples.learn, order])

    def read(self, position: dict, worker: int = 0, num_workers: int = 1) -> Iterator[tuple[Tensor, Tensor, dict]]:
        """The batches from `position` on, which is how many of this worker's were given."""
        if (rows := position.get("rows", self.rows_for_all)) != self.rows_for_all:
            now = f"batch_size × processes is {self.rows_for_all} now"
            raise ValueError(f"the position was saved in batches for {rows} rows, {now}: make it {rows} to go on")
        own = self._batches_for_all(self.epoch)[worker::num_workers]
        for given in range(position.get("batches_given", 0), len(own)):
            rows, is_own = self.own_rows(own[given])
            ids, learn = ([part[i] for i in rows] for part in (self.examples.ids, self.examples.learn))
            learn = learn if is_own else [[0] * len(row) for row in learn]
            yield *next_token_batch(ids, self.pad_id, learn), {"batches_given": given + 1, "rows": self.rows_for_all}

    def batches(self, epoch: int) -> list[list[int]]:
        """This process's part of a pass: the numbers of the examples in each batch; [] where there are too few rows."""
        return [batch[self.rank :: self.world_size] for batch in self._batches_for_all(epoch)]

    def _batches_for_all(self, epoch: int) -> list[list[int]]:
        easy, talks, texts = self._by_kind(epoch)
        whole = len(easy) + len(talks) + len(texts)
        length = whole if self.longest_pass is None else min(whole, self.longest_pass)
        return easy[:length] + mixed_with_replay(talks, texts, max(0, length - len(easy)))

    def _by_kind(self, epoch: int) -> list[list[list[int]]]:
        """All batches of a pass, each kind in random order: easy conversations, the others, texts."""
        draw = random.Random(f"{self.seed}-{epoch if self.shuffle else 0}")
        end = len(self.examples.ids)
        easy, texts = range(self.first if epoch == 0 else 0), range(end - self.replay, end)
        return [self._in_batches(kind, draw) for kind in (easy, range(self.first, texts.start), texts)]

    def _in_batches(self, numbers: range, draw: random.Random) -> list[list[int]]:
        """These examples, in batches of like length, in random order."""
        shuffled, most = list(numbers), self.rows_for_all * self.context_size  # tokens of a batch
        draw.shuffle(shuffled)
        mean_length = max(1, sum(len(self.examples.ids[i]) for i in shuffled) // max(len(shuffled), 1))
        batches: list[list[int]] = []
        for group in in_groups(shuffled, max(1, GROUP * most // mean_length)):
            batches.append([])
            for number in sorted(group, key=self._width):  # so that the widest of a batch is its last
                if batches[-1] and self._tokens([[*batches[-1], number]]) > most:
                    batches.append([])
                batches[-1].append(number)
        draw.shuffle(batches)
        return batches

    def _width(self, number: int) -> int:
        """Tokens of an example's row: each but the last one is read, each but the first one predicted."""
        return len(self.examples.ids[number]) - 1

    def _tokens(self, batches: Iterable[list[int]]) -> int:
        """Tokens of these batches, with what is filled up; the widest row of a batch is its last."""
        return sum(len(batch) * self._width(batch[-1]) for batch in batches)


def mixed_with_replay(talks: list[list[int]], texts: list[list[int]], length: int) -> list[list[int]]:
    """The first `length` batches of conversations and replayed texts, mixed, each kind in its own order.

    With every batch a fraction of a text falls due; when half of one or more is due, it comes. The fraction grows
    through the pass, from a fifth to nine fifths of the texts' part of all batches. What is left of one kind when the
    other is used up comes at the end.
    """
    mean = len(texts) / max(len(talks) + len(texts), 1)
    waiting_talks, waiting_texts = deque(talks), deque(texts)
    mixed, due = [], 0.0
    for n in range(length):
        due += mean * (0.2 + 1.6 * n / length)
        is_text = waiting_texts and (due >= 0.5 or not waiting_talks)
        mixed.append((waiting_texts if is_text else waiting_talks).popleft())
        due -= 1 if is_text else 0
    return mixed
