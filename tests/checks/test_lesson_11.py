"""Lesson 11's feedback: right answers pass, and each usual mistake gets its own sentence."""

import pytest
import torch
from torch.nn import functional as F


def token_bytes(c, size):
    return 2 * c.num_blocks * c.num_kv_heads * c.head_dim * size


@pytest.mark.parametrize("answer", [lambda c, t, b, free: free // (token_bytes(c, b) * t)])
def test_right_texts_that_fit(accepted, answer):
    accepted("11.texts_that_fit", answer)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda c, t, b, free: free / (token_bytes(c, b) * t), "Count whole ones"),
        (lambda c, t, b, free: float(free // (token_bytes(c, b) * t)), "of type float"),
        (lambda c, t, b, free: free // (token_bytes(c, b) // 2 * t), "twice too many"),
        (lambda c, t, b, free: free // (token_bytes(c, b) // c.num_blocks * t), "You count one block"),
        (lambda c, t, b, free: free // (token_bytes(c, b) // c.num_kv_heads * c.num_heads * t), "query heads"),
        (lambda c, t, b, free: free // (token_bytes(c, 1) * t), "You count numbers"),
        (lambda c, t, b, free: free // token_bytes(c, b), "one token a text"),
        (lambda c, t, b, free: free // (token_bytes(c, b) // c.num_kv_heads * t), "You count one head"),
        (lambda c, t, b, free: free // (token_bytes(c, b) // c.head_dim * c.emb_dim * t), "emb_dim is the width"),
        (lambda c, t, b, free: -(-free // (token_bytes(c, b) * t)), "one too many"),
        (lambda c, t, b, free: 123456, "Compute one token by hand"),
        (lambda c, t, b, free: free // (2 * c.num_blocks * c.emb_dim * b * t), "the width of the stream. How many"),
        (lambda c, t, b, free: 8 * free // (token_bytes(c, b) * t), "You count bits"),
        (lambda c, t, b, free: token_bytes(c, b) * t, "how many bytes one text takes"),
        (lambda c, t, b, free: free * token_bytes(c, b) * t, "You multiply"),
        (lambda c, t, b, free: max(1, free // (token_bytes(c, b) * t)), "one too many"),
        (lambda c, t, b, free: round(free / (token_bytes(c, b) * t)), "one too many"),
        (lambda c, t, b, free: torch.tensor(free // (token_bytes(c, b) * t)), ".item()"),
        (lambda c, t, b, free: free // (2 * c.blocks), "has no attribute 'blocks'"),
        (lambda c, t, b, free: print(end=""), "is `return` missing"),
        (lambda c, t, b, free: "many", "Expected a whole number"),
    ],
)
def test_wrong_texts_that_fit(refused, answer, words):
    refused("11.texts_that_fit", answer, words)


def attend(
    q, k, v, past_k, past_v, *, mask=1, from_past=True, divisor=None, tile=False, swap=False, meet_past=True,
    hide=-torch.inf, over=-1,
):  # fmt: skip
    order = (lambda old, new: (new, old)) if swap else (lambda old, new: (old, new))
    keep_k, keep_v = torch.cat(order(past_k, k), dim=2), torch.cat(order(past_v, v), dim=2)
    seen = past_k.shape[2] if meet_past else 0
    use_k, use_v = (keep_k, keep_v) if meet_past else (k, v)
    group = q.shape[1] // k.shape[1]
    use_k, use_v = ((x.repeat(1, group, 1, 1) if tile else x.repeat_interleave(group, 1)) for x in (use_k, use_v))
    scores = q @ use_k.mT / (divisor or q.shape[-1] ** 0.5)
    if mask is not None:
        hidden = torch.ones(scores.shape[2:], dtype=torch.bool).triu(mask + (seen if from_past else 0))
        scores = scores.masked_fill(hidden, hide)
    return scores.softmax(over) @ use_v, keep_k, keep_v


def joined_along(dim):
    return lambda q, k, v, past_k, past_v: (q, torch.cat((past_k, k), dim), torch.cat((past_v, v), dim))


def repeated(q, k, v, past_k, past_v):
    gathered, keys, values = attend(q, k, v, past_k, past_v)
    group = q.shape[1] // k.shape[1]
    return gathered, keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)


def not_repeated(q, k, v, past_k, past_v):
    keys, values = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
    hidden = torch.ones(q.shape[2], keys.shape[2], dtype=torch.bool).triu(1 + past_k.shape[2])
    return (q @ keys.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ values, keys, values


def with_mask(mask):
    def answer(q, k, v, past_k, past_v):
        keys, values = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
        allowed = mask(torch.ones(q.shape[2], keys.shape[2], dtype=torch.bool), past_k.shape[2])
        return F.scaled_dot_product_attention(q, keys, values, allowed, enable_gqa=True), keys, values

    return answer


def weights_or_scores(weigh):
    def answer(q, k, v, past_k, past_v):
        _, keys, values = attend(q, k, v, past_k, past_v)
        group = q.shape[1] // k.shape[1]
        scores = q @ keys.repeat_interleave(group, 1).mT / q.shape[-1] ** 0.5
        hidden = torch.ones(scores.shape[2:], dtype=torch.bool).triu(1 + past_k.shape[2])
        return weigh(scores, hidden, values.repeat_interleave(group, 1)), keys, values

    return answer


def past_alone(q, k, v, past_k, past_v):
    return F.scaled_dot_product_attention(q, past_k, past_v, enable_gqa=True), *attend(q, k, v, past_k, past_v)[1:]


def attend_in_place(q, k, v, past_k, past_v):
    result = attend(q, k, v, past_k, past_v)
    q /= 2
    return result


def test_right_attend_with_past(accepted):
    accepted("11.attend_with_past", attend)


def test_the_fused_kernel_is_right_too(accepted):
    def fused(q, k, v, past_k, past_v):
        k, v = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(past_k.shape[2])
        return F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True), k, v

    accepted("11.attend_with_past", fused)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda *given: attend(*given)[0], "Return three things"),
        (attend_in_place, "changed `q` in place"),
        (lambda *given: attend(*given, swap=True), "The new keys stand before the old ones"),
        (lambda *given: (attend(*given)[0], attend(*given)[1], attend(*given)[2] * 2), "The values to keep are not"),
        (lambda *given: (attend(*given)[0], given[1], given[2]), "The shape of the keys to keep"),
        (lambda *given: attend(*given, mask=None), "sees the new ones after it"),
        (lambda *given: attend(*given, from_past=False), "starts at column 0"),
        (lambda *given: attend(*given, divisor=1), "not divided by √head_dim"),
        (lambda q, *given: attend(q, *given, divisor=q.shape[-1]), "Its root was meant"),
        (lambda q, *given: attend(q, *given, divisor=(q.shape[1] * q.shape[-1]) ** 0.5), "that root is enough"),
        (lambda *given: attend(*given, mask=2), "sees the one after it"),
        (lambda *given: attend(*given, mask=None), "One alone needs no mask"),
        (lambda *given: attend(*given, hide=0.0), "softmax makes e⁰ = 1"),
        (lambda *given: attend(*given, over=-2), "softmax runs over the queries"),
        (lambda *given: attend(*given, over=1), "Over which dimension does your softmax run"),
        (with_mask(lambda ones, seen: ones.tril(ones.shape[0])), "as many columns as there are new tokens"),
        (with_mask(lambda ones, seen: ~ones.tril(seen)), "Does a row hide every token|Compute one row"),
        (weights_or_scores(lambda s, hidden, v: s.masked_fill(hidden, 0.0) @ v), "the scores themselves weigh"),
        (weights_or_scores(lambda s, hidden, v: s.softmax(-1)), "These are the weights"),
        (past_alone, "see the past alone"),
        (joined_along(1), "Joined along the heads"),
        (joined_along(-1), "Joined within a head"),
        (repeated, "You keep the repeated heads"),
        (not_repeated, "query heads meet 2 key/value heads. Which share one?"),
        (lambda *given: (attend(*given)[0], *given[1:3]), "Only the new keys are kept"),
        (lambda *given: (attend(*given)[0], *given[3:]), "Only the old keys are kept"),
        (lambda *given: (attend(*given)[0], *attend(*given)[:0:-1]), "The keys to keep are not the old ones"),
        (lambda *given: (*attend(*given)[:2], attend(*given, swap=True)[2]), "The new values stand before"),
        (lambda *given: (attend(*given)[0].transpose(1, 2).flatten(2), *attend(*given)[1:]), "joined already"),
        (lambda *given: (attend(*given)[0][:, :, -1:], *attend(*given)[1:]), "One new token alone has gathered"),
        (lambda q, k, v, past_k, past_v: q @ torch.cat((past_k, k), 2), "need a transpose"),
        (lambda *given: print(end=""), "is `return` missing"),
        (lambda *given: attend(*given, tile=True), "should share head 0"),
        (lambda *given: attend(*given, meet_past=False), "see only each other"),
        (lambda *given: attend(*given, mask=0), "does not see itself"),
        (lambda *given: attend(*given[:2], given[1], given[3], given[3]), "The values to keep are not"),
        (lambda *given: (attend(*given[:2], given[1], given[3], given[3])[0], *attend(*given)[1:]), "mix the keys"),
        (lambda *given: (attend(*given)[0] * float("nan"), *attend(*given)[1:]), "there are NaN"),
        (lambda *given: (attend(*given)[0] + 1, *attend(*given)[1:]), "Compute one row by hand"),
        (lambda q, k, v, past_k, past_v: attend(q, k, v, past_k), "It stopped with TypeError"),
    ],
)
def test_wrong_attend_with_past(refused, answer, words):
    refused("11.attend_with_past", answer, words)


@torch.no_grad()
def shared(model, prompt, texts, *, start=True, cut=True, at=None):
    counts = torch.tensor([len(ids) for ids in texts])
    once = model.new_cache(1, len(prompt))
    model.hidden(torch.tensor([prompt]), once)
    cache = model.new_cache(len(texts), len(prompt) + int(counts.max()))
    cache.keys[:, :, :, : len(prompt)], cache.values[:, :, :, : len(prompt)] = once.keys, once.values
    if start:
        cache.set_lengths([len(prompt)] * len(texts))
    padded = torch.tensor([ids + [0] * (int(counts.max()) - len(ids)) for ids in texts])
    logits = model(padded, cache, lengths=counts if cut else None)
    return logits[torch.arange(len(texts)), counts - 1 if at is None else at]


@torch.no_grad()
def each_anew(model, prompt, texts):
    return torch.stack([model(torch.tensor([prompt + ids]))[0, -1] for ids in texts])


@torch.no_grad()
def only_the_prompt(model, prompt, texts):
    return model(torch.tensor([prompt]))[:, -1].repeat(len(texts), 1)


@torch.no_grad()
def one_cache_for_all(model, prompt, texts):
    cache = model.new_cache(1, len(prompt) + sum(map(len, texts)))
    model.hidden(torch.tensor([prompt]), cache)
    return torch.cat([model(torch.tensor([ids]), cache)[:, -1] for ids in texts])


@torch.no_grad()
def one_after_the_other(model, prompt, texts):
    """Right, too: one row that is rolled back for each text."""
    cache, logits = model.new_cache(1, len(prompt) + max(map(len, texts))), []
    model.hidden(torch.tensor([prompt]), cache)
    for ids in texts:
        cache.set_lengths([len(prompt)])
        logits.append(model(torch.tensor([ids]), cache)[:, -1])
    return torch.cat(logits)


def padding_their_lists(model, prompt, texts):
    result = shared(model, prompt, texts)
    for ids in texts:
        ids.append(0)
    return result


@torch.no_grad()
def padded_in_front(model, prompt, texts):
    cache, logits, longest = model.new_cache(1, 64), [], max(map(len, texts))
    model.hidden(torch.tensor([prompt]), cache)
    for ids in texts:
        cache.set_lengths([len(prompt)])
        logits.append(model(torch.tensor([[0] * (longest - len(ids)) + ids]), cache)[:, -1])
    return torch.cat(logits)


@torch.no_grad()
def no_room(model, prompt, texts):
    cache = model.new_cache(1, len(prompt))
    model.hidden(torch.tensor([prompt]), cache)
    return torch.cat([model(torch.tensor([ids]), cache)[:, -1] for ids in texts])


@torch.no_grad()
def a_prompt_in_each_row(model, prompt, texts):
    counts = torch.tensor([len(ids) for ids in texts])
    cache = model.new_cache(len(texts), 64)
    model.hidden(torch.tensor([prompt] * len(texts)), cache)
    padded = torch.tensor([ids + [0] * (int(counts.max()) - len(ids)) for ids in texts])
    return model(padded, cache, lengths=counts)[torch.arange(len(texts)), counts - 1]


@pytest.mark.parametrize("answer", [shared, one_after_the_other])
def test_right_shared_prompt(accepted, answer):
    accepted("11.shared_prompt", answer)


@pytest.mark.parametrize(
    "answer, words",
    [
        (each_anew, "The logits are right, but"),
        (only_the_prompt, "logits after the prompt"),
        (one_cache_for_all, "sees the texts before it"),
        (padding_their_lists, "changed `texts` in place"),
        (lambda *given: shared(*given).softmax(-1), "these are probabilities"),
        (lambda *given: shared(*given).flip(0), "these are the logits of text"),
        (lambda *given: shared(*given, start=False), "without the prompt"),
        (lambda *given: shared(*given, at=0), "after its first token"),
        (lambda *given: shared(*given, at=-1), "after its padding"),
        (lambda *given: shared(*given)[:1], "The shape of the result"),
        (padded_in_front, "its padding stands before it"),
        (no_room, "30 are used, 3 more do not fit"),
        (a_prompt_in_each_row, "The logits are right, but"),
        (lambda *given: list(shared(*given)), "torch.stack joins"),
        (lambda *given: shared(*given).argmax(-1), "these look like ids"),
        (lambda *given: shared(*given)[:, None], "a dimension too many"),
        (lambda m, p, t: m(torch.tensor(t[0])), "for one text use ids[None]"),
        (lambda *given: print(end=""), "is `return` missing"),
        (lambda *given: shared(*given) * 2, "Print the cache's lengths"),
    ],
)
def test_wrong_shared_prompt(refused, answer, words):
    refused("11.shared_prompt", answer, words)
