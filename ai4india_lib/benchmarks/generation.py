"""Speed, measured fairly: each contestant and its peer in turns within one run, and the ratio of their medians.

A row of the table is a function `(repeats) -> list[Result]`, kept in `ROWS` under its name: a new row is one function
and one line there. All but one (speculation at temperature 0.8) write greedily, so that ours and theirs can be held
against each other token by token.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from ..formats.llama_format import hugging_face_name
from ..formats.pretrained import load_model
from ..inference.continuous_batching import DynamicBatcher
from ..inference.generation import generate, generate_steps
from ..inference.packed import FEW, FastDecoder
from ..inference.sampling import Sampling
from ..inference.speculative import NgramDraft, Speculation, speculative_generate
from ..model.decoder import DecoderLanguageModel
from ..text.corpus import train_and_test_lines
from ..text.tokenizer import encode_documents
from .profiling import in_turns, reading_speed, weight_bytes, where_time_goes

SHAPES = {"S": (128, 4, 4), "M": (256, 6, 8)}  # emb_dim, num_blocks, num_heads
VOCABULARY, PROMPT, NEW = 4096, 32, 200  # tokens
STORED = 2000  # stories in which n-gram proposals are looked up
GREEDY = Sampling(temperature=0)


@dataclass
class Result:
    """One row of the table. Speeds are new tokens per second, all texts together."""

    name: str
    ours: float
    peer: str  # what it is held against
    theirs: float
    target: float | None = None  # the ratio we want
    same: bool | None = None  # did both write the same tokens?
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


def make_pair(shape: str, *, context: int = 256):
    """A random model of `SHAPES`, and the same weights as a model of `transformers`."""
    import transformers

    transformers.logging.set_verbosity_error()
    emb_dim, num_blocks, num_heads = SHAPES[shape]
    torch.manual_seed(0)
    model = DecoderLanguageModel(VOCABULARY, emb_dim, num_heads, num_blocks, None, context_size=context).eval()
    config = transformers.Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=emb_dim,
        intermediate_size=model.config.mlp_dim,
        num_hidden_layers=num_blocks,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        head_dim=model.config.head_dim,
        max_position_embeddings=context,
        rms_norm_eps=model.config.norm_eps,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    theirs = transformers.Qwen3ForCausalLM(config).eval()
    theirs.load_state_dict({hugging_face_name(name): p for name, p in model.named_parameters()}, strict=False)
    return model, theirs


def random_prompts(batch: int, length: int = PROMPT) -> list[list[int]]:
    """`batch` prompts of `length` random ids each, always the same ones."""
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1)).tolist()


@torch.inference_mode()
def write_with_transformers(theirs, prompts: list[list[int]], count: int, cache: str | None) -> list[list[int]]:
    """Greedily, `count` tokens on prompts of one length; `cache` None is the growing one, "static" the fixed one."""
    ids = torch.tensor(prompts)
    settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "cache_implementation": cache}
    return theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)[:, ids.shape[1] :].tolist()


@torch.inference_mode()
def write_without_cache(model: DecoderLanguageModel, prompts: list[list[int]], count: int) -> list[list[int]]:
    """Greedily, reading the whole text anew for each token."""
    ids = torch.tensor(prompts)  # (batch, time)
    for _ in range(count):
        ids = torch.cat((ids, model.head(model.hidden(ids)[:, -1:]).argmax(-1)), dim=1)
    return ids[:, -count:].tolist()


def against_transformers(
    shape: str, batch: int, target: float, repeats: int, *, int8: bool = False, compiled: bool = False
) -> list[Result]:
    """Plain decoding, against the faster of the two caches of `transformers`."""
    model, theirs = make_pair(shape)
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
    size = weight_bytes(FastDecoder(model, int8=int8))
    limit = reading_speed(size) / size * batch
    note = f"reads {size / 1e6:.1f} MB a step; that alone would allow {limit:,.0f} tokens/s"
    note += "; " + where_time_goes(ours)
    if int8:
        note += f"; {int8_loss()}"
    name = f"{shape}, {batch} at once" + (", int8" if int8 else "") + (", compiled" if compiled else "")
    same, count = None if int8 else wrote["ours"] == wrote["growing"], batch * NEW
    peer = f"transformers, {best} cache"
    return [Result(name, count / seconds["ours"], peer, count / seconds[best], target, same, note)]


def against_no_cache(repeats: int) -> list[Result]:
    """Writing until the text has 256 tokens, against reading the whole text for each."""
    model, _ = make_pair("S")
    prompts, count = random_prompts(1), 256 - PROMPT
    seconds, wrote = in_turns(
        {
            "ours": lambda: generate(model, prompts, max_new_tokens=count, sampling=GREEDY),
            "naive": lambda: write_without_cache(model, prompts, count),
        },
        repeats,
    )
    same = wrote["ours"] == wrote["naive"]
    return [Result("S, up to 256 tokens", count / seconds["ours"], "no cache", count / seconds["naive"], 5, same)]


def int8_loss(name: str = "kahani-hi", documents: int = 60) -> str:
    """What rounding to int8 costs a trained model, in bits per byte of its first test texts."""
    model, tokenizer = load_model(name, "cpu")
    texts = list(train_and_test_lines(f"data/{name}.tar.gz")[1])[:documents]
    exact, rounded = (decoded_bits_per_byte(FastDecoder(model, int8=int8), tokenizer, texts) for int8 in (False, True))
    return f"{name}: {exact:.4f} bits per byte, with int8 {rounded:.4f}"


@torch.inference_mode()
def decoded_bits_per_byte(decoder: FastDecoder, tokenizer, texts: Iterable[str]) -> float:
    """Surprise per byte of UTF-8, end tokens included, when a text is read as writing reads it: few tokens a step."""
    bits, size = 0.0, 0
    for text, ids in zip(texts, encode_documents(tokenizer, texts), strict=True):
        ids = torch.tensor([ids[: decoder.config.context_size]])  # (1, time)
        cache = decoder.new_cache(1, ids.shape[1])
        logits = torch.cat([decoder(part, cache) for part in ids[:, :-1].split(FEW, dim=1)], dim=1)[0]
        bits += float(_surprise(logits, ids[0, 1:]))
        size += len(text.encode())
    return bits / size


def _surprise(logits: Tensor, targets: Tensor) -> Tensor:
    """Bits of all targets (time,) together."""
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum") / torch.log(torch.tensor(2.0))


def mixed_requests(count: int = 64) -> list[tuple[list[int], int]]:
    """Prompts of 8 to 128 tokens, and how many tokens to write on each, 16 to 200: the same ones each time."""
    draw = random.Random(0)
    lengths = [(draw.randint(8, 128), draw.randint(16, 200)) for _ in range(count)]
    return [([draw.randrange(1, VOCABULARY) for _ in range(length)], new) for length, new in lengths]


class Served(NamedTuple):
    """What became of requests that all came at the same moment."""

    texts: list[list[int]]
    latencies: list[float]  # seconds until each text was complete

    def percentile(self, share: float) -> float:
        return sorted(self.latencies)[int(share * (len(self.latencies) - 1))]


def serve_continuously(model: DecoderLanguageModel, requests, slots: int, compiled: bool = False) -> Served:
    """By `DynamicBatcher`."""
    start, ends = time.perf_counter(), {}
    room = max(len(ids) + new for ids, new in requests)
    batcher = DynamicBatcher(model, slots=slots, max_length=room, compiled=compiled)
    asked = [batcher.submit(ids, max_new_tokens=new, sampling=GREEDY) for ids, new in requests]
    while not batcher.idle:
        ends |= {request: time.perf_counter() - start for request, _ in batcher.step() if request.done}
    return Served([request.tokens for request in asked], [ends[request] for request in asked])


def serve_in_groups(model: DecoderLanguageModel, requests, slots: int, compiled: bool = False) -> Served:
    """Padded groups; a text's latency ends with its own last token, not with the group's."""
    start, texts, latencies = time.perf_counter(), [], []
    for first in range(0, len(requests), slots):
        prompts, counts = zip(*requests[first : first + slots], strict=True)
        group = [[] for _ in prompts]
        settings = {"max_new_tokens": max(counts), "sampling": GREEDY, "compiled": compiled}
        for step in generate_steps(model, list(prompts), **settings):
            for ids, token, count in zip(group, step, counts, strict=True):
                if len(ids) < count:
                    ids.append(token)
                    latencies += [time.perf_counter() - start] if len(ids) == count else []
        texts += group
    return Served(texts, latencies)


@torch.inference_mode()
def serve_in_groups_of_transformers(theirs, requests, slots: int) -> Served:
    """Padded at the left, as `transformers` wants it; a group's texts come all together."""
    start, texts, latencies = time.perf_counter(), [], []
    for first in range(0, len(requests), slots):
        prompts, counts = zip(*requests[first : first + slots], strict=True)
        wide, count = max(map(len, prompts)), max(counts)
        ids = torch.tensor([[0] * (wide - len(prompt)) + prompt for prompt in prompts])  # (batch, wide)
        mask = torch.tensor([[0] * (wide - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
        written = theirs.generate(ids, attention_mask=mask, **settings)[:, wide:].tolist()
        texts += [row[:own] for row, own in zip(written, counts, strict=True)]
        latencies += [time.perf_counter() - start] * len(prompts)
    return Served(texts, latencies)


def serve_continuously_with_transformers(theirs, requests) -> Served:
    """What `generate_batch` does, but for one thing: each request has its own number of new tokens. Latencies leave out
    its start-up, which tries out shapes for many seconds."""
    from transformers import GenerationConfig

    done = {}
    config = GenerationConfig(do_sample=False, max_new_tokens=200, eos_token_id=-1, pad_token_id=0)
    with theirs.continuous_batching_context_manager(generation_config=config, block=True, timeout=5) as manager:
        start = time.perf_counter()
        names = [manager.add_request(ids, max_new_tokens=new, eos_token_id=-1) for ids, new in requests]
        while len(done) < len(names):
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                done[result.request_id] = (result.generated_tokens, time.perf_counter() - start)
    return Served(*map(list, zip(*(done[name] for name in names), strict=True)))


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
