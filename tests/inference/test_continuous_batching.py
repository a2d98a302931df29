"""Continuous batching: whoever else is in the batch, a request gets the tokens it would get alone; a free slot is given
on at once, long prompts don't stall the others, and what cannot be served is refused in a sentence."""

import random
import threading

import pytest
import torch

from ai4india_lib.inference import continuous_batching
from ai4india_lib.inference.continuous_batching import DynamicBatcher, QueueFull
from ai4india_lib.inference.generation import generate
from ai4india_lib.inference.sampling import Sampling, choose, random_numbers

GREEDY = Sampling(temperature=0)


def alone(model, prompt, new_tokens, sampling=GREEDY, stop_ids=()):
    return generate(model, [prompt], max_new_tokens=new_tokens, sampling=sampling, stop_ids=stop_ids)[0]


def random_sampling(draw):
    kind = draw.randrange(5)
    if kind == 0:
        return Sampling(temperature=0, repetition_penalty=draw.choice([1.0, 1.3]))
    return Sampling(
        temperature=draw.choice([0.5, 0.8, 1.0, 1.5]),
        top_k=draw.choice([None, 5, 50]),
        top_p=draw.choice([None, 0.7, 0.95]),
        min_p=draw.choice([None, 0.05]),
        repetition_penalty=draw.choice([1.0, 1.0, 1.2]),
        seed=draw.randrange(1000),
    )


