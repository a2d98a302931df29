"""What these tests protect: a compiled step gives the same logits as the model, whatever the number of rows, tokens and
cached ones; all who write with it write the same; and who has no compiler is told.

One kind of step is compiled in every run, all four with `--slow`.
"""

import inspect
import subprocess

import pytest
import torch

from ai4india_lib import DecoderLanguageModel, DynamicBatcher, Sampling, generate
from ai4india_lib.inference.compiled import NEXT, NEXT_OF_EACH, READ, VERIFY, CompiledDecoder, can_compile, obstacle
from ai4india_lib.inference.fast import fast_decoder
from ai4india_lib.inference.speculative import speculative_generate

GREEDY = Sampling(temperature=0)
needs_compiler = pytest.mark.skipif(not can_compile(), reason="needs torch 2.13, a C++ compiler, and all threads")


@pytest.fixture(scope="module")
def model():
    """One for all tests, so that each kind of step is compiled once. Its context is shorter than the example that the
    reading of a prompt is compiled for."""
    torch.manual_seed(0)
    model = DecoderLanguageModel(384, 32, 4, 2, None, num_kv_heads=2, context_size=48).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model


def random_ids(*shape, seed=1):
    return torch.randint(1, 384, shape, generator=torch.Generator().manual_seed(seed))


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def compiled_kinds(model):
    return fast_decoder(model, compiled=True)._compiled


@needs_compiler
def test_a_text_goes_on_with_the_models_own_logits(model):
    """The one kind that every run compiles: after a prompt that the model has read, one token at a time."""
    ids, decoder = random_ids(1, 30), fast_decoder(model, compiled=True)
    cache, expected = decoder.new_cache(1, 33), model.new_cache(1, 33)
    with torch.no_grad():
        model(ids[:, :5], cache)
        ours = torch.cat([decoder(ids[:, n : n + 1], cache) for n in range(5, 30)], dim=1)
        assert_same(ours, model(ids, expected)[:, 5:])
    assert_same(cache.keys, expected.keys)
    assert cache.lengths.tolist() == [30] and cache.longest == 30 and NEXT in compiled_kinds(model)


@needs_compiler
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("batch", "cuts"), [(1, [3, *[1] * 20]), (1, [2, 4, 1, 16, 3, 2]), (2, [9, *[1] * 9]), (5, [2, *[1] * 12])], ids=str
)
@pytest.mark.parametrize("room", [0, 7])
def test_logits_are_the_models_own(model, batch, cuts, room):
    ids = random_ids(batch, sum(cuts))
    decoder = fast_decoder(model, compiled=True)
    cache = decoder.new_cache(batch, ids.shape[1] + room)
    ours = torch.cat([decoder(part, cache) for part in ids.split(cuts, dim=1)], dim=1)
    assert_same(ours, model(ids))
    assert cache.lengths.tolist() == [sum(cuts)] * batch and cache.longest == sum(cuts)
    assert (NEXT_OF_EACH if batch > 1 else VERIFY if max(cuts[1:]) > 1 else NEXT) in compiled_kinds(model)


@needs_compiler
@pytest.mark.slow
@pytest.mark.long
def test_rows_of_different_lengths_and_a_cache_rolled_back(model):
    ids, lengths = random_ids(4, 30), [12, 0, 7, 1]
    decoder = fast_decoder(model, compiled=True)
    cache = decoder.new_cache(6, 40).rows(1, [0] * 4)  # part of a larger cache, as in the batcher
    decoder(ids[:, :12], cache, lengths=torch.tensor(lengths))
    for row, length in enumerate(lengths):
        assert cache.lengths[row] == length
    for _ in range(5):
        got = decoder(torch.stack([ids[row, n : n + 1] for row, n in enumerate(cache.lengths)]), cache)
        for row, n in enumerate(cache.lengths):
            assert_same(got[row, 0], model(ids[row : row + 1, :n])[0, -1])
    cache.set_lengths([3, 3, 3, 3])
    assert_same(decoder(ids[:, 3:4], cache)[:, 0], model(torch.stack([ids[r, :4] for r in range(4)]))[:, -1])


@needs_compiler
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("cuts", [[20, 2, 17, 9], [1, 3, 44], [48]], ids=str)
def test_a_prompt_read_in_chunks_beside_other_texts(model, cuts):
    ids, decoder = random_ids(1, 48), fast_decoder(model, compiled=True)
    whole = decoder.new_cache(3, 54)
    whole.keys.fill_(7)
    part = whole.rows(1, [0])
    for chunk, end in zip(ids.split(cuts, dim=1), torch.tensor(cuts).cumsum(0), strict=True):
        hidden = decoder.hidden(chunk, part)
        assert hidden.shape == (1, chunk.shape[1], 32)
        assert_same(decoder.head(hidden), model(ids[:, :end])[:, -chunk.shape[1] :])
    assert READ in compiled_kinds(model)
    expected = model.new_cache(1, 48)
    model(ids, expected)
    assert_same(whole.keys[:, 1, :, :48], expected.keys[:, 0])
    assert bool((whole.keys[:, [0, 2]] == 7).all() and (whole.keys[:, 1, :, 48:] == 7).all())


