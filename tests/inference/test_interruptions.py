"""Protects what comes after the stop button, or an error, in the midst of a step: the batcher goes on and each text is
the one that nobody disturbed; a text that cannot go on says so, and never seems to have ended."""

import contextlib
import random
import sys
from itertools import islice

import pytest

from ai4india_lib.inference import continuous_batching, generation, interruption, sampling
from ai4india_lib.inference.continuous_batching import DynamicBatcher, QueueFull
from ai4india_lib.inference.generation import generate, generate_steps, stream_reply, stream_text
from ai4india_lib.inference.sampling import Sampling, continued, random_numbers
from ai4india_lib.inference.speculative import NgramDraft, speculative_steps

GREEDY = Sampling(temperature=0)
SAMPLINGS = [Sampling(seed=3), GREEDY, Sampling(seed=4, top_p=0.9, repetition_penalty=1.2), Sampling(seed=5)]


class StopError(Exception):
    pass


def asked_of(number):
    """A request: prompts of 1 to 20 tokens, texts of 1 to 9."""
    ids = [1 + (7 * number + i) % 300 for i in range(1 + (number * 5) % 20)]
    more = {"sampling": SAMPLINGS[number % 4], "stop_ids": [9, 10, 11]}
    return {"ids": ids, "max_new_tokens": 1 + number * 4 % 9, **more}


def make_batcher(model, requests=7):
    batcher = DynamicBatcher(model, slots=3, prefill_chunk=6)
    return batcher, [batcher.submit(**asked_of(number)) for number in range(requests)]


def alone(model, ids, sampling, **more):
    return generate(model, [ids], sampling=sampling, **more)[0]


def run_on(batcher, interruption):
    """Run, going on after each interruption; how many there were."""
    interrupted = 0
    while not batcher.idle:
        try:
            batcher.run()
        except interruption:
            interrupted += 1
    return interrupted


def interrupt_calls(monkeypatch, owner, name, at, error=StopError, after=False):
    """Call number `at` of a function, counted from 0, fails: before it has done anything, or when all is done."""
    function, calls = getattr(owner, name), []

    def call(*args, **settings):
        calls.append(None)
        if len(calls) == at + 1 and not after:
            raise error
        result = function(*args, **settings)
        if len(calls) == at + 1:
            raise error
        return result

    monkeypatch.setattr(owner, name, call, raising=False)
    return calls


@pytest.mark.parametrize(("error", "after"), [(KeyboardInterrupt, False), (StopError, True)], ids=["before", "after"])
def test_the_batcher_goes_on_after_any_call_of_the_model_or_draw_that_failed(make_model, monkeypatch, error, after):
    model = make_model(num_blocks=1, emb_dim=16, num_heads=2)
    expected = [alone(model, **asked_of(number)) for number in range(7)]
    for name in ("hidden", "choose_rows"):
        at, more = 0, True
        while more:
            with monkeypatch.context() as patch:
                batcher, requests = make_batcher(model)
                owner = batcher._decoder if name == "hidden" else continuous_batching
                interrupt_calls(patch, owner, name, at, error, after)
                more = run_on(batcher, error) == 1
            assert [request.tokens for request in requests] == expected, f"call {at} of {name}"
            at += 1
        assert at > 10


class Interrupter:
    """Fails within a module at random: after so many of its lines as are drawn between 1 and `longest`, each time."""

    def __init__(self, module, seed, longest=200):
        self.file, self.draw, self.longest = module.__file__, random.Random(seed), longest
        self.left, self.times = self.draw.randint(1, longest), 0

    def __enter__(self):
        """Python forgets a tracer that raised: it has to be set for each try."""
        self.before = sys.gettrace()
        sys.settrace(lambda frame, event, _: self.line if frame.f_code.co_filename == self.file else None)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)

    def line(self, frame, event, _):
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.left, self.times = self.draw.randint(1, self.longest), self.times + 1
                raise StopError
        return self.line


@pytest.mark.parametrize("seed", range(20))
def test_the_batcher_goes_on_after_an_interruption_at_any_line(make_model, seed):
    model = make_model(num_blocks=1, emb_dim=16, num_heads=2)
    expected = [alone(model, **asked_of(number)) for number in range(7)]
    batcher, requests = make_batcher(model)
    steps, interrupter = [], Interrupter(continuous_batching, seed)
    while not batcher.idle:
        with contextlib.suppress(StopError), interrupter:
            steps += batcher.step()
    assert interrupter.times > 8
    assert [request.tokens for request in requests] == expected
    for request in requests:  # what `step` returns comes once, but for what an interrupted one was about to return
        told = [token for asked, token in steps if asked is request]
        assert len(told) <= len(request.tokens) and all(token in request.tokens for token in told)
    later = batcher.submit(**asked_of(3))  # and it still serves
    batcher.run()
    assert later.tokens == expected[3]


@pytest.mark.parametrize("module", [continuous_batching, sampling], ids=["batcher", "sampling"])
@pytest.mark.parametrize("seed", range(10))
def test_who_iterates_over_a_request_gets_each_token_once(make_model, module, seed):
    model = make_model(num_blocks=1, emb_dim=16, num_heads=2)
    _, requests = make_batcher(model)
    got, tokens, interrupter = [], iter(requests[6]), Interrupter(module, seed)
    while not requests[6].done or len(got) < len(requests[6].tokens):
        with contextlib.suppress(StopError), interrupter:
            got += islice(tokens, 1)  # none, where an interruption came between the last token and the end
    assert got == requests[6].tokens == alone(model, **asked_of(6)) and interrupter.times > 1
    assert next(tokens, "no more") == "no more"
    assert list(requests[6]) == got, "who asks again gets them from the first on"


