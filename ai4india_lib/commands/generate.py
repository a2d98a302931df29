"""python -m ai4india_lib generate: let a model write on a prompt."""

from __future__ import annotations

import argparse

from ..checkpoint import load_model
from . import add_model_options, newest_model


def add_to(commands) -> None:
    """Add this command to the sub-commands of an argument parser."""
    generate = commands.add_parser(
        "generate", help="let a model write on a prompt", description="Write on a prompt, up to the model's end token."
    )
    generate.set_defaults(run=run)
    generate.add_argument("prompt", nargs="?", default="एक दिन", help="the beginning of the text (%(default)s)")
    add_model_options(generate)
    generate.add_argument("--max-length", type=int, default=200, help="at most so many new tokens (%(default)s)")
    generate.add_argument("--count", type=int, default=1, help="how many texts (%(default)s)")
    generate.add_argument(
        "--temperature", type=float, help="0: always the likeliest token; 1: as the model thinks (0.8)"
    )
    generate.add_argument("--top-k", type=int, help="draw only from the K likeliest tokens")
    generate.add_argument(
        "--top-p", type=float, help="draw only from the fewest tokens that have probability P together"
    )
    generate.add_argument("--min-p", type=float, help="only from tokens at least P times as likely as the likeliest")
    generate.add_argument("--repetition-penalty", type=float, help="above 1: repeat less")
    generate.add_argument("--seed", type=int, help="same seed, same text")


def run(options: argparse.Namespace) -> None:
    """Write on a prompt, showing the text as it comes."""
    from ..generation import stream_text

    model, tokenizer = load_model(options.model or newest_model(), options.device)
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    sampling = {name: value for name in names if (value := getattr(options, name)) is not None}
    for number in range(options.count):
        if number and "seed" in sampling:
            sampling["seed"] += 1
        print(options.prompt, end="", flush=True)
        for piece in stream_text(model, options.prompt, tokenizer, options.max_length, **sampling):
            print(piece, end="", flush=True)
        print("\n" if options.count > 1 else "")
