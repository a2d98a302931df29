"""Protects inference.requests: whatever shape a prompt comes in, it is understood or told in a sentence, everywhere."""

import numpy as np
import pytest
import torch

from ai4india_lib.inference.continuous_batching import DynamicBatcher
from ai4india_lib.inference.generation import generate, generate_text, stream_reply
from ai4india_lib.inference.sampling import Sampling
from ai4india_lib.inference.speculative import NgramDraft, speculative_generate
from ai4india_lib.text.tokenizer import encode_prompt

GREEDY = Sampling(temperature=0)
IDS = [1, 40, 50]


def write_one(model, prompt, way, **more):
    """The new ids for one prompt, by each of the ways to write."""
    more = {"max_new_tokens": 4, "sampling": GREEDY} | more
    if way == "generate":
        return generate(model, [prompt], **more)[0]
    if way == "speculation":
        return speculative_generate(model, prompt, NgramDraft(), **more).ids
    batcher = DynamicBatcher(model, slots=1)
    request = batcher.submit(prompt, **more)
    batcher.run()
    return request.tokens


WAYS = pytest.mark.parametrize("way", ["generate", "speculation", "batcher"])


@WAYS
@pytest.mark.parametrize(
    "prompt",
    [tuple(IDS), torch.tensor(IDS), torch.tensor(IDS, dtype=torch.int32), np.array(IDS), [np.int64(i) for i in IDS]],
    ids=["tuple", "tensor", "int32", "array", "numbers of numpy"],
)
def test_ids_of_any_kind_are_ids(make_model, way, prompt):
    model = make_model()
    assert write_one(model, prompt, way) == write_one(model, IDS, way)


@WAYS
@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("एक दिन", "is text, 'एक दिन', not ids: encode it, with encode_prompt"),
        (b"ab", "is text, b'ab'"),
        ([], "nothing to write on: each prompt needs at least one id"),
        (torch.empty(0, dtype=torch.long), "nothing to write on"),
        ([[1, 40]], "must be a list of ids, whole numbers, such as [1, 40, 50]; it holds [1, 40]"),
        (torch.tensor([[1, 40]]), "it holds [1, 40]"),
        (["1", "40"], "it holds '1'"),
        (["एक दिन"], "it holds 'एक दिन'"),
        ([1, 2.5], "it holds 2.5"),
        ([1, 2.0], "it holds 2.0"),
        (np.array([1.0, 2.0]), "it holds 1.0"),
        ([1, True], "it holds True"),
        ([1, None], "it holds None"),
        ([1, 384], "has id 384, the model knows 0 to 383: was it encoded with another tokenizer?"),
        ([1, -1], "has id -1, the model knows 0 to 383"),
        ([10**30], "has id 1000"),
        ({"input_ids": [1, 40]}, "must be a list of ids, such as [1, 40, 50]; got {'input_ids'"),
        (None, "got None"),
        (torch.tensor(5), "got 5"),
    ],
    ids=str,
)
def test_what_is_no_prompt_is_told(make_model, way, prompt, told):
    with pytest.raises(ValueError) as error:
        write_one(make_model(), prompt, way)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        (IDS, "prompts must be a list of prompts, each a list of ids: for one prompt give [[1, 40, 50]]"),
        (torch.tensor(IDS), "for one prompt give [[1, 40, 50]]"),
        (np.array(IDS), "for one prompt give [[1, 40, 50]]"),
        ("एक दिन", "prompts is text, 'एक दिन', not ids"),
        (["एक दिन"], "prompt 0 is text, 'एक दिन', not ids"),
        ([IDS, "एक"], "prompt 1 is text, 'एक', not ids"),
        ([], "nothing to write on"),
        ([IDS, []], "nothing to write on"),
        ([IDS, [1, 2.5]], "prompt 1 must be a list of ids, whole numbers, such as [1, 40, 50]; it holds 2.5"),
        (torch.tensor([[1.0, 2.0]]), "it holds 1.0"),
        ({"input_ids": [IDS]}, "prompts must be a list of ids"),
        (None, "got None"),
        (True, "got True"),
    ],
    ids=str,
)
def test_prompts_of_another_shape_are_told(make_model, prompts, told):
    with pytest.raises(ValueError) as error:
        generate(make_model(), prompts, max_new_tokens=2)
    assert told in str(error.value)


