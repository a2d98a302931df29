"""What these tests protect: who writes is chosen by what is asked for, a packed decoder never answers for weights that
have changed since, and it lives no longer than its model, which knows nothing of it."""

import copy
import gc
import pickle
import warnings
import weakref

import pytest
import torch

from ai4india_lib import DynamicBatcher, Sampling, add_lora, generate
from ai4india_lib.inference import fast
from ai4india_lib.inference.fast import fast_decoder, pick_decoder
from ai4india_lib.inference.packed import FastDecoder


def random_ids(*shape, seed=1):
    return torch.randint(1, 384, shape, generator=torch.Generator().manual_seed(seed))


def assert_same(decoder, model):
    ids = random_ids(1, 6)
    torch.testing.assert_close(decoder(ids, decoder.new_cache(1, 6)), model(ids), atol=1e-5, rtol=1e-5)


def test_who_writes_how_much(make_model):
    model = make_model()
    assert pick_decoder(model, 0) is pick_decoder(model, fast.PACK_FROM - 1) is model
    packed = pick_decoder(model, fast.PACK_FROM)
    assert type(packed) is FastDecoder and not packed.int8
    assert pick_decoder(model) is packed is fast_decoder(model)
    rounded = pick_decoder(model, 1, int8=True)  # asked for: whatever it costs
    assert rounded.int8 and pick_decoder(model, 1) is model
    add_lora(model, rank=2)
    assert pick_decoder(model) is model
    with pytest.raises(ValueError, match="merge them first"):
        pick_decoder(model, int8=True)


def test_the_text_is_the_same_with_and_without_packing(make_model, monkeypatch):
    model, settings = make_model(), {"max_new_tokens": 40, "sampling": Sampling(seed=3)}
    packed = generate(model, [[1, 40, 50], [1, 7]], **settings)
    assert model in fast._made
    monkeypatch.setattr(fast, "PACK_FROM", 1000)
    plain = make_model()
    assert generate(plain, [[1, 40, 50], [1, 7]], **settings) == packed
    assert plain not in fast._made


def test_what_cannot_be_compiled_is_written_all_the_same(make_model, monkeypatch):
    model, settings = make_model(), {"max_new_tokens": 30, "sampling": Sampling(temperature=0)}
    expected = generate(model, [[1, 40, 50]], **settings)
    monkeypatch.setattr(fast, "obstacle", lambda: "needs a C++ compiler, and none was found: install g++ or clang")
    for int8 in (False, True):
        with pytest.warns(UserWarning, match=r"install g\+\+ or clang; going on uncompiled$"):
            assert fast_decoder(model, compiled=True, int8=int8) is fast_decoder(model, int8=int8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert generate(model, [[1, 40, 50]], compiled=True, **settings) == expected
    with pytest.warns(UserWarning, match="going on uncompiled$"):
        batcher = DynamicBatcher(make_model(), slots=2, compiled=True)
    request = batcher.submit([1, 40, 50], **settings)
    batcher.run()
    assert request.tokens == expected[0]


# A decoder is a copy: it must be seen when the model has changed.


def in_place(model):
    with torch.no_grad():
        model.blocks[1].mlp.down.weight[3, 5] += 1e-6


def behind_torch(model):
    model.blocks[0].attention.key.weight.data[0, 0] = 0.123


def a_step_of_training(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    optimizer.step()


def another_gain(model):
    model.norm.gain.data.mul_(1.5)


def loaded(model):
    model.load_state_dict({name: weight * 1.1 for name, weight in model.state_dict().items()})


def another_parameter(model):
    model.blocks[0].mlp.up.weight = torch.nn.Parameter(model.blocks[0].mlp.up.weight * 2)


@pytest.mark.parametrize(
    "change",
    [in_place, behind_torch, a_step_of_training, another_gain, loaded, another_parameter],
    ids=lambda f: f.__name__,
)
def test_a_changed_model_is_packed_anew(make_model, change):
    model = make_model(spread=0.1)
    before = fast_decoder(model)
    assert fast_decoder(model) is before
    change(model)
    after = fast_decoder(model)
    assert after is not before
    assert_same(after, model)
    assert fast_decoder(model) is after


def test_other_dtypes_and_int8_are_packed_anew(make_model):
    model = make_model(spread=0.1)
    exact, rounded = fast_decoder(model), fast_decoder(model, int8=True)
    assert rounded.int8 and not exact.int8
    assert fast_decoder(model) is exact and fast_decoder(model, int8=True) is rounded  # neither takes the other's place
    assert fast_decoder(model.to(torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("int8", [False, True])
def test_a_model_that_is_gone_takes_its_decoder_with_it(make_model, int8):
    model, kept = make_model(), make_model()
    fast_decoder(kept)
    gc.collect()  # models of other tests
    before = len(fast._made)
    decoder = fast_decoder(model, int8=int8)
    decoder(random_ids(1, 5), decoder.new_cache(1, 5))
    packed, gone = weakref.ref(decoder), weakref.ref(model)
    del decoder
    gc.collect()
    assert packed() is not None  # kept for the next text
    del model
    gc.collect()
    assert gone() is None and packed() is None and len(fast._made) == before and kept in fast._made


def test_a_decoder_that_is_held_works_without_its_model(make_model):
    model, ids = make_model(), random_ids(1, 6)
    expected, decoder, gone = model(ids), fast_decoder(model), weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    torch.testing.assert_close(decoder(ids, decoder.new_cache(1, 6)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_model_is_packed_for_itself(make_model, copied):
    model = make_model()
    decoder = fast_decoder(model)
    other = copied(model)
    assert vars(other).keys() == vars(model).keys() == vars(make_model()).keys()  # nothing was hung on the model
    ids = random_ids(1, 6)
    assert torch.equal(other(ids), model(ids))
    other.norm.gain.data.mul_(2)
    assert fast_decoder(other) is not decoder and fast_decoder(model) is decoder
    assert_same(fast_decoder(other), other)