def random_request(draw, longest):
    length = draw.choice([1, 2, draw.randint(1, longest // 2), draw.randint(1, longest - 1)])
    prompt = [draw.randint(1, 383) for _ in range(length)]
    new_tokens = draw.randint(0 if draw.random() < 0.1 else 1, longest - length)
    return {
        "ids": prompt,
        "max_new_tokens": new_tokens,
        "sampling": random_sampling(draw),
        "stop_ids": draw.sample(range(384), draw.choice([0, 5, 20])),
    }


def assert_same_but_for_rounding(model, ask, written, expected):
    """Where they part, either token may be the right one if the logits are known to within 1e-5. It is rare that a
    draw comes so near the border of two tokens, but with thousands of draws it happens on one machine or another."""
    if written == expected:
        return
    parted = [step for step, pair in enumerate(zip(written, expected, strict=False)) if pair[0] != pair[1]]
    assert parted, f"{written} has not the length of {expected}"
    step = parted[0]
    text, sampling = ask["ids"] + expected[:step], ask["sampling"]
    with torch.no_grad():
        logits = model(torch.tensor([text]))[0, -1]
    noise, possible = torch.Generator().manual_seed(0), set()
    for _ in range(100):
        numbers = random_numbers(sampling.seed)
        for _ in range(step):
            torch.rand(1, generator=numbers)
        near = logits + 1e-5 * torch.randn(logits.shape, generator=noise)
        possible.add(choose(near, sampling, text, numbers))
    assert {written[step], expected[step]} <= possible, f"{written} is not {expected}"


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_kv_heads": 2, "qk_norm": False}, {"num_kv_heads": 1, "tie_embeddings": False}],
    ids=["plain", "Llama, grouped", "multi-query"],
)
def test_eighty_random_requests_each_get_what_they_get_alone(make_model, settings):
    """They come at random steps, with random lengths, settings, seeds and stops; a sixth is cancelled on the way."""
    model, draw = make_model(**settings), random.Random(len(settings))
    batcher = DynamicBatcher(model, slots=7, prefill_chunk=9, queue_size=80)
    asked = [random_request(draw, 64) for _ in range(80)]
    arrivals, cancels = sorted(draw.choices(range(160), k=80)), {}
    requests, streamed = [], {}
    while len(requests) < 80 or not batcher.idle:
        while len(requests) < 80 and arrivals[len(requests)] <= batcher.steps:
            requests.append(batcher.submit(**asked[len(requests)]))
            if draw.random() < 1 / 6:
                cancels[requests[-1]] = batcher.steps + draw.randint(0, 40)
        for request, when in cancels.items():
            if when == batcher.steps:
                request.cancel()
        for request, token in batcher.step():
            streamed.setdefault(request, []).append(token)
    ends = [request.ended for request in requests]
    assert min(ends.count("length"), ends.count("cancelled"), ends.count("stop")) > 5
    written = 0
    for request, ask in zip(requests, asked, strict=True):
        expected = alone(model, ask["ids"], ask["max_new_tokens"], ask["sampling"], ask["stop_ids"])
        if request.ended == "cancelled":
            expected = expected[: len(request.tokens)]
        assert_same_but_for_rounding(model, ask, request.tokens, expected)
        assert streamed.get(request, []) == request.tokens
        written += len(request.tokens)
    assert written > 800


def test_bfloat16_and_a_chunk_longer_than_all(make_model):
    model = make_model(emb_dim=64).bfloat16()
    batcher = DynamicBatcher(model, slots=4, prefill_chunk=100)
    prompts = [[5, 6, 7], [8] * 20, [9, 10], [11], [12, 13, 14, 15]]
    requests = [batcher.submit(ids, max_new_tokens=20, sampling=GREEDY) for ids in prompts]
    batcher.run()
    for ids, request in zip(prompts, requests, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([ids + request.tokens]))[0, len(ids) - 1 : -1].float()  # (20, vocab)
        chosen = logits.gather(1, torch.tensor(request.tokens)[:, None])[:, 0]
        assert (logits.amax(1) - chosen).max() < 0.25  # the likeliest, but for rounding to 8 bits


def test_slots_are_given_on_at_once(make_model):
    """Two slots, ten requests of 5 tokens and a long one: no step goes by with a slot free while somebody waits."""
    batcher = DynamicBatcher(make_model(), slots=2)
    long = batcher.submit([1, 2], max_new_tokens=50, sampling=GREEDY)
    short = [batcher.submit([1, 3 + i], max_new_tokens=5, sampling=GREEDY) for i in range(10)]
    counts = []
    while not batcher.idle:
        waited = batcher.waiting
        counts.append(len(batcher.step()))
        assert counts[-1] == 2 or not waited
    assert len(long.tokens) == 50 and all(len(r.tokens) == 5 for r in short)
    assert counts == [2] * 50


class Reads:
    """Counts the tokens of each pass through the model; rows × time."""

    def __init__(self, batcher, monkeypatch):
        self.shapes, hidden = [], batcher._decoder.hidden
        spy = lambda ids, *a, **k: self.shapes.append(tuple(ids.shape)) or hidden(ids, *a, **k)  # noqa: E731
        monkeypatch.setattr(batcher._decoder, "hidden", spy, raising=False)
        monkeypatch.setattr(batcher._decoder, "_single", None, raising=False)  # one row's own way passes `hidden` by


def test_a_long_prompt_does_not_stall_the_others(make_model, monkeypatch):
    batcher = DynamicBatcher(make_model(context_size=256), slots=3, prefill_chunk=10)
    reads = Reads(batcher, monkeypatch)
    first = batcher.submit([1, 2], max_new_tokens=40, sampling=GREEDY)
    batcher.step()
    long = batcher.submit([3] * 95, max_new_tokens=4, sampling=GREEDY)
    for count in range(2, 12):
        batcher.step()
        assert len(first.tokens) == count
    assert len(long.tokens) == 1  # after ten chunks
    assert max(time for _, time in reads.shapes) == 10
    batcher.run()
    assert long.tokens == alone(batcher.model, [3] * 95, 4) and first.tokens == alone(batcher.model, [1, 2], 40)


def test_a_step_reads_no_more_than_a_chunk_and_in_order_of_arrival(make_model, monkeypatch):
    batcher = DynamicBatcher(make_model(), slots=5, prefill_chunk=10)
    reads = Reads(batcher, monkeypatch)
    running = batcher.submit([1, 2], max_new_tokens=9, sampling=GREEDY)
    assert [request for request, _ in batcher.step()] == [running]
    requests = [batcher.submit([1] * n, max_new_tokens=3, sampling=GREEDY) for n in (6, 4, 8, 3)]
    heads = []
    while not batcher.idle:
        reads.shapes.clear()
        heads.append([request for request, _ in batcher.step() if len(request.tokens) == 1])
        assert sum(rows * time for rows, time in reads.shapes if time > 1) <= 10
    assert heads[:3] == [requests[:2], requests[2:3], requests[3:]]


def test_where_no_text_waits_a_step_reads_a_chunk_of_each_prompt(make_model, monkeypatch):
    """Prompts of nearly one length go through the model together, whatever the order in which they came."""
    model = make_model()
    batcher = DynamicBatcher(model, slots=9, prefill_chunk=10)
    reads = Reads(batcher, monkeypatch)
    prompts = [[3 + i] * n for i, n in enumerate((9, 3, 24, 10, 4, 4, 9))]
    requests = [batcher.submit(ids, max_new_tokens=5, sampling=GREEDY) for ids in prompts]
    assert {request for request, _ in batcher.step()} == set(requests) - {requests[2]}
    assert reads.shapes == [(3, 4), (4, 10)]
    batcher.run()
    for ids, request in zip(prompts, requests, strict=True):
        assert request.tokens == alone(model, ids, 5)


def test_padding_does_not_outgrow_a_prompt_that_nearly_fills_its_row(make_model):
    """Its last chunk is shorter than the first chunk of a neighbour that came later."""
    model = make_model()
    batcher = DynamicBatcher(model, slots=2, max_length=26, prefill_chunk=16)
    first = batcher.submit([3] * 25, max_new_tokens=1, sampling=GREEDY)
    assert batcher.step() == []
    second = batcher.submit([4] * 11, max_new_tokens=3, sampling=GREEDY)
    batcher.run()
    assert first.tokens == alone(model, [3] * 25, 1) and second.tokens == alone(model, [4] * 11, 3)


def test_long_prompts_are_not_read_in_one_huge_pass(make_model, monkeypatch):
    monkeypatch.setattr(continuous_batching, "PASS", 30)
    batcher = DynamicBatcher(make_model(), slots=8)
    reads = Reads(batcher, monkeypatch)
    requests = [batcher.submit([1] * 9, max_new_tokens=1, sampling=GREEDY) for _ in range(8)]
    assert len(batcher.step()) == len(requests) and batcher.idle
    assert reads.shapes == [(3, 9), (3, 9), (2, 9)]


def test_gaps_are_closed(make_model, monkeypatch):
    """When no one waits, no row is computed for an ended request."""
    model = make_model()
    batcher = DynamicBatcher(model, slots=5)
    reads = Reads(batcher, monkeypatch)
    lengths = [3, 30, 6, 20, 9]
    requests = [batcher.submit([1, 2 + i], max_new_tokens=n, sampling=GREEDY) for i, n in enumerate(lengths)]
    batcher.run()
    decoded = [rows for rows, time in reads.shapes if time == 1]
    assert sum(decoded) == sum(lengths) - 5 and decoded == sorted(decoded, reverse=True)
    for i, request in enumerate(requests):
        assert request.tokens == alone(model, [1, 2 + i], lengths[i])


def test_refusals(make_model):
    batcher = DynamicBatcher(make_model(), slots=1, max_length=20, queue_size=2)
    with pytest.raises(ValueError, match="15 tokens and 6 new ones never fit in 20: shorten the prompt"):
        batcher.submit([1] * 15, max_new_tokens=6)
    with pytest.raises(ValueError, match="at least one id"):
        batcher.submit([], max_new_tokens=6)
    with pytest.raises(ValueError, match="a prompt has id 384"):
        batcher.submit([384], max_new_tokens=6)
    with pytest.raises(ValueError, match="cannot write -1 tokens"):
        batcher.submit([1], max_new_tokens=-1)
    accepted = [batcher.submit([1] * 15, max_new_tokens=5) for _ in range(3)]
    with pytest.raises(QueueFull, match="all 1 slots and the 2 places of the queue are taken: try again"):
        batcher.submit([1], max_new_tokens=1)
    accepted[2].cancel()  # leaves the queue at once
    accepted.append(batcher.submit([1], max_new_tokens=1))
    batcher.run()
    assert [len(request.tokens) for request in accepted] == [5, 5, 0, 1]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"slots": 0}, "slots=0 must be a whole number of at least 1"),
        ({"prefill_chunk": 0}, "prefill_chunk=0"),
        ({"queue_size": -1}, "queue_size=-1"),
        ({"max_length": 65}, "max_length=65 is more than the model's context_size=64"),
    ],
)
def test_impossible_settings(make_model, settings, told):
    with pytest.raises(ValueError, match=told):
        DynamicBatcher(make_model(), **settings)


