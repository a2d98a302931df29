"""Protects basics.imports: a package's names are there as if imported, and a module is loaded when one is used."""

import os
import subprocess
import sys
from importlib import import_module

import pytest

import ai4india_lib

HEAVY = "torch transformers tokenizers numpy matplotlib accelerate safetensors requests tqdm".split()
INIT = """
from typing import TYPE_CHECKING
from ai4india_lib.basics.imports import import_when_used
if TYPE_CHECKING:
    from . import kettle
    from .chai import MILK, boil
    from .pour import pour
__getattr__, __dir__, __all__ = import_when_used(__name__)
"""


@pytest.fixture
def stall(tmp_path, monkeypatch):
    """A package of three modules: the names of one, a module as it is, and a function with its module's name."""
    folder = tmp_path / "stall"
    folder.mkdir()
    (folder / "__init__.py").write_text(INIT, encoding="utf-8")
    for name, text in (("chai", "MILK, boil = 2, len"), ("pour", "def pour(): pass"), ("kettle", ""), ("lid", "1 / 0")):
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("stall")
    for name in [name for name in sys.modules if name.split(".")[0] == "stall"]:
        del sys.modules[name]


def test_a_module_is_loaded_when_one_of_its_names_is_used(stall):
    assert not {"stall.chai", "stall.kettle"} & set(sys.modules)
    assert stall.boil is len and "stall.chai" in sys.modules and "boil" in vars(stall)
    assert stall.kettle is sys.modules["stall.kettle"]
    from stall import MILK

    assert MILK == 2


def test_all_names_are_seen_without_loading_anything(stall):
    assert {"MILK", "boil", "pour", "chai", "kettle", "lid"} <= set(dir(stall))
    assert stall.__all__ == ["kettle", "MILK", "boil", "pour"] and "stall.chai" not in sys.modules
    there = {}
    exec("from stall import *", there)
    assert (
        there["MILK"] == 2 and there["pour"] is stall.pour and there["kettle"] is stall.kettle and "chai" not in there
    )


def test_a_function_with_the_name_of_its_module_stays_the_function(stall):
    """Loading `stall.pour` puts the module into the package under that name: the function must come after."""
    module = import_module("stall.pour")
    assert stall.pour is module.pour
    from ai4india_lib.text import download

    assert callable(download) and ai4india_lib.text.download is ai4india_lib.download is download


def test_what_is_not_there_and_what_fails(stall):
    with pytest.raises(AttributeError, match="module 'stall' has no attribute 'boyl'"):
        _ = stall.boyl
    with pytest.raises(ImportError, match="cannot import name 'boyl'"):
        exec("from stall import boyl")
    with pytest.raises(ZeroDivisionError):  # an error of the module itself is not hidden
        _ = stall.lid


@pytest.mark.parametrize(
    ("line", "unwanted"),
    [
        ("import ai4india_lib", HEAVY),
        ("import ai4india_lib; dir(ai4india_lib), ai4india_lib.training, ai4india_lib.formats", HEAVY),
        ("from ai4india_lib import Hyperparameters, get_hyperparameters", HEAVY),
        ("from ai4india_lib.formats import newest_model", "torch transformers tokenizers numpy matplotlib".split()),
        ("import ai4india_lib.basics.files", "torch transformers tokenizers numpy matplotlib".split()),
        (
            "from ai4india_lib import TextLines, download, read_about",
            "torch transformers tokenizers matplotlib".split(),
        ),
        ("from ai4india_lib import train, load_model, generate_text", "transformers matplotlib accelerate".split()),
    ],
)
def test_a_name_loads_what_it_needs_and_no_more(line, unwanted):
    script = (
        f"import sys; sys.path.insert(0, '.'); {line}\nprint(*(name for name in {unwanted} if name in sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []


@pytest.mark.parametrize(
    "wish, spins",
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"GOMP_SPINCOUNT": ""}, ""), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_threads_wait_briefly_unless_the_user_wishes_otherwise(wish, spins):
    """Set before torch is loaded, as OpenMP looks then and never again."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    code = "import os, sys, ai4india_lib; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment | wish, capture_output=True, text=True, check=True
    )
    assert ran.stdout.rstrip("\n") == f"{spins} False"
