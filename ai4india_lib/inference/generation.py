"""prompt → text: read the prompt once (prefill), then write one token per step with the KV cache.

`sampling.py` turns the logits of a step into a choice; its names can be imported from here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..basics.device import pick_device
from ..model.cache import KVCache
from ..model.decoder import DecoderLanguageModel
from ..text.chat import encode_request, stop_ids
from ..text.tokenizer import encode_prompt
from .fast import pick_decoder
from .packed import FastDecoder
from .sampling import Sampling, choose_rows, random_numbers
from .timing import Timing

PREFILL_CHUNK = 512  # prompt tokens read in one pass: longer prompts come in several, so that memory stays bounded


def prefill(
    model: DecoderLanguageModel | FastDecoder, cache: KVCache, prompts: list[list[int]], chunk: int = PREFILL_CHUNK
) -> Tensor:
    """Read whole prompts into the cache, `chunk` tokens a pass, and return the logits after each: (batch, vocab_size).

    Prompts may have different lengths: short ones are padded at the right, and what was padded is not kept.
    """
    lengths = torch.tensor([len(ids) for ids in prompts])
    longest = int(lengths.max())
    padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in prompts], device=model.device)
    last = torch.empty(len(prompts), model.config.emb_dim, device=model.device, dtype=cache.keys.dtype)
    for start in range(0, longest, chunk):
        part = padded[:, start : start + chunk]  # (batch, time)
        counts = (lengths - start).clamp(0, part.shape[1])
        hidden = model.hidden(part, cache, lengths=counts.to(model.device))  # (batch, time, emb_dim)
        ends_here = (counts > 0).nonzero().flatten()
        last[ends_here] = hidden[ends_here, counts[ends_here] - 1]
    return model.head(last)


@torch.inference_mode()
def generate_steps(
    model: DecoderLanguageModel,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop_ids: Iterable[int] = (),
    int8: bool = False,
    compiled: bool = False,
    timing: Timing | None = None,
) -> Iterator[list[int | None]]:
    """Write on all prompts together; each step yields one new id per prompt, None for those that have ended.

    A text ends after one of `stop_ids` (which is yielded too) or after `max_new_tokens`. Each text draws from its own
    random numbers (of seed + its row), so that it does not depend on the others. Of a prompt longer than the model's
    `context_size` the end is read; when a text outgrows it, its older half is forgotten.

    Many tokens are written by a `FastDecoder` of the model's present weights; with `int8` by one of rounded weights,
    which is faster and slightly worse, and with `compiled` by one that torch compiles first, which takes a minute and
    then is faster still (see `compiling.py`). `timing` is filled in as the text grows.
    """
    check_prompts(model, prompts)
    if max_new_tokens < 0:
        raise ValueError(f"cannot write {max_new_tokens} tokens: the number of new tokens must be 0 or more")
    sampling, stop_ids = sampling or Sampling(), set(stop_ids)
    timing = timing or Timing()
    timing.start(prompts)
    writer = pick_decoder(model, max_new_tokens, int8=int8, compiled=compiled)
    context = model.config.context_size
    texts = [list(ids) for ids in prompts]
    generators = [random_numbers(sampling.seed, row) for row in range(len(prompts))]
    alive = [True] * len(prompts)
    starts = [max(len(ids) - context, 0) for ids in texts]  # where the part of each text begins that is remembered
    room = min(context, max(map(len, texts)) + max_new_tokens)
    cache = None
    for _ in range(max_new_tokens):
        if cache is None or cache.longest == cache.max_length:
            for row, ids in enumerate(texts):
                if len(ids) - starts[row] > context:
                    starts[row] = len(ids) - max(context // 2, 1)
            cache = model.new_cache(len(texts), room)
            logits = prefill(writer, cache, [ids[start:] for ids, start in zip(texts, starts, strict=True)])
        else:
            newest = torch.tensor([ids[-1:] for ids in texts], device=model.device)  # (batch, 1)
            logits = writer(newest, cache)[:, -1]  # (batch, vocab_size)
        chosen = choose_rows(logits, [sampling] * len(texts), texts, generators)
        step: list[int | None] = [None] * len(texts)
        for row, (ids, token) in enumerate(zip(texts, chosen, strict=True)):
            ids.append(token)
            if alive[row]:
                step[row] = token
                alive[row] = token not in stop_ids
        timing.step(len(step) - step.count(None))
        yield step
        if not any(alive):
            return


def generate(
    model: DecoderLanguageModel,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    stop_ids: Iterable[int] = (),
    **more,
) -> list[list[int]]:
    """The new ids for each prompt; see `generate_steps`, which takes `int8`, `compiled` and `timing` too."""
    written: list[list[int]] = [[] for _ in prompts]
    settings = {"max_new_tokens": max_new_tokens, "sampling": sampling, "stop_ids": stop_ids, **more}
    for step in generate_steps(model, prompts, **settings):
        for ids, token in zip(written, step, strict=True):
            if token is not None:
                ids.append(token)
    return written


def stream_text(
    model: DecoderLanguageModel,
    start_string: str,
    tokenizer,
    max_length: int = 200,
    *,
    int8: bool = False,
    compiled: bool = False,
    timing: Timing | None = None,
    **sampling,
) -> Iterator[str]:
    """Write on `start_string` and yield the new text piece by piece, as soon as its bytes make whole characters.

    `max_length` counts new tokens; `sampling` are the fields of `Sampling`; `int8`, `compiled` and `timing` as in
    `generate_steps`. Ends at the tokenizer's end token.
    """
    settings = {
        "max_new_tokens": max_length,
        "sampling": Sampling(**sampling),
        "stop_ids": stop_ids(tokenizer, chat=False),
    }
    prompt = encode_prompt(tokenizer, start_string)
    yield from _pieces(model, prompt, tokenizer, {**settings, "int8": int8, "compiled": compiled, "timing": timing})


def stream_reply(
    model: DecoderLanguageModel, messages: list[dict], tokenizer, max_length: int = 200, **sampling
) -> Iterator[str]:
    """Answer a conversation as the assistant, and yield the answer piece by piece; else as `stream_text`.

    `messages` are `{"role": …, "content": …}`, the last one the user's. Ends at the end of a turn or of a document.
    """
    prompt = encode_request(tokenizer, messages)
    settings = {"max_new_tokens": max_length, "sampling": Sampling(**sampling), "stop_ids": stop_ids(tokenizer)}
    begun = False  # an answer begins with a blank, which belongs to the template
    for piece in _pieces(model, prompt, tokenizer, settings):
        shown = piece if begun else piece.lstrip()
        begun = begun or bool(shown)
        if shown:
            yield shown


def _pieces(model: DecoderLanguageModel, prompt: list[int], tokenizer, settings: dict) -> Iterator[str]:
    """New text after `prompt`, as soon as its bytes make whole characters; `settings` are those of `generate_steps`."""
    steps = generate_steps(model, [prompt], **settings)
    yield from whole_characters(tokenizer, prompt, (token for (token,) in steps))


def whole_characters(tokenizer, prompt: list[int], tokens: Iterable[int]) -> Iterator[str]:
    """The text of `tokens`, which follow `prompt`, in pieces, each as soon as its bytes make whole characters."""
    before, waiting = prompt, []  # ids shown last, which say whether a blank belongs before the next, and not shown yet
    for token in tokens:
        waiting.append(token)
        piece = decode_after(tokenizer, before, waiting)
        if piece and not piece.endswith("\ufffd"):  # else: some bytes of a character are still to come
            yield piece
            before, waiting = waiting, []
    if rest := decode_after(tokenizer, before, waiting).rstrip("\ufffd"):  # cut off within a character: leave it out
        yield rest


def generate_text(
    model: DecoderLanguageModel,
    start_string: str,
    tokenizer,
    device: str | torch.device | None = None,
    max_length: int = 200,
    **sampling,
) -> str:
    """`start_string` and what the model writes after it, at most `max_length` new tokens, up to the end token.

    >>> generate_text(model, "एक दिन", tokenizer, "cpu", 60, temperature=0.8, top_p=0.95, seed=1)

    `sampling` are the fields of `Sampling`. The model is moved to `device` if one is given.
    """
    if device is not None:
        model = model.to(pick_device(device))
    return start_string + "".join(stream_text(model, start_string, tokenizer, max_length, **sampling))


def decode_after(tokenizer, before: list[int], ids: list[int]) -> str:
    """Text of `ids` where it stands after `before`: some tokenizers drop the blank at the start of a text."""
    start = tokenizer.decode(before, skip_special_tokens=True)
    return tokenizer.decode(before + ids, skip_special_tokens=True)[len(start) :]


def check_prompts(model: DecoderLanguageModel, prompts: list[list[int]]) -> None:
    """Raises ValueError for a prompt that is empty or has ids that the model doesn't know."""
    if not prompts or not all(prompts):
        raise ValueError("nothing to write on: each prompt needs at least one id, such as the begin token")
    for token in (min(map(min, prompts)), max(map(max, prompts))):
        if not 0 <= token < model.config.vocab_size:
            raise ValueError(
                f"a prompt has id {token}, the model knows 0 to {model.config.vocab_size - 1}: "
                "was it encoded with another tokenizer?"
            )
