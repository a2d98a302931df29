"""python -m ai4india_lib chat: talk with a model in the terminal."""

import argparse
import sys
from collections.abc import Iterator

from ..formats.folders import is_chat_model, may_be_asked
from ..formats.pretrained import load_model
from ..inference.generation import stream_reply
from ..text.chat import fit_messages
from ..text.templates import FAILS
from . import check_at_least, chosen_sampling, model_of, show_text, tell_model
from .options import CHAT_SAMPLING, SLASH_COMMANDS


def _read_line() -> str | None:
    """What was typed, without spaces around it; None at the end of the input, or at Ctrl-C."""
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None


def _first_messages(tokenizer, options: argparse.Namespace, context: int) -> list[dict]:
    """The system message, or none. Raises ValueError if the model's chat template refuses it, or has none at all."""
    if not tokenizer.chat_template:
        raise ValueError("this model has no chat template: it cannot chat, but `generate` lets it write")
    if options.system is None:
        return []
    start = [{"role": "system", "content": options.system}]
    try:
        fits = fit_messages(tokenizer, [*start, {"role": "user", "content": "?"}], context)
    except ValueError as error:
        why = str(error).removeprefix(f"{FAILS}: ")
        raise ValueError(f"this model's chat template refuses a system message ({why}): leave --system out") from None
    if fits is None:
        raise ValueError(f"--system is too long: with a question it must leave room for an answer in {context} tokens")
    return start


def _say_what_it_is(name: str, tokenizer) -> None:
    """What may be asked, as far as it is known. A model that was not taught to answer goes on with the question as with
    a story: then this is no fault."""
    if not is_chat_model(name, tokenizer):
        untaught = f"{name} seems to be no chat model, but one that tells stories"
        print(f"{untaught}: `python -m ai4india_lib finetune` teaches it to answer", file=sys.stderr, flush=True)
    elif words := may_be_asked(name):
        print(f"{name}: {words}")


def _show(pieces: Iterator[str]) -> str:
    """Print an answer as it grows, and return it; never an empty line. Ctrl-C ends the answer, not the chat."""
    answer = ""
    try:
        for piece in pieces:
            show_text(piece)
            answer += piece
        print("" if answer.strip() else "(it says nothing to this: ask in other words)")
    except KeyboardInterrupt:
        print(" (stopped)")
    return answer


def run(options: argparse.Namespace) -> None:
    """Read a line, answer it, and again, until the input ends."""
    check_at_least(options, 1, "max_length")
    sampling = chosen_sampling(options, CHAT_SAMPLING)
    name = model_of(options, chat=True)
    model, tokenizer = load_model(name, options.device)
    context = model.config.context_size
    messages = start = _first_messages(tokenizer, options, context)
    tell_model(options, name)
    _say_what_it_is(name, tokenizer)
    print(SLASH_COMMANDS)
    while (typed := _read_line()) not in (None, "/quit"):
        if "\ufffd" in typed:
            print("(this was no text in UTF-8: type it again, or save the file as UTF-8)")
        elif typed == "/reset":
            messages = start
            print("(a new conversation)")
        elif typed.startswith("/"):
            print(f"({typed.split()[0]} is not known: {SLASH_COMMANDS})")
        elif typed:
            asked = fit_messages(tokenizer, [*messages, {"role": "user", "content": typed}], context)
            if asked is None:
                print(f"(too long: a question must leave room for an answer in {context} tokens)")
                continue
            answer = _show(stream_reply(model, asked, tokenizer, options.max_length, **sampling))
            if answer:  # else the question was taken back before a word was said
                messages = [*asked, {"role": "assistant", "content": answer}]
