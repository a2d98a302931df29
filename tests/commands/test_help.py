"""Help, and the word about what is misspelt, come at once: they load nothing that takes seconds."""

import subprocess
import sys

import pytest

HEAVY = "torch transformers tokenizers numpy matplotlib accelerate safetensors requests".split()
COMMANDS = (
    "train finetune generate chat evaluate doctor export serve card push benchmark plan lessons class usb".split()
)
SCRIPT = f"""
import atexit, runpy, sys
sys.path.insert(0, ".")
atexit.register(lambda: print("loaded:", *(name for name in {HEAVY} if name in sys.modules)))
sys.argv[0] = "ai4india_lib"
runpy.run_module("ai4india_lib", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("command", "status", "wanted"),
    [
        (["--help"], 0, "COMMAND"),
        *(([command, "--help"], 0, "--help") for command in COMMANDS),
        ([], 2, "the following arguments are required: COMMAND"),
        (["tarin"], 2, "invalid choice: 'tarin'"),
        (["train", "--overwite"], 2, "unrecognized arguments: --overwite"),
        (["train", "--max-steps", "many"], 2, "neither a whole number nor none"),
        (["generate", "एक दिन", "--top-k", "few"], 2, "argument --top-k: invalid int value: 'few'"),
        (["train", "--preset", "desktop"], 2, "invalid choice: 'desktop'"),
        (["chat", "--model", ""], 1, "--model is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_needs_no_torch_loads_none(command, status, wanted):
    ended = subprocess.run([sys.executable, "-c", SCRIPT, *command], capture_output=True, encoding="utf-8")
    assert ended.returncode == status and wanted in ended.stdout + ended.stderr
    assert ended.stdout.splitlines()[-1].split() == ["loaded:"]
