"""What these tests protect: a packed decoder gives the model's own logits, whatever the model's shape or dtype, and
however the rows of a batch lie; it never answers for weights that have changed since."""

import pytest
import torch

from ai4india_lib.decoding import FastDecoder

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
