"""For every test, of the library and of the notebooks: no network, no progress bars, room for a second process.

Tests marked `slow`, and the lessons listed here, run with `pytest --slow`, or when their file is named: each takes long
and shows little that others do not show sooner.
"""

import gc
import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # notebooks run in kernels, which inherit these
os.environ["AI4INDIA_PROGRESS"] = "off"  # exercises that tests solve are no learner's
os.environ["TQDM_DISABLE"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"  # tests run in two processes: a thread that waits must not hold a core
os.environ["AI4INDIA_LANGUAGE"] = "en"  # that of the stored outputs
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would quarrel with data loader processes

SLOW_LESSONS = (  # each trains, or asks much of trained models
    "00_start_here.ipynb", "13_speculative_decoding.ipynb", "14_finetuning.ipynb", "15_preferences_and_rewards.ipynb",
    "16_evaluation.ipynb", "17_looking_inside.ipynb", "18_scaling.ipynb",
)  # fmt: skip
LONG_FILES = (  # with --slow
    "test_book.py", "test_collect.py", "test_jupyterlab.py", "test_processes.py", "test_loop.py", "test_examination.py",
)  # fmt: skip


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests and lessons too")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; runs with --slow, or when its file is named")
    config.addinivalue_line("markers", "long: slow, and so long that .ci/run leaves it out, too")


def pytest_collection_finish(session):
    let_what_lasts_be()


@pytest.fixture(scope="module", autouse=True)
def what_a_file_leaves_is_let_be():
    yield
    let_what_lasts_be()


def let_what_lasts_be():
    """Keep Python from looking for garbage among a million objects that last: modules, tests, languages.

    Each look would take half a second, also at the end of each forked process, whose memory it would copy as well.
    """
    gc.collect()
    gc.freeze()


def pytest_itemcollected(item):
    """Let nbval compare what a cell prints, not warnings and progress bars: those differ from machine to machine."""
    notebook = item.parent
    if "stderr" not in getattr(notebook, "skip_compare", ("stderr",)):
        notebook.skip_compare += ("stderr",)
    if item.path.name in SLOW_LESSONS and item.path.parent.name == "notebooks":
        item.add_marker("slow")


def pytest_collection_modifyitems(config, items):
    # those first: nobody waits for one at the end
    items.sort(key=lambda item: item.path.name not in SLOW_LESSONS + LONG_FILES)
    if config.option.slow or config.option.markexpr:
        return
    named = {Path(argument.split("::")[0]).resolve() for argument in config.args}
    slow = [item for item in items if item.get_closest_marker("slow") and item.path not in named]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]