def test_a_tensor_has_one_prompt_in_each_row(make_model):
    model, rows = make_model(), [[1, 40, 50], [1, 60, 70]]
    expected = generate(model, rows, max_new_tokens=4, sampling=GREEDY)
    for prompts in (torch.tensor(rows), np.array(rows), tuple(rows), (row for row in rows)):
        assert generate(model, prompts, max_new_tokens=4, sampling=GREEDY) == expected


@WAYS
def test_stop_ids_and_counts_of_another_shape_are_told(make_model, way):
    model = make_model()
    end = write_one(model, IDS, way)[1]
    for stops in ([end], (end,), {end}, np.array([end]), torch.tensor([end]), [np.int64(end)]):
        assert write_one(model, IDS, way, stop_ids=stops)[-1] == end
    wrong = ((2, "give [2]"), ("2", "is text"), ([2.5], "it holds 2.5"), (["<|end|>"], "it holds '<|"), (1.5, "1.5"))
    for stops, told in wrong:
        with pytest.raises(ValueError, match="stop_ids") as error:
            write_one(model, IDS, way, stop_ids=stops)
        assert told in str(error.value)
    for count in (-1, 2.5, "4", None, True, float("inf")):
        with pytest.raises(ValueError, match=r"cannot write .+ tokens: their number must be whole, and 0 or more"):
            write_one(model, IDS, way, max_new_tokens=count)
    assert len(write_one(model, IDS, way, max_new_tokens=np.int64(3))) == 3
    with pytest.raises(ValueError, match="model is a tuple: load_model gives two things"):
        generate((model, None), [IDS], max_new_tokens=2)


@pytest.mark.parametrize("text", [IDS, ["एक"], None, 5, torch.tensor(IDS)], ids=str)
def test_what_is_no_text_is_told(make_model, tokenizer, text):
    for write in (
        lambda: generate_text(make_model(), text, tokenizer, "cpu", 3),
        lambda: encode_prompt(tokenizer, text),
    ):
        with pytest.raises(TypeError, match="the prompt must be text, not "):
            write()
    with pytest.raises(ValueError, match="messages must be"):
        next(stream_reply(make_model(), text, tokenizer, 3))


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (torch.tensor([[1, 999]]), "ids go from 1 to 999, the model knows 0 to 383: were they encoded with another"),
        (torch.tensor([[-1, 9]]), "ids go from -1 to 9, the model knows 0 to 383"),
        (torch.tensor(IDS), r"ids has shape \(3,\): expected \(batch, time\)"),
        (torch.tensor([[1.0, 2.0]]), "ids are of torch.float32: ids are whole numbers, torch.long"),
        (torch.tensor([[True, False]]), "ids are of torch.bool"),
        (torch.empty(1, 0, dtype=torch.long), r"ids has shape \(1, 0\): there is nothing to read"),
        (torch.empty(0, 3, dtype=torch.long), r"ids has shape \(0, 3\): there is nothing to read"),
        ([[1, 40]], "ids must be a tensor .batch, time., not list"),
        (np.array([[1, 40]]), "ids must be a tensor .batch, time., not ndarray"),
        ("एक दिन", "ids must be a tensor .batch, time., not str"),
    ],
    ids=str,
)
def test_what_the_model_cannot_read_is_told(make_model, ids, told):
    with pytest.raises(ValueError, match=told):
        make_model()(ids)
    with pytest.raises(ValueError, match=told):
        make_model().hidden(ids, make_model().new_cache(1, 9))


@WAYS
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=0)], ids=["greedy", "drawn"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("count", [1, 4, 40])  # written by the model, or by a packed one
def test_a_damaged_model_writes_nothing(make_model, way, sampling, value, count):
    model = make_model()
    with torch.no_grad():
        model.blocks[1].mlp.down.weight[0, 0] = value
    with pytest.raises(FloatingPointError, match="the model's logits are not numbers: its weights may be damaged"):
        write_one(model, IDS, way, sampling=sampling, max_new_tokens=count)
