"""The command line, python -m ai4india_lib COMMAND. Each command is a module in `commands/`, or in its `classroom/`."""

import argparse
import io
import sys
import time
import warnings
from contextlib import redirect_stderr
from importlib import import_module
from typing import TextIO

from .basics.extras import not_in_the_environment
from .basics.processes import rank_and_world_size, silent_unless_first, tell_once
from .commands import refuse_empty
from .commands.options import make_parser

OF_SEVERAL_PROCESSES = ("train", "finetune")  # commands


def _as_a_note(message, *_, **__) -> str:
    """A warning in one line, without the place in the source that sent it."""
    return f"note: {message}\n"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 after saying what was wrong, or 130 where Ctrl-C stopped it."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")  # a Windows console may have another encoding
    started, errors = time.perf_counter(), sys.stderr
    try:
        with silent_unless_first():
            options = _parsed(arguments, errors)
            options.started = started  # a run by the clock counts from here
            refuse_empty(options)
            _refuse_several_processes(options)
            module = getattr(options, "module", options.command)
            import_module(f".commands.{module}", __package__).run(options)  # only now is torch loaded
    except KeyboardInterrupt:  # within a training the loop takes it, and keeps what was learned
        tell_once("stopped", errors)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(__package__):
            raise
        tell_once(f"error: {not_in_the_environment(error.name)}", errors)
        return 1
    except (ValueError, OSError, FloatingPointError) as error:
        tell_once(f"error: {error}", errors)
        return 1
    return 0


def _parsed(arguments: list[str] | None, errors: TextIO) -> argparse.Namespace:
    """What the command line asks for; where that makes no sense, it is said once, also by several processes."""
    heard = io.StringIO()
    try:
        with redirect_stderr(heard):
            return make_parser().parse_args(arguments)
    except SystemExit:
        if heard.getvalue():
            tell_once(heard.getvalue().rstrip("\n"), errors)
        raise


def _refuse_several_processes(options: argparse.Namespace) -> None:
    if rank_and_world_size()[1] > 1 and options.command not in OF_SEVERAL_PROCESSES:
        raise ValueError(f"`{options.command}` runs in one process: start it without torchrun or accelerate launch")


if __name__ == "__main__":
    warnings.formatwarning = _as_a_note
    sys.exit(main())
