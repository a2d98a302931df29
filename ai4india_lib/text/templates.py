"""Chat templates of strangers are programs: they run in a process of their own, which is ended if it takes too much.

The sandbox of `jinja2`, in which `transformers` runs them, keeps a template from files and from the network. It does
not keep it from looping for hours, or from taking all memory, and no limit from inside can: one multiplication of a
text is one operation. So the process is watched from outside, which works alike on Linux, macOS and Windows.
"""

import atexit
import json
import subprocess
import sys
import threading
import time
from functools import cache
from queue import Empty, Queue

SECONDS = 20.0  # the longest that the conversations of one call may take
BYTES = 2**30  # the most that a template may take, and write
FAILS = "the chat template of this tokenizer fails"
START_SECONDS = 180.0  # an old disk takes long to read what a template needs

# what the process does: a line of JSON with the arguments of a call comes in, one with its results goes out. If nobody
# is left to end it, it ends itself after a minute: faulthandler's clock runs beside the template
_PROGRAM = """
import faulthandler, json, sys
from transformers.utils.chat_template_utils import render_jinja_template
out, sys.stdout = sys.stdout, sys.stderr
print("{}", file=out, flush=True)
for line in sys.stdin:
    faulthandler.dump_traceback_later(60, exit=True)
    try:
        texts, marks = render_jinja_template(**json.loads(line))
        answer = {"texts": texts, "marks": marks}
    except BaseException as error:
        answer = {"failed": str(error) or type(error).__name__}
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(answer), file=out, flush=True)
"""


class _Process:
    """A process that renders templates, as long as none takes too much."""

    def __init__(self):
        command = [sys.executable, "-P", "-c", _PROGRAM]  # -P: not what lies in the present folder
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, encoding="ascii", **pipes)
        atexit.register(self.end)
        self.lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.size = 0
        self._answer(START_SECONDS)
        self.size = self._memory()

    def _read(self) -> None:
        while line := self.process.stdout.readline(BYTES):
            self.lines.put(line)
        self.lines.put("")  # it ended

    def _memory(self) -> int:
        import psutil

        try:
            return psutil.Process(self.process.pid).memory_info().rss
        except psutil.Error:  # it ended
            return 0

    def _answer(self, seconds: float) -> dict:
        """What it writes next. Raises ValueError, and ends it, if that takes too long or too much."""
        until, wait = time.monotonic() + seconds, 0.001
        while True:
            try:
                line = self.lines.get(timeout=wait)
                break
            except Empty:
                wait = 0.02
            much = self.size and self._memory() - self.size > BYTES
            if much or time.monotonic() > until:
                self.end()
                took = f"more than {BYTES >> 30} GB of memory" if much else f"more than {seconds:.0f} seconds"
                raise ValueError(f"the chat template of this tokenizer takes {took}: take another, or repair it")
        if not line.endswith("\n"):
            self.end()
            raise ValueError("the chat template of this tokenizer ended its process: take another, or repair it")
        return json.loads(line)

    def ask(self, arguments: dict) -> dict:
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        return self._answer(SECONDS)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@cache
def _process() -> _Process:
    """The one that is kept, since to start one takes seconds."""
    return _Process()


_turn = threading.Lock()  # one call at a time


def _render_apart(arguments: dict) -> dict:
    with _turn:
        if _process().process.poll() is not None:
            _process.cache_clear()
        return _process().ask(arguments)


def render(template: str, conversations: list[list[dict]], *, known: bool, **more) -> tuple[list[str], list]:
    """Each conversation as text, and where the template's {% generation %} marks begin and end in it.

    `more` are names that the template reads, and `return_assistant_tokens_mask` to ask for the marks. A template that
    is not `known` is run in a process of its own. Raises ValueError, in one sentence, if a template fails or refuses.
    """
    arguments = {"conversations": conversations, "chat_template": template, **more}
    if not known:
        answer = _render_apart(arguments)
        if "failed" not in answer:
            return answer["texts"], answer["marks"]
        failed = answer["failed"]
    else:
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            return render_jinja_template(**arguments)
        except Exception as error:
            failed = str(error) or type(error).__name__
    raise ValueError(f"{FAILS}: {' '.join(failed.split())[:300]}")
