"""Feedback for the exercises of lesson 11, KV cache and prefill."""

from __future__ import annotations

import torch
from torch import Tensor

from ..model.config import DecoderConfig
from ..model.decoder import DecoderLanguageModel
from . import (
    NotYet,
    call,
    describe,
    exercise,
    expect_close,
    expect_several,
    expect_tensor,
    random_tensor,
    recognise,
    same,
)


@exercise("11.texts_that_fit")
def check_texts_that_fit(answer: object) -> str:
    for settings, tokens, size, free in (
        ({"num_heads": 6, "num_kv_heads": 3, "head_dim": 32, "num_blocks": 5}, 256, 4, 30_000_000),
        ({"num_kv_heads": 1, "head_dim": 24, "num_blocks": 5}, 100, 2, 1_000_000),
        ({"num_blocks": 2}, 64, 4, 1000),
        ({"num_kv_heads": 2, "num_blocks": 7}, 32, 2, 7 * 2 * 2 * 32 * 2 * 32 * 3),
    ):
        config = DecoderConfig(512, **{"emb_dim": 128, "num_heads": 4, "num_blocks": 3} | settings)
        got = call(answer, config, tokens, size, free)
        if isinstance(got, float) and not got.is_integer():
            raise NotYet(f"{got:.3f} texts: a part of a text does not fit. Count whole ones.")
        if isinstance(got, bool) or not isinstance(got, (int, float)):
            hint = " Is a plain int hidden in it (.item())?" if isinstance(got, Tensor) else ""
            raise NotYet(f"Expected a whole number of texts, got {describe(got)}.{hint}")
        _compare_count(got, config, tokens, size, free)
        if isinstance(got, float):
            raise NotYet(f"{got} is the right number, but of type float. An int was asked for: is there a division //?")
    return "A server asks this before it lets a reader in; lesson 12 does too."


