"""Feedback for the exercises of lesson 11, KV cache and prefill."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.config import DecoderConfig
from ..model.decoder import DecoderLanguageModel
from . import NotYet, call, exercise, expect_close, expect_tensor


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
            raise NotYet(f"Expected a whole number of texts, got {type(got).__name__}.")
        _hold_count(got, config, tokens, size, free)
        if isinstance(got, float):
            raise NotYet(f"{got} is the right number, but of type float. An int was asked for: is there a division //?")
    return "A server asks this before it lets a reader in; lesson 12 does too."


def _hold_count(got: float, config: DecoderConfig, tokens: int, size: int, free: int) -> None:
    per_head = 2 * config.num_blocks * config.head_dim * size * tokens
    wanted = free // (per_head * config.num_kv_heads)
    if got == wanted:
        return
    told = f"With {free:,} bytes and texts of {tokens} tokens you let in {got:g}. "
    usual = [
        (per_head * config.num_kv_heads // 2, "That is twice too many. A token leaves a key, and what else?"),
        (per_head * config.num_kv_heads // config.num_blocks, "You count one block. Which blocks keep keys?"),
        (per_head * config.num_heads, "You count the query heads. Which heads' keys are kept?"),
        (per_head * config.num_kv_heads // size, "You count numbers. How many bytes has each?"),
        (per_head * config.num_kv_heads // tokens, "You count one token a text. How long may it become?"),
        (per_head, "You count one head. How many key/value heads are there?"),
        (per_head // config.head_dim * config.num_kv_heads * config.emb_dim, "emb_dim is the width of the stream, "
         "not of a head: how many numbers has one key?"),
    ]  # fmt: skip
    for bytes_a_text, hint in usual:
        if bytes_a_text and got == free // bytes_a_text:
            raise NotYet(told + hint)
    if got == wanted + 1:
        raise NotYet(told + "That is one too many: the last one fits only in part.")
    raise NotYet(told + "Compute one token by hand first: which tensors does it leave, and how large?")


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _gather(q: Tensor, k: Tensor, v: Tensor, *, group: str = "interleave", mask: int | None = 0, scale: bool = True):
    """Attention of the newest queries to all keys; the keywords make the usual mistakes."""
    times, time, seen = q.shape[1] // k.shape[1], q.shape[2], k.shape[2] - q.shape[2]
    k, v = ((x.repeat_interleave(times, 1) if group == "interleave" else x.repeat(1, times, 1, 1)) for x in (k, v))
    hidden = torch.zeros(time, seen + time, dtype=torch.bool)
    if mask is not None:
        hidden = torch.ones_like(hidden).triu(1 + seen + mask)
    hidden = torch.zeros_like(q[:, :1, :, :1]).masked_fill(hidden, -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, hidden, scale=None if scale else 1.0)


@exercise("11.attend_with_past")
def check_attend_with_past(answer: object) -> str:
    for seed, (batch, heads, kv_heads, time, seen, size) in enumerate(
        [(1, 2, 2, 1, 3, 4), (2, 4, 2, 1, 5, 8), (2, 4, 2, 3, 4, 8), (1, 6, 2, 4, 4, 4), (1, 2, 1, 3, 0, 6)]
    ):
        q = _random(batch, heads, time, size, seed=seed)
        k, v = (_random(batch, kv_heads, time, size, seed=seed + i) for i in (10, 20))
        past_k, past_v = (_random(batch, kv_heads, seen, size, seed=seed + i) for i in (30, 40))
        given = [x.clone() for x in (q, k, v, past_k, past_v)]
        got = call(answer, *given)
        if not isinstance(got, (tuple, list)) or len(got) != 3:
            raise NotYet("Return three things: what the queries gather, and the keys and the values to keep.")
        if any(not torch.equal(now, before) for now, before in zip(given, (q, k, v, past_k, past_v), strict=True)):
            raise NotYet("The tensors you were given have changed. Work on new ones: other code may hold them.")
        keep = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
        for name, tensor, wanted, joined in zip(
            ("keys", "values"), got[1:], keep, ((k, past_k), (v, past_v)), strict=True
        ):
            _hold_kept(name, tensor, wanted, joined)
        _hold_gathered(got[0], q, *keep, seen)
    return "With an empty past and many new tokens this is prefill; with one new token it is a step."


def _hold_kept(name: str, got: Tensor, wanted: Tensor, joined: tuple[Tensor, Tensor]) -> None:
    expect_tensor(got, wanted, what=f"the {name} to keep")
    if not torch.equal(got, wanted):
        if torch.equal(got, torch.cat(joined, dim=2)):
            raise NotYet(f"The new {name} stand before the old ones. In which order were the tokens read?")
        raise NotYet(f"The {name} to keep are not the old ones followed by the new ones. What has happened to them?")


def _hold_gathered(got: object, q: Tensor, k: Tensor, v: Tensor, seen: int) -> None:
    wanted, time = _gather(q, k, v), q.shape[2]
    got = expect_tensor(got, wanted, what="what is gathered")
    if torch.allclose(got, wanted, atol=1e-5):
        return
    shown = f"With {seen} kept and {time} new tokens: "
    if got.isnan().any():
        raise NotYet(shown + "there are NaN. Does a row hide every token, even its own?")
    if time > 1 and torch.allclose(got, _gather(q, k, v, mask=None), atol=1e-5):
        raise NotYet(shown + "a new token sees the new ones behind it. One alone needs no mask; several do.")
    if seen and time > 1:
        hidden = torch.ones(time, seen + time, dtype=torch.bool).triu(1)
        repeated = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        if torch.allclose(got, F.scaled_dot_product_attention(q, *repeated, ~hidden), atol=1e-5):
            raise NotYet(shown + "your triangle starts at column 0, where the past is. New token 0 stands behind it.")
    if torch.allclose(got, _gather(q, k, v, scale=False), atol=1e-5):
        raise NotYet(shown + "the scores are not divided by √head_dim.")
    if torch.allclose(got, _gather(q, k, v, group="repeat"), atol=1e-5):
        raise NotYet("Head 1 uses key/value head 1 here; heads 0 and 1 should share head 0. How do you repeat them?")
    if torch.allclose(got, _gather(q, k[:, :, seen:], v[:, :, seen:]), atol=1e-5):
        raise NotYet(shown + "the new tokens see only each other. Which keys should they meet?")
    if seen and torch.allclose(got, _gather(q, k, v, mask=-1), atol=1e-5):
        raise NotYet(shown + "a new token does not see itself. Where does the triangle begin?")
    expect_close(got, wanted, shown + "compute one row by hand.", what="what is gathered")


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
        given, model.tokens_read = [list(ids) for ids in texts], 0
        got = call(answer, model, list(prompt), given)
        read = model.tokens_read
        if given != texts:
            raise NotYet("The lists you were given have changed. Pad copies of them.")
        with torch.no_grad():
            wanted = torch.stack([model(torch.tensor([prompt + ids]))[0, -1] for ids in texts])  # (texts, vocab)
            _hold_shared(expect_tensor(got, wanted).detach(), wanted, model, prompt, texts)
        if read > 30 + len(texts) * max(sizes):
            raise NotYet(f"The logits are right, but {read} tokens were read for {len(texts)} texts. Reading the "
                         f"prompt once, {30 + sum(sizes)} are enough, and some padding.")  # fmt: skip
    return "Servers call this prefix caching: one reading of the rules serves every reader."


def _hold_shared(got: Tensor, wanted: Tensor, model: _Counted, prompt: list[int], texts: list[list[int]]) -> None:
    right = torch.isclose(got, wanted, atol=1e-4, rtol=1e-4).all(-1)
    if right.all():
        return
    row = int((~right).nonzero()[0])
    told = f"Text {row} of {len(texts)}, {len(texts[row])} tokens behind the prompt: "
    alone = model(torch.tensor([texts[row]]))[0, -1]
    if torch.allclose(got[row], alone, atol=1e-4):
        raise NotYet(told + "these are the logits without the prompt. Is the prompt in this row's cache?")
    whole = model(torch.tensor([prompt + texts[row]]))[0]  # (time, vocab)
    if torch.allclose(got[row], whole[len(prompt) - 1], atol=1e-4):
        raise NotYet(told + "these are the logits after the prompt. The continuation comes behind it.")
    if torch.allclose(got[row], whole[len(prompt)], atol=1e-4):
        raise NotYet(told + "these are the logits after its first token. Take those after the last.")
    longest = max(map(len, texts))
    padded = torch.tensor([prompt + texts[row] + [0] * (longest - len(texts[row]))])
    if torch.allclose(got[row], model(padded)[0, -1], atol=1e-4):
        raise NotYet(told + "these are the logits behind its padding. Where does this text end?")
    joined = [token for ids in texts[: row + 1] for token in ids]
    if row and torch.allclose(got[row], model(torch.tensor([prompt + joined]))[0, -1], atol=1e-4):
        raise NotYet(told + "it sees the texts before it. The prompt's cache must stay as it was for each.")
    raise NotYet(
        told + "the logits are not those of reading prompt and continuation at once. Print the cache's lengths."
    )
