"""What these tests protect: the model computes what Llama and Qwen3 of `transformers` compute, never looks ahead, can
be trained in every part, and gives the same logits with a cache as without one."""

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from ai4india_lib.formats.llama_format import hugging_face_name
from ai4india_lib.model.cache import KVCache
from ai4india_lib.model.config import DecoderConfig
from ai4india_lib.model.decoder import DecoderLanguageModel, RMSNorm, rope, rope_tables

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def reference(model):
    """The same model in `transformers`, built from its own config class, with our weights under its names."""
    c = model.config
    kind, config_class = (Qwen3ForCausalLM, Qwen3Config) if c.qk_norm else (LlamaForCausalLM, LlamaConfig)
    config = config_class(
        vocab_size=c.vocab_size,
        hidden_size=c.emb_dim,
        intermediate_size=c.mlp_dim,
        num_hidden_layers=c.num_blocks,
        num_attention_heads=c.num_heads,
        num_key_value_heads=c.num_kv_heads,
        head_dim=c.head_dim,
        max_position_embeddings=c.context_size,
        rms_norm_eps=c.norm_eps,
        rope_parameters={"rope_type": "default", **(c.rope_scaling or {}), "rope_theta": c.rope_theta},
        tie_word_embeddings=c.tie_embeddings,
        pad_token_id=c.pad_idx,
    )
    theirs = kind(config).eval()
    weights = {hugging_face_name(name): weight for name, weight in model.state_dict().items()}
    theirs.load_state_dict(weights, strict=True)
    return theirs


def random_ids(*shape, seed=1, vocab_size=384):
    return torch.randint(1, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("qk_norm", [False, True], ids=["llama", "qwen3"])
@pytest.mark.parametrize("tie_embeddings", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_kv_heads": 2},
        {"num_kv_heads": 1, "head_dim": 12},
        {"emb_dim": 36, "num_heads": 6, "num_kv_heads": 3, "head_dim": 10, "mlp_dim": 50},
        {"rope_scaling": LLAMA3, "rope_theta": 100.0, "head_dim": 32, "context_size": 256},
        {"norm_eps": 0.1, "rope_theta": 100.0},
    ],
    ids=["plain", "grouped", "one-kv-head", "odd-sizes", "llama3-rope", "eps-theta"],
)
def test_same_logits_as_transformers(make_model, qk_norm, tie_embeddings, settings):
    model = make_model(qk_norm=qk_norm, tie_embeddings=tie_embeddings, spread=0.1, **settings)
    ids = random_ids(2, model.config.context_size)
    with torch.no_grad():
        torch.testing.assert_close(model(ids), reference(model)(ids).logits, atol=1e-5, rtol=1e-5)


def test_rmsnorm_is_that_of_torch():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 16) * torch.logspace(-4, 2, 5)[:, None]
    ours, theirs = RMSNorm(16, eps=1e-5), torch.nn.RMSNorm(16, eps=1e-5)
    gain = torch.randn(16)
    ours.gain.data, theirs.weight.data = gain, gain
    torch.testing.assert_close(ours(x), theirs(x))


def test_rmsnorm_sums_in_float32():
    x = torch.full((4096,), 0.5, dtype=torch.bfloat16)
    assert (RMSNorm(4096).to(torch.bfloat16)(x) == 1).all()


@pytest.mark.parametrize("positions", ["shared", "per-row"])
def test_rope_is_that_of_transformers(positions):
    config = DecoderConfig(10, head_dim=8, context_size=50)
    cos, sin = rope_tables(config)
    torch.manual_seed(0)
    q, k = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8)
    places = (
        torch.arange(6).expand(2, 6) if positions == "shared" else torch.stack([torch.arange(6), torch.arange(9, 15)])
    )
    ours_cos, ours_sin = cos[places][:, None], sin[places][:, None]  # (batch, 1, time, head_dim/2)
    twice = [torch.cat((table[places], table[places]), dim=-1) for table in (cos, sin)]
    for mine, theirs in zip(
        (rope(q, ours_cos, ours_sin), rope(k, ours_cos, ours_sin)), apply_rotary_pos_emb(q, k, *twice), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_rope_depends_on_distance_only():
    cos, sin = rope_tables(DecoderConfig(10, head_dim=8, context_size=50))
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8)
    products = [
        (rope(q, cos[t + 3 : t + 4], sin[t + 3 : t + 4]) * rope(k, cos[t : t + 1], sin[t : t + 1])).sum()
        for t in (0, 7, 40)
    ]
    torch.testing.assert_close(torch.stack(products), products[0].expand(3))


