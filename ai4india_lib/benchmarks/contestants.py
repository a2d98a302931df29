"""The contestants: models to write with, and ways of writing, ours and those of `transformers`."""

from __future__ import annotations

import random
import time
from typing import NamedTuple

import torch

from ..formats.llama_format import hugging_face_name
from ..inference.continuous_batching import DynamicBatcher
from ..inference.generation import generate_steps
from ..inference.sampling import Sampling
from ..model.decoder import DecoderLanguageModel

SHAPES = {"S": (128, 4, 4), "M": (256, 6, 8)}  # emb_dim, num_blocks, num_heads
VOCABULARY, PROMPT = 4096, 32  # tokens
GREEDY = Sampling(temperature=0)


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
    ids = torch.tensor(prompts, device=theirs.device)
    settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "cache_implementation": cache}
    return theirs.generate(ids, attention_mask=torch.ones_like(ids), **settings)[:, ids.shape[1] :].tolist()


@torch.inference_mode()
def write_without_cache(model: DecoderLanguageModel, prompts: list[list[int]], count: int) -> list[list[int]]:
    """Greedily, reading the whole text anew for each token."""
    ids = torch.tensor(prompts)  # (batch, time)
    for _ in range(count):
        ids = torch.cat((ids, model.head(model.hidden(ids)[:, -1:]).argmax(-1)), dim=1)
    return ids[:, -count:].tolist()


def mixed_requests(count: int = 64) -> list[tuple[list[int], int]]:
    """Prompts of 8 to 128 tokens, and how many tokens to write on each, 16 to 200: the same ones each time."""
    draw = random.Random(0)
    lengths = [(draw.randint(8, 128), draw.randint(16, 200)) for _ in range(count)]
    return [([draw.randrange(1, VOCABULARY) for _ in range(length)], new) for length, new in lengths]


class Served(NamedTuple):
    """What became of requests that all came at the same moment."""

    texts: list[list[int]]
    latencies: list[float]  # seconds until each text was complete

    def percentile(self, fraction: float) -> float:
        return sorted(self.latencies)[int(fraction * (len(self.latencies) - 1))]


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
