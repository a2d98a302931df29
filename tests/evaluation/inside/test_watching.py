"""Protects `watch`: what it shows is what flowed, what it replaces is replaced there alone, and nothing of it stays."""

import pytest
import torch
import transformers

from ai4india_lib.evaluation.inside.watching import Patch, watch
from ai4india_lib.formats.pretrained import save_model

IDS = torch.tensor([[5, 9, 300, 9, 41, 7, 7, 88], [1, 2, 3, 4, 5, 6, 7, 8]])  # (batch=2, time=8)
SHAPES = [{"num_kv_heads": 2}, {"num_kv_heads": 4}, {"num_kv_heads": 1, "qk_norm": True, "num_blocks": 3}]


def hooks_of(model):
    return [
        hook
        for module in model.modules()
        for kept in (module._forward_hooks, module._forward_pre_hooks)
        for hook in kept.values()
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_seen_is_what_transformers_computes(make_model, tokenizer, tmp_path, shape):
    """The stream of every layer, and attention's weights, which our own model never shows."""
    model = make_model(**shape)
    folder = save_model(model, tokenizer, tmp_path / "model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad():
        reference = theirs(IDS, output_hidden_states=True, output_attentions=True)
        with watch(model) as seen:
            logits = model(IDS)
    assert torch.allclose(logits, reference.logits, atol=2e-4)
    for layer, expected in enumerate(reference.hidden_states[:-1]):  # theirs: the last one is normalised
        assert torch.allclose(seen.stream[layer], expected, atol=2e-4), layer
    assert torch.allclose(model.norm(seen.stream[-1]), reference.hidden_states[-1], atol=2e-4)
    for block, expected in enumerate(reference.attentions):
        assert torch.allclose(seen.attention(block), expected, atol=1e-5), block


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_the_parts_of_a_block_add_up_to_what_it_adds_to_the_stream(make_model, shape):
    model = make_model(**shape)
    with watch(model) as seen:
        model(IDS)
    for block in range(model.config.num_blocks):
        added = seen.head_outputs(block).sum(2) + seen.mlp[block]  # (batch, time, emb_dim)
        assert torch.allclose(seen.stream[block] + added, seen.stream[block + 1], atol=1e-4)


@torch.no_grad()
def test_watching_changes_no_bit_and_leaves_no_trace(make_model):
    model = make_model(num_kv_heads=2)
    before = model(IDS)
    with watch(model), watch(model) as inner:  # one within the other, too
        during = model(IDS)
    assert torch.equal(before, during) and torch.equal(before, model(IDS)) and hooks_of(model) == []
    assert len(inner.stream) == 3 and len(inner.heads) == len(inner.mlp) == 2  # still readable, and of one pass


@torch.no_grad()
def test_nothing_stays_after_an_error_within_the_block_or_within_the_model(make_model):
    model = make_model()
    with pytest.raises(KeyError), watch(model, Patch("mlp", 0, 0.0)):
        raise KeyError("the learner's own")
    assert hooks_of(model) == []
    with pytest.raises(ValueError, match="does not fit"), watch(model, Patch("mlp", 0, torch.zeros(5))):
        model(IDS)
    assert hooks_of(model) == []


@torch.no_grad()
def test_a_second_pass_takes_the_first_ones_place(make_model):
    model = make_model()
    with watch(model) as seen:
        model(IDS)
        model(IDS[:1, :3])
    assert [tuple(x.shape) for x in seen.stream] == [(1, 3, 32)] * 3 and seen.attention(0).shape == (1, 4, 3, 3)


@torch.no_grad()
def test_own_values_put_back_change_nothing(make_model):
    model = make_model(num_kv_heads=2)
    with watch(model) as seen:
        before = model(IDS)
    own = [Patch(part, layer, getattr(seen, part)[layer]) for part in ("stream", "heads", "mlp") for layer in (0, 1)]
    with watch(model, *own, Patch("stream", 2, seen.stream[2])):
        assert torch.equal(model(IDS), before)


@torch.no_grad()
def test_the_whole_stream_of_another_text_gives_the_other_text(make_model):
    model = make_model()
    other = IDS.flip(1)
    with watch(model) as seen:
        expected = model(other)
    for layer, stream in enumerate(seen.stream):
        with watch(model, Patch("stream", layer, stream)):
            assert torch.allclose(model(IDS), expected, atol=1e-5), layer


@torch.no_grad()
def test_one_place_is_replaced_and_no_other(make_model):
    """And only later tokens, of later layers, can feel it."""
    model = make_model()
    with watch(model) as plain:
        model(IDS)
    with watch(model, Patch("heads", 1, 7.0, position=3, head=2)) as seen:
        model(IDS)
    changed = seen.heads[1] != plain.heads[1]  # (batch, time, heads, head_dim)
    assert changed[:, 3, 2].all() and changed.sum() == changed[:, 3, 2].numel()
    assert torch.equal(seen.stream[1], plain.stream[1])
    felt = (seen.stream[2] != plain.stream[2]).any(-1)  # (batch, time): behind its MLP only that position
    assert felt.tolist() == [[position == 3 for position in range(8)]] * 2


@torch.no_grad()
def test_a_head_switched_off_is_a_model_without_its_part_of_the_output_matrix(make_model):
    model, without = make_model(num_kv_heads=2), make_model(num_kv_heads=2)
    without.blocks[1].attention.output.weight[:, 2 * 8 : 3 * 8] = 0  # head 2, of width 8
    with watch(model, Patch("heads", 1, 0.0, head=2)):
        assert torch.allclose(model(IDS), without(IDS), atol=1e-5)


@torch.no_grad()
def test_each_row_may_have_its_own_position(make_model):
    model = make_model()
    values = torch.randn(2, 32)
    with watch(model, Patch("stream", 1, values, position=torch.tensor([2, 6]))) as seen:
        model(IDS)
    assert torch.equal(seen.stream[1][[0, 1], [2, 6]], values)
    with watch(model, Patch("mlp", 0, 0.0, position=slice(4, None))) as seen:
        model(IDS)
    assert (seen.mlp[0][:, 4:] == 0).all() and (seen.mlp[0][:, :4] != 0).any()


def test_gradients_go_through_a_patch_and_what_is_noted_holds_no_graph(make_model):
    model, value = make_model(), torch.zeros(8, requires_grad=True)
    with watch(model, Patch("heads", 0, value, head=1)) as seen:
        model(IDS).square().mean().backward()
    assert value.grad.abs().sum() > 0 and not seen.stream[2].requires_grad


@pytest.mark.parametrize(
    "patch, words",
    [
        (Patch("attention", 0, 0.0), "there are stream, heads, mlp"),
        (Patch("heads", 2, 0.0), "has heads 0 to 1"),
        (Patch("stream", 3, 0.0), "has stream 0 to 2"),
        (Patch("mlp", -1, 0.0), "has mlp 0 to 1"),
        (Patch("heads", 0, 0.0, head=4), "has heads 0 to 3"),
        (Patch("mlp", 0, 0.0, head=1), "leave it out"),
    ],
)
def test_a_place_that_is_not_there_is_told_before_anything_runs(make_model, patch, words):
    model = make_model()
    with pytest.raises(ValueError, match=words), watch(model, patch):
        pytest.fail("should not begin")
    assert hooks_of(model) == []


@torch.no_grad()
def test_what_cannot_be_watched_is_told(make_model):
    model = make_model()
    with watch(model) as seen:
        with pytest.raises(ValueError, match="nothing has passed yet"):
            seen.attention(0)
        with pytest.raises(ValueError, match="cache"):
            model(IDS, model.new_cache(2, 8))
    with pytest.raises(ValueError, match="does not fit"), watch(model, Patch("mlp", 0, 0.0, position=8)):
        model(IDS)
    with pytest.raises(TypeError, match="not Linear"), watch(torch.nn.Linear(2, 2)):
        pytest.fail("should not begin")


@torch.no_grad()
def test_attention_of_a_model_in_half_precision(make_model):
    """Rows of attention sum to 1 to float32's digits, also where the model computes in bfloat16."""
    model = make_model(qk_norm=True).bfloat16()
    with watch(model) as seen:
        model(IDS)
    assert torch.allclose(seen.attention(1).sum(-1), torch.ones(2, 4, 8), atol=1e-6)