def test_no_look_ahead(make_model):
    model, ids = make_model(), random_ids(1, 12)
    with torch.no_grad():
        before = model(ids)
        for t in range(12):
            changed = ids.clone()
            changed[0, t] = (ids[0, t] + 1) % 384
            after = model(changed)
            assert torch.equal(after[:, :t], before[:, :t])
            assert not torch.allclose(after[:, t], before[:, t])


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_first_loss_is_that_of_guessing(tie_embeddings):
    torch.manual_seed(0)
    model = DecoderLanguageModel(4096, 64, 4, 4, 0, tie_embeddings=tie_embeddings)
    ids = random_ids(4, 128, vocab_size=4096)
    loss = F.cross_entropy(model(ids).flatten(0, 1), random_ids(4, 128, seed=2, vocab_size=4096).flatten())
    assert abs(loss.item() - math.log(4096)) < 0.1


def test_first_weights_keep_the_stream_small():
    torch.manual_seed(0)
    model = DecoderLanguageModel(1000, 64, 4, 8, 0)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            assert (weight == 1).all(), name
        else:
            adds = name.endswith(("attention.output.weight", "mlp.down.weight"))
            assert weight.std().item() == pytest.approx(0.02 / math.sqrt(16) if adds else 0.02, rel=0.05), name


@pytest.mark.parametrize("settings", [{}, {"tie_embeddings": False, "num_kv_heads": 2}, {"qk_norm": False}])
def test_gradient_reaches_every_parameter(make_model, settings):
    model = make_model(**settings)
    ids = torch.arange(1, 65)[None]
    F.cross_entropy(model(ids)[0], ids[0]).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    "settings", [{}, {"num_kv_heads": 2, "tie_embeddings": False}, {"qk_norm": False, "head_dim": 6}]
)
def test_number_of_parameters(settings):
    model = DecoderLanguageModel(384, 32, 4, 3, None, **settings)
    c = model.config
    attention = 2 * c.emb_dim * c.num_heads * c.head_dim + 2 * c.emb_dim * c.num_kv_heads * c.head_dim
    norms = 2 * c.emb_dim + (2 * c.head_dim if c.qk_norm else 0)
    block = attention + 3 * c.emb_dim * c.mlp_dim + norms
    tables = (1 if c.tie_embeddings else 2) * c.vocab_size * c.emb_dim
    assert model.num_parameters() == tables + 3 * block + c.emb_dim


def test_promised_arguments():
    model = DecoderLanguageModel(100, 24, 2, 3, 5, context_size=16)
    config = model.config
    assert (config.vocab_size, config.emb_dim, config.num_heads, config.num_blocks, config.pad_idx) == (
        100,
        24,
        2,
        3,
        5,
    )
    assert model(random_ids(2, 16, vocab_size=100)).shape == (2, 16, 100)
    assert DecoderLanguageModel.from_config(config).config == config
    assert (model.embedding.weight[5] == 0).all()
    assert (
        DecoderLanguageModel(vocab_size=10, emb_dim=8, num_heads=2, num_blocks=1, pad_idx=None).config.pad_idx is None
    )


def test_filled_in_settings():
    config = DecoderConfig(100, emb_dim=128, num_heads=4)
    assert (config.head_dim, config.num_kv_heads, config.mlp_dim) == (32, 4, 352)  # 8/3 · 128 = 341.3, in steps of 32


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"emb_dim": 100, "num_heads": 3}, "emb_dim=100 is not divisible by num_heads=3: try emb_dim=102"),
        ({"emb_dim": 12, "num_heads": 4}, "head_dim=3 is odd"),
        ({"num_heads": 4, "num_kv_heads": 3}, "num_heads=4 is not divisible by num_kv_heads=3"),
        ({"num_kv_heads": 8}, "num_heads=4 is not divisible by num_kv_heads=8"),
        ({"num_blocks": 0}, "num_blocks=0 must be a whole number of at least 1"),
        ({"head_dim": 0}, "head_dim=0 must be"),
        ({"mlp_dim": -1}, "mlp_dim=-1 must be"),
        ({"emb_dim": 64.0}, r"emb_dim=64\.0 must be a whole number"),
        ({"context_size": "256"}, "context_size='256' must be a whole number"),
        ({"pad_idx": 100}, "pad_idx=100 is not an id of a vocabulary of 100"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling lacks .*high_freq_factor"),
    ],
)
def test_impossible_settings(settings, told):
    with pytest.raises(ValueError, match=told):
        DecoderConfig(100, **settings)


