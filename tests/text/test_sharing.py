"""Protects texts of the package `datasets`, for which stand-ins with its interface stand here: over workers and
processes each row comes once, also after a break; rows are read; what is used up, or has no text, is told."""

from collections import Counter

import pytest
import torch.utils.data
from torch.utils.data import IterableDataset

from ai4india_lib import PackedTextDataset, TextLoader
from ai4india_lib.text.corpus import fingerprint_text
from ai4india_lib.text.sharing import share_of
from ai4india_lib.text.tokenizer import checked_texts

WORDS = "एक दो राम आम किताब घर नदी बस".split()
ROWS = [f"{WORDS[i % 8]} {WORDS[i // 8 % 8]} {WORDS[i // 64]}" for i in range(60)]


class Streamed(IterableDataset):
    """Rows in shards, of which each worker of a DataLoader reads its own, as a streamed dataset does."""

    def __init__(self, shards):
        self.shards, self.num_shards = shards, len(shards)

    def shard(self, num_shards, index):
        return Streamed(self.shards[index::num_shards])

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        for shard in self.shards[worker.id :: worker.num_workers] if worker else self.shards:
            yield from ({"id": 0, "text": line} for line in shard)


def in_shards(number):
    return Streamed([ROWS[i::number] for i in range(number)])


def tokens(batches):
    """How often each id comes: each document has its own words."""
    return Counter(torch.cat([targets.flatten() for _, targets in batches]).tolist())


@pytest.mark.parametrize("shards", [1, 2, 3, 8])
@pytest.mark.parametrize("readers", [1, 2, 3, 4])
def test_shares_are_a_partition(shards, readers):
    parts = [[row["text"] for row in share_of(in_shards(shards), reader, readers)] for reader in range(readers)]
    assert sorted(row for part in parts for row in part) == sorted(ROWS)
    assert all(parts)  # nobody waits for nothing


@pytest.mark.parametrize("shards", [1, 4])
def test_whole_shards_are_taken_where_there_are_enough(shards):
    asked = []
    source = in_shards(shards)
    source.shard = lambda num_shards, index: asked.append((num_shards, index)) or in_shards(1)
    list(share_of(source, 1, 2))
    assert asked == ([(2, 1)] if shards == 4 else [])


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("world_size", [1, 2])
def test_workers_of_a_loader_lose_nothing(tokenizer, shards, world_size):
    """All rows in workers, held against all rows without: as many lines, by their end tokens."""
    got = Counter()
    for rank in range(world_size):
        settings = {"rank": rank, "world_size": world_size, "keep_last": True}
        dataset = PackedTextDataset(in_shards(shards), tokenizer, 8, **settings)
        got += tokens(TextLoader(dataset, num_workers=2))
    wanted = tokens(PackedTextDataset(ROWS, tokenizer, 8, keep_last=True))
    assert got[tokenizer.eos_token_id] == wanted[tokenizer.eos_token_id] == len(ROWS)


def test_a_stopped_pass_goes_on_with_the_right_workers(tokenizer):
    def loader():
        return TextLoader(PackedTextDataset(in_shards(3), tokenizer, 8), num_workers=2)

    whole = [inputs.tolist() for inputs, _ in loader()]
    first, batches = loader(), []
    for inputs, _ in first:
        batches.append(inputs.tolist())
        if len(batches) == 3:  # the other worker's turn is next
            break
    second = loader()
    second.load_state_dict(first.state_dict())
    assert batches + [inputs.tolist() for inputs, _ in second] == whole


def test_rows_are_the_text_in_their_column(tokenizer):
    rows, lines = (PackedTextDataset(source, tokenizer, 8) for source in (in_shards(1), ROWS))
    assert rows.num_tokens() == lines.num_tokens() and tokens(rows) == tokens(lines)


@pytest.mark.parametrize("row", [{"content": "एक", "id": 1}, {"text": None}, {"text": 3}, {}])
def test_rows_without_a_text_name_their_columns(row):
    with pytest.raises(TypeError, match=r'row 2 has no text in a column "text", but: ' + ", ".join(row)):
        list(checked_texts([{"text": "एक"}, row]))


@pytest.mark.parametrize("lines", [(line for line in ROWS), iter(ROWS), map(str, ROWS)], ids=lambda v: type(v).__name__)
def test_what_can_be_read_only_once_is_refused_and_not_used_up(tokenizer, lines):
    with pytest.raises(TypeError, match="can be read only once"):
        PackedTextDataset(lines, tokenizer, 8)
    assert list(lines) == ROWS


def test_a_streamed_text_is_not_fetched_for_its_fingerprint():
    class Far(Streamed):
        def __iter__(self):
            raise AssertionError("fetched")

    assert fingerprint_text(Far([[]])) == ""
