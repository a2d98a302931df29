"""Contestants in processes of their own: llama.cpp and ours, which would take each other's cores within one.

Run as a program (`python -m ai4india_lib.benchmarks.separate SETTINGS`) this file is such a contestant: it loads its
model, writes once to warm up, and then writes once for each line that comes in, and says how fast.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ..basics.extras import check_installed, is_installed

PROMPT, NEW = "एक दिन", 200  # what is written on, and how many tokens
LLAMA_CPP = ("xllamacpp", "gguf")


def has_llama_cpp() -> bool:
    """Is llama.cpp installed, and what writes its files?"""
    return all(map(is_installed, LLAMA_CPP))


class Contestant:
    """A process that writes when it is asked to, and else waits."""

    def __init__(self, **settings):
        command = [sys.executable, "-m", "ai4india_lib.benchmarks.separate", json.dumps(settings)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, **pipes, encoding="utf-8")

    def write(self) -> tuple[float, str]:
        """Tokens per second after the first token, and the text."""
        print(file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("{"):  # else something that a library has to say
                answer = json.loads(line)
                return answer["speed"], answer["text"]
        raise RuntimeError(f"a contestant ended with status {self.process.wait()}: {self.process.args[-1]}")

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def measure(contestants: dict[str, dict], repeats: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Speeds of each, in turns, and what each wrote last. They are loaded, and warm, before the first turn counts."""
    running, speeds, texts = {}, {name: [] for name in contestants}, {}
    try:
        running |= {name: Contestant(**settings) for name, settings in contestants.items()}
        for turn in range(repeats + 1):
            for name, contestant in running.items():
                speed, texts[name] = contestant.write()
                if turn:
                    speeds[name].append(speed)
    finally:
        for contestant in running.values():
            contestant.close()
    return speeds, texts


def spread(speeds: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"


def export(name: str, folder: Path) -> dict[str, str]:
    """The model as files for llama.cpp, by precision."""
    from ..formats.gguf import save_gguf
    from ..formats.pretrained import load_model

    model, tokenizer = load_model(name, "cpu")
    return {p: str(save_gguf(model, tokenizer, folder / f"{p}.gguf", precision=p)) for p in ("f32", "q8_0")}


def measure_writing(name: str, repeats: int, threads: int, compiled: bool) -> tuple[dict[str, list[float]], dict]:
    """The model `name` by llama.cpp in float32 and q8_0, and by us in float32 and int8; compiled too, if asked."""
    check_installed("this row", LLAMA_CPP, "benchmark")
    with TemporaryDirectory() as folder:
        files = export(name, Path(folder))
        contestants = {f"llama.cpp {p}": {"file": file, "threads": threads} for p, file in files.items()}
        for also in (False, True) if compiled else (False,):
            for int8 in (False, True):
                ours = "ours" + (", int8" if int8 else "") + (", compiled" if also else "")
                contestants[ours] = {"model": name, "threads": threads, "int8": int8, "compiled": also}
        return measure(contestants, repeats)


def writer_of_llama_cpp(file: str, threads: int) -> Callable[[], tuple[float, str]]:
    """A function that lets llama.cpp write greedily, and gives its speed and the text."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel, settings.verbosity = file, 256, 1, -1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(settings)
    greedy = {"temperature": 0, "samplers": ["top_k"], "top_k": 1, "ignore_eos": True, "cache_prompt": False}

    def write() -> tuple[float, str]:
        answer = server.handle_completions({"prompt": PROMPT, "n_predict": NEW, **greedy})
        return answer["timings"]["predicted_per_second"], answer["choices"][0]["text"]

    return write


def writer_of_ours(model: str, threads: int, int8: bool, compiled: bool) -> Callable[[], tuple[float, str]]:
    """The same for a model of ours."""
    import torch

    from ..formats.pretrained import load_model
    from ..inference.generation import generate
    from ..inference.sampling import Sampling
    from ..inference.timing import Timing
    from ..text.tokenizer import encode_prompt

    torch.set_num_threads(threads)
    decoder, tokenizer = load_model(model, "cpu")
    ask = partial(generate, decoder, [encode_prompt(tokenizer, PROMPT)], max_new_tokens=NEW, int8=int8)

    def write() -> tuple[float, str]:
        timing = Timing()
        (ids,) = ask(sampling=Sampling(temperature=0), compiled=compiled, timing=timing)
        return timing.tokens_per_second, tokenizer.decode(ids, skip_special_tokens=True)

    return write


def main() -> None:
    """Be a contestant."""
    settings = json.loads(sys.argv[1])
    write = (writer_of_llama_cpp if "file" in settings else writer_of_ours)(**settings)
    write()
    for _ in sys.stdin:
        speed, text = write()
        print(json.dumps({"speed": speed, "text": text}), flush=True)


if __name__ == "__main__":
    main()
