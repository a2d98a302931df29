"""The promises of the repository's outside: its files and pages, its pins, its wheel, its names."""

import importlib
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import ai4india_lib
from ai4india_lib.__main__ import make_parser
from ai4india_lib.basics.extras import how_to_install
from ai4india_lib.benchmarks.generation import ROWS
from ai4india_lib.benchmarks.training import SHAPES

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "data/README.md", "models/README.md", "tests/README.md", "ai4india_lib/benchmarks/README.md"]
PAGES += ["notebooks/TEACHING.md", "ai4india_lib/commands/README.md", "ai4india_lib/training/SCALING.md"]
LESSONS = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("notebooks/[0-9][0-9]_*.ipynb"))]


def read_toml(path):
    return tomllib.loads(path.read_text(encoding="utf-8"))


def text_of(page):
    """What a reader reads: of a notebook only the prose."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if not page.endswith(".ipynb"):
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


NOT_PINNED = ("benchmark", "serving", "book")  # peers to be measured against, and what only one way out needs


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
    extras = project["optional-dependencies"]
    groups = [project["dependencies"], *(extras[name] for name in extras if name not in NOT_PINNED)]
    ranges = {Requirement(line).name: Requirement(line) for group in groups for line in group}
    assert set(pins()) == set(ranges), "requirements.txt and pyproject.toml name different packages"
    for name, pin in pins().items():
        (exact,) = pin.specifier
        assert exact.operator == "==", f"{pin} is not an exact pin"
        assert ranges[name].specifier.contains(exact.version), f"{pin} is outside of {ranges[name]}"


def extras():
    return read_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"]


def test_requirements_install_this_folder_with_all_its_extras_but_the_peers():
    last = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()[-1]
    assert {*re.fullmatch(r"-e \.\[(.+)\]", last)[1].split(","), *NOT_PINNED} == set(extras())


def test_an_extra_is_installed_from_this_folder_and_in_quotes():
    """The course is not on PyPI; zsh and PowerShell read brackets, and the Command Prompt reads `>` even in '…'."""
    named = [*extras(), "{extra}"]  # so written where it is worded
    told = tuple(how_to_install(extra).removeprefix("pip install ").partition(" in ")[0] for extra in named)
    texts = [path for path in ROOT.glob("[and]*/**/*") if path.suffix in (".py", ".md", ".ipynb")]
    for path in [ROOT / "README.md", *texts]:
        text = path.read_text(encoding="utf-8").replace('\\"', '"')
        asked = re.findall(r"pip install (?!-r)([^`\n]*[\[<>][^`\n]*)", text)
        assert [words for words in asked if not words.startswith((*told, '"matplotlib>='))] == [], path


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
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert command in lines and lines[-1] == 'pytest -m "slow and not long"', "then what takes long"


def test_the_oldest_python_is_the_same_everywhere():
    settings = read_toml(ROOT / "pyproject.toml")
    oldest = settings["project"]["requires-python"].removeprefix(">=")
    assert settings["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f"Python {oldest} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"- python={oldest}\n" in (ROOT / "environment.yml").read_text(encoding="utf-8")


def test_the_address_of_the_course_is_that_of_pyproject_everywhere():
    """In the setup cell, in what opens a lesson on Colab, in what fetches the course."""
    address = read_toml(ROOT / "pyproject.toml")["project"]["urls"]["Repository"]
    assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address) and not address.endswith(".git")
    setup = (ROOT / "notebooks" / "assets" / "setup_cell.py").read_text(encoding="utf-8")
    assert f'REPOSITORY = "{address}"\n' in setup
    assert f"git clone --depth 1 {address}`" in text_of("README.md")
    name = address.removeprefix("https://github.com/")
    for page in ["README.md", *LESSONS]:
        opened = re.findall(r"colab\.research\.google\.com/github/([^/]+/[^/]+)/blob/", text_of(page))
        assert opened and {*opened} == {name}, f"{page} opens another course: {opened}"


@pytest.mark.parametrize("page", [*PAGES, *LESSONS])
def test_pages_point_to_what_is_there(page):
    links = re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", text_of(page))
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    files = re.findall(r"\b(?:ai4india_lib|notebooks|tests)/[\w/]+\.(?:py|ipynb)", text_of(page))
    assert [file for file in files if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, *LESSONS])
def test_commands_of_the_pages_are_understood(page):
    """Each `python -m ai4india_lib …`, in a block or within a sentence, and each row of the benchmark."""
    for command in re.findall(r"python -m ai4india_lib ([^`\n]+)", text_of(page)):
        if "…" not in command:
            make_parser().parse_args(shlex.split(command, comments=True))
    named = [row for rows in re.findall(r"--rows ([\w.,-]+)", text_of(page)) for row in rows.split(",")]
    assert [row for row in named if row not in {*ROWS, *SHAPES}] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of all files of the wheel that `pip wheel .` would make, and a folder where they are unpacked.

    The same build, without pip and without the network: torch brings setuptools along. It is made from a copy, as
    setuptools leaves its work in the folder.
    """
    folder = tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns("__pycache__", "*.tar.gz", "*.ipynb", "*.png")
    for name in ("ai4india_lib", "data", "tests", "notebooks"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE", "conftest.py"):
        shutil.copy(ROOT / name, folder / "source")
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    ran = subprocess.run(
        [sys.executable, "-c", build, str(folder)], cwd=folder / "source", capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
        return archive.namelist(), folder / "unpacked"


def test_wheel_holds_every_module_and_nothing_but_the_library(wheel):
    names, _ = wheel
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ai4india_lib").rglob("*.py")}
    assert {name for name in names if name.startswith("ai4india_lib/") and name.endswith(".py")} == modules
    assert {re.sub(r"-.*", "", name.split("/")[0]) for name in names} == {"ai4india_lib", "ai4india"}  # and its papers


def test_wheel_holds_what_modules_read(wheel):
    """The questions: they are no Python, so setuptools takes only what pyproject names."""
    names, _ = wheel
    read = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ai4india_lib").rglob("*.toml")}
    assert read and read <= set(names)


def test_every_module_of_the_wheel_imports_far_from_the_repository(wheel):
    names, folder = wheel
    modules = [name.removesuffix(".py").replace("/", ".") for name in names if name.endswith(".py")]
    code = (
        "import importlib, sys\n"
        "from pathlib import Path\n"
        "root, folder = (Path(argument) for argument in sys.argv[1:3])\n"
        "sys.path = [str(folder)] + [path for path in sys.path if path and Path(path).resolve() != root]\n"
        "for name in sys.argv[3:]:\n"
        "    importlib.import_module(name.removesuffix('.__init__'))\n"
        "ours = {n: m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ('ai4india_lib', 'data')}\n"
        "assert all(Path(file).is_relative_to(folder) for file in ours.values()), ours"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(ROOT.resolve()), str(folder.resolve()), *modules],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert modules and ran.returncode == 0, ran.stderr[-2000:]


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
