"""Speed, measured fairly: each contestant and its peer in turns within one run, and the ratio of their medians.

A row of the table is a function `(repeats) -> list[Result]`, kept in `ROWS` under its name: a new row is one function
and one line there. All but one (speculation at temperature 0.8) write greedily, so that ours and theirs can be held
against each other token by token.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from itertools import islice

import torch
from torch.nn import functional as F

from ..formats.pretrained import load_model
from ..inference.compiled import can_compile
from ..inference.fast import fast_decoder
from ..inference.generation import generate
from ..inference.packed import FEW, FastDecoder
from ..inference.sampling import Sampling
from ..inference.speculative import NgramDraft, Speculation, speculative_generate
from ..text.corpus import train_and_test_lines
from ..text.tokenizer import encode_documents
from . import separate
from .contestants import (
    GREEDY,
    PROMPT,
    make_pair,
    mixed_requests,
    random_prompts,
    serve_continuously,
    serve_continuously_with_transformers,
    serve_in_groups,
    serve_in_groups_of_transformers,
    write_with_transformers,
    write_without_cache,
)
from .profiling import in_turns, reading_speed, weight_bytes, where_time_goes
from .table import Result

NEW, LONG = 200, 256  # tokens: to write on a prompt, and of a whole text
DOCUMENTS = 60  # on which the loss by rounding is measured
STORED = 2000  # stories in which n-gram proposals are looked up


def against_transformers(
    shape: str,
    batch: int,
    target: float,
    repeats: int,
    *,
    int8: bool = False,
    compiled: bool = False,
    device: str = "cpu",
) -> list[Result]:
    """Plain decoding, against the faster of the two caches of `transformers`."""
    model, theirs = (one.to(device) for one in make_pair(shape))
    prompts = random_prompts(batch)
    ours = partial(generate, model, prompts, max_new_tokens=NEW, sampling=GREEDY, int8=int8, compiled=compiled)
    seconds, wrote = in_turns(
        {
            "ours": ours,
            "growing": lambda: write_with_transformers(theirs, prompts, NEW, None),
            "static": lambda: write_with_transformers(theirs, prompts, NEW, "static"),
        },
        repeats,
    )
    best = min("growing", "static", key=seconds.get)
    note = torch.cuda.get_device_name() if device == "cuda" else ""
    if device == "cpu":
        size = weight_bytes(fast_decoder(model, int8=int8))
        limit = reading_speed(size) / size * batch
        note = f"reads {size / 1e6:.1f} MB a step; that alone would allow {limit:,.0f} tokens/s"
        note += "; " + where_time_goes(ours)
    if int8:
        note += f"; {int8_loss()}"
    name = f"{shape}, {batch} at once" + (", int8" if int8 else "") + (", compiled" if compiled else "")
    name += " (GPU)" if device == "cuda" else ""
    same, count = None if int8 else wrote["ours"] == wrote["growing"], batch * NEW
    peer = f"transformers, {best} cache"
    return [Result(name, count / seconds["ours"], peer, count / seconds[best], target, same, note)]


def against_llama_cpp(name: str, repeats: int, *, compiled: bool = False) -> list[Result]:
    """A trained model by llama.cpp and by us, each in a process of its own, in turns; int8 beside float32 too."""
    speeds, wrote = separate.measure_writing(name, repeats, torch.get_num_threads(), compiled)
    spreads = (f"{contestant}: {separate.spread(own)}" for contestant, own in speeds.items())
    how, note = (", compiled" if compiled else ""), f"xllamacpp {version('xllamacpp')}; " + "; ".join(spreads)
    rows = [("ours", "llama.cpp f32", 1.15 if compiled else 0.75), ("ours, int8", "llama.cpp q8_0", 0.9)]
    rows = [(f"{ours}{how}", peer, target if compiled or peer.endswith("f32") else None) for ours, peer, target in rows]
    rows += [("ours, int8", "ours", 1.4)] if not compiled else []
    results = []
    for ours, peer, target in rows:
        fast, slow = statistics.median(speeds[ours]), statistics.median(speeds[peer])
        shown = min(len(wrote[ours]), len(wrote[peer]), 300)  # signs; one of them may show an end token as a text
        same = wrote[ours][:shown] == wrote[peer][:shown] if "int8" not in ours else None
        results.append(Result(ours.replace("ours", name, 1), fast, peer, slow, target, same))
    results[0].note = note
    return results


def against_no_cache(repeats: int) -> list[Result]:
    """Writing until the text has `LONG` tokens, against reading the whole text for each."""
    model, _ = make_pair("S")
    prompts, count = random_prompts(1), LONG - PROMPT
    seconds, wrote = in_turns(
        {
            "ours": lambda: generate(model, prompts, max_new_tokens=count, sampling=GREEDY),
            "naive": lambda: write_without_cache(model, prompts, count),
        },
        repeats,
    )
    same = wrote["ours"] == wrote["naive"]
    return [Result(f"S, up to {LONG} tokens", count / seconds["ours"], "no cache", count / seconds["naive"], 5, same)]


def int8_loss(name: str = "kahani-hi") -> str:
    """What rounding to int8 costs a trained model, in bits per byte of its first test texts."""
    model, tokenizer = load_model(name, "cpu")
    texts = list(islice(train_and_test_lines(f"data/{name}.tar.gz")[1], DOCUMENTS))
    exact, rounded = (decoded_bits_per_byte(fast_decoder(model, int8=int8), tokenizer, texts) for int8 in (False, True))
    return f"{name}: {exact:.4f} bits per byte, with int8 {rounded:.4f}"


@torch.inference_mode()
def decoded_bits_per_byte(decoder: FastDecoder, tokenizer, texts: Iterable[str]) -> float:
    """Surprise per byte of UTF-8, end tokens included, when a text is read as writing reads it: few tokens a step."""
    bits, size = 0.0, 0
    for text, ids in zip(texts, encode_documents(tokenizer, texts), strict=True):
        ids = torch.tensor([ids[: decoder.config.context_size]])  # (1, time)
        cache = decoder.new_cache(1, ids.shape[1])
        logits = torch.cat([decoder(part, cache) for part in ids[:, :-1].split(FEW, dim=1)], dim=1)[0]
        bits += float(F.cross_entropy(logits.float(), ids[0, 1:], reduction="sum")) / math.log(2)
        size += len(text.encode())
    return bits / size


def continuous_batching(shape: str, repeats: int, *, slots: int = 16, compiled: bool = False) -> list[Result]:
    """64 mixed requests, all at once: `DynamicBatcher` against padded groups, ours and theirs, and `generate_batch`.

    `compiled` goes for both of ours.
    """
    (model, theirs), requests = make_pair(shape, context=512), mixed_requests()
    seconds, served = in_turns(
        {
            "ours": lambda: serve_continuously(model, requests, slots, compiled),
            "padded": lambda: serve_in_groups(model, requests, slots, compiled),
            "transformers, padded": lambda: serve_in_groups_of_transformers(theirs, requests, slots),
            "transformers, generate_batch": lambda: serve_continuously_with_transformers(theirs, requests),
        },
        repeats,
    )
    tokens, rows = sum(new for _, new in requests), []
    for peer, target in (("padded", 1.5), ("transformers, padded", 2.5), ("transformers, generate_batch", 8.0)):
        note = f"95% of the texts within {served['ours'].percentile(0.95):.2f} s, {peer}: "
        note += f"{served[peer].percentile(0.95):.2f} s"
        if peer.endswith("generate_batch"):
            note += f"; without its start-up it writes {tokens / max(served[peer].latencies):,.0f} tokens/s"
        same = served["ours"].texts == served[peer].texts
        name = f"{shape}, 64 mixed requests, {slots} rows" + (", compiled" if compiled else "")
        rows.append(Result(name, tokens / seconds["ours"], peer, tokens / seconds[peer], target, same, note))
    return rows


def speculation(
    kind: str,
    sampling: Sampling,
    target: float | None,
    repeats: int,
    *,
    texts: int = 6,
    new: int = 80,
    compiled: bool = False,
) -> list[Result]:
    """`kahani-hi-large` with proposals to check, against the same model alone, `new` tokens on each of some stories.

    `compiled` goes for both, and for the draft.

    "model": kahani-hi-draft proposes, on the first 12 tokens of a story. "ngram": `NgramDraft`, on text that repeats: a
    story, and its first half once more. "stored ngram": the same, which also looks up in `STORED` training stories.
    """
    model, tokenizer = load_model("kahani-hi-large", "cpu")
    train_text, test_text = train_and_test_lines("data/kahani-hi.tar.gz")
    stories = encode_documents(tokenizer, islice(test_text, texts))
    if kind == "model":
        draft, prompts = load_model("kahani-hi-draft", "cpu")[0], [ids[:12] for ids in stories]
    else:
        stored = encode_documents(tokenizer, islice(train_text, STORED)) if kind == "stored ngram" else ()
        draft, prompts = NgramDraft(texts=stored), [(ids + ids[: len(ids) // 2])[-176:] for ids in stories]
    settings, count = {"max_new_tokens": new, "sampling": sampling, "compiled": compiled}, new * texts
    seconds, wrote = in_turns(
        {
            "draft": lambda: [speculative_generate(model, prompt, draft, **settings) for prompt in prompts],
            "alone": lambda: [generate(model, [prompt], **settings)[0] for prompt in prompts],
        },
        repeats,
    )
    rounds = [r for done in wrote["draft"] for r in done.rounds]
    same = [done.ids for done in wrote["draft"]] == wrote["alone"] if sampling.temperature == 0 else None
    note = str(Speculation([token for r in rounds for token in r.tokens], rounds))
    name = f"kahani-hi-large, {kind} proposes, temperature {sampling.temperature:g}"
    name += ", compiled" if compiled else ""
    return [Result(name, count / seconds["draft"], "alone", count / seconds["alone"], target, same, note)]


ROWS: dict[str, Callable[[int], list[Result]]] = {
    "s1": partial(against_transformers, "S", 1, 3.0),
    "s8": partial(against_transformers, "S", 8, 3.0),
    "s32": partial(against_transformers, "S", 32, 2.0),
    "m1": partial(against_transformers, "M", 1, 2.5),
    "m8": partial(against_transformers, "M", 8, 1.7),
    "m32": partial(against_transformers, "M", 32, 1.5),
    "int8": partial(against_transformers, "M", 1, 4.0, int8=True),
    "no-cache": against_no_cache,
    "llama-cpp": partial(against_llama_cpp, "kahani-hi"),
    "llama-cpp-large": partial(against_llama_cpp, "kahani-hi-large"),
    "draft": partial(speculation, "model", GREEDY, 1.6),
    "draft-0.8": partial(speculation, "model", Sampling(temperature=0.8, seed=1), 1.6),
    "ngram": partial(speculation, "ngram", GREEDY, None),
    "stored-ngram": partial(speculation, "stored ngram", GREEDY, 1.3),
    "batching-s": partial(continuous_batching, "S"),
    "batching-m": partial(continuous_batching, "M"),
    "batching-s-64": partial(continuous_batching, "S", slots=64),
    "batching-m-64": partial(continuous_batching, "M", slots=64),
}
ROWS |= {  # those that the compiler helps
    f"{name}-compiled": partial(row, compiled=True)
    for name, row in ROWS.items()
    if name not in ("int8", "no-cache", "ngram")
}
ROWS |= {  # those for machines with a GPU
    "m1-gpu": partial(against_transformers, "M", 1, 8.0, device="cuda"),
    "m64-gpu": partial(against_transformers, "M", 64, 4.0, device="cuda"),
}


def can_be_measured(name: str) -> bool:
    """Has this machine what the row needs: a compiler, a GPU, llama.cpp?"""
    needs = {"-compiled": can_compile, "-gpu": torch.cuda.is_available, "llama-cpp": separate.has_llama_cpp}
    return all(there() for part, there in needs.items() if part in name)
