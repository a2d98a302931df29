"""python -m ai4india_lib chat: talk with a model in the terminal."""

import argparse

from ..formats.folders import newest_model
from ..formats.pretrained import load_model
from ..inference.generation import stream_reply
from ..text.chat import fit_messages
from . import check_at_least, chosen_sampling
from .options import CHAT_TEMPERATURE, SLASH_COMMANDS


def _read_line() -> str | None:
    """What was typed, without spaces around it; None at the end of the input, or at Ctrl-C."""
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None


def run(options: argparse.Namespace) -> None:
    """Read a line, answer it, and again, until the input ends."""
    check_at_least(options, 1, "max_length")
    sampling = {"temperature": CHAT_TEMPERATURE} | chosen_sampling(options)
    model, tokenizer = load_model(options.model or newest_model(), options.device)
    start = [{"role": "system", "content": options.system}] if options.system else []
    messages = start
    print(SLASH_COMMANDS)
    while (typed := _read_line()) not in (None, "/quit"):
        if typed == "/reset":
            messages = start
            print("(a new conversation)")
        elif typed.startswith("/"):
            print(f"({typed.split()[0]} is not known: {SLASH_COMMANDS})")
        elif typed:
            context = model.config.context_size
            asked = fit_messages(tokenizer, [*messages, {"role": "user", "content": typed}], context)
            if asked is None:
                print(f"(too long: a question must leave room for an answer in {context} tokens)")
                continue
            answer = ""
            for piece in stream_reply(model, asked, tokenizer, options.max_length, **sampling):
                print(piece, end="", flush=True)
                answer += piece
            print()
            messages = [*asked, {"role": "assistant", "content": answer}]
