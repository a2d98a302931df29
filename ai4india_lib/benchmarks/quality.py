"""How good a model is after so many seconds, everything included: `train` against the usual recipe in `transformers`.

Each side is a process of its own, begins with the text alone, and ends with the loss on the whole test text.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from itertools import chain, repeat
from pathlib import Path
from statistics import fmean

RATES = (2e-3, 4e-3, 8e-3)  # the peer has the best of these
PEER = "Llama, 128 wide, 4 blocks, AdamW, cosine"
BATCH, CONTEXT, VOCABULARY = 16, 256, 4096
EVALUATING = 6.0  # seconds that the peer keeps for its test text


def ours(source: str, seconds: float, seed: int) -> tuple[float, float]:
    """(bits per byte, seconds) of `python -m ai4india_lib train --minutes … --precision no`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ai4india_lib", "train", "--data", source, "--device", "cpu", "--name", "run"]
        options = {"--minutes": seconds / 60, "--seed": seed, "--precision": "no"}  # float32, as the peer
        _, took = _run([*command, *(str(part) for option in options.items() for part in option)], folder)
        history = json.loads((Path(folder) / "models" / "run" / "history.json").read_text(encoding="utf-8"))
    return history["test_loss"] / math.log(2) / history["bytes_per_token"], took


def theirs(source: str, seconds: float, seed: int, rate: float) -> tuple[float, float]:
    """(bits per byte, seconds) of the peer."""
    call = f"from {__name__} import train_peer; print(train_peer({source!r}, {seconds}, {seed}, {rate}))"
    told, took = _run([sys.executable, "-c", call], None)
    return float(told.splitlines()[-1]), took


def _run(command: list[str], folder: str | None) -> tuple[str, float]:
    """What a command prints, and its seconds. Raises RuntimeError with its last lines if it fails."""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8")
    took = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} … failed: {done.stderr[-500:]}")
    return done.stdout, took


def train_peer(source: str, seconds: float, seed: int, rate: float) -> float:
    """Train the peer for so many seconds from now on, and give its bits per byte on the whole test text.

    The same tokenizer, batches, precision and store of memory as ours; the rest is what one would write with
    `transformers`: a Llama, AdamW (0.9, 0.95), weight decay 0.1, a short warm-up, a cosine down to a tenth, which
    follows the clock.
    """
    began = time.perf_counter()
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from ..basics.device import keep_freed_memory
    from ..text.corpus import train_and_test_lines
    from ..text.packing import count_text, download_and_prepare_data
    from ..text.tokenizer import train_tokenizer

    keep_freed_memory()
    torch.manual_seed(seed)
    train_lines, test_lines = train_and_test_lines(source)
    tokenizer = train_tokenizer(train_lines, VOCABULARY)
    loader, tests = download_and_prepare_data(source, BATCH, tokenizer, CONTEXT, seed=seed)
    batches = chain.from_iterable(repeat(loader))  # read again and again
    shape = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, tie_word_embeddings=True, **shape)
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    done, first = 0, time.perf_counter()
    last = max(began + seconds - EVALUATING, first + 1.0)
    while (share := (time.perf_counter() - first) / (last - first)) < 1:  # so it ends on time, whatever a step takes
        inputs, targets = next(batches)
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (done + 1) / 20) * (0.55 + 0.45 * math.cos(math.pi * share))
        _loss(model, inputs, targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        done += 1
    model.eval()
    with torch.no_grad():
        counted = [(_loss(model, *batch, reduction="sum").item(), int((batch[1] != -100).sum())) for batch in tests]
    loss, tokens = (sum(column) for column in zip(*counted, strict=True))
    return loss / math.log(2) / (tokens * count_text(test_lines, tokenizer).bytes_per_token)


def _loss(model, inputs, targets, reduction: str = "mean"):
    from torch.nn import functional as F

    logits = model(inputs, use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction=reduction)


def print_quality(
    sources: list[str], seconds: list[float], seeds: int, threads: int, results: str | None = None
) -> None:
    """The table, row by row: bits per byte of both on each text after each time, means over the seeds.

    The peer's rate on a text is the one that is best after the longest time, with the first seed. Each result is added
    to the file `results`, and what stands there already is not measured again: so a run that was stopped goes on.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that train
    known = _Results(Path(results) if results else None, threads)
    print(f"bits per byte on the whole test text, float32, {threads} threads, {seeds} seeds (lowest to highest)")
    print(f"peer: {PEER}, best of {RATES}")
    print("| text | seconds | ours | took | peer | rate | took | ours / peer |")
    print("|---|---|---|---|---|---|---|---|")
    for source in map(str, (Path(source).resolve() for source in sources)):
        longest = max(seconds)
        rate = min(RATES, key=lambda rate: known.get(theirs, source, longest, 0, rate)[0])
        for time_limit in seconds:
            mine = [known.get(ours, source, time_limit, seed) for seed in range(seeds)]
            peers = [known.get(theirs, source, time_limit, seed, rate) for seed in range(seeds)]
            ratio = fmean(bits for bits, _ in mine) / fmean(bits for bits, _ in peers)
            row = f"{_in_words(mine)} | {_in_words(peers, f'{rate:g} | ')} | {ratio:.3f}"
            print(f"| {Path(source).name} | {time_limit:g} | {row} |", flush=True)


class _Results:
    """What was measured: a line of JSON for each training, in a file if there is one."""

    def __init__(self, path: Path | None, threads: int):
        self.path, self.threads, self.found = path, threads, {}
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as file:  # so that a place where nothing can be written is told now
            file.seek(0)
            for number, line in enumerate(file, 1):
                try:
                    self.found[json.loads(line)["of"]] = json.loads(line)["result"]
                except (ValueError, TypeError, KeyError):
                    raise ValueError(
                        f"{path}, line {number} is no result: remove that line, or name another file"
                    ) from None

    def get(self, measure, source: str, *settings: float) -> tuple[float, float]:
        """(bits per byte, seconds) of `measure(source, *settings)`, measured if it is not known."""
        key = f"{measure.__name__} {source} {settings}, {self.threads} threads"
        if key not in self.found:
            self.found[key] = measure(source, *settings)
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"of": key, "result": self.found[key]}) + "\n")
        return tuple(self.found[key])


def _in_words(results: list[tuple[float, float]], between: str = "") -> str:
    bits, took = zip(*results, strict=True)
    spread = f" ({min(bits):.3f} to {max(bits):.3f})" if len(bits) > 1 else ""
    return f"{fmean(bits):.3f}{spread} | {between}{fmean(took):.0f} s"
