"""For every test, of the library and of the notebooks: no network, no progress bars, room for a second process."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # notebooks run in kernels, which inherit these
os.environ["TQDM_DISABLE"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"  # tests run in two processes: a thread that waits must not hold a core
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would quarrel with data loader processes


def pytest_itemcollected(item):
    """Let nbval compare what a cell prints, not warnings and progress bars: those differ from machine to machine."""
    notebook = item.parent
    if "stderr" not in getattr(notebook, "skip_compare", ("stderr",)):
        notebook.skip_compare += ("stderr",)
