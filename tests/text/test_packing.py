"""Protects text.packing: no token of a text is lost or read twice, and a position brings exactly the rest."""

import inspect
import io
import json
import multiprocessing
import os
import shutil
import signal
import tarfile
import tracemalloc
import warnings
from collections import Counter
from itertools import chain, islice
from types import SimpleNamespace

import pytest
import torch
from servers import serve_site  # noqa: F401 (the fixture `site`)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ai4india_lib import PackedTextDataset, TextLines, TextLoader, count_text, download_and_prepare_data
from ai4india_lib.text import encoded, packing
from ai4india_lib.text.packing import WholeDocumentDataset
from ai4india_lib.text.tokenizer import encode_documents, train_tokenizer

WORDS = [f"w{number}" for number in range(400)]


@pytest.fixture(scope="module")
def words_tokenizer():
    """One id per word, so that a line of one word is a document (begin, word, end) that can be told from all others."""
    vocabulary = {word: number for number, word in enumerate(["<s>", "</s>", "<unk>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def hindi():
    """Documents of very different lengths, one with many blocks, and a tokenizer that learned from them."""
    people, things = ["मीरा", "राजू", "आयशा", "जोसेफ़"], ["चाय", "पतंग", "किताब", "बरसात", "मेला"]
    lines = [f"{people[i % 4]} ने {things[i % 5]} देखी। " * (1 + i * i % 7) for i in range(90)]
    lines[40] = "एक लंबी कहानी जो चलती ही गई और चलती गई। " * 60
    return [line.strip() for line in lines], train_tokenizer(lines, 400)


def stream(tokenizer, lines):
    """The naive reference: every document's ids, end to end."""
    return [i for line in lines for i in encode_documents(tokenizer, [line])[0]]


def as_lists(batches):
    return [(inputs.tolist(), targets.tolist()) for inputs, targets in batches]


def flat_targets(batches):
    return [i for _, targets in batches for i in targets.flatten().tolist()]


def counted_targets(batches):
    """Those that the loss does not leave out."""
    return [i for i in flat_targets(batches) if i != -100]


# Packing


@pytest.mark.parametrize("context_size, batch_size", [(8, 1), (16, 4), (64, 3), (1, 2)])
def test_packing_equals_the_naive_reference(hindi, context_size, batch_size):
    lines, tokenizer = hindi
    ids = stream(tokenizer, lines)
    blocks = [ids[i : i + context_size + 1] for i in range(0, len(ids) - 1, context_size)]  # each shares its last id
    rest = blocks.pop() if len(blocks[-1]) <= context_size else None
    expected = [blocks[i : i + batch_size] for i in range(0, len(blocks), batch_size)]

    batches = list(PackedTextDataset(lines, tokenizer, context_size, batch_size))
    assert [x.tolist() for x, _ in batches] == [[block[:-1] for block in rows] for rows in expected]
    assert [y.tolist() for _, y in batches] == [[block[1:] for block in rows] for rows in expected]

    whole = list(PackedTextDataset(lines, tokenizer, context_size, batch_size, keep_last=True))
    assert as_lists(whole[: len(batches)]) == as_lists(batches)
    assert as_lists(whole[len(batches) :]) == ([([rest[:-1]], [rest[1:]])] if rest else [])
    assert flat_targets(whole) == ids[1:], "each token is a target once, but for the first, which nothing precedes"


def test_documents_begin_and_end(hindi):
    lines, tokenizer = hindi
    (inputs, targets) = next(iter(PackedTextDataset(lines[:3], tokenizer, 200, keep_last=True)))
    ids = inputs[0].tolist() + targets[0, -1:].tolist()
    assert ids.count(tokenizer.bos_token_id) == ids.count(tokenizer.eos_token_id) == 3
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("keep_last", [True, False])
def test_a_text_shorter_than_a_block_is_one_short_batch(words_tokenizer, keep_last):
    dataset = PackedTextDataset(["w1 w2"], words_tokenizer, 50, 4, keep_last=keep_last)
    assert as_lists(dataset) == [([[0, 4, 5]], [[4, 5, 1]])]


def test_no_text_gives_no_batch_and_is_an_error_where_it_is_counted(words_tokenizer):
    """A process or a worker may get no line of a very small text."""
    assert list(PackedTextDataset([], words_tokenizer, 8)) == []
    with pytest.raises(ValueError, match="no lines"):
        count_text([], words_tokenizer)


@pytest.mark.parametrize(
    "more, message",
    [({"context_size": 0}, "context_size=0"), ({"batch_size": 0}, "batch_size=0"), ({"rank": 2}, "rank=2")],
)
def test_senseless_settings_are_named(words_tokenizer, more, message):
    with pytest.raises(ValueError, match=message):
        PackedTextDataset(["w1"], words_tokenizer, **{"context_size": 8, "world_size": 2} | more)


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (["w1", None], TypeError, "line 2 is not a str but NoneType"),
        (["w1", b"w2"], TypeError, "line 2 is not a str but bytes"),
        (["w1", "w2 \ud83d"], ValueError, r"line 2 holds half a character \(U\+D83D\)"),
        ("w1", TypeError, "lines is one string"),
    ],
)
def test_what_is_no_text_is_named(words_tokenizer, lines, error, message):
    for kind in (PackedTextDataset, WholeDocumentDataset):
        with pytest.raises(error, match=message):
            list(kind(lines, words_tokenizer, 8))
    with pytest.raises(error, match=message):
        count_text(lines, words_tokenizer)


def gpt2_like():
    """Byte-level BPE whose only special token both begins and ends a text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    core.train_from_iterator(["a bus to school", "rain on the roof"] * 5, trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=end, eos_token=end, unk_token=end)


def test_one_token_that_begins_and_ends_stands_once_between_documents():
    tokenizer = gpt2_like()
    lines = ["a bus", "rain on the roof", "to school"]
    targets = flat_targets(PackedTextDataset(lines, tokenizer, 5, 2, keep_last=True))
    assert targets == stream(tokenizer, lines)[1:]
    assert targets.count(tokenizer.eos_token_id) == 3
    assert tokenizer.decode(stream(tokenizer, lines)).split("<|endoftext|>") == [*lines, ""]


# Whole documents


def test_whole_documents_are_not_cut(words_tokenizer):
    lines = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11 w12 w13", "w14", "w15", "w16"]
    batches = as_lists(WholeDocumentDataset(lines, words_tokenizer, 8, 3))
    w, skip = words_tokenizer.convert_tokens_to_ids(WORDS), -100
    assert batches[0][1] == [  # "w4" fits behind "w1 w2 w3"; the long one gets a row and is cut only at its end
        [0, w[1], w[2], w[3], 1, 0, w[4], 1],
        [0, w[5], w[6], w[7], w[8], w[9], w[10], w[11]],
        [w[12], w[13], 1, 0, w[14], 1, skip, skip],
    ]
    assert batches[0][0][0] == [1, 0, w[1], w[2], w[3], 1, 0, w[4]], "an end stands before the first document"
    assert batches[0][0][2][:6] == [w[11], w[12], w[13], 1, 0, w[14]], "a cut document goes on where it was cut"
    assert batches[1] == ([[1, 0, w[15], 1, 0, w[16]]], [[0, w[15], 1, 0, w[16], 1]])


@pytest.mark.parametrize("context_size, batch_size", [(8, 1), (16, 4), (64, 3), (500, 2)])
def test_whole_documents_make_each_token_a_target_once(hindi, context_size, batch_size):
    lines, tokenizer = hindi
    batches = list(WholeDocumentDataset(lines, tokenizer, context_size, batch_size))
    assert counted_targets(batches) == stream(tokenizer, lines)
    assert max(targets.shape[1] for _, targets in batches) <= context_size
    for inputs, targets in batches:
        follows = (targets[:, :-1] == inputs[:, 1:]) | (targets[:, 1:] == -100) | (targets[:, :-1] == -100)
        assert inputs.shape == targets.shape and len(inputs) <= batch_size and follows.all()
        assert (inputs[targets == -100] == tokenizer.pad_token_id).all()
    halves = [WholeDocumentDataset(lines, tokenizer, context_size, rank=rank, world_size=2) for rank in (0, 1)]
    assert sum(len(counted_targets(half)) for half in halves) == len(stream(tokenizer, lines))
    assert list(WholeDocumentDataset([], tokenizer, 8)) == []


# Sharing out


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3")
@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_processes_and_workers_share_lines_without_loss_or_repetition(words_tokenizer, num_workers):
    lines = WORDS[:53]
    for world_size in (1, 2, 3) if num_workers in (0, 2) else (1, 2):
        for shuffle_buffer in (0, 10) if world_size == 2 else (10,):
            seen = Counter()
            for rank in range(world_size):
                more = {"shuffle_buffer": shuffle_buffer, "rank": rank, "world_size": world_size, "keep_last": True}
                loader = TextLoader(PackedTextDataset(lines, words_tokenizer, 4, 2, **more), num_workers=num_workers)
                seen.update(flat_targets(loader))
            words = {i: n for i, n in seen.items() if i > 2}
            assert words == dict.fromkeys(words_tokenizer.convert_tokens_to_ids(lines), 1)
            assert seen[1] == len(lines)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size, world_size", [(4, 2), (2, 3), (1, 5)])
def test_shared_rows_are_those_of_one_process(hindi, num_workers, batch_size, world_size):
    lines, tokenizer = hindi
    settings = {"shuffle_buffer": 20, "keep_last": True}
    for kind in (PackedTextDataset, WholeDocumentDataset):
        whole = TextLoader(kind(lines, tokenizer, 16, batch_size * world_size, **settings), num_workers=num_workers)
        settings |= {"world_size": world_size, "share_rows": True}
        parts = [kind(lines, tokenizer, 16, batch_size, rank=rank, **settings) for rank in range(world_size)]
        loaders = [TextLoader(part, num_workers=num_workers) for part in parts]
        settings = {"shuffle_buffer": 20}
        for (_, targets), *own in zip(whole, *loaders, strict=True):  # as many batches for each
            rows = [row[row != -100].tolist() for batch in own for row in batch[1]]
            assert sorted(row for row in rows if row) == sorted(row[row != -100].tolist() for row in targets)
        states = [loader.state_dict() for loader in loaders]
        assert all(state == states[0] for state in states), "another number of processes can go on from it"


def test_launched_processes_get_different_lines(tmp_path, words_tokenizer, monkeypatch):
    """The promised call names no rank: under `accelerate launch` it is in the environment."""
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("\n".join(WORDS[:40]) + "\n", encoding="utf-8")
    monkeypatch.setenv("WORLD_SIZE", "2")
    seen = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        loaders = download_and_prepare_data(tmp_path, 2, words_tokenizer, 5)
        seen.append([{i for i in flat_targets(loader) if i > 2} for loader in loaders])
    for first, second in zip(*seen, strict=True):
        assert first and second and not first & second


def test_workers_make_no_noise_and_leave_the_environment_alone(hindi, capfd, monkeypatch):
    """`tokenizers` warns in a forked process, if it ran on several threads before and nobody decided for it."""
    lines, tokenizer = hindi
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    encode_documents(tokenizer, lines)
    assert len(list(TextLoader(PackedTextDataset(lines, tokenizer, 16, 4), num_workers=2))) > 10
    assert capfd.readouterr() == ("", "")
    assert "TOKENIZERS_PARALLELISM" not in os.environ
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    next(iter(TextLoader(PackedTextDataset(lines, tokenizer, 16, 4), num_workers=1)))
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_workers_can_be_spawned(hindi, tmp_path):
    """As on Windows and macOS: the dataset, with its text and its position, travels by pickle."""
    lines, tokenizer = hindi
    text = TextLines(make_archive(tmp_path / "a.tar.gz", lines), "stories/train.txt")

    def loader(**more):
        dataset = PackedTextDataset(text, tokenizer, 16, 4, shuffle_buffer=20)
        return TextLoader(dataset, num_workers=1, **more)

    expected = as_lists(loader())
    spawned = loader(multiprocessing_context="spawn")
    spawned.load_state_dict(json.loads(json.dumps(position_after(loader(), 3))))
    got = []
    for batch in spawned:
        got += as_lists([batch])
        if len(got) == 1 and os.name == "posix":
            for worker in multiprocessing.active_children():  # Ctrl-C in a terminal reaches them too
                os.kill(worker.pid, signal.SIGINT)
    assert got == expected[3:] and len(got) > 4, "more than a worker makes in advance"


# Shuffling


def order(tokenizer, **more):
    """The order in which the words come, one pass after the other, as ids."""
    dataset = PackedTextDataset(WORDS[:100], tokenizer, 10, 1, keep_last=True, **more)
    loader = TextLoader(dataset)
    return [[i for i in flat_targets(loader) if i > 2] for _ in range(2)]


@pytest.mark.parametrize("shuffle_buffer", [2, 10, 99, 100, 5000])
def test_shuffle_is_a_new_permutation_in_each_pass(words_tokenizer, shuffle_buffer):
    first, second = order(words_tokenizer, shuffle_buffer=shuffle_buffer)
    assert sorted(first) == sorted(second) == words_tokenizer.convert_tokens_to_ids(WORDS[:100])
    assert first != second and first != sorted(first)
    assert [first, second] == order(words_tokenizer, shuffle_buffer=shuffle_buffer), "same seed, same order"
    assert first != order(words_tokenizer, shuffle_buffer=shuffle_buffer, seed=1)[0]


def test_a_large_buffer_moves_lines_far_and_none_moves_nothing(words_tokenizer):
    in_order, _ = order(words_tokenizer)
    assert in_order == sorted(in_order)
    mixed, _ = order(words_tokenizer, shuffle_buffer=100)
    moved = [abs(here - there) for here, there in zip(mixed, in_order, strict=True)]
    assert sum(moved) / len(moved) > 20  # 33 are expected of a uniform permutation of 100


# Positions


def position_after(loader, count):
    """The state after `count` batches, over as many passes as that takes."""
    while count:
        for _ in loader:
            count -= 1
            if not count:
                break
    return loader.state_dict()


def passes(loader, count):
    return [batch for _ in range(count) for batch in as_lists(loader)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3")
@pytest.mark.parametrize("num_workers", [0, 2, 3])
def test_resume_after_any_batch_gives_exactly_the_rest(hindi, num_workers):
    """Across the ends of passes too, shuffled; the 3 workers get unequal shares, so that one ends before the others."""
    lines, tokenizer = hindi

    def new_loader():
        dataset = PackedTextDataset(lines, tokenizer, 32, 10, shuffle_buffer=30, seed=3)
        return TextLoader(dataset, num_workers=num_workers)

    loader = new_loader()
    by_pass = [as_lists(loader) for _ in range(3)]
    first, second, _ = map(len, by_pass)
    expected = list(chain(*by_pass))
    assert first > 6
    running, given = new_loader(), 0
    for epoch in range(2):
        for _ in running:
            given += 1
            if given % (num_workers + 1):  # not after each, but so that each worker is once the next one
                continue
            state = json.loads(json.dumps(running.state_dict()))
            resumed = new_loader()
            resumed.load_state_dict(state)
            rest = passes(resumed, 2 - epoch)
            assert rest == expected[given : given + len(rest)], f"after {given} batches"
            assert given + len(rest) == first + second
    assert as_lists(running) == expected[given:], "saving does not disturb the pass"


def test_a_resumed_loader_can_be_saved_again_at_once_and_later(hindi):
    lines, tokenizer = hindi

    def new_loader():
        dataset = PackedTextDataset(lines, tokenizer, 32, 4, shuffle_buffer=30)
        return TextLoader(dataset, num_workers=2)

    expected = passes(new_loader(), 2)
    state = position_after(new_loader(), 4)
    for step in (0, 3, 2, 1, len(expected) // 2):  # killed and resumed again and again
        loader = new_loader()
        loader.load_state_dict(state)
        assert loader.state_dict() == state
        state = position_after(loader, step)
    loader = new_loader()
    loader.load_state_dict(state)
    rest = passes(loader, 1)
    assert rest == expected[4 + 6 + len(expected) // 2 :] and rest


def test_a_pass_that_was_left_early_starts_again(hindi):
    lines, tokenizer = hindi
    loader = TextLoader(PackedTextDataset(lines, tokenizer, 32, 4, shuffle_buffer=30))
    all_of_it = as_lists(loader)
    loader.rewind()
    assert as_lists(islice(loader, 3)) == all_of_it[:3]
    assert as_lists(loader) == all_of_it


def test_dataset_position(hindi):
    lines, tokenizer = hindi

    def new_dataset():
        return PackedTextDataset(lines, tokenizer, 32, 4, shuffle_buffer=30, keep_last=True)

    expected = as_lists(new_dataset())
    dataset = new_dataset()
    for given, _ in enumerate(dataset, 1):
        resumed = new_dataset()
        resumed.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
        assert as_lists(resumed) == expected[given:]


def test_whole_documents_go_on_too(hindi):
    lines, tokenizer = hindi

    def new_loader():
        return TextLoader(WholeDocumentDataset(lines, tokenizer, 64, 3), num_workers=2)

    expected = as_lists(new_loader())
    resumed = new_loader()
    resumed.load_state_dict(json.loads(json.dumps(position_after(new_loader(), 5))))
    assert as_lists(resumed) == expected[5:] and len(expected) > 7


def test_another_number_of_workers_cannot_resume(hindi):
    lines, tokenizer = hindi
    dataset = PackedTextDataset(lines, tokenizer, 32, 4)
    state = position_after(TextLoader(dataset), 2)
    with pytest.raises(ValueError, match="num_workers=0, this loader has 2"):
        TextLoader(dataset, num_workers=2).load_state_dict(state)


def test_a_text_that_became_shorter_cannot_resume(hindi):
    lines, tokenizer = hindi
    state = position_after(TextLoader(PackedTextDataset(lines, tokenizer, 32, 4)), 8)
    loader = TextLoader(PackedTextDataset(lines[:5], tokenizer, 32, 4))
    loader.load_state_dict(state)
    with pytest.raises(ValueError, match="ends after 5 lines"):
        next(iter(loader))


def test_workers_that_never_learn_of_a_new_pass_are_refused(words_tokenizer):
    with pytest.raises(ValueError, match="persistent_workers"):
        TextLoader(PackedTextDataset(["w1"], words_tokenizer, 4), num_workers=1, persistent_workers=True)


# Memory and counting


class Generated:
    """A text that is nowhere: each line is made when it is asked for."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return (" ".join(WORDS[(number + i) % 400] for i in range(120)) for number in range(self.count))


def test_memory_stays_flat_however_large_the_text(words_tokenizer):
    dataset = PackedTextDataset(Generated(5_000), words_tokenizer, 128, 8, shuffle_buffer=250)
    batches = iter(TextLoader(dataset))
    next(batches)
    tracemalloc.start()
    try:
        tokens = sum(targets.numel() for _, targets in batches)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tokens > 5_000 * 122 - 10_000
    assert peak < 2_500_000, f"{peak:,} bytes; those of 1,500 lines are 1.9 MB, and each line more would be 600 bytes"


def test_count_text(hindi, tmp_path):
    lines, tokenizer = hindi
    path = tmp_path / "train.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    text = TextLines(path)
    counted = count_text(text, tokenizer)
    assert counted.complete and counted.documents == len(lines)
    assert counted.bytes == path.stat().st_size == text.num_bytes
    assert counted.tokens == len(stream(tokenizer, lines))
    assert counted.bytes_per_token == counted.bytes / counted.tokens


def test_a_large_text_is_estimated_from_its_beginning(words_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setitem(count_text.__kwdefaults__, "max_bytes", 300_000)  # instead of 4 MB
    path = tmp_path / "train.txt"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in Generated(900))
    beginning = count_text(TextLines(path), words_tokenizer, max_bytes=100_000)
    assert not beginning.complete and 100_000 <= beginning.bytes < 300_000
    assert PackedTextDataset(TextLines(path), words_tokenizer, 8).num_tokens() == pytest.approx(900 * 122, rel=0.01)


# The promised door


def make_archive(path, lines):
    with tarfile.open(path, "w:gz") as tar:
        for name, part in {"stories/train.txt": lines, "stories/test.txt": lines[:7]}.items():
            content = ("\n".join(part) + "\n").encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_download_and_prepare_data_by_path_folder_and_url(hindi, tmp_path, site):
    lines, tokenizer = hindi
    assert list(inspect.signature(download_and_prepare_data).parameters)[:4] == [
        "url", "batch_size", "tokenizer", "max_length",
    ]  # fmt: skip
    archive = make_archive(tmp_path / "corpus.tar.gz", lines)
    folder = tmp_path / "unpacked"
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = folder / member.name
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.write_bytes(tar.extractfile(member).read())
    site.body = archive.read_bytes()

    train, test = download_and_prepare_data(str(archive), 4, tokenizer, 32)
    train_batches, test_batches = list(train), list(test)
    inputs, targets = train_batches[0]
    assert inputs.shape == targets.shape == (4, 32) and inputs.dtype == torch.long
    assert counted_targets(test_batches) == stream(tokenizer, lines[:7]), "the test text comes whole and in order"
    assert as_lists(train) != as_lists(train_batches), "the training text comes in another order each time"
    for source in (archive, folder, site.url + "corpus.tar.gz"):
        loaders = download_and_prepare_data(source, 4, tokenizer, 32, folder=tmp_path / "downloads")
        assert [as_lists(loader) for loader in loaders] == [as_lists(train_batches), as_lists(test_batches)]


# Ids that are kept beside a text


@pytest.fixture
def story(hindi, tmp_path):
    """A text in a file, and its tokenizer."""
    lines, tokenizer = hindi
    path = tmp_path / "train.txt"
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return TextLines(path), tokenizer


def kept(text):
    """The folders of ids beside a text."""
    return sorted(path for path in (text.path.parent / ".encoded").glob("[!.]*") if path.is_dir())


def settings_of(kind):
    return {"shuffle_buffer": 20, "seed": 3} if kind is PackedTextDataset else {}


@pytest.mark.parametrize("kind", [PackedTextDataset, WholeDocumentDataset])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_kept_ids_give_the_same_batches_without_encoding(story, monkeypatch, kind, num_workers):
    text, tokenizer = story
    in_memory = TextLoader(kind(list(text), tokenizer, 32, 4, **settings_of(kind)), num_workers=num_workers)
    wanted = passes(in_memory, 3)
    loader = TextLoader(kind(text, tokenizer, 32, 4, **settings_of(kind)), num_workers=num_workers)
    first = as_lists(loader)
    assert len(kept(text)) == max(num_workers, 1) and first == wanted[: len(first)]
    monkeypatch.setattr(packing, "encode_documents", None)
    assert first + passes(loader, 2) == wanted
    again = TextLoader(kind(text, tokenizer, 32, 4, **settings_of(kind)), num_workers=num_workers)
    assert passes(again, 3) == wanted, "in the next run too"


def test_a_position_fits_with_and_without_kept_ids(story):
    text, tokenizer = story

    def new_loader(lines):
        return TextLoader(PackedTextDataset(lines, tokenizer, 32, 4, shuffle_buffer=30))

    wanted = passes(new_loader(list(text)), 2)
    for given in (1, 7, 20, len(wanted) // 2 + 3):
        shutil.rmtree(text.path.parent / ".encoded", ignore_errors=True)
        without = position_after(new_loader(text), given)
        loader = new_loader(text)
        loader.load_state_dict(json.loads(json.dumps(without)))
        rest = as_lists(loader)
        assert rest == wanted[given : given + len(rest)]
        assert bool(kept(text)) == (given > len(wanted) // 2), "the rest of a pass is not the text"
        list(new_loader(text))
        assert position_after(new_loader(text), given) == without
        loader = new_loader(text)
        loader.load_state_dict(without)
        assert as_lists(loader) == rest


def test_the_plan_is_the_same_with_and_without_kept_ids(story, monkeypatch):
    """Else a run could not be resumed once the ids are there."""
    text, tokenizer = story
    for most in (1_000, 4_000_000):
        monkeypatch.setitem(count_text.__kwdefaults__, "max_bytes", most)
        shutil.rmtree(text.path.parent / ".encoded", ignore_errors=True)
        dataset = PackedTextDataset(text, tokenizer, 32, 4)
        before = dataset.num_tokens(), dataset.bytes_per_token()
        list(dataset)
        with monkeypatch.context() as patch:
            patch.setattr(packing, "count_text", SimpleNamespace(__kwdefaults__=count_text.__kwdefaults__))
            assert (dataset.num_tokens(), dataset.bytes_per_token()) == before


def test_another_text_or_tokenizer_has_other_ids(story):
    text, tokenizer = story
    other = train_tokenizer(list(text), 330)
    first = as_lists(PackedTextDataset(text, tokenizer, 32))
    assert as_lists(PackedTextDataset(text, other, 32)) != first and len(kept(text)) == 2
    text.path.write_text(text.path.read_text(encoding="utf-8").replace("मीरा", "सीता"), encoding="utf-8")
    changed = as_lists(PackedTextDataset(text, tokenizer, 32))
    assert changed == as_lists(PackedTextDataset(list(text), tokenizer, 32)) != first and len(kept(text)) == 3


def test_a_pass_that_is_left_keeps_nothing(story):
    text, tokenizer = story
    for _ in PackedTextDataset(text, tokenizer, 32):
        break
    assert [path.name for path in (text.path.parent / ".encoded").iterdir()] == [".gitignore"]


@pytest.mark.parametrize("damage", ["ids", "starts", "lengths", "sizes", "about.json", "no json"])
def test_damaged_ids_are_not_used(story, damage):
    text, tokenizer = story
    wanted = as_lists(PackedTextDataset(text, tokenizer, 32))
    [folder] = kept(text)
    if damage == "no json":
        (folder / "about.json").write_bytes(b"{")
    elif damage == "about.json":
        (folder / damage).unlink()
    else:
        (folder / damage).write_bytes((folder / damage).read_bytes()[:-4])
    assert as_lists(PackedTextDataset(text, tokenizer, 32)) == wanted


@pytest.mark.parametrize("problem", ["read-only", "no folder", "full disk", "a file in its place"])
def test_where_nothing_can_be_kept_no_word_is_said(story, monkeypatch, problem, capfd):
    text, tokenizer = story
    if problem == "read-only":
        monkeypatch.setattr(encoded.os, "access", lambda path, mode: False)
    elif problem == "no folder":
        (text.path.parent / ".encoded").write_bytes(b"")
    elif problem == "full disk":
        monkeypatch.setattr(encoded.np, "fromiter", raises(OSError(28, "No space left on device")))
    else:
        monkeypatch.setattr(encoded, "write_json", raises(PermissionError(13, "Permission denied")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_lists(PackedTextDataset(text, tokenizer, 32)) == as_lists(
            PackedTextDataset(list(text), tokenizer, 32)
        )
    assert not list((text.path.parent / ".encoded").glob(".part-*")) and capfd.readouterr() == ("", "")


def raises(error):
    def fail(*given, **more):
        raise error

    return fail


def test_the_oldest_ids_make_room(story, monkeypatch):
    text, tokenizer = story
    monkeypatch.setattr(encoded, "MOST_KEPT", 2)
    stale = text.path.parent / ".encoded" / ".part-killed"
    for number in range(4):
        text.path.write_text(f"मीरा {number}\n", encoding="utf-8")
        list(PackedTextDataset(text, tokenizer, 32))
        stale.mkdir(exist_ok=True)
        os.utime(stale, (0, 0))
        if len(kept(text)) > 1:
            os.utime(kept(text)[0] / "about.json", (number, number))
    assert len(kept(text)) == 2
    list(PackedTextDataset(text, train_tokenizer(list(text), 300), 32))
    assert not stale.exists()


def test_large_vocabularies_have_four_bytes(tmp_path):
    vocabulary = {word: number for number, word in enumerate(["<s>", "</s>", "<unk>", *map(str, range(70_000))])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    (tmp_path / "a.txt").write_text("69999 1 65536 65533\n" * 3, encoding="utf-8")
    text = TextLines(tmp_path / "a.txt")
    dataset = PackedTextDataset(text, tokenizer, 4, keep_last=True)
    assert flat_targets(dataset) == flat_targets(dataset) == stream(tokenizer, list(text))[1:]
    assert (kept(text)[0] / "ids").stat().st_size == 4 * 18


# Heavy lines


def test_heavy_lines_wait_in_smaller_numbers(words_tokenizer, monkeypatch):
    """All the same each comes once, in an order that a position can go on in."""
    monkeypatch.setattr(packing, "MOST_WAITING", 300)
    lines = [f"{word} " * (1 + number % 9) for number, word in enumerate(WORDS[:90])]

    def new_loader():
        return TextLoader(PackedTextDataset(lines, words_tokenizer, 8, 2, shuffle_buffer=60))

    wanted = as_lists(new_loader())
    monkeypatch.setattr(packing, "MOST_WAITING", 1 << 30)
    assert as_lists(new_loader()) != wanted
    monkeypatch.setattr(packing, "MOST_WAITING", 300)
    seen = Counter(
        flat_targets(TextLoader(PackedTextDataset(lines, words_tokenizer, 8, shuffle_buffer=60, keep_last=True)))
    )
    assert seen[1] == 90 and sum(seen.values()) == len(stream(words_tokenizer, lines)) - 1
    loader = new_loader()
    loader.load_state_dict(position_after(new_loader(), 9))
    assert as_lists(loader) == wanted[9:]


def test_few_heavy_lines_are_encoded_at_once(words_tokenizer, monkeypatch):
    """The tokenizer needs a hundred times a line's size while it works."""
    monkeypatch.setattr(packing, "BYTES_AT_ONCE", 100)
    groups = []
    monkeypatch.setattr(
        packing, "encode_documents", lambda t, group: groups.append(group) or encode_documents(t, group)
    )
    lines = ["w1 " * 20] * 5 + ["w2 " * 100] + ["w3"] * 300
    found = flat_targets(PackedTextDataset(lines, words_tokenizer, 8, keep_last=True))
    assert found == stream(words_tokenizer, lines)[1:]
    assert [len(group) for group in groups] == [1] * 6 + [33] * 9 + [3], "of 61, 301 and 3 bytes"