def test_cancel(make_model):
    model = make_model()
    batcher = DynamicBatcher(model, slots=2, prefill_chunk=4)
    running, reading, waiting = (batcher.submit([1, 2] * n, max_new_tokens=20, sampling=GREEDY) for n in (1, 10, 1))
    batcher.step()
    for request in (running, reading, waiting):
        request.cancel()
        assert request.done and request.ended == "cancelled"
    assert batcher.step() == [] and batcher.idle
    assert running.tokens == alone(model, [1, 2], 20)[:1] and not reading.tokens and not waiting.tokens
    running.cancel()
    later = batcher.submit([1, 2], max_new_tokens=20, sampling=GREEDY)
    assert list(later) == alone(model, [1, 2], 20)
    later.cancel()
    assert later.ended == "length"


def test_nothing_to_write(make_model):
    batcher = DynamicBatcher(make_model())
    request = batcher.submit([1], max_new_tokens=0)
    assert request.ended == "length" and list(request) == [] and batcher.idle and batcher.step() == []


def test_iterating_over_one_serves_all(make_model):
    model = make_model()
    batcher = DynamicBatcher(model, slots=2)
    one, two, three = (batcher.submit([1, i], max_new_tokens=10, sampling=GREEDY) for i in (5, 6, 7))
    seen = []
    for token in one:
        seen.append(token)
        assert one.tokens == seen  # as it comes, not at the end
    assert len(two.tokens) == 10 and not three.tokens
    assert list(three) == alone(model, [1, 7], 10)


