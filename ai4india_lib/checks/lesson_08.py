"""Feedback for the exercises of lesson 08, the decoder: counting parameters, a block, counting FLOPs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..model.config import DecoderConfig
from . import NotYet, call, describe, exercise, expect_close, recognise, results

# plain first, then one change at a time, so that the first failure names its cause
PLAIN = DecoderConfig(1000, 64, 4, 3, qk_norm=False, mlp_dim=160)
CONFIGS = {
    "a plain model": PLAIN,
    "head_dim=24, which is not emb_dim / num_heads": replace(PLAIN, head_dim=24),
    "grouped heads (num_kv_heads=2)": replace(PLAIN, num_kv_heads=2),
    "two tables (tie_embeddings=False)": replace(PLAIN, tie_embeddings=False),
    "qk_norm=True": replace(PLAIN, qk_norm=True),
    "everything at once": DecoderConfig(777, 48, 6, 5, None, 3, 10, 100, tie_embeddings=False),
}


def _matrices(c: DecoderConfig, heads: int | None = None, kv_heads: int | None = None, mlp: int = 3) -> int:
    """Weights of the matrices in one block."""
    heads, kv_heads = heads or c.num_heads, kv_heads or c.num_kv_heads
    return 2 * c.emb_dim * c.head_dim * (heads + kv_heads) + mlp * c.emb_dim * c.mlp_dim


def _count(c: DecoderConfig, *, matrices=None, norms=2, qk=True, last=True, tables=None, blocks=None) -> int:
    block = matrices if matrices is not None else _matrices(c)
    block += norms * c.emb_dim + (2 * c.head_dim if c.qk_norm and qk else 0)
    tables = tables if tables is not None else (1 if c.tie_embeddings else 2)
    blocks = c.num_blocks if blocks is None else blocks
    return tables * c.vocab_size * c.emb_dim + blocks * block + last * c.emb_dim


# wrong answers that a learner may give, each with the question that helps
WRONG_COUNTS: list[tuple[Callable[[DecoderConfig], int], str]] = [
    (lambda c: _count(c, tables=2), "The head has been counted although it is tied: how many tables are there really?"),
    (lambda c: _count(c, tables=1), "One table has been counted. With tie_embeddings=False reading and writing part."),
    (lambda c: _count(c, tables=0), "The table of the vocabulary is missing."),
    (lambda c: _count(c, last=False), "A little is missing: emb_dim numbers. What stands between blocks and head?"),
    (lambda c: _count(c, norms=0), "The norms in the blocks are missing: each has a gain per number of the stream."),
    (lambda c: _count(c, norms=0, last=False), "All norms are missing: each has a gain per number of the stream."),
    (lambda c: _count(c, norms=1), "Each block has been given one norm. How many parts of a block read the stream?"),
    (lambda c: _count(c, qk=False), "The norms of queries and keys (qk_norm=True) are missing."),
    (lambda c: _count(c, blocks=1), "One block has been counted. The model has num_blocks of them."),
    (lambda c: _count(c, matrices=_matrices(c, mlp=2)), "You give the MLP two matrices. SwiGLU has gate, up and down."),
    (lambda c: _count(c, matrices=_matrices(c, kv_heads=c.num_heads)),
     "Keys and values have been given as many heads as queries. How many do they have?"),
    (lambda c: _count(c, matrices=4 * c.emb_dim**2 + 3 * c.emb_dim * c.mlp_dim),
     "Attention has been counted as 4 · emb_dim². The queries of all heads together are num_heads · head_dim wide."),
]  # fmt: skip


@exercise("08.count_parameters")
def check_count_parameters(answer: object) -> str:
    _compare_totals(answer, {kind: (c,) for kind, c in CONFIGS.items()}, _count, WRONG_COUNTS, "parameters")
    return "The same formula gives 596,049,920 for Qwen3-0.6B, to the last number."


def _flops(c: DecoderConfig, time: int, *, matrices=None, head=1, attention=4, heads=None) -> int:
    block = 2 * (_matrices(c) if matrices is None else matrices)
    block += attention * time * (heads or c.num_heads) * c.head_dim
    return c.num_blocks * block + head * 2 * c.vocab_size * c.emb_dim


WRONG_FLOPS: list[tuple[Callable[[DecoderConfig, int], int], str]] = [
    (lambda c, t: _flops(c, t) * t, "That is the whole text. Asked is the cost of one token: divide by time."),
    (lambda c, t: _flops(c, t) // 2, "It is half of it: a multiplication and an addition are two FLOPs."),
    (lambda c, t: _flops(c, t) * 3, "That is training: forward and backward. Asked is the forward pass."),
    (lambda c, t: _flops(c, t, head=0), "The head is missing. It compares each token with every row of the table."),
    (lambda c, t: _flops(c, t, head=2),
     "A table's worth too much. Reading it is a look-up, without any multiplication; only writing multiplies."),
    (lambda c, t: _flops(c, t, attention=0),
     "It does not grow with `time`: the products of queries and keys, and of weights and values, are missing. They "
     "have no parameters, but they cost."),
    (lambda c, t: _flops(c, t, attention=2), "Half of the attention is missing. Scores are one product; the other?"),
    (lambda c, t: _flops(c, t, heads=c.num_kv_heads),
     "Attention has been counted with the key/value heads. Each *query* head looks at all the tokens."),
    (lambda c, t: _flops(c, t, matrices=_matrices(c, kv_heads=c.num_heads)),
     "Keys and values have been given as many heads as queries. How wide are their matrices?"),
    (lambda c, t: _flops(c, t, matrices=_matrices(c, mlp=2)), "You give the MLP two matrices. SwiGLU: gate, up, down."),
    (lambda c, t: 2 * _count(c), "That is 2 · parameters: a good rule of thumb, but norms count in it, attention not."),
]  # fmt: skip


@exercise("08.flops")
def check_flops(answer: object) -> str:
    cases = {f"{kind}, time={time}": (c, time) for time in (10, 300) for kind, c in CONFIGS.items()}
    _compare_totals(answer, cases, _flops, WRONG_FLOPS, "FLOPs")
    return "Times 3 for training, times the tokens you train on: that is the bill of a training run."


def _compare_totals(answer: object, cases: dict[str, tuple], right: Callable, mistakes: list, unit: str) -> None:
    """Compare a learner's whole number with the right one in each case, and find out what was forgotten."""
    earlier: list[tuple] = []
    for case, arguments in cases.items():
        got, wanted = _whole_number(call(answer, *arguments)), right(*arguments)
        if got != wanted:
            much = f"{abs(got - wanted):,} too {'many' if got > wanted else 'few'}"
            seen = f"For {case} you count {got:,} {unit}: {much}."
            # another mistake may give the same number here: it must have been right in the cases before
            possible = [(way, hint) for way, hint in mistakes if all(way(*case) == right(*case) for case in earlier)]
            recognise(got, wanted, results(possible, *arguments), seen=seen)
            raise NotYet(f"{seen} Put a number to each line of your sum. Which part is that large, or differs by it?")
        earlier.append(arguments)


