"""The benchmark compares like with like: all ways write the same texts, and time is counted as it is said to be."""

import math
import time
from itertools import islice

import pytest
import torch

from ai4india_lib import __main__, load_model, train_and_test_lines
from ai4india_lib.benchmarks import contestants, generation, profiling, separate
from ai4india_lib.inference.packed import FastDecoder
from ai4india_lib.inference.sampling import Sampling
from ai4india_lib.text.tokenizer import encode_documents


@pytest.fixture(scope="module")
def pair():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(contestants.SHAPES, "tiny", (32, 1, 2))
        yield contestants.make_pair("tiny", context=400)


def test_the_mixed_requests_are_as_the_issue_says():
    requests = contestants.mixed_requests()
    prompts, counts = [len(ids) for ids, _ in requests], [new for _, new in requests]
    assert len(requests) == 64 and requests == contestants.mixed_requests()
    assert 8 <= min(prompts) < 20 and 110 < max(prompts) <= 128
    assert 16 <= min(counts) < 30 and 185 < max(counts) <= 200


def test_all_ways_write_the_same_texts(pair):
    model, theirs = pair
    requests = [(ids, new // 8) for ids, new in contestants.mixed_requests(7)]
    served = [
        contestants.serve_continuously(model, requests, 3),
        contestants.serve_in_groups(model, requests, 3),
        contestants.serve_in_groups_of_transformers(theirs, requests, 3),
    ]
    for one in served:
        assert one.texts == served[0].texts
        assert [len(text) for text in one.texts] == [new for _, new in requests]
        assert len(one.latencies) == 7 and 0 < min(one.latencies) <= one.percentile(0.95) <= max(one.latencies)


def test_turns_take_the_median_and_leave_the_first_round_out(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: clock[0])
    naps = iter([50.0, 5.0, 1.0, 5.0, 9.0, 5.0, 2.0, 5.0])

    def nap(name):
        order.append(name)
        clock[0] += next(naps)
        return len(order)

    seconds, last = profiling.in_turns({"a": lambda: nap("a"), "b": lambda: nap("b")}, 3)
    assert order == ["a", "b"] * 4 and last == {"a": 7, "b": 8}
    assert seconds == {"a": 2.0, "b": 5.0}  # the medians of 1, 9, 2 and of 5, 5, 5


def test_processes_write_in_turns_and_are_ended(monkeypatch):
    order, ended = [], []

    class Stand:
        def __init__(self, name, speeds):
            self.name, self.speeds = name, iter(speeds)

        def write(self):
            order.append(self.name)
            return next(self.speeds), f"{self.name} {len(order)}"

        def close(self):
            ended.append(self.name)

    monkeypatch.setattr(separate, "Contestant", Stand)
    asked = {"a": {"name": "a", "speeds": [99, 5, 7, 6]}, "b": {"name": "b", "speeds": [1, 2, 3, 4]}}
    speeds, texts = separate.measure(asked, 3)
    assert order == ["a", "b"] * 4 and ended == ["a", "b"]
    assert speeds == {"a": [5, 7, 6], "b": [2, 3, 4]} and texts == {"a": "a 7", "b": "b 8"}
    assert separate.spread(speeds["a"]) == "6 (5 to 7)"
    with pytest.raises(StopIteration):
        separate.measure(asked | {"c": {"name": "c", "speeds": []}}, 1)
    assert ended == ["a", "b", "a", "b", "c"]


def test_a_contestant_that_fails_is_told():
    contestant = separate.Contestant(model="no-such-model", threads=1, int8=False, compiled=False)
    with pytest.raises(RuntimeError, match=r"ended with status 1: .*no-such-model"):
        contestant.write()
    contestant.close()


@pytest.mark.slow
@pytest.mark.skipif(not separate.has_llama_cpp(), reason="needs llama.cpp: the extra benchmark")
def test_llama_cpp_and_we_write_the_same():
    exact, rounded, earned = generation.against_llama_cpp("kahani-hi-draft", 1)
    assert exact.same and (exact.name, exact.peer) == ("kahani-hi-draft", "llama.cpp f32")
    assert rounded.same is None and rounded.peer == "llama.cpp q8_0" and earned.peer == "ours" and earned.target == 1.4
    assert exact.ours == earned.theirs > 0 and exact.note.count(" to ") == 4


def test_llama_cpp_is_asked_for_where_it_is_missing(monkeypatch, capsys):
    monkeypatch.setattr("ai4india_lib.basics.extras.find_spec", lambda name: None)
    assert __main__.main(["benchmark", "generation", "--rows", "llama-cpp"]) == 1
    assert (
        'this row needs xllamacpp, gguf, not installed here: pip install -e ".[benchmark]"' in capsys.readouterr().err
    )


@pytest.fixture
def tiny(monkeypatch):
    """Small shapes and short texts: what is compared stays the same."""
    monkeypatch.setitem(contestants.SHAPES, "tiny", (32, 1, 2))
    monkeypatch.setitem(contestants.SHAPES, "S", (32, 1, 2))
    for name, value in (("NEW", 6), ("LONG", 44), ("DOCUMENTS", 10), ("STORED", 20)):
        monkeypatch.setattr(generation, name, value)


@pytest.mark.parametrize("batch", [1, 3])
def test_both_sides_write_the_same_tokens(tiny, batch):
    (result,) = generation.against_transformers("tiny", batch, 2.5, 1)
    assert result.same and result.target == 2.5
    assert result.ratio == result.ours / result.theirs > 0


def test_writing_without_a_cache_gives_the_same_tokens(tiny):
    (result,) = generation.against_no_cache(1)
    assert result.same and result.peer == "no cache" and result.name == "S, up to 44 tokens"


def test_int8_is_told_with_its_loss(tiny):
    (result,) = generation.against_transformers("tiny", 1, None, 1, int8=True)
    exact, rounded = (float(part.split()[0]) for part in result.note.split("kahani-hi: ")[1].split("with int8 "))
    assert 0.05 < exact < 0.12 and abs(exact - rounded) < 0.002
    assert result.same is None


def test_bytes_read_are_those_of_all_matrices(pair):
    model, _ = pair
    matrices = sum(p.numel() for p in model.blocks.parameters() if p.dim() == 2) + model.embedding.weight.numel()
    assert profiling.weight_bytes(FastDecoder(model)) == 4 * matrices
    assert profiling.weight_bytes(FastDecoder(model, int8=True)) == matrices


def test_bits_per_byte_as_decoded_are_those_of_the_model():
    model, tokenizer = load_model("kahani-hi", "cpu")
    lines = list(islice(train_and_test_lines("data/kahani-hi.tar.gz")[1], 4))
    bits = 0.0
    for ids in encode_documents(tokenizer, lines):
        with torch.no_grad():
            logits = model(torch.tensor([ids[:-1]]))[0]
        bits += float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum")) / math.log(2)
    decoded = generation.decoded_bits_per_byte(FastDecoder(model), tokenizer, lines)
    assert decoded == pytest.approx(bits / sum(len(line.encode()) for line in lines), rel=1e-4)


def test_the_profile_tells_products_from_the_rest():
    a = torch.randn(600, 600)

    def share(run):
        return [int(part.split("%")[0].split()[-1]) for part in profiling.where_time_goes(run).split(",")]

    products, _, _ = share(lambda: [a @ a for _ in range(40)])
    assert products > 60
    _, others, _ = share(lambda: [a.sin() for _ in range(200)])
    assert others > 60
    _, _, between = share(lambda: time.sleep(0.2))
    assert between > 90


@pytest.mark.parametrize("kind", ["model", "ngram", "stored ngram"])
def test_speculation_writes_what_the_model_writes_alone(tiny, kind):
    (result,) = generation.speculation(kind, contestants.GREEDY, 1.6, 1, texts=2, new=12)
    assert result.same and "proposals accepted" in result.note


def test_drawn_texts_are_not_held_against_each_other(tiny):
    (result,) = generation.speculation("ngram", Sampling(temperature=0.8, seed=1), None, 1, texts=1, new=5)
    assert result.same is None


def test_the_command_prints_the_rows_that_were_asked_for(tiny, capsys):
    assert __main__.main(["benchmark", "generation", "--rows", "s1,no-cache", "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith("| S")]
    assert [row.split(" | ")[0] for row in rows] == ["| S, 1 at once", "| S, up to 44 tokens"]
    assert all(row.endswith("| yes |") for row in rows)
    assert lines[-1].startswith("S, 1 at once: reads ")


def test_all_rows_that_a_machine_has_the_means_for(monkeypatch):
    means = {"compiled": False, "gpu": False, "llama": False}
    monkeypatch.setattr(generation, "can_compile", lambda: means["compiled"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: means["gpu"])
    monkeypatch.setattr(separate, "has_llama_cpp", lambda: means["llama"])

    def possible():
        return {name for name in generation.ROWS if generation.can_be_measured(name)}

    plain = possible()
    assert {"s1", "int8", "batching-m-64"} < plain and not any("-gpu" in name or "llama" in name for name in plain)
    means["gpu"] = True
    assert possible() - plain == {"m1-gpu", "m64-gpu"}
    means |= {"gpu": False, "llama": True}
    assert possible() - plain == {"llama-cpp", "llama-cpp-large"}
    means |= {"gpu": True, "compiled": True}
    assert possible() == set(generation.ROWS)


@pytest.mark.parametrize(
    ("options", "told"), [(["--rows", "s1,x9"], "no row is called x9"), (["--repeats", "0"], "must be at least 1")]
)
def test_a_wrong_wish_is_told_before_anything_is_measured(options, told, capsys):
    assert __main__.main(["benchmark", "generation", *options]) != 0
    assert told in capsys.readouterr().err
