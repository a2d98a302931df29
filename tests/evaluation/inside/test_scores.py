"""Protects the scores of heads, the logit lens and the traces: each against a slow way to compute the same."""

import pytest
import torch

from ai4india_lib.evaluation.inside.scores import (
    Look,
    look_chance,
    look_shares,
    stream_logits,
    tokens_at,
    trace,
    trace_heads,
)
from ai4india_lib.evaluation.inside.watching import Patch, watch

ROWS = [[5, 9, 300, 9, 41, 7], [1, 2, 3], *([[8, 9, 10, 11]] * 20)]  # more than are read at once


def test_tokens_hold_the_characters_that_were_asked_for(tokenizer):
    text = "मीरा ने कहा, “मुझे प्यास लगी है।” मीरा हँसी 🙂।"
    spans = [(place, place + len("मीरा")) for place in range(len(text)) if text.startswith("मीरा", place)]
    ids, places = tokens_at(tokenizer, text, [*spans, (text.index("🙂"), text.index("🙂") + 1), (0, len(text))])
    said = [tokenizer.decode([ids[i] for i in found]).strip() for found in places]
    assert said == ["मीरा", "मीरा", "🙂", text]
    assert ids[0] == tokenizer.bos_token_id and places[-1] == list(range(1, len(ids)))


def test_a_text_that_spells_a_special_token_is_refused(tokenizer):
    with pytest.raises(ValueError, match="spells a special token"):
        tokens_at(tokenizer, "मीरा <|end|> ने", [(0, 4)])


@torch.no_grad()
def test_shares_are_those_of_each_row_read_alone(make_model):
    model = make_model(num_kv_heads=2)
    looks = [Look(0, 5, (0, 3)), Look(21, 3, (3,)), Look(1, 2, (0, 1, 2))]
    found = look_shares(model, ROWS, looks)
    for look, shares in zip(looks, found, strict=True):
        with watch(model) as seen:
            model(torch.tensor([ROWS[look.row]]))
        expected = [seen.attention(block)[0, :, look.at, list(look.to)].sum(-1) for block in (0, 1)]
        assert torch.allclose(shares, torch.stack(expected), atol=1e-5)
    assert torch.allclose(found[2], torch.ones(2, 4))  # all that it may see
    assert look_chance(looks).tolist() == pytest.approx([2 / 6, 1 / 4, 1])


@torch.no_grad()
def test_the_lens_of_the_last_layer_is_the_model(make_model):
    model, ids = make_model(), torch.tensor(ROWS[:1])
    with watch(model) as seen:
        logits = model(ids)
    assert torch.equal(stream_logits(model, seen.stream[-1]), logits)
    assert torch.allclose(stream_logits(model, seen.stream[0]), model.head(model.norm(model.embedding(ids))))


@torch.no_grad()
def test_a_trace_is_what_one_patch_after_the_other_gives(make_model):
    model = make_model(num_kv_heads=2)
    ids, other = torch.arange(20), torch.arange(20).roll(3)
    found, heads = trace(model, ids, other, (7, 90)), trace_heads(model, ids, other, (7, 90))

    def lead(tokens, *patches):
        with watch(model, *patches) as seen:
            last = model(tokens[None])[0, -1]
        return float(last[90] - last[7]), seen

    (own, _), (theirs, seen) = lead(ids), lead(other)
    for layer, position in ((0, 0), (1, 18), (2, 19)):
        patched, _ = lead(ids, Patch("stream", layer, seen.stream[layer][0, position], position=position))
        assert float(found[layer, position]) == pytest.approx((patched - own) / (theirs - own), abs=1e-3)
    patched, _ = lead(ids, Patch("heads", 1, seen.heads[1][0, :, 2], head=2))
    assert float(heads[1, 2]) == pytest.approx((patched - own) / (theirs - own), abs=1e-3)
    assert float(found[2, -1]) == pytest.approx(1, abs=1e-3)  # behind the blocks all is decided
    assert found[2, :-1].abs().max() < 1e-3


def test_texts_that_cannot_be_compared_are_told(make_model):
    model, ids = make_model(), torch.arange(5)
    with pytest.raises(ValueError, match="as many tokens"):
        trace(model, ids, torch.arange(6), (1, 2))
    with pytest.raises(ValueError, match="no difference to trace"):
        trace_heads(model, ids, ids, (1, 2))
