"""What these tests protect: each choice is drawn from the distribution that was asked for, the cached loop writes what
the naive one writes, no text depends on its neighbours, and what is streamed is whole characters."""

import inspect

import pytest
import torch

from ai4india_lib.inference import generation
from ai4india_lib.inference.generation import (
    generate,
    generate_steps,
    generate_text,
    prefill,
    stream_reply,
    stream_text,
    whole_characters,
)
from ai4india_lib.inference.sampling import Sampling
from ai4india_lib.text.tokenizer import encode_lines, encode_prompt

GREEDY = Sampling(temperature=0)
PROMPTS = [[1, 40, 50, 60, 70], [1, 45], [1, 90, 91, 92, 93, 94, 95, 96, 97], [1, 200, 201]]


def naive_greedy(model, ids, count):
    """Without a cache, and all anew for each token."""
    ids = list(ids)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[-count:]


@pytest.mark.parametrize("settings", [{}, {"num_kv_heads": 2, "qk_norm": False}])
def test_greedy_equals_the_naive_loop(make_model, settings):
    model = make_model(**settings)
    written = generate(model, PROMPTS, max_new_tokens=40, sampling=GREEDY)
    for prompt, ids in zip(PROMPTS, written, strict=True):
        assert ids == naive_greedy(model, prompt, 40)
        assert len(set(ids)) > 5  # not one token over and over: the comparison says something


@pytest.mark.parametrize("chunk", [1, 2, 4, 9, 512])
def test_prefill_in_chunks(make_model, chunk):
    model = make_model(spread=0.1)
    with torch.inference_mode():
        cache = model.new_cache(4, 20)
        logits = prefill(model, cache, PROMPTS, chunk)
        for row, ids in enumerate(PROMPTS):
            torch.testing.assert_close(logits[row], model(torch.tensor([ids]))[0, -1], atol=1e-5, rtol=1e-5)
    assert cache.lengths.tolist() == [5, 2, 9, 3]


def test_seeds(make_model):
    model = make_model(spread=0.1)

    def write(seed):
        return generate(model, [[1, 40]], max_new_tokens=30, sampling=Sampling(seed=seed))

    assert write(1) == write(1) != write(2)
    assert write(None) != write(None)


@pytest.mark.parametrize(
    "sampling", [{"temperature": 1.0}, {"top_p": 0.9, "repetition_penalty": 1.2}, {"temperature": 0}]
)
@pytest.mark.parametrize("new_tokens", [20, 100])
def test_rows_do_not_depend_on_each_other(make_model, sampling, new_tokens):
    """Also beyond the context of 64 tokens, where rows forget at different times, and when rows end early."""
    model = make_model()
    stop = {7, 30, 31, 32} if new_tokens == 100 else set()
    together = generate(model, PROMPTS, max_new_tokens=new_tokens, sampling=Sampling(seed=5, **sampling), stop_ids=stop)
    for row, prompt in enumerate(PROMPTS):
        own = Sampling(seed=5 + row, **sampling)
        assert generate(model, [prompt], max_new_tokens=new_tokens, sampling=own, stop_ids=stop) == [together[row]]
    others = [PROMPTS[0], [1] * 60, [1, 2, 3]]
    assert (
        generate(model, others, max_new_tokens=new_tokens, sampling=Sampling(seed=5, **sampling), stop_ids=stop)[0]
        == together[0]
    )


def test_stops_after_the_end_token(make_model):
    model = make_model()
    free = generate(model, PROMPTS, max_new_tokens=30, sampling=GREEDY)
    end = free[0][6]
    stopped = generate(model, PROMPTS, max_new_tokens=30, sampling=GREEDY, stop_ids=[end])
    for before, ids in zip(free, stopped, strict=True):
        assert ids == (before[: before.index(end) + 1] if end in before else before)
    steps = list(generate_steps(model, PROMPTS, max_new_tokens=30, sampling=GREEDY, stop_ids=[end]))
    assert len(steps) == max(map(len, stopped)) and steps[-1][0] is None


@pytest.mark.parametrize("count", [0, 1, 17])
def test_max_length_counts_new_tokens(make_model, count):
    assert [len(ids) for ids in generate(make_model(), PROMPTS, max_new_tokens=count)] == [count] * 4