def _compare_count(got: float, config: DecoderConfig, tokens: int, size: int, free: int) -> None:
    per_head = 2 * config.num_blocks * config.head_dim * size * tokens
    wanted = free // (per_head * config.num_kv_heads)
    if got == wanted:
        return
    seen = f"With {free:,} bytes and texts of {tokens} tokens you let in {got:g}."
    per_text = per_head * config.num_kv_heads
    mistakes = [
        (per_text // 2, "That is twice too many. A token leaves a key, and what else?"),
        (per_text // config.num_blocks, "You count one block. Which blocks keep keys?"),
        (per_head * config.num_heads, "You count the query heads. Which heads' keys are kept?"),
        (per_text // size, "You count numbers. How many bytes has each?"),
        (per_text // tokens, "You count one token a text. How long may it become?"),
        (per_head, "You count one head. How many key/value heads are there?"),
        (per_text // config.head_dim, "You count one number a head. How many numbers has one key?"),
        (per_text // config.head_dim * config.emb_dim,
         "emb_dim is the width of the stream, not of a head: how many numbers has one key?"),
        (per_text // (config.num_kv_heads * config.head_dim) * config.emb_dim,
         "emb_dim is the width of the stream. How many key/value heads are there, and how many numbers has each?"),
    ]  # fmt: skip
    recognise(got, wanted, [(free // count, hint) for count, hint in mistakes if count], seen=seen)
    recognise(got, wanted, [
        (per_text, "That is how many bytes one text takes. How often does that go into all the bytes there are?"),
        (8 * free // per_text, "You count bits. `bytes_per_number` and `free_bytes` are both in bytes."),
        (free * per_text, "You multiply. How often does one text go into the bytes there are?"),
    ], seen=seen)  # fmt: skip
    if got == wanted + 1:
        raise NotYet(f"{seen} That is one too many: the last one fits only in part.")
    raise NotYet(f"{seen} Compute one token by hand first: which tensors does it leave, and how large?")


def _gather(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    group: str = "interleave",
    mask: int | None = 0,
    divisor: float | None = None,
    hide: float = -torch.inf,
    over: int | None = -1,
) -> Tensor:
    """Attention of the newest queries to all keys; the keywords make the usual mistakes. `over` None: no softmax."""
    times, time, seen = q.shape[1] // k.shape[1], q.shape[2], k.shape[2] - q.shape[2]
    k, v = ((x.repeat_interleave(times, 1) if group == "interleave" else x.repeat(1, times, 1, 1)) for x in (k, v))
    scores = q @ k.mT / (divisor or q.shape[-1] ** 0.5)  # (batch, heads, time, seen + time)
    hidden = torch.zeros(time, seen + time, dtype=torch.bool)
    if mask is not None:
        hidden = torch.ones_like(hidden).triu(1 + seen + mask)
    if over is None:
        return scores.masked_fill(hidden, 0.0) @ v
    return scores.masked_fill(hidden, hide).softmax(over) @ v


@exercise("11.attend_with_past")
def check_attend_with_past(answer: object) -> str:
    # first one with a past, several new tokens and a key/value head for each query head: most mistakes show there
    for seed, (batch, heads, kv_heads, time, seen, size) in enumerate(
        [(1, 2, 2, 3, 3, 4), (2, 4, 2, 1, 5, 8), (2, 4, 2, 3, 4, 8), (1, 6, 2, 4, 4, 4), (1, 2, 1, 3, 0, 6)]
    ):
        q = random_tensor(batch, heads, time, size, seed=seed)
        k, v = (random_tensor(batch, kv_heads, time, size, seed=seed + i) for i in (10, 20))
        past_k, past_v = (random_tensor(batch, kv_heads, seen, size, seed=seed + i) for i in (30, 40))
        names = "what the queries gather", "the keys to keep", "the values to keep"
        try:
            got = call(answer, q, k, v, past_k, past_v)
        except NotYet as told:
            if heads != kv_heads and f"size of tensor a ({heads})" in str(told):
                raise NotYet(
                    f"{told}\n  {heads} query heads meet {kv_heads} key/value heads. Which share one?"
                ) from None
            raise
        gathered, keys, values = expect_several(got, names)
        keep_k, keep_v = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
        _compare_kept("keys", keys, keep_k, past_k, k, heads)
        _compare_kept("values", values, keep_v, past_v, v, heads)
        _compare_gathered(gathered, q, keep_k, keep_v, seen)
    return "With an empty past and many new tokens this is prefill; with one new token it is a step."


def _compare_kept(name: str, got: object, wanted: Tensor, past: Tensor, new: Tensor, heads: int) -> None:
    if isinstance(got, Tensor) and got.shape != wanted.shape:
        seen = f"The shape of the {name} to keep is {tuple(got.shape)}; it should be {tuple(wanted.shape)}."
        batch, kv_heads, length, size = wanted.shape
        shapes = [
            ((batch, heads, length, size), "You keep the repeated heads. Keep what came in; repeat for the product."),
            (tuple(new.shape), f"Only the new {name} are kept. Which ones does the next token need, too?"),
        ]  # fmt: skip
        if past.shape == new.shape:  # else nothing can be joined along another dimension
            ask = "In which dimension do the tokens stand?"
            shapes += [((batch, 2 * kv_heads, new.shape[2], size), f"Joined along the heads. {ask}"),
                       ((batch, kv_heads, new.shape[2], 2 * size), f"Joined within a head. {ask}")]  # fmt: skip
        if got.shape == past.shape and torch.equal(got, past):
            raise NotYet(f"{seen} Only the old {name} are kept. The next token needs the new ones, too.")
        recognise(tuple(got.shape), tuple(wanted.shape), shapes, seen=seen)
    got = expect_tensor(got, wanted, what=f"the {name} to keep")
    turned = torch.cat((new, past), dim=2)
    recognise(
        got, wanted, [(turned, f"The new {name} stand before the old ones. In which order were the tokens read?")]
    )
    if not torch.equal(got, wanted):
        raise NotYet(f"The {name} to keep are not the old ones followed by the new ones. What has happened to them?")


def _compare_gathered(got: object, q: Tensor, k: Tensor, v: Tensor, seen: int) -> None:
    wanted, time, size = _gather(q, k, v), q.shape[2], q.shape[3]
    lengths = f"With {seen} kept and {time} new tokens:"
    _compare_shape(got, wanted, seen)
    if expect_tensor(got, wanted, what="what is gathered").isnan().any():
        raise NotYet(f"{lengths} there are NaN. Does a row hide every token, even its own? Over which dimension does "
                     "your softmax run?")  # fmt: skip
    mistakes = [
        (_gather(q, k, v, mask=None), "a new token sees the new ones after it. One alone needs no mask; several do."),
        (_gather(q, k, v, mask=-seen),
         "your triangle starts at column 0, where the past is. New token 0 stands after the past."),
        (_gather(q, k, v, mask=1), "a new token sees the one after it. Where does the triangle begin?"),
        (_gather(q, k, v, mask=time - seen), "your triangle starts after as many columns as there are new tokens. How "
                                             "many columns are the past?"),
        (_gather(q, k, v, divisor=1.0), "the scores are not divided by √head_dim."),
        (_gather(q, k, v, divisor=size), "the scores are divided by head_dim. Its root was meant."),
        (_gather(q, k, v, divisor=(size * q.shape[1]) ** 0.5),
         "the scores are divided by √(heads · head_dim). Each head has its own head_dim numbers: that root is enough."),
        (_gather(q, k, v, hide=0.0),
         "hidden scores are set to 0, and softmax makes e⁰ = 1 of that: they still count. Which score becomes 0?"),
        (_gather(q, k, v, over=None), "the scores themselves weigh the values. What makes weights of them?"),
        (_gather(q, k, v, over=-2), "your softmax runs over the queries. The weights of one query should sum to 1."),
        (_gather(q, k, v, group="repeat"),
         "head 1 uses key/value head 1 here; heads 0 and 1 should share head 0. How do you repeat them?"),
        (_gather(q, k[:, :, seen:], v[:, :, seen:]), "new tokens see only each other. Which keys should they meet?"),
        (_gather(q, k, k), "you mix the keys. Keys only help to find the weights; what do they weigh?"),
    ]  # fmt: skip
    if seen:
        mistakes += [
            (_gather(q, k, v, mask=-1), "a new token does not see itself. Where does the triangle begin?"),
            (_gather(q, k[:, :, :seen], v[:, :, :seen], mask=None), "new tokens see the past alone, not themselves."),
        ]
    expect_close(got, wanted, "Compute one row by hand.", mistakes=mistakes, what="what is gathered", seen=lengths)


def _compare_shape(got: object, wanted: Tensor, seen: int) -> None:
    if not isinstance(got, Tensor):
        return
    batch, heads, time, size = wanted.shape
    shown = f"The shape of what is gathered is {tuple(got.shape)}; it should be {tuple(wanted.shape)}."
    if got.shape == (batch, time, heads * size):
        raise NotYet(f"{shown} The heads are joined already. Here they stay apart: the layer joins them later.")
    if got.shape == (batch, heads, time, seen + time) and seen + time != size:
        raise NotYet(f"{shown} These are the weights. Which values do they weigh?")
    if got.shape == (batch, heads, 1, size) and time > 1:
        raise NotYet(f"{shown} One new token alone has gathered. There are {time} of them.")


class _Counted(DecoderLanguageModel):
    """A model that notes how many tokens it reads."""

    tokens_read = 0

    def hidden(self, ids: Tensor, *arguments, **named) -> Tensor:
        self.tokens_read += ids.numel()
        return super().hidden(ids, *arguments, **named)


@exercise("11.shared_prompt")
def check_shared_prompt(answer: object) -> str:
    torch.manual_seed(10)
    model = _Counted(64, 32, 4, 2, 0, num_kv_heads=2, context_size=64).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.3 + (weight.dim() == 1))
    draw = torch.Generator().manual_seed(1)
    prompt = torch.randint(1, 64, (30,), generator=draw).tolist()
    for sizes in ((3,), (4, 4, 4), (5, 1, 3, 2), (1, 6)):
        texts = [torch.randint(1, 64, (size,), generator=draw).tolist() for size in sizes]
        model.tokens_read = 0
        got = call(answer, model, prompt, texts)
        read = model.tokens_read
        with torch.no_grad():
            wanted = torch.stack([model(torch.tensor([prompt + ids]))[0, -1] for ids in texts])  # (texts, vocab)
            if isinstance(got, list | tuple):
                raise NotYet(
                    f"Expected one tensor (texts, vocab), got {describe(got)}: torch.cat or torch.stack joins."
                )
            if isinstance(got, Tensor) and got.shape == wanted.shape[:1]:
                raise NotYet(f"{describe(got)}: these look like ids, or like one number a text. Wanted are the logits, "
                             f"{tuple(wanted.shape)}.")  # fmt: skip
            _compare_shared(expect_tensor(got, wanted).detach(), wanted, model, prompt, texts)
        if read > 30 + len(texts) * max(sizes):
            raise NotYet(f"The logits are right, but {read} tokens were read for {len(texts)} texts. Reading the "
                         f"prompt once, {30 + sum(sizes)} are enough, and some padding.")  # fmt: skip
    return "Servers call this prefix caching: one reading of the rules serves every reader."


def _compare_shared(got: Tensor, wanted: Tensor, model: _Counted, prompt: list[int], texts: list[list[int]]) -> None:
    row = next((i for i in range(len(texts)) if not same(got[i], wanted[i])), None)
    if row is None:
        return
    ids, longest = texts[row], max(map(len, texts))
    seen = f"Text {row} of {len(texts)}, {len(ids)} tokens after the prompt:"
    whole = model(torch.tensor([prompt + ids]))[0]  # (time, vocab)
    padded = model(torch.tensor([prompt + ids + [0] * (longest - len(ids))]))[0, -1]
    joined = model(torch.tensor([prompt + [token for before in texts[: row + 1] for token in before]]))[0, -1]
    recognise(got[row], wanted[row], [
        (model(torch.tensor([ids]))[0, -1],
         "these are the logits without the prompt. Is the prompt in this row's cache?"),
        (whole[len(prompt) - 1], "these are the logits after the prompt. The continuation comes after it."),
        (whole[len(prompt)], "these are the logits after its first token. Take those after the last."),
        (padded, "these are the logits after its padding. Where does this text end?"),
        (model(torch.tensor([prompt + [0] * (longest - len(ids)) + ids]))[0, -1],
         "its padding stands before it, and is read as text. At which end does padding do no harm?"),
        (joined, "it sees the texts before it. The prompt's cache must stay as it was for each."),
        (whole[-1].softmax(-1), "these are probabilities. The logits were asked for."),
        *((other, f"these are the logits of text {i}. Which row is whose?") for i, other in enumerate(wanted)),
    ], seen=seen)  # fmt: skip
    raise NotYet(
        f"{seen} the logits are not those of reading prompt and continuation at once. Print the cache's lengths."
    )
