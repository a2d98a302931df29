"""The promises of the repository's outside: its files, its pins, its names."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import ai4india_lib

ROOT = Path(__file__).parent.parent


def read_toml(path):
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    return tomllib.loads(path.read_text(encoding="utf-8"))


def pins():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    plain = [line for line in lines if line and not line.startswith(("#", "-"))]
    return {Requirement(line).name: Requirement(line) for line in plain}


def test_top_level_is_as_promised():
    wanted = (
        "notebooks ai4india_lib data models tests environment.yml requirements.txt pyproject.toml README.md LICENSE"
    )
    assert [name for name in [*wanted.split(), ".ci/run"] if not (ROOT / name).exists()] == []
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_every_pin_is_exact_and_lies_in_the_range_of_pyproject():
    project = read_toml(ROOT / "pyproject.toml")["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    ranges = {Requirement(line).name: Requirement(line) for group in groups for line in group}
    assert set(pins()) == set(ranges), "requirements.txt and pyproject.toml name different packages"
    for name, pin in pins().items():
        (exact,) = pin.specifier
        assert exact.operator == "==", f"{pin} is not an exact pin"
        assert ranges[name].specifier.contains(exact.version), f"{pin} is outside of {ranges[name]}"


def test_requirements_install_this_folder_with_all_its_extras():
    extras = read_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]
    last = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()[-1]
    assert set(re.fullmatch(r"-e \.\[(.+)\]", last)[1].split(",")) == set(extras)


def test_torch_is_pinned_and_not_capped():
    project = read_toml(ROOT / "pyproject.toml")["project"]
    torch = next(Requirement(line) for line in project["dependencies"] if line.startswith("torch"))
    assert pins()["torch"].specifier == "==2.13.0" and torch.specifier.contains("3.0.0")


def test_conda_environment_takes_its_pins_from_requirements():
    yaml = pytest.importorskip("yaml")
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["dependencies"][-1] == {"pip": ["-r requirements.txt"]}
    assert any(str(line).startswith("python=3.1") for line in environment["dependencies"])
    assert "pip" in environment["dependencies"]


def test_readme_and_ci_say_the_same_test_command():
    command = "pip install -r requirements.txt && pytest"
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == f"{command} --slow"


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_ruff_finds_nothing(arguments):
    ran = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "."], cwd=ROOT, capture_output=True, text=True, encoding="utf-8"
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


PROMISED = {  # the design's oldest promise: code written against these must run
    "get_hyperparameters": ["preset"],
    "download_and_prepare_data": ["url", "batch_size", "tokenizer", "max_length"],
    "DecoderLanguageModel": ["vocab_size", "emb_dim", "num_heads", "num_blocks", "pad_idx"],
    "compute_loss_and_perplexity": ["model", "loader"],
    "generate_text": ["model", "start_string", "tokenizer", "device", "max_length"],
    "save_model": ["model", "tokenizer", "model_name"],
    "load_model": ["model_name", "device"],
}


@pytest.mark.parametrize("name", PROMISED)
def test_promised_names_take_their_arguments_in_the_promised_order(name):
    parameters = list(inspect.signature(getattr(ai4india_lib, name)).parameters)
    assert parameters[: len(PROMISED[name])] == PROMISED[name]


def test_promised_hyperparameters_are_there():
    names = ["emb_dim", "num_heads", "num_blocks", "batch_size", "learning_rate", "num_epochs", "context_size"]
    laptop = ai4india_lib.get_hyperparameters()
    assert all(getattr(laptop, name) > 0 for name in names)


def public_names():
    for path in sorted((ROOT / "ai4india_lib").rglob("[a-z]*.py")):
        if path.parent.name == "checks":  # a check of an exercise is found by its name, not called
            continue
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name, thing in vars(module).items():
            is_ours = getattr(thing, "__module__", None) == module.__name__
            if is_ours and not name.startswith("_") and callable(thing):
                yield module, name, thing


def test_every_public_name_has_a_docstring():
    assert [f"{module.__name__}.{name}" for module, name, thing in public_names() if not thing.__doc__] == []


def test_import_touches_neither_network_nor_disk_and_starts_no_gpu():
    code = (
        "import socket, builtins, torch\n"
        "import transformers, accelerate, matplotlib.pyplot, tokenizers, requests, tqdm.auto\n"
        "def no(*a, **k): raise AssertionError('network at import')\n"
        "socket.socket.connect = no\n"
        "import ai4india_lib\n"
        "print(torch.cuda.is_initialized())"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.strip() == "False", ran.stdout + ran.stderr


def test_modules_are_short_enough_to_read():
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in (ROOT / "ai4india_lib").rglob("*.py")}
    assert {str(path): n for path, n in lengths.items() if n > 350} == {}