def count_forward_tokens(model, monkeypatch):
    """How many tokens each forward pass read, as a list that grows."""
    read, hidden = [], type(model).hidden
    monkeypatch.setattr(
        type(model), "hidden", lambda self, ids, *a, **k: read.append(ids.shape[1]) or hidden(self, ids, *a, **k)
    )
    return read


def test_each_token_is_read_once(make_model, monkeypatch):
    model = make_model()
    read = count_forward_tokens(model, monkeypatch)
    generate(model, PROMPTS, max_new_tokens=12, sampling=GREEDY)
    assert read == [9] + [1] * 11


def naive_forgetting(model, ids, count):
    """The rule in words: when more than 64 tokens would be seen, keep the newest 32."""
    ids, start = list(ids), max(len(ids) - 64, 0)
    written = []
    for _ in range(count):
        if len(ids) - start > 64:
            start = len(ids) - 32
        written += naive_greedy(model, ids[start:], 1)
        ids.append(written[-1])
    return written


@pytest.mark.parametrize("length", [5, 63, 64, 65, 150])
def test_beyond_the_context(make_model, monkeypatch, length):
    model = make_model()
    prompt = torch.randint(1, 384, (length,), generator=torch.Generator().manual_seed(0)).tolist()
    expected = naive_forgetting(model, prompt, 150)
    read = count_forward_tokens(model, monkeypatch)
    assert generate(model, [prompt], max_new_tokens=150, sampling=GREEDY) == [expected]
    assert sum(read) < 64 + 150 + 32 * 6  # re-read seldom, not at every step


def test_smallest_context(make_model):
    assert len(generate(make_model(context_size=1), [[1, 2, 3]], max_new_tokens=5)[0]) == 5


def script(monkeypatch, ids):
    """Let the model choose these ids, one after the other."""
    ids = iter(ids)
    monkeypatch.setattr(generation, "choose_rows", lambda *args: [next(ids)])


STORY = " मीरा ने कहा, “क्या ज़रूरत है?” ஒரு நாள் 👩‍💻🙂 ₹५"


def test_streamed_pieces_are_whole_characters(make_model, tokenizer, monkeypatch):
    (ids,) = encode_lines(tokenizer, [STORY])
    halves = [tokenizer.decode([token]) for token in ids]
    assert sum("\ufffd" in half for half in halves) > 10  # else the test would show nothing
    script(monkeypatch, [*ids, tokenizer.eos_token_id])
    pieces = list(stream_text(make_model(), "एक दिन", tokenizer, 500))
    assert "".join(pieces) == STORY and all(pieces) and len(pieces) > 20
    assert not any("\ufffd" in piece for piece in pieces)
    script(monkeypatch, [*ids, tokenizer.eos_token_id])
    assert generate_text(make_model(), "एक दिन", tokenizer, "cpu", 500) == "एक दिन" + STORY


def test_text_cut_within_a_character(tokenizer):
    (ids,) = encode_lines(tokenizer, [STORY])
    prompt = encode_prompt(tokenizer, "")
    for length in range(len(ids)):
        text = "".join(whole_characters(tokenizer, prompt, ids[:length]))
        assert STORY.startswith(text) and text == tokenizer.decode(ids[:length]).rstrip("\ufffd")


@pytest.mark.parametrize("seed", range(4))
def test_stream_joins_to_generate_text(make_model, tokenizer, seed):
    """With a model that writes nonsense, invalid bytes included."""
    model, prompt = make_model(seed), "एक दिन"
    text = generate_text(model, prompt, tokenizer, "cpu", 60, temperature=1.0, seed=seed)
    assert prompt + "".join(stream_text(model, prompt, tokenizer, 60, temperature=1.0, seed=seed)) == text
    start = encode_prompt(tokenizer, prompt)
    stops = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    (ids,) = generate(model, [start], max_new_tokens=60, sampling=Sampling(temperature=1.0, seed=seed), stop_ids=stops)
    assert text == tokenizer.decode(start + ids, skip_special_tokens=True).rstrip("\ufffd")


