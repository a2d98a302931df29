"""python -m ai4india_lib generate: let a model write on a prompt, or on each line of a file."""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ..basics.files import replaced_file
from ..formats.pretrained import load_model
from ..inference.continuous_batching import DynamicBatcher, Request
from ..inference.generation import decode_after, generate_steps, opening, whole_characters
from ..inference.sampling import Sampling
from ..inference.speculative import NgramDraft, Speculation, speculative_steps
from ..inference.timing import Timing
from ..model.decoder import DecoderLanguageModel
from ..text.chat import stop_ids
from ..text.corpus import TextLines
from ..text.tokenizer import encode_prompt
from . import check_at_least, check_output, chosen_sampling, model_of, refuse, show_text, tell_model
from .options import SLOTS, STORY_SAMPLING


def _check(options: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    check_at_least(options, 0, "max_length")
    check_at_least(options, 1, "count")
    if not options.prompts:
        if options.output is not None:
            raise ValueError("--output goes with --prompts FILE; a single text is shown, and > keeps it")
        refuse(options, "slots", "without --prompts, as single texts are written one after the other")
    elif options.prompt is not None:
        raise ValueError(f"both a prompt ({options.prompt}) and --prompts {options.prompts} were given: choose one")
    elif options.draft:
        raise ValueError("--draft speeds up single texts, with --prompts many are written at once: leave one out")
    if (options.int8 or options.timing) and (options.prompts or options.draft):
        raise ValueError("--int8 and --timing are for single texts: leave out --prompts and --draft")
    check_output(options, "prompts")


def read_prompts(path: Path) -> list[tuple[int, str]]:
    """The prompts of a file with the numbers of their lines; empty lines are passed over."""
    prompts = [(number, line.strip()) for number, line in TextLines(path).numbered(in_pieces=False)]
    if not prompts:
        raise ValueError(f"{path} has no prompts: write one a line")
    return prompts


def _seeded(sampling: dict, number: int) -> dict:
    """Settings for text `number`: each draws its own random numbers."""
    return {**sampling, "seed": sampling["seed"] + number} if "seed" in sampling else sampling


def _draft(name: str | None, model, tokenizer) -> NgramDraft | DecoderLanguageModel | None:
    """What proposes tokens to `model`. Raises ValueError for a model to which the ids mean other tokens."""
    if name in (None, "ngram"):
        return NgramDraft() if name else None
    draft, its_tokenizer = load_model(name, model.device)
    if its_tokenizer.get_vocab() != tokenizer.get_vocab():
        advice = "take one of the same vocabulary (`train --teacher` makes one), or --draft ngram"
        raise ValueError(f"the draft {name} was trained with another tokenizer than the model: {advice}")
    return draft


def write_one_by_one(model, tokenizer, options: argparse.Namespace, sampling: dict) -> None:
    """Print --count texts as they grow. With a seed, text number n draws with seed + n."""
    prompt, stops = opening("एक दिन" if options.prompt is None else options.prompt), stop_ids(tokenizer, chat=False)
    ids, draft = encode_prompt(tokenizer, prompt), _draft(options.draft, model, tokenizer)
    settings = {"max_new_tokens": options.max_length, "stop_ids": stops, "compiled": options.compile}
    for number in range(options.count):
        own, timing, proposals = Sampling(**_seeded(sampling, number)), Timing(), Speculation()
        print(prompt, end="", flush=True)
        if draft is None:
            steps = generate_steps(model, [ids], sampling=own, int8=options.int8, timing=timing, **settings)
        else:
            rounds = speculative_steps(model, ids, draft, sampling=own, **settings)
            steps = (proposals.add(r).tokens for r in rounds)
        try:
            for piece in whole_characters(tokenizer, ids, chain.from_iterable(steps)):
                show_text(piece)
        except KeyboardInterrupt:
            print()  # what was written stays a line of its own
            raise
        print(f"\n({proposals})" if draft is not None else "", end="\n\n" if options.count > 1 else "\n")
        if options.timing:
            print(timing, file=sys.stderr)


def write_together(
    model, tokenizer, prompts: list[tuple[int, str]], options: argparse.Namespace, sampling: dict
) -> Iterator[dict]:
    """Each prompt's line, its text and why it ended, in the order of the file, as soon as it and those before have
    ended. With a seed, text number n draws with seed + n. Raises ValueError, before anything is written, for a prompt
    that is too long."""
    asked = [(line, text, encode_prompt(tokenizer, text)) for line, text in prompts for _ in range(options.count)]
    context = model.config.context_size
    for line, _, ids in asked:
        if len(ids) >= context:
            raise ValueError(f"line {line} has {len(ids)} tokens, the model reads {context}: shorten the prompt")
    lengths = [min(len(ids) + options.max_length, context) for _, _, ids in asked]  # of prompt and text together
    settings = {"slots": SLOTS if options.slots is None else options.slots, "compiled": options.compile}
    batcher = DynamicBatcher(model, max_length=max(lengths), queue_size=len(asked), **settings)
    stops, requests = stop_ids(tokenizer, chat=False), []
    for number, ((_, _, ids), length) in enumerate(zip(asked, lengths, strict=True)):
        own = Sampling(**_seeded(sampling, number))
        requests.append(batcher.submit(ids, max_new_tokens=length - len(ids), sampling=own, stop_ids=stops))
    return _as_they_end(tokenizer, asked, requests)


def _as_they_end(tokenizer, asked: list[tuple], requests: list[Request]) -> Iterator[dict]:
    """What `write_together` gives."""
    for (line, text, ids), request in zip(asked, requests, strict=True):
        written = decode_after(tokenizer, ids, list(request)).rstrip("\ufffd")
        yield {"line": line, "prompt": text, "text": written, "tokens": len(request.tokens), "ended": request.ended}


def show(texts: Iterator[dict], output: str | None) -> None:
    """Print texts below each other, or write them as JSON lines."""
    if output is None:
        for text in texts:
            show_text(f"{text['line']}: {text['prompt']}{text['text']}\n\n")
        return
    path = Path(output).resolve()  # what a link leads to is replaced, and not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as beside, beside.open("w", encoding="utf-8") as file:
        sizes = [file.write(json.dumps(text, ensure_ascii=False) + "\n") for text in texts]
    print(f"{len(sizes)} texts in {output}", file=sys.stderr)


def run(options: argparse.Namespace) -> None:
    """Write on a prompt, showing the text as it comes; or on the prompts of a file."""
    _check(options)
    sampling = chosen_sampling(options, STORY_SAMPLING)
    prompts = read_prompts(Path(options.prompts)) if options.prompts else []
    name = model_of(options, chat=False)
    model, tokenizer = load_model(name, options.device)
    if prompts:
        texts = write_together(model, tokenizer, prompts, options, sampling)
        tell_model(options, name)
        show(texts, options.output)
    else:
        tell_model(options, name)
        write_one_by_one(model, tokenizer, options, sampling)
