"""python -m ai4india_lib chat: talk with a model in the terminal."""

import argparse

from ..formats.folders import newest_model
from ..formats.pretrained import load_model
from ..inference.generation import stream_reply
from ..text.chat import encode_request
from . import check_at_least, chosen_sampling
from .options import CHAT_TEMPERATURE, SLASH_COMMANDS


def _read_line() -> str | None:
    """What was typed, without spaces around it; None at the end of the input, or at Ctrl-C."""
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None


def fit_messages(tokenizer, messages: list[dict], context_size: int) -> list[dict] | None:
    """`messages` without the oldest questions and answers, so that an eighth of the context is left for the answer.

    A system message stays. None if not even the last question fits.
    """
    start = messages[:1] if messages[0]["role"] == "system" else []
    longest = context_size - max(context_size // 8, 1)
    for first in range(len(start), len(messages), 2):  # a question and its answer go together
        kept = start + messages[first:]
        if len(encode_request(tokenizer, kept)) <= longest:
            return kept
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