@pytest.mark.parametrize("server_thread", [False, True])
def test_threads(make_model, server_thread):
    """Twelve readers at once, each iterating over its own request; with and without a thread that calls `step`."""
    model = make_model()
    batcher = DynamicBatcher(model, slots=3, prefill_chunk=8)
    results, over = {}, threading.Event()

    def read(number):
        request = batcher.submit([1 + number] * (1 + number), max_new_tokens=15, sampling=Sampling(seed=number))
        tokens = []
        for token in request:
            tokens.append(token)
            if number % 4 == 3 and len(tokens) == 5:
                request.cancel()
        results[number] = tokens

    def serve():
        while not over.is_set():
            batcher.step()

    readers = [threading.Thread(target=read, args=(number,)) for number in range(12)]
    server = threading.Thread(target=serve)
    if server_thread:
        server.start()
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join(timeout=60)
    over.set()
    if server_thread:
        server.join(timeout=60)
    for number in range(12):
        expected = alone(model, [1 + number] * (1 + number), 15, Sampling(seed=number))
        tokens = results[number]
        assert tokens == (expected[: len(tokens)] if number % 4 == 3 else expected)
        assert len(tokens) >= 5


def test_without_gradients_and_with_a_model_that_can_be_trained_afterwards(make_model):
    model = make_model()
    batcher = DynamicBatcher(model)
    list(batcher.submit([1, 2], max_new_tokens=5))
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    model(torch.tensor([[1, 2, 3]])).sum().backward()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu(make_model, dtype):
    model = make_model(emb_dim=64).to("cuda", dtype)
    batcher = DynamicBatcher(model, slots=3, prefill_chunk=8)
    requests = [
        batcher.submit([1 + n] * (1 + 2 * n), max_new_tokens=20, sampling=Sampling(top_p=0.9, seed=n))
        for n in range(10)
    ]
    batcher.run()
    assert all(len(request.tokens) == 20 for request in requests)
    if dtype == torch.float32:
        for n, request in enumerate(requests):
            assert request.tokens == alone(model, [1 + n] * (1 + 2 * n), 20, Sampling(top_p=0.9, seed=n))