def _whole_number(got: object) -> int:
    got = got.item() if isinstance(got, Tensor) and got.numel() == 1 else got
    if isinstance(got, bool) or not isinstance(got, int):
        is_whole = isinstance(got, float) and got.is_integer()
        hint = "use // where you divide." if is_whole else "give the number itself."
        raise NotYet(f"Expected a whole number (int), got {describe(got)}: {hint}")
    return got


# what x becomes, from the four parts: n1, a, n2, m
WRONG_BLOCKS: list[tuple[Callable, str]] = [
    (lambda x, n1, a, n2, m: m(n2(a(n1(x)))), "The residual is left out: each part must *add* to the stream."),
    (lambda x, n1, a, n2, m: x + m(n2(a(n1(x)))), "Attention's own result never reaches the stream: two additions."),
    (lambda x, n1, a, n2, m: x, "The result is x itself: neither attention nor MLP has added to it."),
    (lambda x, n1, a, n2, m: x + a(n1(x)) + m(n2(a(n1(x)))), "Your MLP reads what attention gave alone: no stream."),
    (lambda x, n1, a, n2, m: x + a(n1(x)) + m(n2(x)), "Your MLP reads x, as it was before attention had added to it."),
    (lambda x, n1, a, n2, m: x + m(n2(x + a(n1(x)))), "The second addition starts from x again: attention is lost."),
    (lambda x, n1, a, n2, m: m(n2(x + a(n1(x)))), "The second residual is left out: the MLP replaces the stream."),
    (lambda x, n1, a, n2, m: a(n1(x)) + m(n2(a(n1(x)))), "The first residual is left out: attention replaces x."),
    (lambda x, n1, a, n2, m: x + a(n1(x)), "The MLP is missing."),
    (lambda x, n1, a, n2, m: x + m(n2(x)), "Attention is missing."),
    (lambda x, n1, a, n2, m: _two(x, n1, a, lambda h: h, m), "The MLP reads the stream without its norm."),
    (lambda x, n1, a, n2, m: _two(x, lambda h: h, a, n2, m), "Attention reads the stream without its norm."),
    (lambda x, n1, a, n2, m: _two(x, lambda h: h, a, lambda h: h, m), "Neither part reads through its norm."),
    (lambda x, n1, a, n2, m: _two(x, n1, a, n1, m), "The MLP reads through attention's norm. It has its own gain."),
    (lambda x, n1, a, n2, m: _two(x, n2, a, n1, m), "The two norms have changed places."),
    (lambda x, n1, a, n2, m: _two(x, n2, m, n1, a), "The MLP comes first, and attention second: turn them round."),
    (lambda x, n1, a, n2, m: _post(x, n1, a, n2, m), "This is post-norm: you normalise the stream after adding. Here "
     "each part reads a normalised copy, and the stream itself is never normalised."),
    (lambda x, n1, a, n2, m: _two(x, lambda h: h, lambda h: n1(a(h)), lambda h: h, lambda h: n2(m(h))),
     "You normalise what a part gives, not what it reads."),
    (lambda x, n1, a, n2, m: n1(x) + a(n1(x)) + m(n2(n1(x) + a(n1(x)))), "The stream itself has been normalised: add "
     "to x, not to norm(x)."),
]  # fmt: skip


