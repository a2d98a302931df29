"""prompt → text: read the prompt once (prefill), then write one token per step with the KV cache.

`sampling.py` turns the logits of a step into a choice, `fast.py` says which form of the model computes them.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..basics.device import pick_device
from ..model.cache import KVCache
from ..model.decoder import DecoderLanguageModel
from ..text.chat import encode_request, stop_ids
from ..text.tokenizer import encode_prompt
from .fast import pick_decoder
from .interruption import tells_when_broken_off
from .packed import FastDecoder
from .requests import checked_count, checked_prompts, checked_stops
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


def remembered_from(start: int, length: int, context: int) -> int:
    """Where the part of a text begins that the model reads, when it began at `start` and `length` tokens are there.

    As soon as that part outgrows the context, its older half is forgotten: the newer half is read again, once.
    """
    return start if length - start <= context else length - max(context // 2, 1)


def _next_logits(decoder: DecoderLanguageModel | FastDecoder, texts: list[list[int]], count: int) -> Iterator[Tensor]:
    """`count` times the logits behind each text, (batch, vocab_size). Each text has one more token each time."""
    context, cache = decoder.config.context_size, None
    starts = [max(len(ids) - context, 0) for ids in texts]
    room = min(context, max(map(len, texts)) + count)
    for _ in range(count):
        if cache is None or cache.longest == room:
            starts = [remembered_from(start, len(ids), context) for start, ids in zip(starts, texts, strict=True)]
            cache = decoder.new_cache(len(texts), room)
            yield prefill(decoder, cache, [ids[start:] for ids, start in zip(texts, starts, strict=True)])
        else:
            newest = torch.tensor([ids[-1:] for ids in texts], device=decoder.device)  # (batch, 1)
            yield decoder(newest, cache)[:, -1]


@tells_when_broken_off
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
    `context_size` the end is read; when a text outgrows it, its older half is forgotten. Broken off in the midst of a
    step, by an error or the stop button, it raises RuntimeError when it is asked for more.

    Many tokens are written by a `FastDecoder` of the model's present weights; with `int8` by one of rounded weights,
    which is faster and slightly worse, and with `compiled` by one that torch compiles first, which takes a minute and
    then is faster still (see `compiled.py`). `timing` is filled in as the text grows.
    """
    prompts, max_new_tokens = checked_prompts(model, prompts), checked_count(max_new_tokens)
    sampling, stop_ids, timing = sampling or Sampling(), checked_stops(stop_ids), timing or Timing()
    timing.start(prompts)
    decoder = pick_decoder(model, max_new_tokens, int8=int8, compiled=compiled)
    texts, writing = [list(ids) for ids in prompts], [True] * len(prompts)
    generators = [random_numbers(sampling.seed, row) for row in range(len(prompts))]
    for logits in _next_logits(decoder, texts, max_new_tokens):
        chosen = choose_rows(logits, [sampling] * len(texts), texts, generators)
        for ids, token in zip(texts, chosen, strict=True):
            ids.append(token)  # in texts that have ended too: all rows of the batch go on
        step = [token if goes_on else None for token, goes_on in zip(chosen, writing, strict=True)]
        writing = [token is not None and token not in stop_ids for token in step]
        timing.step(len(step) - step.count(None))
        yield step
        if not any(writing):
            return


def generate(model: DecoderLanguageModel, prompts: list[list[int]], **settings) -> list[list[int]]:
    """The new ids for each prompt; `settings`, such as `max_new_tokens`, as in `generate_steps`."""
    prompts = checked_prompts(model, prompts)
    written: list[list[int]] = [[] for _ in prompts]
    for step in generate_steps(model, prompts, **settings):
        for ids, token in zip(written, step, strict=True):
            if token is not None:
                ids.append(token)
    return written


def decode_after(tokenizer, before: list[int], ids: list[int]) -> str:
    """Text of `ids` where it stands after `before`: some tokenizers drop the space at the start of a text."""
    start = tokenizer.decode(before, skip_special_tokens=True)
    return tokenizer.decode(before + ids, skip_special_tokens=True)[len(start) :]


def whole_characters(tokenizer, prompt: list[int], tokens: Iterable[int]) -> Iterator[str]:
    """The text of `tokens`, which follow `prompt`, in pieces, each as soon as its bytes make whole characters."""
    before, waiting = prompt, []  # ids shown last, which say whether a space belongs before the next, and not shown yet
    for token in tokens:
        waiting.append(token)
        piece = decode_after(tokenizer, before, waiting)
        if piece and not piece.endswith("\ufffd"):  # else: some bytes of a character are still to come
            yield piece
            before, waiting = waiting, []
    if rest := decode_after(tokenizer, before, waiting).rstrip("\ufffd"):  # cut off within a character: leave it out
        yield rest


def _stream(
    model, prompt: list[int], ends, tokenizer, max_length: int, *, int8=False, compiled=False, timing=None, **sampling
) -> Iterator[str]:
    """What the model writes on the ids `prompt`, up to one of the ids `ends`, piece by piece; else as `stream_text`."""
    more = {"stop_ids": ends, "int8": int8, "compiled": compiled, "timing": timing}
    steps = generate_steps(model, [prompt], max_new_tokens=max_length, sampling=Sampling(**sampling), **more)
    return whole_characters(tokenizer, prompt, (token for (token,) in steps))


def opening(text: str) -> str:
    """The beginning of a text without blanks at its end: a word brings the one before it along, as part of its token,
    and behind a blank of its own a model finds a sign, or a second blank, the likeliest."""
    return text.rstrip(" \t") if isinstance(text, str) else text  # what is no text, `encode_prompt` refuses


@tells_when_broken_off
def stream_text(model: DecoderLanguageModel, start_string: str, tokenizer, max_length=200, **settings) -> Iterator[str]:
    """Write on `start_string` and yield the new text piece by piece, as soon as its bytes make whole characters.

    `max_length` counts new tokens; `settings` are the fields of `Sampling`, and `int8`, `compiled` and `timing` as in
    `generate_steps`. Ends at the tokenizer's end token. Blanks at the end of `start_string` do not count (`opening`).
    """
    prompt, ends = encode_prompt(tokenizer, opening(start_string)), stop_ids(tokenizer, chat=False)
    yield from _stream(model, prompt, ends, tokenizer, max_length, **settings)


@tells_when_broken_off
def stream_reply(model: DecoderLanguageModel, messages: list, tokenizer, max_length=200, **settings) -> Iterator[str]:
    """Answer a conversation as the assistant, and yield the answer piece by piece; else as `stream_text`.

    `messages` are `{"role": …, "content": …}`, the last one the user's. Ends at the end of a turn or of a document.
    """
    prompt, ends = encode_request(tokenizer, messages), stop_ids(tokenizer)
    begun = False  # an answer begins with a space, which belongs to the template
    for piece in _stream(model, prompt, ends, tokenizer, max_length, **settings):
        if shown := piece if begun else piece.lstrip():
            begun = True
            yield shown


def generate_text(
    model: DecoderLanguageModel, start_string: str, tokenizer, device=None, max_length: int = 200, **sampling
) -> str:
    """`start_string` and what the model writes after it, at most `max_length` new tokens, up to the end token.

    >>> generate_text(model, "एक दिन", tokenizer, "cpu", 60, temperature=0.8, top_p=0.95, seed=1)

    `sampling` as the `settings` of `stream_text`. The model is moved to `device`, a name or torch's own, if given.
    """
    if device is not None:
        model = model.to(pick_device(device))
    return opening(start_string) + "".join(stream_text(model, start_string, tokenizer, max_length, **sampling))
