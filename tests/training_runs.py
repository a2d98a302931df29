"""Small training runs, for training/test_loop.py: some are killed, some run in two processes.

As a script it imports the library once and forks a process for each run, so that a kill costs no new import:

    python training_runs.py kill FOLDER       each plan of PLANS uninterrupted, and killed again and again
    python training_runs.py together FOLDER   one of two processes that train together (RANK and others are set)
"""

import json
import os
import random
import signal
import sys
import time
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from forks import fork
from safetensors.torch import save_file

from ai4india_lib import PackedTextDataset, TextLoader, get_hyperparameters, train, train_tokenizer
from ai4india_lib.text.packing import WholeDocumentDataset
from ai4india_lib.training.loop import make_model

# torch's advice where one core is left for two workers: the runs are about being killed, and print nothing else
warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)

NAMES = ["मीरा", "राजू", "आयशा", "जोसेफ़", "लक्ष्मी", "गुरप्रीत", "टेनज़िंग"]
THINGS = ["चाय", "पतंग", "किताब", "रोटी", "गेंद"]
PLACES = ["मेले में", "बस में", "नदी के पास", "बारिश में"]


def stories(count, first=0):
    return [
        f"{NAMES[i % 7]} ने {PLACES[i % 4]} {THINGS[i * i % 5]} देखी। फिर {NAMES[i * 3 % 7]} भी {PLACES[i % 3]} आई।"
        for i in range(first, first + count)
    ]


TRAIN, TEST = stories(60), stories(15, first=60)
TOKENIZER = train_tokenizer(TRAIN, 320)


def settings(**changes):
    """A run of a fraction of a second that reads its text more than once."""
    small = {"emb_dim": 16, "num_heads": 2, "num_kv_heads": 1, "num_blocks": 2, "context_size": 32, "batch_size": 4}
    run = {"num_epochs": 999, "max_steps": 12, "eval_every": 4, "checkpoint_every": 4, "eval_batches": None}
    run |= {"learning_rate": 0.004, "precision": "no"}
    return get_hyperparameters("tiny", **small | run | changes)


def ingredients(h, *, num_workers=0, rank=0, world_size=1, share_rows=False, train_lines=TRAIN, test_lines=TEST):
    """(model, train_loader, test_loader), always the same for the same arguments."""
    process = {"rank": rank, "world_size": world_size}
    process["share_rows"] = share_rows
    text = PackedTextDataset(train_lines, TOKENIZER, h.context_size, h.batch_size, shuffle_buffer=20, **process)
    test = WholeDocumentDataset(test_lines, TOKENIZER, h.context_size, h.batch_size, **process)
    return make_model(h, TOKENIZER), TextLoader(text, num_workers=num_workers), TextLoader(test)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def told(history):
    """All of a history that must come out the same each time."""
    return {name: value for name, value in asdict(history).items() if name != "seconds"}


def write_run(out: Path, h, folder=None, *, num_workers=0, rank=0, world_size=1, **more):
    """Train (or go on), then write the history and the weights to `out`.json and `out`.safetensors."""
    model, *loaders = ingredients(h, num_workers=num_workers, rank=rank, world_size=world_size)
    history = train(model, *loaders, h, folder=folder, resume=True, device="cpu", **more)
    save_file(weights(model), out.with_suffix(".safetensors"))
    out.with_suffix(".json").write_text(json.dumps(told(history)), encoding="utf-8")
    return history


# Runs that are interrupted, then killed

PLANS = {  # name -> settings, workers
    "accumulated": (settings(max_steps=36, accumulation_steps=2, batch_size=2), 0),
    "two-workers": (settings(max_steps=30, checkpoint_every=3), 2),
}


def in_new_process(*arguments, **more) -> int:
    """Fork a run that leads a process group of its own, as one started from a terminal does."""
    pid = fork()
    if pid:
        return pid
    os.setsid()
    status = 1
    try:
        write_run(*arguments, **more)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def newest(folder: Path):
    return max((path.parent.name for path in folder.glob("step-*/state.json")), default="")


def stop(pid, folder: Path, number, delay) -> int | None:
    """Send signal `number`, `delay` seconds after the next checkpoint; give the exit status if it ended before."""
    before = newest(folder)
    while newest(folder) == before:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.001)
    time.sleep(delay)
    os.killpg(pid, number)
    return None


def kill(folder: Path):
    import torch._dynamo  # noqa: F401 (takes a second, and else each process imports it at its first step)

    draw = random.Random()
    events = {}
    for name, (h, num_workers) in PLANS.items():
        os.waitpid(in_new_process(folder / f"{name}-whole", h, num_workers=num_workers), 0)

        def go_on(h=h, num_workers=num_workers, run=folder / name, out=folder / f"{name}-again"):
            return in_new_process(out, h, run, num_workers=num_workers)

        pid = go_on()
        stop(pid, folder / name, signal.SIGINT, 0.01)
        os.waitpid(pid, 0)
        (folder / f"{name}-again.json").rename(folder / f"{name}-interrupted.json")
        kills, status = 0, None
        while status is None:
            pid = go_on()
            if kills == 4:
                status = os.waitpid(pid, 0)[1]
            else:
                status = stop(pid, folder / name, signal.SIGKILL, draw.uniform(0, 0.03))
            if status is None:
                os.waitpid(pid, 0)
                kills += 1
        events[name] = {"status": status, "kills": kills}
    (folder / "events.json").write_text(json.dumps(events), encoding="utf-8")


# Two processes


def together(folder: Path):
    """Whole, then interrupted in one process only, then resumed; and by the clock."""
    torch.cuda.is_available = lambda: True  # device="cpu" means the CPU on a machine with a GPU, too
    rank = int(os.environ["RANK"])
    h = settings(eval_every=3)
    more = {"rank": rank, "world_size": 2, "progress": False}
    loaders = ingredients(h, rank=rank, world_size=2)[1:]
    ids = [[targets.tolist() for _, targets in loader] for loader in loaders]
    (folder / f"ids-{rank}.json").write_text(json.dumps(ids), encoding="utf-8")
    write_run(folder / f"whole-{rank}", h, **more)

    def interrupt(history):  # called in the main process only
        if history.steps == 6:
            signal.raise_signal(signal.SIGINT)

    write_run(folder / f"begun-{rank}", h, folder / "run", on_evaluation=interrupt, **more)
    write_run(folder / f"again-{rank}", h, folder / "run", **more)
    write_run(folder / f"clock-{rank}", settings(minutes=0.02, max_steps=None), folder / "clock", **more)


if __name__ == "__main__":
    {"kill": kill, "together": together}[sys.argv[1]](Path(sys.argv[2]))
