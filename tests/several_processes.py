"""Runs of one and of two processes, for training/test_processes.py and commands/test_processes.py.

As a script it imports the library once and forks the processes of each run, so that a start costs no new import:

    python several_processes.py equal FOLDER    two processes with half the batch, one with the whole
    python several_processes.py starts FOLDER N `train` and `finetune`, again and again, and what goes wrong there
"""

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from forks import fork
from torch.distributed import TCPStore
from training_runs import TEST, TOKENIZER, TRAIN, ingredients, newest, settings, told, weights

from ai4india_lib import finetune, train
from ai4india_lib.__main__ import main
from ai4india_lib.training.loop import make_model

TALKS = [
    {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
    for question, answer in (text.split("।")[:2] for text in TRAIN)
]
BEFOREHAND = (  # each process imports these, which takes seconds: before the first fork it is done once for all
    "accelerate torch._dynamo torch.distributed.fsdp matplotlib.pyplot transformers.integrations.fsdp "
    "ai4india_lib.commands.train_run ai4india_lib.commands.finetune_run"
)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


STORES = []  # kept as long as this process lives


def start(world_size: int, run: Callable[[], object], out: Path) -> list[int]:
    """Fork so many processes, which are told who they are, and where their store is, as `torchrun` does it; what they
    print goes to `out`-0.out, `out`-0.err …"""
    port = free_port()
    if world_size > 1:
        STORES.append(TCPStore("127.0.0.1", int(port), is_master=True, wait_for_workers=False))
    launched = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    launched |= {"WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size)}
    launched["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    processes = []
    for rank in range(world_size):
        pid = fork()
        if pid:
            processes.append(pid)
            continue
        status = 1
        try:
            if world_size > 1:
                os.environ.update(launched, RANK=str(rank), LOCAL_RANK=str(rank))
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(f"{out}-{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            status = run() or 0
        except SystemExit as ended:
            status = ended.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return processes


def ended(processes: list[int], seconds: float = 60) -> list[int]:
    """Their exit statuses; one that lasts longer is killed: −9."""
    until, statuses = time.monotonic() + seconds, {}
    while len(statuses) < len(processes):
        for pid in [pid for pid in processes if pid not in statuses]:
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                statuses[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return [statuses[pid] for pid in processes]


# The same run, in one and in two processes

CASES = {  # name -> settings of one process: those of two have half the batch
    "text": settings(batch_size=8, max_steps=14),
    "accumulated": settings(batch_size=8, max_steps=8, accumulation_steps=2, optimizer="adamw"),
    "talks": settings(batch_size=8, max_steps=10, accumulation_steps=2, num_epochs=99, context_size=48),
    "adapter": settings(batch_size=8, max_steps=6, num_epochs=99, context_size=48),
}


def cut_up() -> None:
    """Let accelerate use FSDP2 on CPUs, where it takes DDP: for it these processes have GPUs. The rest is as it is."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    state = PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    assert state.device.type == "cpu"


def learn(name: str, out: Path, processes: int, *, cuts: bool = False, folder: Path | None = None, stop_at: int = -1):
    """One process's part of a run of `CASES`; it writes what came out."""
    if cuts:
        cut_up()
    h = CASES[name]
    rank = int(os.environ.get("RANK", 0))
    h = type(h)(**{**vars(h), "batch_size": h.batch_size // processes})
    more = {"folder": folder, "resume": folder is not None, "device": "cpu", "progress": False}

    def interrupt(history):  # called in the main process only
        if history.steps == stop_at:
            signal.raise_signal(signal.SIGTERM)

    more["on_evaluation"] = interrupt
    if name in ("talks", "adapter"):
        model = make_model(h, TOKENIZER)
        history = finetune(model, TOKENIZER, TALKS, h, lora_rank=2 if name == "adapter" else None, **more)
    else:
        model, *loaders = ingredients(h, rank=rank, world_size=processes, share_rows=True)
        history = train(model, *loaders, h, **more)
    result = told(history) | {"weights": {n: p.flatten().tolist() for n, p in weights(model).items()}}
    Path(f"{out}-{rank}.json").write_text(json.dumps(result), encoding="utf-8")


def equal(folder: Path) -> None:
    statuses = {}

    def run(label: str, processes: int, name: str, **more):
        out = folder / label
        statuses[label] = ended(start(processes, lambda: learn(name, out, processes, **more), out))

    for name in CASES:
        run(f"{name}-one", 1, name)
        run(f"{name}-two", 2, name)
    for name in ("text", "talks", "adapter"):
        run(f"{name}-cut", 2, name, cuts=True)
    for first, then in ((2, 1), (1, 2)):
        label = f"{first}-then-{then}"
        run(f"{label}-begun", first, "text", folder=folder / label, stop_at=4)
        run(label, then, "text", folder=folder / label)
    run("cut-begun", 2, "text", folder=folder / "cut", cuts=True, stop_at=4)
    run("cut-again", 2, "text", folder=folder / "cut", cuts=True)
    (folder / "statuses.json").write_text(json.dumps(statuses), encoding="utf-8")


# The commands

TINY = "--emb-dim 16 --num-heads 2 --num-kv-heads 1 --num-blocks 2 --context-size 32 --batch-size 4 --precision no"
TINY = f"{TINY} --eval-every 2 --checkpoint-every 2 --device cpu".split()
FEW = 2  # starts: with so many comes all that goes wrong, with more these alone
SHORT, LONG = ["--max-steps", "4"], ["--max-steps", "100000", "--num-epochs", "99999"]
TRAIN_IT = ["train", "--data", "text", *TINY, "--vocab-size", "320", "--name"]


def both_told(folder: Path, label: str) -> str:
    """All that two processes said of errors."""
    return "".join((folder / f"{label}-{rank}.err").read_text(encoding="utf-8") for rank in (0, 1))


def starts(folder: Path, number: int) -> None:
    """In `folder`: what came of each start, as label → {"statuses", "told", "seconds" (since signals were sent)}."""
    os.chdir(folder)
    Path("text").mkdir()
    for name, lines in (("train.txt", TRAIN), ("test.txt", TEST)):
        Path("text", name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    Path("all.txt").write_text("\n".join(TRAIN) + "\n", encoding="utf-8")  # one file: it is split first
    Path("talks.jsonl").write_text("\n".join(map(json.dumps, TALKS)) + "\n", encoding="utf-8")
    came, sent = {}, {}  # sent: when the signals went to the processes that begin with this one

    def run(label: str, *arguments: str, processes: int = 2, meanwhile=lambda pids: None) -> None:
        began = time.monotonic()
        pids = start(processes, lambda: main(list(arguments)), folder / label)
        meanwhile(pids)
        statuses = ended(pids)
        told = both_told(folder, label) if processes == 2 else ""
        came[label] = {"statuses": statuses, "told": told, "seconds": time.monotonic() - sent.get(pids[0], began)}

    def after_a_checkpoint(name: str, *signals: tuple[int, tuple[int, ...]]) -> Callable:
        """Send signals to these processes, one after the other, once another checkpoint is there."""

        def send(pids: list[int]) -> None:
            there, before = Path("models", name, "training"), newest(Path("models", name, "training"))
            until = time.monotonic() + 30
            while newest(there) == before and time.monotonic() < until:
                time.sleep(0.01)
            sent[pids[0]] = time.monotonic()
            for signal_number, ranks in signals:
                for rank in ranks:
                    with suppress(ProcessLookupError):
                        os.kill(pids[rank], signal_number)
                time.sleep(0.1)

        return send

    for n in range(number):
        run(f"run-{n}", *TRAIN_IT, f"run-{n}", *SHORT)
    if number > FEW:
        (folder / "came.json").write_text(json.dumps(came), encoding="utf-8")
        return
    run("again", *TRAIN_IT, "run-0", *SHORT)
    own = ["all.txt" if argument == "text" else argument for argument in TRAIN_IT]
    run("over", *own, "run-0", *SHORT, "--overwrite")
    run("misspelt", *TRAIN_IT, "other", "--num-steps", "4")
    run("senseless", *TRAIN_IT, "other", "--emb-dim", "17")
    run("no-text", "train", "--data", "nowhere", "--name", "other")
    run("write", "generate", "--model", "run-0", "राजू")
    run("talks", "finetune", "--model", "run-0", "--data", "talks.jsonl", "--name", "talks", "--device", "cpu", *SHORT)

    ctrl_c = (signal.SIGINT, (0, 1)), (signal.SIGINT, (0, 1))  # of the terminal, and passed on by torchrun
    run("stopped", *TRAIN_IT, "stopped", *LONG, meanwhile=after_a_checkpoint("stopped", *ctrl_c))
    ask = after_a_checkpoint("stopped", (signal.SIGTERM, (0, 1)))
    run("goes-on", "train", "--name", "stopped", "--resume", meanwhile=ask)
    lose = after_a_checkpoint("lost", (signal.SIGKILL, (1,)))
    run("lost", *TRAIN_IT, "lost", *LONG, meanwhile=lose)
    came["lost"]["step"] = newest(Path("models/lost/training"))
    ask = after_a_checkpoint("lost", (signal.SIGTERM, (0,)))
    run("alone", "train", "--name", "lost", "--resume", processes=1, meanwhile=ask)
    came["alone"]["step"] = newest(Path("models/lost/training"))
    lose = after_a_checkpoint("lost", (signal.SIGKILL, (0,)))
    run("lost-first", "train", "--name", "lost", "--resume", meanwhile=lose)
    (folder / "came.json").write_text(json.dumps(came), encoding="utf-8")


if __name__ == "__main__":
    for module in BEFOREHAND.split():
        import_module(module)
    if sys.argv[1] == "equal":
        equal(Path(sys.argv[2]))
    else:
        starts(Path(sys.argv[2]), int(sys.argv[3]))
