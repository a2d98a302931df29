"""Lesson 08's feedback: right answers pass, and each usual mistake gets its own sentence."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from ai4india_lib.model.config import DecoderConfig
from ai4india_lib.model.decoder import DecoderLanguageModel


def parameters(c, *, mlp=3, kv_heads=None, norms=2, tables=None, last=1, qk=True, blocks=None, attention=None):
    kv_heads = kv_heads or c.num_kv_heads
    attention = attention or 2 * c.emb_dim * c.head_dim * (c.num_heads + kv_heads)
    block = attention + mlp * c.emb_dim * c.mlp_dim + norms * c.emb_dim + (2 * c.head_dim if c.qk_norm and qk else 0)
    tables = (2 - c.tie_embeddings) if tables is None else tables
    return tables * c.vocab_size * c.emb_dim + (blocks or c.num_blocks) * block + last * c.emb_dim


def by_building(c):
    with torch.device("meta"):
        return DecoderLanguageModel.from_config(c).num_parameters()


@pytest.mark.parametrize("answer", [parameters, by_building, lambda c: torch.tensor(parameters(c))])
def test_right_counts(accepted, answer):
    accepted("08.count_parameters", answer)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda c: parameters(c, tables=2), "although it is tied"),
        (lambda c: parameters(c, tables=1), "tie_embeddings=False"),
        (lambda c: parameters(c, tables=0), "table of the vocabulary is missing"),
        (lambda c: parameters(c, last=0), "between blocks and head"),
        (lambda c: parameters(c, norms=0), "norms in the blocks are missing"),
        (lambda c: parameters(c, norms=0, last=0), "All norms"),
        (lambda c: parameters(c, norms=1), "one norm"),
        (lambda c: parameters(c, qk=False), "qk_norm=True"),
        (lambda c: parameters(c, blocks=1), "One block"),
        (lambda c: parameters(c, mlp=2), "gate, up and down"),
        (lambda c: parameters(c, kv_heads=c.num_heads), "as many heads as queries"),
        (lambda c: parameters(c, attention=4 * c.emb_dim**2), "as 4 · emb_dim²"),
        (lambda c: parameters(c) + 7, "7 too many"),
        (lambda c: parameters(c) / 1, "int"),
        (lambda c: f"{parameters(c)}", "whole number"),
        (lambda c: c.width, "AttributeError"),
    ],
)
def test_wrong_counts(refused, answer, words):
    refused("08.count_parameters", answer, words)


def flops(c, time, *, head=1, attention=4, heads=None, kv_heads=None, mlp=3):
    matrices = 2 * c.emb_dim * c.head_dim * (c.num_heads + (kv_heads or c.num_kv_heads)) + mlp * c.emb_dim * c.mlp_dim
    block = 2 * matrices + attention * time * (heads or c.num_heads) * c.head_dim
    return c.num_blocks * block + head * 2 * c.vocab_size * c.emb_dim


def test_the_right_flops_are_those_of_llama():
    """The reference is PyTorch's counter on another implementation, but for the angles of RoPE: older versions of
    transformers make them by a product of matrices."""
    c = DecoderConfig(300, 48, 6, 2, None, 3, 10, 100, qk_norm=False)
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300, hidden_size=48, num_attention_heads=6, num_hidden_layers=2, num_key_value_heads=3,
            head_dim=10, intermediate_size=100, attn_implementation="eager",
        )
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        llama(torch.ones(1, 25, dtype=torch.long))
    angles = counter.get_flop_counts().get("LlamaForCausalLM.model.rotary_emb", {})
    assert counter.get_total_flops() - sum(angles.values()) == 25 * flops(c, 25)


def test_right_flops(accepted):
    accepted("08.flops", flops)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda c, t: flops(c, t) * t, "one token"),
        (lambda c, t: flops(c, t) // 2, "two FLOPs"),
        (lambda c, t: flops(c, t) * 3, "That is training"),
        (lambda c, t: flops(c, t, head=0), "head is missing"),
        (lambda c, t: flops(c, t, head=2), "look-up"),
        (lambda c, t: flops(c, t, attention=0), "does not grow"),
        (lambda c, t: flops(c, t, attention=2), "Half of the attention"),
        (lambda c, t: flops(c, t, heads=c.num_kv_heads), "*query* head"),
        (lambda c, t: flops(c, t, kv_heads=c.num_heads), "How wide"),
        (lambda c, t: flops(c, t, mlp=2), "gate, up, down"),
        (lambda c, t: 2 * parameters(c), "rule of thumb"),
        (lambda c, t: flops(c, t) - 1, "1 too few"),
        (lambda c, t: flops(c, t) / 1, "int"),
        (lambda c, t: flops(c, 10), "too few"),  # only right for the first length
    ],
)
def test_wrong_flops(refused, answer, words):
    refused("08.flops", answer, words)


def block(x, n1, a, n2, m):
    h = x + a(n1(x))
    return h + m(n2(h))


def block_in_place(x, n1, a, n2, m):
    x += a(n1(x))
    x += m(n2(x))
    return x


def post_norm(x, n1, a, n2, m):
    h = n1(x + a(x))
    return n2(h + m(h))


def same(h):
    return h


def test_right_block(accepted):
    accepted("08.decoder_block", block)


@pytest.mark.parametrize(
    "answer, words",
    [
        (block_in_place, "changed `x` in place"),
        (post_norm, "post-norm"),
        (lambda x, n1, a, n2, m: m(n2(a(n1(x)))), "residual is left out"),
        (lambda x, n1, a, n2, m: m(n2(x + a(n1(x)))), "second residual is left out"),
        (lambda x, n1, a, n2, m: block(0 * x, lambda h: n1(x), a, n2, m), "first residual is left out"),
        (lambda x, n1, a, n2, m: x + m(n2(a(n1(x)))), "never reaches the stream"),
        (lambda x, n1, a, n2, m: x + a(n1(x)) + m(n2(x)), "before attention"),
        (lambda x, n1, a, n2, m: x + m(n2(x + a(n1(x)))), "starts from x again"),
        (lambda x, n1, a, n2, m: x + a(n1(x)), "MLP is missing"),
        (lambda x, n1, a, n2, m: x + m(n2(x)), "Attention is missing"),
        (lambda x, n1, a, n2, m: block(x, n1, a, same, m), "MLP reads the stream without"),
        (lambda x, n1, a, n2, m: block(x, same, a, n2, m), "Attention reads the stream without"),
        (lambda x, n1, a, n2, m: block(x, same, a, same, m), "Neither part"),
        (lambda x, n1, a, n2, m: block(x, n1, a, n1, m), "attention's norm"),
        (lambda x, n1, a, n2, m: block(x, n2, a, n1, m), "changed places"),
        (lambda x, n1, a, n2, m: block(x, n2, m, n1, a), "MLP comes first"),
        (lambda x, n1, a, n2, m: block(n1(x), same, a, n2, m), "add to x, not to norm(x)"),
        (lambda x, n1, a, n2, m: block(x, same, lambda h: n1(a(h)), same, lambda h: n2(m(h))), "what a part gives"),
        (lambda x, n1, a, n2, m: block(x, n1, a, n2, m)[0], "shape"),
        (lambda x, n1, a, n2, m: block(x, n1, a, n2, m).double(), "float64"),
        (lambda x, n1, a, n2, m: 2 * block(x, n1, a, n2, m), "two formulas"),
        (lambda x, n1, a, n2, m: (x, x), "tuple"),
        (lambda x, n1, a, n2, m: block(x, n1, a, n2, m).tolist(), "Expected a tensor"),
        (lambda x, n1, a, n2, m: block(x.mT, n1, a, n2, m), "RuntimeError|shape"),
        (lambda x, n1, a, n2, m: block(x, n1, a, n2, m).mean(1), "One dimension is gone"),
        (lambda x: x, "hands 5 arguments over"),
        (lambda x, n1, a, n2, m: 2 * x - x, "The result is x itself"),
        (lambda x, n1, a, n2, m: x + a(n1(x)) + m(n2(a(n1(x)))), "reads what attention gave alone"),
    ],
)
def test_wrong_blocks(refused, answer, words):
    refused("08.decoder_block", answer, words)
