"""The command line, python -m ai4india_lib COMMAND. Each command is a module in `commands/`."""

import sys
import time
import warnings
from importlib import import_module

from .commands import refuse_empty
from .commands.options import make_parser


def _as_a_note(message, *_, **__) -> str:
    """A warning in one line, without the place in the source that sent it."""
    return f"note: {message}\n"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 after saying what was wrong, or 130 where Ctrl-C stopped it."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")  # a Windows console may have another encoding
    started = time.perf_counter()
    options = make_parser().parse_args(arguments)
    options.started = started  # a run by the clock counts from here
    try:
        refuse_empty(options)
        import_module(f".commands.{options.command}", __package__).run(options)  # only now is torch loaded
    except KeyboardInterrupt:  # within a training the loop takes it, and keeps what was learned
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        return 1
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    warnings.formatwarning = _as_a_note
    sys.exit(main())
