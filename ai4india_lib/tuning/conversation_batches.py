"""Conversations → ids, and for each id whether the model should learn to write it → batches.

One line of a data set is a JSON object of one of three kinds:

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}   learned: the assistant's
    {"story": "…", "questions": [{"question": "…", "answer": "…"}, …]}                         the same, as messages
    {"text": "…"}                                                                              learned: all of it
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise

from torch import Tensor
from torch.utils.data import IterableDataset

from ..text.chat import check_messages, encode_conversation, encode_conversations, question_messages
from ..text.corpus import CorpusError
from ..text.packing import next_token_batch
from ..text.tokenizer import encode_documents

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

    def __add__(self, other: Examples) -> Examples:
        return Examples(
            *(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def in_words(self) -> str:
        learned = sum(map(sum, self.learn))
        told = f"{len(self.ids):,} examples, {sum(map(len, self.ids)):,} tokens, {learned:,} of them to be learned"
        told += f"; {self.shortened:,} too long: last turns left out" if self.shortened else ""
        return told + (f"; {self.left_out:,} left out: too long" if self.left_out else "")


def encode_examples(lines: Iterable[dict], tokenizer, context_size: int, *, source: str = "the data") -> Examples:
    """Encode a data set, of the kinds named at the top of this module.

    What is longer than `context_size` tokens loses its last turns, and is left out if its first answer does not fit;
    of a text the beginning is kept. All that is counted.
    Raises CorpusError, with the number of the line, for one that cannot be learned from.
    """
    found = Examples()
    numbered = enumerate(lines, 1)
    while group := list(islice(numbered, AT_ONCE)):
        read = [_read(line, f"{source}, line {number}") for number, line in group]
        talks = [entry for entry in read if isinstance(entry, list)]
        encoded = iter(encode_conversations(tokenizer, talks) if talks else [])
        documents = iter(encode_documents(tokenizer, [entry for entry in read if isinstance(entry, str)]))
        for entry in read:
            if isinstance(entry, str):
                _add_text(found, entry, next(documents), context_size)
            else:
                _add_conversation(found, tokenizer, entry, next(encoded), context_size)
    if not found.ids:
        raise CorpusError(
            f"{source} gives nothing to learn: it has no line, or none of at most context_size={context_size} tokens "
            f"({found.left_out} were longer)"
        )
    return found


def _read(line: dict, place: str) -> list[dict] | str:
    """The messages of a line, or its text."""
    try:
        if isinstance(line.get("text"), str):
            return line["text"]
        if "questions" in line and "messages" not in line:
            return check_messages(question_messages(line["story"], line["questions"]))
        if "messages" not in line:
            raise ValueError('it has neither "messages" nor "text"')
        return check_messages(line["messages"])
    except (ValueError, KeyError, TypeError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CorpusError(f"{place}: {told}") from None


def _add_text(found: Examples, text: str, ids: list[int], context_size: int) -> None:
    ids = ids[: context_size + 1]
    found.ids.append(ids)
    found.learn.append([1] * len(ids))
    found.bytes += len(text.encode()) + 1


def _add_conversation(
    found: Examples, tokenizer, messages: list[dict], encoded: tuple[list[int], list[int]], context_size: int
) -> None:
    ids, learn = encoded
    kept = messages
    while len(ids) > context_size + 1 and kept:
        ends = [i for i, message in enumerate(kept[:-1]) if message["role"] == "assistant"]
        kept = kept[: ends[-1] + 1] if ends else []
        ids, learn = encode_conversation(tokenizer, kept) if kept else ([], [])
    if not kept:
        found.left_out += 1
        return
    found.shortened += len(kept) < len(messages)
    found.ids.append(ids)
    found.learn.append(learn)
    found.bytes += sum(len(message["content"].encode()) + 1 for message in kept if message["role"] == "assistant")


class ConversationDataset(IterableDataset):
    """Batches (inputs, targets) of whole conversations, each in a row of its own; one pass over all `examples`.

    A row begins with its conversation's begin token and sees no other conversation. Rows are filled up at their right
    end: inputs with the padding token, targets with −100, as all that is not to be learned. Conversations of like
    length meet in a batch, so that little is filled up (`padding_share` tells how much: about 1 in 100), and a batch
    takes as many rows as fit into batch_size × context_size tokens: short ones fill it as well as long ones.
    That costs less than packing several into a row, where each may look only at its own part: attention with such a
    mask is slower than the plain triangle.

    The first `first` examples, easy ones, come before all others in the first pass and not in later ones (a curriculum:
    Bengio et al., 2009). The last `replay` examples, texts of an earlier training, have batches of their own, which
    grow more frequent through the pass: from a fifth of their mean share to nine fifths of it. So answers are learned
    soon, and what was forgotten meanwhile comes back at the end. A pass ends after `longest_pass` batches, if given.

    Each `epoch` has another order, unless `shuffle` is False. Examples are dealt out over `world_size` processes.
    Made for `TextLoader`; there are no workers to share it out to, since it is in memory.
    """

    share = 0

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
        if not 0 <= first <= len(examples.ids):
            raise ValueError(f"first={first}: there are {len(examples.ids)} examples, so many can come first at most")
        if not 0 <= replay <= len(examples.ids) - first:
            raise ValueError(f"replay={replay}: only {len(examples.ids) - first} examples do not come first")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} is not one of world_size={world_size} processes (0 to {world_size - 1})")
        self.examples, self.pad_id, self.first, self.replay = examples, pad_id, first, replay
        self.longest_pass = longest_pass
        self.context_size, self.batch_size = context_size, batch_size
        self.shuffle, self.seed, self.rank, self.world_size = shuffle, seed, rank, world_size
        self.epoch = 0
        self._given = 0  # batches of this pass that were given
        self._resume = 0

    def num_tokens(self) -> float:
        """Tokens of all examples, for all processes, with what is filled up."""
        batches = [batch for part in self._parts(0) for batch in part]
        return sum(len(batch) * self._width(batch) for batch in batches) * self.world_size

    def padding_share(self) -> float:
        """Which part of a batch is only filled up, on average."""
        batches = self.batches(self.epoch)
        real = sum(len(self.examples.ids[i]) - 1 for batch in batches for i in batch)
        return 1 - real / sum(len(batch) * self._width(batch) for batch in batches)

    def bytes_per_token(self) -> float:
        """Bytes of UTF-8 per token, of what is to be learned."""
        return self.examples.bytes / sum(map(sum, self.examples.learn))

    def state_dict(self) -> dict:
        return {"epoch": self.epoch, "batches_given": self._given}

    def resume(self, epoch: int, shares: dict[int, dict], first_share: int = 0) -> None:
        """Let the next pass go on after the batches that were given in its state."""
        self.epoch, self._resume = epoch, shares.get(0, {}).get("batches_given", 0)

    def batches(self, epoch: int) -> list[list[int]]:
        """This process's part of a pass: the numbers of the examples in each batch."""
        easy, talks, texts = (deque(part) for part in self._parts(epoch))
        share = len(texts) / max(len(talks) + len(texts), 1)
        length = len(talks) + len(texts)
        if self.longest_pass is not None:
            length = max(0, min(length, self.longest_pass - len(easy)))
        mixed, due = list(easy)[: self.longest_pass], 0.0
        for n in range(length):
            due += share * (0.2 + 1.6 * n / length)
            replayed = bool(texts) and (due >= 0.5 or not talks)
            mixed.append((texts if replayed else talks).popleft())
            due -= replayed
        return mixed

    def _parts(self, epoch: int) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        """The same in three parts, each in random order: easy conversations, the others, and replayed texts."""
        draw, end = random.Random(f"{self.seed}-{epoch if self.shuffle else 0}"), len(self.examples.ids)
        bounds = (0 if epoch == 0 else self.first, self.first, end - self.replay, end)
        easy, talks, texts = (self._batches_of(list(range(*ends)), draw) for ends in pairwise(bounds))
        return easy, talks, texts

    def _batches_of(self, order: list[int], draw: random.Random) -> list[list[int]]:
        """This process's part of some examples, in batches, mixed."""
        draw.shuffle(order)
        order = order[self.rank :: self.world_size]
        room = self.batch_size * self.context_size
        mean = max(1, sum(len(self.examples.ids[i]) for i in order) // max(len(order), 1))
        size = max(1, GROUP * room // mean)  # examples in a group
        batches: list[list[int]] = []
        for start in range(0, len(order), size):
            batch: list[int] = []
            for i in sorted(order[start : start + size], key=lambda i: len(self.examples.ids[i])):
                if batch and (len(batch) + 1) * self._width([i]) > room:
                    batches.append(batch)
                    batch = []
                batch.append(i)
            batches.append(batch)
        draw.shuffle(batches)
        return batches

    def _width(self, batch: list[int]) -> int:
        return max(len(self.examples.ids[i]) for i in batch) - 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = self.batches(self.epoch)
        self._given, self._resume = self._resume, 0
        for batch in batches[self._given :]:
            rows, learned = ([part[i] for i in batch] for part in (self.examples.ids, self.examples.learn))
            self._given += 1
            yield next_token_batch(rows, self.pad_id, learned)
