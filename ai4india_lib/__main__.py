"""The command line, python -m ai4india_lib COMMAND. Each command is a module in `commands/`."""

import argparse
import sys

from .commands import benchmark, chat, evaluate, finetune, generate, refuse_empty, train

SUBCOMMANDS = (train, finetune, generate, chat, evaluate, benchmark)


def make_parser() -> argparse.ArgumentParser:
    """What reads the command line: `make_parser().parse_args(["train"])` gives the options of a command."""
    parser = argparse.ArgumentParser(
        prog="python -m ai4india_lib",
        description="Train a small language model, let it write and answer, measure it and its speed.",
    )
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in SUBCOMMANDS:
        command.add_to(subparsers)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 1 after saying what was wrong."""
    options = make_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")  # a Windows console may have another encoding
    try:
        refuse_empty(options)
        options.run(options)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        return 1
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
