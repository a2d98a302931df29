"""What these tests protect: a step that was recorded gives the model's own logits each time it is replayed, whatever
cache, rows and lengths it meets then; where nothing can be recorded, writing goes on.

A GPU records with CUDA graphs. The stand-in here knows as little at a replay as they do: the same calls, with the same
Python numbers, on the tensors of the recording.
"""

import gc

import pytest
import torch

from ai4india_lib import Sampling, generate
from ai4india_lib.inference import captured, fast
from ai4india_lib.inference.captured import CapturedDecoder


def stand_in(step, pool):
    for _ in range(3):
        step()
    result = step().clone()

    def replay():
        result.copy_(step())

    return replay, result


@pytest.fixture
def model(make_model):
    return make_model(spread=0.1, num_kv_heads=2, context_size=100)


@pytest.fixture
def decoder(model, monkeypatch):
    monkeypatch.setattr(CapturedDecoder, "record", staticmethod(stand_in))
    monkeypatch.setattr(captured, "STRETCH", 8)
    decoder = CapturedDecoder(model)
    decoder._single = None  # what serves a CPU
    return decoder


def random_ids(*shape, seed=1):
    return torch.randint(1, 384, shape, generator=torch.Generator().manual_seed(seed))


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_the_models_own(model, decoder, batch):
    """From the first token to the last that the context has room for, through all stretches."""
    ids = random_ids(batch, 100)
    cache = decoder.new_cache(batch, 100)
    parts = [decoder(ids[:, :5], cache), *(decoder(ids[:, t : t + 1], cache) for t in range(5, 100))]
    assert_same(torch.cat(parts, dim=1), model(ids))
    assert cache.lengths.tolist() == [100] * batch and cache.longest == 100 and not cache.ragged
    assert [name[1] for name in decoder._recordings] == [8, 16, 32, 64, 100]
    with pytest.raises(ValueError, match="101 tokens are more than context_size=100"):
        decoder(ids[:, :1], cache)


def test_rows_of_different_lengths_and_a_cache_rolled_back(model, decoder):
    ids, lengths = random_ids(4, 40), [12, 3, 7, 1]
    cache = decoder.new_cache(4, 40)
    decoder(ids[:, :12], cache, lengths=torch.tensor(lengths))
    for _ in range(6):
        got = decoder(torch.stack([ids[row, n : n + 1] for row, n in enumerate(cache.lengths)]), cache)
        for row, n in enumerate(cache.lengths):
            assert_same(got[row, 0], model(ids[row : row + 1, :n])[0, -1])
    cache.set_lengths([3, 3, 3, 3])
    assert_same(decoder(ids[:, 3:4], cache)[:, 0], model(ids[:, :4])[:, -1])
    kept = decoder(ids[:, 4:5], cache, lengths=torch.tensor([1, 0, 1, 0]))
    assert_same(kept[:, 0], model(ids[:, :5])[:, -1])
    assert cache.lengths.tolist() == [5, 4, 5, 4]


def test_some_rows_of_a_models_own_cache(model, decoder):
    """As dynamic batching does: more and fewer rows, of a cache that no recording has seen; the others stay."""
    ids, cache = random_ids(4, 20), model.new_cache(4, 20)
    with torch.inference_mode():
        model(ids[:, :8], cache)
    part = cache.rows(1, [8, 8])
    ours = torch.cat([decoder(ids[1:3, t : t + 1], part) for t in range(8, 12)], dim=1)
    assert_same(ours, model(ids[1:3])[:, 8:12])
    assert_same(decoder(ids[:, 8:9], cache)[[0, 3]], model(ids)[[0, 3], 8:9])


def test_memory_that_was_let_go_needs_no_new_recording(model, decoder):
    ids = random_ids(1, 12)
    for _ in range(3):
        cache = decoder.new_cache(1, 12)
        assert not cache.keys.any() and cache.longest == 0
        parts = [decoder(ids[:, :4], cache), *(decoder(ids[:, t : t + 1], cache) for t in range(4, 12))]
        assert_same(torch.cat(parts, dim=1), model(ids))
        del cache
        gc.collect()
    assert len(decoder._recordings) == 2  # those of 8 and of 16 tokens
    held = [decoder.new_cache(1, 12) for _ in range(2)]
    assert held[0].keys.data_ptr() != held[1].keys.data_ptr()


def test_all_texts_are_as_before(model, decoder, monkeypatch):
    """Also one that outgrows the context; and logits that were given stay what they were."""
    prompts, settings = [[1, 40, 50], [1, 7]], {"max_new_tokens": 120, "sampling": Sampling(temperature=0)}
    expected = generate(model, prompts, **settings)
    monkeypatch.setattr("ai4india_lib.inference.generation.pick_decoder", lambda *_, **__: decoder)
    assert generate(model, prompts, **settings) == expected and decoder._recordings
    monkeypatch.setattr(captured, "KEPT", 2)
    assert generate(model, prompts[:1], **settings) == expected[:1] and len(decoder._recordings) == 2


def test_where_nothing_can_be_recorded(model, decoder, monkeypatch):
    tried = []

    def fail(step, pool):
        tried.append(step())
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")

    monkeypatch.setattr(CapturedDecoder, "record", staticmethod(fail))
    ids, cache = random_ids(2, 20), decoder.new_cache(2, 20)
    with pytest.warns(UserWarning, match=r"^steps cannot be recorded as a CUDA graph \(CUDA error: .* singly$") as told:
        ours = torch.cat([decoder(ids[:, t : t + 1], cache) for t in range(20)], dim=1)
    assert_same(ours, model(ids))
    assert len(told) == len(tried) == 1


def test_a_model_on_a_gpu_is_recorded(model, decoder, monkeypatch):
    class OnGpu(CapturedDecoder):
        def __init__(self, model, *, int8=False):
            self.int8 = int8

    monkeypatch.setattr(fast, "CapturedDecoder", OnGpu)
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    monkeypatch.setattr(fast, "obstacle", lambda: "must not be asked")
    assert type(fast.fast_decoder(model)) is type(fast.fast_decoder(model, compiled=True, int8=True)) is OnGpu


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(make_model):
    model = make_model(spread=0.1).cuda()
    prompts, settings = [[1, 40, 50], [1, 7]], {"max_new_tokens": 50, "sampling": Sampling(temperature=0)}
    decoder = fast.fast_decoder(model)
    assert type(decoder) is CapturedDecoder
    texts = generate(model, prompts, **settings)
    assert decoder._recordings and texts == generate(model.cpu(), prompts, **settings)