def _two(x: Tensor, n1: Callable, a: Callable, n2: Callable, m: Callable) -> Tensor:
    h = x + a(n1(x))
    return h + m(n2(h))


def _post(x: Tensor, n1: Callable, a: Callable, n2: Callable, m: Callable) -> Tensor:
    h = n1(x + a(x))
    return n2(h + m(h))


@exercise("08.decoder_block")
def check_decoder_block(answer: object) -> str:
    generator = torch.Generator().manual_seed(7)  # each part has weights of its own

    def part(scale: float) -> Callable[[Tensor], Tensor]:
        matrix = torch.randn(6, 6, generator=generator) * scale
        return lambda x: (x @ matrix).tanh().cumsum(1)  # (batch, time, dim); not linear, and time matters

    def norm() -> Callable[[Tensor], Tensor]:
        gain = torch.rand(6, generator=generator) + 0.5
        return lambda x: nn.functional.rms_norm(x, (6,), gain)

    for shape in ((1, 1, 6), (2, 3, 6), (3, 7, 6)):
        parts = norm(), part(0.7), norm(), part(0.9)
        x = torch.randn(shape, generator=generator) * 3
        hint = (
            f"x had the shape {shape}. Put your lines beside the two formulas of section 2, letter by letter: what "
            "does each part read, and to what is its result added?"
        )
        expect_close(call(answer, x, *parts), _two(x, *parts), hint, mistakes=results(WRONG_BLOCKS, x, *parts))
    return "Since x goes through by plain additions, a gradient runs from the loss to the first block undisturbed."