def test_wrong_input(make_model):
    model = make_model()
    with pytest.raises(ValueError, match="65 tokens are more than context_size=64"):
        model(random_ids(1, 65))
    with pytest.raises(ValueError, match=r"ids has shape \(3,\): expected \(batch, time\)"):
        model(random_ids(3))
    with pytest.raises(ValueError, match="give a cache"):
        model(random_ids(1, 3), lengths=torch.tensor([2]))


@pytest.mark.parametrize("settings", [{}, {"qk_norm": False, "num_kv_heads": 2}])
@pytest.mark.parametrize("how", ["model.to", "autocast"])
def test_bfloat16_is_close(make_model, settings, how):
    model, ids = make_model(spread=0.1, **settings), random_ids(2, 32)
    with torch.no_grad():
        exact = model(ids)
        if how == "model.to":
            model = model.to(torch.bfloat16)
            rough = model(ids)
            cache = model.new_cache(2, 32)
            stepwise = torch.cat([model(ids[:, :20], cache), model(ids[:, 20:21], cache), model(ids[:, 21:], cache)], 1)
            assert cache.keys.dtype == rough.dtype == torch.bfloat16
            torch.testing.assert_close(stepwise.float(), exact, atol=0.1, rtol=0.05)
        else:
            with torch.autocast("cpu", torch.bfloat16):
                rough = model(ids)
    torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.05)


def test_autocast_trains(make_model):
    model, ids = make_model(spread=0.1), random_ids(2, 32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(ids).float().flatten(0, 1), ids.flatten())
    loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_angles_survive_half_precision(make_model):
    model = make_model()
    cos, sin = rope_tables(model.config)
    model = model.to(torch.bfloat16).float()
    assert torch.equal(model.cos, cos) and torch.equal(model.sin, sin)


# The cache. The reference is the same model without one.

SHAPES = [{}, {"num_kv_heads": 2}, {"qk_norm": False, "num_kv_heads": 1}, {"rope_scaling": LLAMA3, "head_dim": 12}]


def assert_same(cached, uncached):
    torch.testing.assert_close(cached, uncached, atol=1e-5, rtol=1e-5)


@pytest.fixture(params=SHAPES, ids=["plain", "grouped", "llama", "llama3-rope"])
def model(request, make_model):
    with torch.inference_mode():
        yield make_model(spread=0.1, **request.param)


@pytest.mark.parametrize("cuts", [[1] * 24, [23, 1], [10, *[1] * 14], [7, 7, 7, 3], [1, 22, 1], [24]], ids=str)
def test_cached_equals_uncached(model, cuts):
    ids = random_ids(3, 24)
    cache = model.new_cache(3, 24)
    cached = torch.cat([model(part, cache) for part in ids.split(cuts, dim=1)], dim=1)
    assert_same(cached, model(ids))
    assert cache.lengths.tolist() == [24] * 3 and cache.longest == 24 and not cache.ragged


@pytest.mark.parametrize("cuts", [[9], [4, 4, 1], [1] * 9], ids=str)
def test_prompts_of_different_lengths(model, cuts):
    """Each row is a text of its own length, padded; then all go on together, one token and several at a time."""
    lengths, more = torch.tensor([9, 2, 5, 1]), 8
    ids = random_ids(4, 9 + more)
    cache, start = model.new_cache(4, 9 + more), 0
    got = [[] for _ in lengths]
    for cut in cuts:
        counts = (lengths - start).clamp(0, cut)
        logits = model(ids[:, start : start + cut], cache, lengths=counts)
        for row, count in enumerate(counts):
            got[row].append(logits[row, :count])
        start += cut
    for cut in (1, 1, 3, 1, 2):
        at = cache.lengths[:, None] + torch.arange(cut)
        logits = model(ids.gather(1, at), cache)
        for row in range(4):
            got[row].append(logits[row])
    assert cache.lengths.tolist() == (lengths + more).tolist() and cache.ragged
    for row, length in enumerate(lengths.tolist()):
        alone = model(ids[row : row + 1, : length + more])[0]
        assert_same(torch.cat(got[row]), alone)


