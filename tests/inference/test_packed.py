"""What these tests protect: a packed decoder gives the model's own logits, whatever the model's shape or dtype, and
however the rows of a batch lie."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from ai4india_lib import Sampling, Timing, add_lora, generate, merge_lora
from ai4india_lib.inference.packed import FastDecoder

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHAPES = {
    "plain": {},
    "grouped": {"num_kv_heads": 2},
    "one-kv-head": {"num_kv_heads": 1, "qk_norm": False},
    "llama": {"qk_norm": False, "tie_embeddings": False},
    "llama3-rope": {"rope_scaling": LLAMA3, "head_dim": 12, "num_kv_heads": 2},
    "large-eps": {"norm_eps": 0.1},
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def model(request, make_model):
    return make_model(spread=0.1, **request.param)


def random_ids(*shape, seed=1):
    return torch.randint(1, 384, shape, generator=torch.Generator().manual_seed(seed))


def assert_same(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cuts", [[1] * 40, [23, *[1] * 17], [20, 20], [17, 3, 16, 4], [40]], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_are_the_models_own(model, cuts, batch):
    ids = random_ids(batch, 40)
    decoder = FastDecoder(model)
    cache = decoder.new_cache(batch, 40)
    ours = torch.cat([decoder(part, cache) for part in ids.split(cuts, dim=1)], dim=1)
    assert_same(ours, model(ids))
    assert cache.lengths.tolist() == [40] * batch and cache.longest == 40


@pytest.mark.parametrize("cuts", [[30], [4, 25, 1], [1] * 30], ids=str)
def test_rows_of_different_lengths(model, cuts):
    """Padded prompts, then all rows go on together, by one token and by several."""
    lengths, more = torch.tensor([30, 2, 18, 1]), 28
    ids = random_ids(4, 30 + more)
    decoder = FastDecoder(model)
    cache, start = decoder.new_cache(4, 30 + more), 0
    got = [[] for _ in lengths]
    for cut in cuts:
        counts = (lengths - start).clamp(0, cut)
        logits = decoder(ids[:, start : start + cut], cache, lengths=counts)
        for row, count in enumerate(counts):
            got[row].append(logits[row, :count])
        start += cut
    for cut in (1, 1, 3, 1, 20, 2):
        at = cache.lengths[:, None] + torch.arange(cut)
        logits = decoder(ids.gather(1, at), cache)
        for row in range(4):
            got[row].append(logits[row])
    assert cache.lengths.tolist() == (lengths + more).tolist() and cache.ragged
    for row, length in enumerate(lengths.tolist()):
        assert_same(torch.cat(got[row]), model(ids[row : row + 1, : length + more])[0])


def test_model_and_decoder_share_a_cache(model):
    """The model reads the prompt, the decoder goes on, and the other way round."""
    ids, decoder = random_ids(2, 30), FastDecoder(model)
    with torch.inference_mode():
        cache = model.new_cache(2, 30)
        writers = [model, decoder, model, decoder, decoder, model]
        parts = ids.split([10, 1, 1, 5, 1, 12], dim=1)
        assert_same(torch.cat([w(part, cache) for w, part in zip(writers, parts, strict=True)], dim=1), model(ids))


def test_roll_back(model):
    """As speculation does: read several tokens, keep some of them, of each row another number."""
    ids, decoder = random_ids(3, 25), FastDecoder(model)
    cache, uncached = decoder.new_cache(3, 25), model(ids)
    decoder(ids[:, :5], cache)
    for kept in ([3, 1, 2], [1, 3, 0], [2, 2, 4], [0, 0, 0]):
        at = cache.lengths[:, None] + torch.arange(4)
        logits = decoder(ids.gather(1, at), cache, lengths=torch.tensor(kept))
        assert_same(logits, uncached[torch.arange(3)[:, None], at])
    assert cache.lengths.tolist() == [11, 11, 11] and not cache.ragged
    cache.set_lengths(torch.tensor([4, 4, 4]))
    assert_same(torch.cat([decoder(ids[:, t : t + 1], cache) for t in range(4, 12)], dim=1), uncached[:, 4:12])


def test_some_rows_of_a_cache(model):
    """As dynamic batching does: a part of the rows goes on, the others stay as they are."""
    ids, decoder = random_ids(4, 20), FastDecoder(model)
    cache = decoder.new_cache(4, 20)
    decoder(ids[:, :8], cache)
    part = cache.rows(1, [8, 8])
    ours = torch.cat([decoder(ids[1:3, t : t + 1], part) for t in range(8, 14)], dim=1)
    assert_same(ours, model(ids[1:3])[:, 8:14])
    assert_same(decoder(ids[:, 8:9], cache)[[0, 3]], model(ids)[[0, 3], 8:9])


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_transformers(make_model, tokenizer, tmp_path, tied):
    from transformers import AutoModelForCausalLM

    from ai4india_lib import save_model

    for qk_norm in (True, False):
        model = make_model(spread=0.1, num_kv_heads=2, qk_norm=qk_norm, tie_embeddings=tied)
        theirs = AutoModelForCausalLM.from_pretrained(save_model(model, tokenizer, tmp_path / f"model-{qk_norm}"))
        ids, decoder = random_ids(2, 20), FastDecoder(model)
        cache = decoder.new_cache(2, 20)
        ours = torch.cat([decoder(ids[:, t : t + 1], cache) for t in range(20)], dim=1)
        with torch.no_grad():
            torch.testing.assert_close(ours, theirs(ids).logits, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"num_kv_heads": 1, "qk_norm": False}], ids=["qwen3", "llama"])
def test_half_precision(make_model, settings):
    """Not bit for bit: the gains are multiplied in first. As near to the exact logits as the model itself comes."""
    exact = make_model(spread=0.1, **settings)
    model = make_model(spread=0.1, **settings).to(torch.bfloat16)
    ids, decoder = random_ids(2, 30), FastDecoder(model)
    cache = decoder.new_cache(2, 30)
    assert cache.keys.dtype == torch.bfloat16
    ours = torch.cat([decoder(part, cache) for part in ids.split([20, *[1] * 10], dim=1)], dim=1)
    assert ours.dtype == torch.bfloat16
    with torch.no_grad():
        wanted, theirs = exact(ids), model(ids).float()
    assert (ours.float() - wanted).abs().mean() < 1.5 * (theirs - wanted).abs().mean()


def test_int8_rounds_a_little(make_model):
    """Logits move by some thousandths of their spread, with few rows (whole-number kernel) as with many."""
    model = make_model(spread=0.1, emb_dim=64, mlp_dim=160, vocab_size=384)
    ids, decoder = random_ids(2, 40), FastDecoder(model, int8=True)
    assert decoder.blocks[0].qkv.weight.dtype == torch.int8 and decoder.blocks[0].qkv.has_kernel
    cache = decoder.new_cache(2, 40)
    ours = torch.cat([decoder(part, cache) for part in ids.split([30, *[1] * 10], dim=1)], dim=1)
    with torch.no_grad():
        wanted = model(ids)
    for part in (slice(0, 30), slice(30, 40)):
        error = (ours - wanted)[:, part].std() / wanted[:, part].std()
        assert 1e-4 < error < 0.03, error


def test_int8_of_odd_sizes(make_model):
    """Sizes for which there is no kernel: the matrix is written out."""
    model = make_model(spread=0.1, emb_dim=24, mlp_dim=40, num_heads=2, vocab_size=386)
    ids, decoder = random_ids(1, 10), FastDecoder(model, int8=True)
    cache = decoder.new_cache(1, 10)
    ours = torch.cat([decoder(ids[:, t : t + 1], cache) for t in range(10)], dim=1)
    with torch.no_grad():
        assert (ours - model(ids)).std() < 0.03 * ours.std()


def test_packing_leaves_the_model_alone(make_model):
    model = make_model()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    decoder = FastDecoder(model)
    decoder(random_ids(1, 5), decoder.new_cache(1, 5))
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    model(random_ids(1, 5)).sum().backward()  # still trainable


def test_lora_is_not_lost(make_model):
    """Beside its matrices a model may carry corrections: they must be heard, or the refusal must."""
    model = make_model(spread=0.1)
    add_lora(model, rank=2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    with pytest.raises(ValueError, match="merge"):
        FastDecoder(model)
    before = generate(model, [[1, 40, 50]], max_new_tokens=30, sampling=Sampling(temperature=0))
    merge_lora(model)
    after = generate(model, [[1, 40, 50]], max_new_tokens=30, sampling=Sampling(temperature=0))
    assert before == after and FastDecoder(model)


def test_hooks_are_not_lost(make_model):
    model = make_model()
    model.blocks[0].mlp.up.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="merge them first, or use the model"):
        FastDecoder(model)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 1)])
def test_wrong_shape(make_model, shape):
    decoder = FastDecoder(make_model())
    with pytest.raises(ValueError, match="expected \\(batch, time\\)"):
        decoder(torch.ones(shape, dtype=torch.long), decoder.new_cache(1, 10))


def test_full_cache_and_long_texts(make_model):
    decoder = FastDecoder(make_model())
    cache = decoder.new_cache(1, 10)
    decoder(random_ids(1, 8), cache)
    with pytest.raises(ValueError, match=r"holds 10 tokens a row, 8 are used, 3 more do not fit"):
        decoder(random_ids(1, 3), cache)
    assert cache.lengths.tolist() == [8]
    with pytest.raises(ValueError, match="65 tokens are more than context_size=64"):
        decoder(random_ids(1, 65), decoder.new_cache(1, 100))


def test_fewer_threads_than_torch_asks_for():
    """oneDNN would leave the missing threads' part of a product undone."""
    program = """
import torch
from ai4india_lib.inference.packed import Matrix
torch.set_num_threads(2)
x, weight = torch.randn(16, 256), torch.randn(256, 1024)
torch.testing.assert_close(Matrix(weight)(x), x @ weight, atol=1e-3, rtol=1e-3)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_THREAD_LIMIT": "1"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", SHAPES)
def test_one_text_is_written_alike_in_numpy_and_in_torch(make_model, name, monkeypatch):
    """Of float32 on a CPU; a text too long for it goes on in torch."""
    model, ids = make_model(spread=0.1, **SHAPES[name]), random_ids(1, 40)
    decoder = FastDecoder(model)
    assert decoder._single is not None and FastDecoder(make_model().to(torch.bfloat16))._single is None
    monkeypatch.setattr(decoder._single, "largest", 25)
    both = decoder, FastDecoder.__new__(FastDecoder)
    vars(both[1]).update({**vars(decoder), "_single": None})
    single, torchs = ([d(ids[:, t : t + 1], c) for t in range(40)] for d in both for c in [d.new_cache(1, 40)])
    assert_same(torch.cat(single, dim=1), torch.cat(torchs, dim=1))
    assert_same(torch.cat(single, dim=1), model(ids))


def test_one_text_in_each_of_several_threads(make_model):
    """They share the decoder, and each its own vectors."""
    model, texts = make_model(spread=0.1), [random_ids(1, 60, seed=n) for n in range(4)]
    decoder = FastDecoder(model)

    def write(ids):
        cache = decoder.new_cache(1, 60)
        return torch.cat([decoder(ids[:, t : t + 1], cache) for t in range(60)], dim=1)

    with ThreadPoolExecutor(4) as pool:
        for ids, logits in zip(texts, pool.map(write, texts), strict=True):
            assert_same(logits, model(ids))


@pytest.mark.parametrize("token", [-1, 384])
def test_an_id_that_is_none(make_model, token):
    decoder = FastDecoder(make_model())
    cache = decoder.new_cache(1, 10)
    with pytest.raises(IndexError):
        decoder(torch.tensor([[token]]), cache)
    assert cache.longest == 0


def test_timing(make_model):
    timing = Timing()
    assert timing.tokens_per_second != timing.tokens_per_second  # not a number yet
    settings = {"max_new_tokens": 12, "sampling": Sampling(temperature=0), "timing": timing}
    generate(make_model(), [[1, 40, 50], [1, 7]], **settings)
    assert timing.prompt_tokens == 5 and len(timing.moments) == 13 and timing.new_tokens == 22
    assert timing.moments == sorted(timing.moments)
    whole = timing.first_token_seconds + timing.new_tokens / timing.tokens_per_second
    assert whole == pytest.approx(timing.moments[-1] - timing.moments[0])
