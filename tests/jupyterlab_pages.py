"""JupyterLab as a learner has it, for tests: a server by the README's command on a copy of the course, and its pages in
Debian's Chromium by Playwright. What a page holds is read from JupyterLab's own model of it; what is done is done by
menu, button and key.
"""

import importlib.util
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import chromium

ROOT = Path(__file__).parent.parent
WINDOW = {"width": 1300, "height": 900}  # pixels
PATIENCE = 300  # seconds, for what takes five on a quiet machine


def what_is_missing() -> list[str]:
    """Names of what these pages need and this machine lacks."""
    missing = [name for name in ("jupyterlab", "ipywidgets") if not importlib.util.find_spec(name)]
    return missing + chromium.what_is_missing()


def copy_of_the_course(folder: Path) -> Path:
    """The lessons as copies, since JupyterLab saves what it shows; the rest as links."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in ("ai4india_lib", "data", "models", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def options_of_the_readme() -> list[str]:
    """What stands behind `jupyter lab` in the README's command."""
    command = re.search(r"^jupyter lab (.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return shlex.split(command[1])


@contextmanager
def running_server(course: Path, settings: Path):
    """JupyterLab started in the folder `course`, without this user's settings; yields its address with its token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}  # a learner sees the bars
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        env[name] = str(settings / name)
    options = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        f"--port={port}",
        "--ServerApp.port_retries=0",
    ]
    command = [sys.executable, "-m", "jupyterlab", *options_of_the_readme(), *options]
    log = settings / "log.txt"
    with log.open("w") as written:
        server = subprocess.Popen(
            command, cwd=course, env=env | {"JUPYTER_TOKEN": "test"}, stdout=written, stderr=written
        )
    try:
        yield answering(f"http://127.0.0.1:{port}/", server, log)
    finally:
        server.terminate()  # it ends its kernels
        server.wait(PATIENCE)


def answering(address: str, server: subprocess.Popen, log: Path) -> str:
    """The address, once the server answers there."""
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        try:
            with urlopen(f"{address}api?token=test", timeout=5):
                return f"{address}?token=test"
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab does not answer:\n{log.read_text(encoding='utf-8')[-2000:]}")


class Lab:
    """The one page of a browser, with JupyterLab in it."""

    def __init__(self, page, address: str, pictures: Path):
        self.page, self.pictures = page, pictures
        page.set_default_timeout(PATIENCE * 1000)
        page.add_init_script(path=ROOT / "tests" / "browser" / "looks.js")
        page.goto(address)
        page.add_style_tag(content=".Toastify { display: none }")  # "Would you like to get notified …"
        page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.context")

    def open(self, lesson: str):
        """Show notebooks/`lesson`.ipynb, and wait until its kernel is there. In a window of usual height: one as high
        as the notebook before (see `show_all`) never gets all cells of this one."""
        path = f"notebooks/{lesson}.ipynb"
        self.page.set_viewport_size(WINDOW)
        self.page.evaluate("async path => { await jupyterapp.commands.execute('docmanager:open', { path }) }", path)
        self.wait("path => looks.opened(path)", path)

    def wait(self, condition: str, argument=None):
        self.page.wait_for_function(condition, arg=argument, polling=500)

    def close(self):
        """The notebook and its kernel."""
        self.page.evaluate("async () => { await looks.panel().sessionContext.shutdown(); looks.panel().dispose(); }")

    def cells(self) -> dict[str, dict]:
        """Of each code cell, by its id: what looks.js says of it."""
        return {cell["id"]: cell for cell in self.page.evaluate("looks.cells()")}

    def menu(self, *names: str):
        """Click through a menu, as Run, Run All Cells."""
        self.page.locator(".lm-MenuBar-itemLabel").get_by_text(names[0], exact=True).click()
        for name in names[1:]:
            self.page.locator(".lm-Menu-itemLabel").get_by_text(name, exact=True).click()

    def run(self, name: str) -> dict:
        """Run the cell of this id, which has not been run yet: what it gave."""
        self.page.evaluate("id => looks.select(id)", name)
        self.page.evaluate("() => { jupyterapp.commands.execute('notebook:run-cell') }")
        self.wait("id => looks.rests() && looks.cell(id).number", name)
        return self.cells()[name]

    def run_new_cell(self, code: str) -> dict:
        """Typed by the learner below the last code cell: what it gave."""
        before = self.cells()
        self.page.evaluate("id => looks.select(id)", list(before)[-1])
        self.page.keyboard.press("b")
        self.page.keyboard.press("Enter")
        self.page.keyboard.insert_text(code)
        [new] = self.cells().keys() - before.keys()
        return self.run(new)

    def theme(self, name: str):
        """As in the menu Settings, Theme."""
        self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", name)
        self.wait("name => document.body.dataset.jpThemeName === name", name)

    def show_all(self, width: int):
        """A window of this width, without the list of files (Ctrl + B), that is as high as the whole notebook."""
        self.page.evaluate("() => { jupyterapp.shell.collapseLeft(); looks.attachAll(); }")
        self.wait("() => looks.allAttached()")
        for _ in range(2):  # what has not been seen has a height that is only guessed
            self.page.set_viewport_size({"width": width, "height": 900})
            height = min(200 + self.page.evaluate("looks.height()"), 60_000)
            self.page.set_viewport_size({"width": width, "height": height})
            self.page.wait_for_timeout(500)

    def picture(self, name: str):
        self.page.screenshot(path=self.pictures / f"{name}.png")


@contextmanager
def jupyterlab(folder: Path, pictures: Path):
    """A Lab on a new copy of the course in `folder`; its pictures are put into `pictures`."""
    course, settings = folder / "course", folder / "settings"
    for made in (course, settings, pictures):
        made.mkdir(parents=True, exist_ok=True)
    server = running_server(copy_of_the_course(course), settings)
    with server as address, chromium.running_chromium() as browser:
        yield Lab(browser.new_page(viewport=WINDOW), address, pictures)
