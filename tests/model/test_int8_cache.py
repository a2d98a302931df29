"""A cache in 8 bits: a quarter of the bytes, logits near those of a plain one, and every row on its own."""

import torch


def read(model, cache, *pieces, **lengths):
    with torch.inference_mode():
        return [model(piece, cache, **lengths) for piece in pieces]


def test_it_reads_like_a_plain_one_in_a_quarter_of_the_bytes(make_model):
    model = make_model(emb_dim=128, num_heads=2, num_kv_heads=1, spread=0.1)  # vectors of 64 numbers
    ids = torch.randint(7, 384, (2, 40), generator=torch.Generator().manual_seed(0))
    pieces = ids.split([20, 1, 1, 18], dim=1)
    plain, small = model.new_cache(2, 40), model.new_cache(2, 40, int8=True)
    exact, rounded = torch.cat(read(model, plain, *pieces), 1), torch.cat(read(model, small, *pieces), 1)
    assert 0 < (rounded - exact).norm() < 0.02 * exact.norm()
    size = sum(t.nbytes for t in (small.keys, small.values, small.key_scales, small.value_scales))
    assert small.keys.dtype == torch.int8 and size == (plain.keys.nbytes + plain.values.nbytes) * (1 + 4 / 64) / 4


def test_what_is_restored_is_within_half_a_step(make_model):
    model = make_model()
    cache, (keys, values) = model.new_cache(1, 5, int8=True), torch.randn(2, 1, 4, 5, 8).unbind(0)
    back = cache.update(1, keys, values, cache.positions(5))
    for stored, given in zip(back, (keys, values), strict=True):
        step = given.abs().amax(-1, keepdim=True) / 127
        assert ((stored - given).abs() <= 0.501 * step).all() and stored.dtype == given.dtype
    assert torch.equal(cache.update(0, 0 * keys, values, cache.positions(5))[0], 0 * keys)


def test_rows_of_different_lengths_copies_and_parts(make_model):
    model = make_model()
    ids = torch.randint(7, 384, (2, 12), generator=torch.Generator().manual_seed(1))
    alone = [read(model, model.new_cache(1, 12, int8=True), ids[i : i + 1, :n], ids[i : i + 1, -2:])[1]
             for i, n in enumerate((8, 5))]  # fmt: skip
    cache = model.new_cache(3, 12, int8=True)
    read(model, cache.rows(0, [0, 0]), ids[:, :8], lengths=torch.tensor([8, 5]))
    cache.copy_row(0, 2, 8)
    cache.set_lengths([8, 5, 8])
    (after,) = read(model, cache, torch.cat([ids[:, -2:], ids[:1, -2:]]))
    for row, wanted in enumerate([*alone, alone[0]]):
        assert torch.allclose(after[row], wanted[0], atol=1e-4), row
