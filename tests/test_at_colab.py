"""Protects a lesson's first minutes on Colab, emulated: an empty folder, a fresh kernel of an environment that has
torch, transformers and ipywidgets, and an older matplotlib that is in memory before the first cell. Git fetches the
course from a repository on the disk, and pip brings matplotlib from a wheel that is packed here: nothing comes from the
network.

The environment is a new one, without packages of its own but that matplotlib; it sees those of the one that runs the
tests. The setup cell and lessons 06 and 11 were seen by hand too, with
matplotlib 3.8.4, IPython 7.34 and ipywidgets 7.7 from PyPI.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = ("pip", "setuptools", "ipykernel", "ipywidgets", "jupyter_client")
# not importlib.util.find_spec: on its way to pip it makes setuptools leave distutils alone, in the whole process, and
# torch.compile, which needs both, then fails
LACKING = [name for name in NEEDED if PathFinder.find_spec(name) is None]
LACKING += [] if shutil.which("git") and (ROOT / ".git").exists() else ["git, and the course as a clone"]
LACKING += [] if os.name == "posix" else ["Linux or macOS"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}")]
OLD = "3.8.4"
RESTART = "An older matplotlib is still in memory: restart the runtime, then run this cell again."


def run(*command, folder):
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def write_wheel(folder, version, files):
    """matplotlib as a wheel; `files`: name in the wheel → a path, or a text."""
    about = f"matplotlib-{version}.dist-info"
    files = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: matplotlib\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"]),
    }
    path = folder / f"matplotlib-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.write(content, name) if isinstance(content, Path) else wheel.writestr(name, content)
    return path


def pack_matplotlib(folder):
    """The one that runs the tests. A wheel that is installed is not kept, so it is packed anew."""
    parts = ("matplotlib/", "mpl_toolkits/", "matplotlib.libs/", "pylab.py")
    found = importlib.metadata.distribution("matplotlib")
    names = [file for file in found.files if str(file).startswith(parts) and "__pycache__" not in str(file)]
    return write_wheel(folder, found.version, {str(name): Path(name.locate()) for name in names})


def publish(folder):
    """The course as it stands here, in a repository that git can fetch it from."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    for name in files.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    run("git", "init", "--quiet", folder=folder)
    run("git", "-c", "core.compression=0", "add", "--all", "--force", folder=folder)
    me = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    run("git", *me, "-c", "core.compression=0", "commit", "--quiet", "--message=all", folder=folder)


@pytest.fixture
def colab(tmp_path):
    """A function that starts a kernel as Colab does, with its matplotlib in memory; it stands in an empty folder."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import KernelManager

    wheels, course, empty = (tmp_path / name for name in ("wheels", "course", "content"))
    for folder in (wheels, course, empty):
        folder.mkdir()
    publish(course)
    pack_matplotlib(wheels)
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    [packages] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "colab.pth").write_text("\n".join(paths), encoding="utf-8")
    old = write_wheel(
        tmp_path, OLD, {"matplotlib/__init__.py": f"__version__ = {OLD!r}", "matplotlib/pyplot.py": "plot = None"}
    )
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", old, folder=tmp_path)
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MPLBACKEND")}
    env |= {"AI4INDIA_REPO": course.as_uri(), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    env |= {"PIP_NO_BUILD_ISOLATION": "0", "PIP_CONFIG_FILE": os.devnull}  # "0": setuptools is the environment's
    command = [str(python), "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (tmp_path / "kernels" / "colab").mkdir(parents=True)
    (tmp_path / "kernels" / "colab" / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "colab", "language": "python"}), encoding="utf-8"
    )
    known = KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")])

    @contextmanager
    def runtime():
        manager = KernelManager(kernel_name="colab", kernel_spec_manager=known)
        manager.start_kernel(cwd=str(empty), env=env)
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=120)
            yield lambda code: execute(client, code)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)

    return runtime


def execute(client, code):
    """What a cell prints, and its error or None."""
    shown, error = [], None

    def take(message):
        nonlocal error
        content = message["content"]
        if message["msg_type"] == "stream":
            shown.append(content["text"])
        elif message["msg_type"] == "error":
            error = f"{content['ename']}: {content['evalue']}"

    client.execute_interactive(code, output_hook=take, allow_stdin=False, timeout=400)
    return "".join(shown), error


def cells_of(name):
    cells = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize(
    "lesson",
    [
        "06_attention.ipynb",
        pytest.param("11_kv_cache.ipynb", marks=pytest.mark.long),
        pytest.param("00_start_here.ipynb", marks=pytest.mark.long),
    ],
)
def test_a_lesson_works_after_the_restart_that_its_first_cell_asks_for(colab, lesson):
    setup, *cells = cells_of(lesson)
    with colab() as cell:
        assert cell("import matplotlib.pyplot; print(matplotlib.__version__)") == (f"{OLD}\n", None)
        assert cell("import os; print(os.listdir())") == ("[]\n", None)
        for _ in range(2):  # without the restart it says the same
            assert cell(setup) == ("", f"RuntimeError: {RESTART}")
    with colab() as cell:
        assert cell("import matplotlib.pyplot")[1] is None  # as Colab does; now the one that pip brought
        shown, error = cell(setup)
        assert error is None and shown.startswith("ready: ai4india_lib")
        here, _ = cell("print(Path(ai4india_lib.__file__).parents[1] == Path.cwd() == here / 'ai4india')")
        assert here == "True\n"
        errors = {number: error for number, code in enumerate(cells, 1) if (error := cell(code)[1])}
        assert errors == {}


def test_looking_for_pip_leaves_setuptools_as_it_is():
    """Every run of pytest reads this file, and compiles elsewhere in the same process."""
    code = "import test_at_colab, setuptools, distutils; print(distutils.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert "setuptools" in found.stdout, found.stderr