def test_an_interrupted_cancel_or_submit_loses_nobody(make_model):
    model = make_model(num_blocks=1, emb_dim=16, num_heads=2)
    expected = [alone(model, **asked_of(number)) for number in range(7)]
    for line in range(1, 25):
        batcher, requests = make_batcher(model)
        batcher.step()
        with contextlib.suppress(StopError), Interrupter(continuous_batching, 0, longest=1) as interrupter:
            interrupter.left = line
            requests[1].cancel()
            requests[6].cancel()
            batcher.submit(**asked_of(2))
        batcher.run()
        for number, request in enumerate(requests):
            assert request.done and (number in (1, 6) or request.ended != "cancelled")
            assert request.tokens == expected[number][: len(request.tokens) if request.ended == "cancelled" else None]


def test_random_numbers_are_drawn_again_from_where_they_were():
    for seed in (0, 7, -3, 2**63, None):
        numbers = random_numbers(seed)
        drawn = [float(sampling.torch.rand(1, generator=numbers)) for _ in range(9)]
        again = continued(numbers, 6)
        assert [float(sampling.torch.rand(1, generator=again)) for _ in range(3)] == drawn[6:]


STREAMS = {
    "generate_steps": lambda m, t: generate_steps(m, [[1, 40], [1, 50, 60]], max_new_tokens=9, sampling=GREEDY),
    "speculative_steps": lambda m, t: speculative_steps(m, [1, 40, 40], NgramDraft(1, shortest=1), max_new_tokens=9),
    "with a draft": lambda m, t: speculative_steps(m, [1, 40], m, max_new_tokens=9, sampling=GREEDY),
    "stream_text": lambda m, t: stream_text(m, "एक दिन", t, 9, seed=1),
    "stream_reply": lambda m, t: stream_reply(m, [{"role": "user", "content": "क"}], t, 9, seed=1),
}


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopError])
@pytest.mark.parametrize("name", STREAMS)
def test_a_text_broken_off_within_a_step_says_so(make_model, tokenizer, monkeypatch, name, error):
    """Python's own generators would only say that there is no more."""
    model, at = make_model(num_blocks=1), 0
    whole = sum(1 for _ in STREAMS[name](model, tokenizer))
    while True:
        with monkeypatch.context() as patch:
            interrupt_calls(patch, type(model), "hidden", at, error)
            steps, got = STREAMS[name](model, tokenizer), 0
            try:
                for _ in steps:
                    got += 1
            except error:
                for _ in range(2):
                    with pytest.raises(RuntimeError, match="broken off in the midst of a step and cannot go on: begin"):
                        next(steps)
            else:
                break
        at += 1
    assert got <= whole and at >= 1
    assert list(steps) == [], "a text that has ended has ended"


@pytest.mark.parametrize("seed", range(30))
def test_no_token_is_lost_wherever_a_text_is_interrupted(make_model, seed):
    """At random lines of the module itself: the text goes on with the next token, or says that it cannot."""
    model = make_model(num_blocks=1, emb_dim=16, num_heads=2)
    settings = {"max_new_tokens": 9, "sampling": GREEDY}
    whole = list(generate_steps(model, [[1, 40]], **settings))
    steps, got, interrupter = generate_steps(model, [[1, 40]], **settings), [], Interrupter(interruption, seed, 12)
    with contextlib.suppress(StopIteration, RuntimeError):
        while True:
            with contextlib.suppress(StopError), interrupter:
                got.append(next(steps))
    assert got == whole[: len(got)] and (got == whole or steps._begun)


def test_a_text_goes_on_after_an_interruption_between_two_steps(make_model):
    model = make_model()
    steps = generate_steps(model, [[1, 40]], max_new_tokens=9, sampling=GREEDY)
    got = []
    for _ in range(20):
        try:
            for step in steps:
                got += step
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
    assert [got] == generate(model, [[1, 40]], max_new_tokens=9, sampling=GREEDY)
    steps.close()
    assert isinstance(generation.stream_text.__doc__, str)


@pytest.mark.slow
def test_two_thousand_requests_with_interruptions_and_cancellations(make_model, monkeypatch):
    """They come and are cancelled at random, the model fails now and then, and memory stays where it was."""
    resource = pytest.importorskip("resource")  # Windows has none
    model, draw = make_model(num_blocks=1, emb_dim=16, num_heads=2), random.Random(0)
    batcher = DynamicBatcher(model, slots=12, prefill_chunk=10, queue_size=20)
    hidden = batcher._decoder.hidden

    def unreliable(*args, **settings):
        chance = draw.random()
        if chance < 0.02:
            raise StopError
        result = hidden(*args, **settings)
        if chance > 0.98:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(batcher._decoder, "hidden", unreliable, raising=False)
    requests, memory, interrupted = [], [], 0
    while len(requests) < 2000 or not batcher.idle:
        try:
            while len(requests) < 2000 and draw.random() < 0.8:
                requests.append((number := len(requests), batcher.submit(**asked_of(number))))
        except QueueFull:
            pass
        if requests and draw.random() < 0.2:
            draw.choice(requests[-30:])[1].cancel()
        try:
            batcher.step()
        except (StopError, KeyboardInterrupt):
            interrupted += 1
        if len(requests) % 500 == 0:
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    ends = [request.ended for _, request in requests]
    assert interrupted > 50 and min(ends.count("length"), ends.count("cancelled"), ends.count("stop")) > 20
    assert not batcher._queue and batcher.running == 0
    monkeypatch.undo()
    for number, request in requests[::9]:
        expected = alone(model, **asked_of(number))
        assert request.tokens == (expected if request.ended != "cancelled" else expected[: len(request.tokens)])
    assert memory[-1] < memory[0] + 30_000, "kB"