def test_blanks_of_a_tokenizer_that_drops_the_first(make_model, monkeypatch):
    """Decoders of the SentencePiece kind leave out the blank at the start of what they decode."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"</s>": 0, "▁एक": 1, "▁दिन": 2, "▁मीरा": 3, "।": 4}, unk_token="</s>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    words = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="</s>")
    script(monkeypatch, [2, 3, 4, 1, 0])
    assert list(stream_text(make_model(), "एक", words, 9)) == [" दिन", " मीरा", "।", " एक"]


@pytest.mark.parametrize("blanks", [" ", "   ", "\t", " \t "])
def test_blanks_at_the_end_of_a_prompt_change_nothing(make_model, tokenizer, blanks):
    model, settings = make_model(), {"seed": 1, "max_length": 12}
    for start in ("एक दिन", "", "एक\n", "एक  दिन"):
        text = generate_text(model, start, tokenizer, "cpu", **settings)
        assert generate_text(model, start + blanks, tokenizer, "cpu", **settings) == text and text.startswith(start)
        assert start + "".join(stream_text(model, start + blanks, tokenizer, **settings)) == text


def test_empty_prompt(make_model, tokenizer):
    model = make_model()
    assert generate_text(model, "", tokenizer, "cpu", 20, seed=1) == "".join(
        stream_text(model, "", tokenizer, 20, seed=1)
    )
    with pytest.raises(ValueError, match="nothing to write on: each prompt needs at least one id"):
        generate(model, [[1], []], max_new_tokens=5)


def test_promised_signature(make_model, tokenizer):
    names = list(inspect.signature(generate_text).parameters)
    assert names == ["model", "start_string", "tokenizer", "device", "max_length", "sampling"]
    text = generate_text(make_model(), "एक दिन", tokenizer, torch.device("cpu"), 12, temperature=0.9, top_k=20, seed=3)
    assert isinstance(text, str) and text.startswith("एक दिन")


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(make_model, tokenizer, training):
    model = make_model().train(training)
    generate_text(model, "एक", tokenizer, max_length=5)
    assert model.training == training and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    next(stream_text(model, "एक", tokenizer, 50))  # left half-way
    assert not torch.is_inference_mode_enabled()
    loss = model(torch.tensor([[1, 2, 3]])).sum()  # the model can still be trained
    loss.backward()
    assert not model.cos.is_inference()


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"temperature": -0.1}, r"temperature=-0\.1 must be 0 \(greedy\) or more"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0 must be a whole number of at least 1"),
        ({"top_k": 2.5}, r"top_k=2\.5 must be a whole number"),
        ({"top_p": 0.0}, r"top_p=0\.0 is a probability"),
        ({"top_p": 1.1}, r"top_p=1\.1"),
        ({"top_p": 95}, "top_p=95 is a probability: it must be above 0 and at most 1"),
        ({"min_p": -1}, r"min_p=-1 is a share: it must be 0 \(nothing is left out\) to 1"),
        ({"repetition_penalty": 0}, "repetition_penalty=0 must be above 0"),
        ({"seed": "one"}, "seed='one' must be a whole number"),
    ],
)
def test_impossible_sampling(make_model, tokenizer, settings, told):
    with pytest.raises(ValueError, match=told):
        Sampling(**settings)
    with pytest.raises(ValueError, match=told):
        generate_text(make_model(), "एक", tokenizer, "cpu", 5, **settings)


def test_other_wrong_input(make_model, tokenizer):
    model = make_model()
    with pytest.raises(ValueError, match="a prompt has id 384, the model knows 0 to 383"):
        generate(model, [[1, 384]], max_new_tokens=5)
    with pytest.raises(ValueError, match="a prompt has id -1"):
        generate(model, [[1, -1]], max_new_tokens=5)
    with pytest.raises(ValueError, match="cannot write -5 tokens"):
        generate_text(model, "एक", tokenizer, "cpu", -5)
    with pytest.raises(ValueError, match="nothing to write on"):
        generate(model, [], max_new_tokens=5)
    with pytest.raises(ValueError, match="'gpu' is not known"):
        generate_text(model, "एक", tokenizer, "gpu", 5)
    with pytest.raises(TypeError, match="temprature"):
        generate_text(model, "एक", tokenizer, "cpu", 5, temprature=1.0)


def test_reply_stops_at_the_end_of_a_turn_and_generate_text_writes_on(make_model, tokenizer):
    model = make_model()
    text = "".join(stream_reply(model, [{"role": "user", "content": "क"}], tokenizer, 30, seed=3))
    assert "<|" not in text
    assert generate_text(model, "क", tokenizer, "cpu", 3, seed=1).startswith("क")