@needs_compiler
@pytest.mark.slow
@pytest.mark.long
def test_all_who_write_write_the_same(model):
    prompts = [random_ids(n, seed=n).tolist() for n in (5, 2, 9)]
    settings = {"max_new_tokens": 25, "sampling": GREEDY}
    expected = generate(model, prompts, **settings)
    assert generate(model, prompts, compiled=True, **settings) == expected
    assert generate(model, prompts[:1], compiled=True, **settings) == expected[:1]
    batcher = DynamicBatcher(model, slots=2, prefill_chunk=4, compiled=True)
    requests = [batcher.submit(ids, **settings) for ids in prompts]
    batcher.run()
    assert [request.tokens for request in requests] == expected
    assert speculative_generate(model, prompts[0], model, k=3, compiled=True, **settings).ids == expected[0]
    assert set(compiled_kinds(model)) == {NEXT, NEXT_OF_EACH, VERIFY, READ}


@needs_compiler
@pytest.mark.slow
@pytest.mark.long
def test_a_text_that_outgrows_the_context(model):
    prompt = random_ids(40).tolist()
    expected = generate(model, [prompt], max_new_tokens=60, sampling=GREEDY)
    assert generate(model, [prompt], max_new_tokens=60, sampling=GREEDY, compiled=True) == expected


@needs_compiler
@pytest.mark.slow
@pytest.mark.long
def test_too_many_tokens_are_refused_as_ever(model):
    decoder = fast_decoder(model, compiled=True)
    cache = decoder.new_cache(1, 8)
    decoder(random_ids(1, 8), cache)
    with pytest.raises(ValueError, match="the cache holds 8 tokens a row, 8 are used, 1 more do not fit"):
        decoder(random_ids(1, 1), cache)
    cache = decoder.new_cache(1, 70)
    decoder(random_ids(1, 48), cache)
    with pytest.raises(ValueError, match="49 tokens are more than context_size=48"):
        decoder(random_ids(1, 1), cache)


@needs_compiler
def test_changed_weights_are_compiled_anew(make_model):
    model = make_model()
    before = fast_decoder(model, compiled=True)
    assert fast_decoder(model, compiled=True) is before and fast_decoder(model) is not before
    assert fast_decoder(model, compiled=True) is before  # the other kind has not taken its place
    model.norm.gain.data.mul_(2)
    assert fast_decoder(model, compiled=True) is not before


THROWN = [
    torch._inductor.exc.InvalidCxxCompiler(),
    RuntimeError("one line\nand 284 more"),
    KeyError(),
    AssertionError("unexpected layout"),
    torch._dynamo.exc.Unsupported("a call that it does not know"),
    OSError(28, "No space left on device"),
    subprocess.CalledProcessError(1, "g++"),
]


@pytest.mark.parametrize("error", THROWN, ids=lambda e: type(e).__name__)
def test_whatever_compiling_throws_is_told_in_a_sentence(model, error, monkeypatch):
    """And the text goes on uncompiled; nothing is half done, and nothing is tried again."""
    tried = []

    def refuse(*_, **__):
        tried.append(1)
        raise error

    monkeypatch.setattr(torch, "compile", refuse)
    ids, decoder = random_ids(1, 12), CompiledDecoder(model)
    cache = decoder.new_cache(1, 12)
    with pytest.warns(UserWarning, match=r"^compiled writing failed \(.*\); going on uncompiled$") as told:
        ours = torch.cat([decoder(part, cache) for part in ids.split([4, 1, 1, 6], dim=1)], dim=1)
        decoder.prepare_for(3)
    assert len(told) == 1 and "\n" not in str(told[0].message) and len(tried) == 1
    assert_same(ours, model(ids))
    with pytest.raises(ValueError, match="12 are used, 1 more do not fit"):
        decoder(random_ids(1, 1), cache)


@needs_compiler
def test_no_compiler(monkeypatch):
    with torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}):
        assert not can_compile() and "install g++ or clang" in obstacle()


def test_an_old_torch(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, *, fullgraph=False: model)
    assert not can_compile() and "needs torch 2.13 or later" in obstacle()


def test_missing_threads(monkeypatch):
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")
    assert not can_compile()
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        assert "unset OMP_THREAD_LIMIT" in obstacle()


@needs_compiler
@pytest.mark.slow
@pytest.mark.long
def test_int8_compiled(model):
    """As near to the exact logits as int8 without a compiler."""
    ids, decoder = random_ids(1, 40), fast_decoder(model, compiled=True, int8=True)
    cache, expected = decoder.new_cache(1, 40), model(ids)[:, 20:]
    with torch.inference_mode():
        model(ids[:, :20], cache)
    got = torch.cat([decoder(ids[:, n : n + 1], cache) for n in range(20, 40)], dim=1)
    assert NEXT in decoder._compiled and decoder.blocks[0].qkv.weight.dtype == torch.int8
    assert 1e-4 < (got - expected).std() / expected.std() < 0.03