def test_roll_back_and_go_on(model):
    ids, other = random_ids(2, 20), random_ids(2, 20, seed=2)
    cache = model.new_cache(2, 20)
    model(other, cache)
    cache.set_lengths(torch.tensor([0, 0]))
    assert_same(model(ids[:, :6], cache), model(ids)[:, :6])
    model(other[:, :9], cache)  # nine tokens that are not kept
    cache.set_lengths(torch.tensor([6, 6]))
    rest = [
        model(ids[:, 6:7], cache),
        model(ids[:, 7:12], cache),
        *(model(ids[:, t : t + 1], cache) for t in range(12, 20)),
    ]
    assert_same(torch.cat(rest, dim=1), model(ids)[:, 6:])


def test_roll_back_rows_to_different_lengths(model):
    ids, other = random_ids(3, 20), random_ids(3, 20, seed=2)
    cache = model.new_cache(3, 20)
    model(ids[:, :8], cache)
    model(other[:, :6], cache)
    kept = torch.tensor([8, 3, 0])
    cache.set_lengths(kept)
    assert cache.ragged and cache.longest == 8
    for count in (1, 4, 1, 2, 1):
        at = cache.lengths[:, None] + torch.arange(count)
        cached, uncached = model(ids.gather(1, at), cache), model(ids)
        assert_same(cached, uncached[torch.arange(3)[:, None], at])
    cache.set_lengths(torch.tensor([5, 5, 5]))  # even again: the short way is taken
    assert not cache.ragged
    assert_same(torch.cat([model(ids[:, t : t + 1], cache) for t in range(5, 15)], dim=1), model(ids)[:, 5:15])


def test_rows_count_differently_in_one_step(model):
    """As a speculative step needs it: three tokens are read, of each row another number is kept."""
    ids = random_ids(3, 20)
    cache, uncached = model.new_cache(3, 20), model(ids)
    model(ids[:, :5], cache)
    for kept in ([3, 1, 2], [1, 3, 0], [2, 2, 2]):
        at = cache.lengths[:, None] + torch.arange(3)
        assert_same(model(ids.gather(1, at), cache, lengths=torch.tensor(kept)), uncached[torch.arange(3)[:, None], at])
    assert cache.lengths.tolist() == [11, 11, 9]


def test_full_cache(make_model):
    model, cache = make_model(), None
    cache = model.new_cache(2, 10)
    with torch.inference_mode():
        model(random_ids(2, 8), cache)
        with pytest.raises(ValueError, match=r"holds 10 tokens a row, 8 are used, 3 more do not fit: .*max_length=11"):
            model(random_ids(2, 3), cache)
        assert cache.lengths.tolist() == [8, 8]
        model(random_ids(2, 2), cache)  # to the brim
        with pytest.raises(ValueError, match="10 are used, 1 more do not fit"):
            model(random_ids(2, 1), cache)
        cache.set_lengths(torch.tensor([10, 2]))
        with pytest.raises(ValueError, match="10 are used, 1 more do not fit"):
            model(random_ids(2, 1), cache)


def test_cache_longer_than_the_context(make_model):
    model = make_model()
    cache = model.new_cache(1, 100)
    with torch.inference_mode():
        model(random_ids(1, 60), cache)
        with pytest.raises(ValueError, match="65 tokens are more than context_size=64"):
            model(random_ids(1, 5), cache)


@pytest.mark.parametrize(
    "lengths, told", [([1], "2 rows"), ([1, 11], "do not lie between 0 and 10"), ([-1, 4], "between")]
)
def test_impossible_roll_back(make_model, lengths, told):
    cache = KVCache(make_model().config, 2, 10)
    cache.advance(4)
    with pytest.raises(ValueError, match=told):
        cache.set_lengths(torch.tensor(lengths))
    assert cache.lengths.tolist() == [4, 4] and cache.longest == 4 and not cache.ragged


def test_cache_stays_small(make_model):
    """Grouped heads are stored once, not once per query head."""
    cache = make_model(num_kv_heads=1).new_cache(3, 40)
    assert cache.keys.shape == cache.values.shape == (2, 3, 1, 40, 8)


def test_logits_where_they_are_wanted(make_model):
    """`where` computes some positions only, and the same numbers there; gradients too."""
    model, ids = make_model(), torch.randint(384, (3, 10))
    where = torch.rand(3, 10) < 0.3
    torch.testing.assert_close(model(ids, where=where), model(ids)[where])
    model(ids)[where].square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model(ids, where=where).square().sum().backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-3, atol=1e-3)
