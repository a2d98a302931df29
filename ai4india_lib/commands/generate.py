"""python -m ai4india_lib generate: let a model write on a prompt, or on each line of a file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ..formats.pretrained import load_model
from . import add_model_options, add_sampling_options, chosen_sampling, newest_model


def add_to(commands) -> None:
    """Add this command to the sub-commands of an argument parser."""
    generate = commands.add_parser(
        "generate",
        help="let a model write on a prompt",
        description="Write on a prompt, or on each line of a file, up to the model's end token.",
    )
    generate.set_defaults(run=run)
    generate.add_argument("prompt", nargs="?", help="the beginning of the text (एक दिन)")
    generate.add_argument("--prompts", metavar="FILE", help="a file with one prompt a line: all are written together")
    generate.add_argument("--output", metavar="FILE", help="with --prompts: write the texts there, as JSON lines")
    generate.add_argument("--slots", type=int, default=16, help="with --prompts: how many at a time (%(default)s)")
    add_model_options(generate)
    generate.add_argument("--int8", action="store_true", help="weights in a quarter of the bytes, a little less exact")
    generate.add_argument(
        "--compile", action="store_true", help="let torch compile the steps first: for much text; needs a C++ compiler"
    )
    generate.add_argument(
        "--timing", action="store_true", help="tell the time to the first token, and tokens/s after it"
    )
    generate.add_argument(
        "--draft",
        metavar="NAME_OR_FOLDER",
        help="a small model of the same vocabulary that proposes tokens for the model to check, or: ngram, for "
        "proposals from the text so far; faster, and the text is as good",
    )
    generate.add_argument("--max-length", type=int, default=200, help="at most so many new tokens (%(default)s)")
    generate.add_argument("--count", type=int, default=1, help="how many texts (%(default)s)")
    add_sampling_options(generate, temperature=0.8)


def run(options: argparse.Namespace) -> None:
    """Write on a prompt, showing the text as it comes; or on the prompts of a file."""
    from ..inference.generation import stream_text
    from ..inference.timing import Timing

    if options.output and not options.prompts:
        raise ValueError("--output goes with --prompts FILE; a single text is shown, and > keeps it")
    if options.prompts and options.prompt:
        raise ValueError(f"both a prompt ({options.prompt}) and --prompts {options.prompts} were given: choose one")
    if options.prompts and options.draft:
        raise ValueError(
            "--draft speeds up single texts; with --prompts many are written at once: leave one of them out"
        )
    if (options.int8 or options.timing) and (options.prompts or options.draft):
        raise ValueError("--int8 and --timing are for single texts: leave out --prompts and --draft")
    if options.int8 and options.compile:
        raise ValueError("--int8 and --compile are not for use together: choose one")
    prompts = read_prompts(Path(options.prompts)) if options.prompts else []
    model, tokenizer = load_model(options.model or newest_model(), options.device)
    stream = with_draft(options.draft, model, options.compile) if options.draft else stream_text
    sampling = chosen_sampling(options)
    if options.prompts:
        return show(write_together(model, tokenizer, prompts, options, sampling), options.output)
    prompt = "एक दिन" if options.prompt is None else options.prompt
    for number in range(options.count):
        if number and "seed" in sampling:
            sampling["seed"] += 1
        print(prompt, end="", flush=True)
        timing = Timing()
        more = {} if options.draft else {"int8": options.int8, "compiled": options.compile, "timing": timing}
        for piece in stream(model, prompt, tokenizer, options.max_length, **more, **sampling):
            print(piece, end="", flush=True)
        print("\n" if options.count > 1 else "")
        if options.timing:
            first, speed = timing.first_token_seconds, timing.tokens_per_second
            print(f"first token after {1000 * first:.0f} ms, then {speed:.0f} tokens/s", file=sys.stderr)


def read_prompts(path: Path) -> list[tuple[int, str]]:
    """The prompts of a file with the numbers of their lines; empty lines are passed over."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8: save it as UTF-8") from None
    prompts = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise ValueError(f"{path} has no prompts: write one a line")
    return prompts


def write_together(
    model, tokenizer, prompts: list[tuple[int, str]], options: argparse.Namespace, sampling: dict
) -> Iterator[dict]:
    """Each prompt's line, its text and why it ended, in the order of the file, as soon as it and those before have
    ended. With a seed, text number n draws with seed + n."""
    from ..inference.continuous_batching import DynamicBatcher
    from ..inference.generation import decode_after
    from ..inference.sampling import Sampling
    from ..text.chat import stop_ids
    from ..text.tokenizer import encode_prompt

    if options.max_length < 0:
        raise ValueError(f"--max-length {options.max_length} must be 0 or more")
    asked = [(line, text, encode_prompt(tokenizer, text)) for line, text in prompts for _ in range(options.count)]
    longest, context = 0, model.config.context_size
    for line, _, ids in asked:
        if len(ids) >= context:
            raise ValueError(f"line {line} has {len(ids)} tokens, the model reads {context}: shorten the prompt")
        longest = max(longest, min(len(ids) + options.max_length, context))
    settings = {"slots": options.slots, "max_length": longest, "queue_size": len(asked), "compiled": options.compile}
    batcher = DynamicBatcher(model, **settings)
    stops, requests = stop_ids(tokenizer, chat=False), []
    for number, (_, _, ids) in enumerate(asked):
        own = {**sampling, "seed": sampling["seed"] + number} if "seed" in sampling else sampling
        new_tokens = min(options.max_length, longest - len(ids))
        requests.append(batcher.submit(ids, max_new_tokens=new_tokens, sampling=Sampling(**own), stop_ids=stops))
    for (line, text, ids), request in zip(asked, requests, strict=True):
        written = decode_after(tokenizer, ids, list(request)).rstrip("\ufffd")
        yield {"line": line, "prompt": text, "text": written, "tokens": len(request.tokens), "ended": request.ended}


def show(texts: Iterator[dict], output: str | None) -> None:
    """Print texts below each other, or write them as JSON lines: beside the file first, so that none is cut short."""
    if output is None:
        for text in texts:
            print(f"{text['line']}: {text['prompt']}{text['text']}\n", flush=True)
        return
    path = Path(output)
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("w", encoding="utf-8") as file:
            count = sum(file.write(json.dumps(text, ensure_ascii=False) + "\n") > 0 for text in texts)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    print(f"{count} texts in {path}", file=sys.stderr)


def with_draft(name: str, model, compiled: bool):
    """What `stream_text` does, with tokens proposed by the draft of this name; ends in a line on how that went."""
    from ..inference.generation import whole_characters
    from ..inference.sampling import Sampling
    from ..inference.speculative import NgramDraft, Speculation, speculative_steps
    from ..text.chat import stop_ids
    from ..text.tokenizer import encode_prompt

    draft = NgramDraft() if name == "ngram" else load_model(name, model.device)[0]

    def stream(model, start_string, tokenizer, max_length, **sampling):
        prompt, done = encode_prompt(tokenizer, start_string), Speculation()
        settings = {
            "max_new_tokens": max_length,
            "sampling": Sampling(**sampling),
            "stop_ids": stop_ids(tokenizer, chat=False),
        }
        rounds = speculative_steps(model, prompt, draft, compiled=compiled, **settings)
        yield from whole_characters(tokenizer, prompt, (token for r in rounds for token in done.add(r).tokens))
        yield f"\n({done})"

    return stream
