"""python -m ai4india_lib chat: talk with a model in the terminal."""

from __future__ import annotations

import argparse

from ..formats.pretrained import load_model
from ..text.chat import encode_request
from . import add_model_options, add_sampling_options, chosen_sampling, newest_model

COMMANDS = "/reset begins a new conversation, /quit (or Ctrl-D) ends"
TEMPERATURE = 0.3  # answers want to be right more than to be new


def add_to(commands) -> None:
    """Add this command to the sub-commands of an argument parser."""
    chat = commands.add_parser(
        "chat",
        help="talk with a model",
        description=f"Talk with a fine-tuned model. {COMMANDS}. When a conversation outgrows the model's context, its "
        "oldest questions and answers are forgotten.",
    )
    chat.set_defaults(run=run)
    add_model_options(chat)
    chat.add_argument("--system", metavar="TEXT", help="what the model is told before the conversation")
    chat.add_argument("--max-length", type=int, default=160, help="longest answer, in tokens (%(default)s)")
    add_sampling_options(chat, TEMPERATURE)


def run(options: argparse.Namespace) -> None:
    """Read a line, answer it, and again, until the input ends."""
    from ..inference.generation import stream_reply

    model, tokenizer = load_model(options.model or newest_model(), options.device)
    sampling = {"temperature": TEMPERATURE} | chosen_sampling(options)
    start = [{"role": "system", "content": options.system}] if options.system else []
    messages = list(start)
    print(COMMANDS)
    while (said := _read_line()) is not None:
        if said == "/quit":
            break
        if said == "/reset":
            messages = list(start)
            print("(a new conversation)")
        elif said.startswith("/"):
            print(f"({said.split()[0]} is not known: {COMMANDS})")
        elif said:
            asked = fit_messages(tokenizer, [*messages, {"role": "user", "content": said}], model.config.context_size)
            if asked is None:
                print(f"(too long: a question must leave room for an answer in {model.config.context_size} tokens)")
                continue
            answer = ""
            for piece in stream_reply(model, asked, tokenizer, options.max_length, **sampling):
                print(piece, end="", flush=True)
                answer += piece
            print()
            messages = [*asked, {"role": "assistant", "content": answer}]


def fit_messages(tokenizer, messages: list[dict], context_size: int) -> list[dict] | None:
    """`messages` without the oldest questions and answers, so that an eighth of the context is left for the answer.

    A system message stays. None if not even the last question fits.
    """
    start = messages[:1] if messages[0]["role"] == "system" else []
    rest = messages[len(start) :]
    while rest:
        prompt = encode_request(tokenizer, start + rest)
        if len(prompt) <= context_size - max(context_size // 8, 1):
            return start + rest
        rest = rest[2:]
    return None


def _read_line() -> str | None:
    """What was typed, without blanks around it; None at the end of the input, or at Ctrl-C."""
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None
