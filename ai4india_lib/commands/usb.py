"""python -m ai4india_lib usb FOLDER: what a computer without a network needs to install the course, in one folder."""

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from ..basics.files import check_space
from .lessons import project_folder
from .usb_scripts import WINDOWS_INSTALLER, about_the_folder, unix_installer

COURSE = "ai4india_lib data models notebooks tests .ci .github .gitignore .gitattributes conftest.py environment.yml "
COURSE += "LICENSE pyproject.toml README.md requirements.txt CHANGELOG.md CITATION.cff"  # a learner's files stay
LEFT_OUT = {"__pycache__", ".ipynb_checkpoints", ".encoded"}
SYSTEMS = {  # pip's names of a target → the kinds of its wheels
    "linux": [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17, 12, 5)] + ["manylinux2014_x86_64"],
    "linux-arm": [f"manylinux_2_{minor}_aarch64" for minor in (28, 27, 26, 24, 17)] + ["manylinux2014_aarch64"],
    "windows": ["win_amd64"],
    "macos": [f"macosx_{major}_0_{kind}" for major in (14, 13, 12, 11) for kind in ("arm64", "universal2")],
}
MARKERS = {  # what a requirement for one system only asks for; pip itself would ask the computer it runs on
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
}
MARKERS["linux-arm"] = MARKERS["linux"] | {"platform_machine": "aarch64"}
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
_PIP_FOR_ANOTHER = """
import json, runpy, sys
from pip._vendor.packaging import markers
target, own = json.loads(sys.argv.pop(1)), markers.default_environment
markers.default_environment = lambda: {**own(), **target}
sys.argv[0] = "pip"
runpy.run_module("pip", run_name="__main__")
"""


def this_system() -> str:
    """The name in `SYSTEMS` of the computer this runs on. Raises ValueError where there is none."""
    machine = platform.machine().lower().replace("amd64", "x86_64").replace("aarch64", "arm64")
    names = {("Linux", "x86_64"): "linux", ("Linux", "arm64"): "linux-arm", ("Windows", "x86_64"): "windows"}
    names["Darwin", "arm64"] = "macos"
    if (name := names.get((platform.system(), machine))) is None:
        raise ValueError(f"no wheels are known for {platform.system()} on {machine}: name a --system")
    return name


def pip_command(system: str, python: str) -> list[str]:
    """The beginning of a command that runs pip as if on this system with this Python, such as "3.12"."""
    if (system, python) == (this_system(), this_python()):
        return [sys.executable, "-m", "pip", "download", "--only-binary=:all:"]
    target = MARKERS[system] | {"python_version": python, "python_full_version": f"{python}.0"}
    kinds = [part for kind in SYSTEMS[system] for part in ("--platform", kind)]
    about = ["--python-version", python, "--implementation", "cp", *kinds]
    return [sys.executable, "-c", _PIP_FOR_ANOTHER, json.dumps(target), "download", "--only-binary=:all:", *about]


def this_python() -> str:
    """Such as "3.12"."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def fetch_wheels(project: Path, wheels: Path, system: str, python: str, *, gpu: bool = False) -> None:
    """Fill the folder `wheels` with all that requirements.txt names, and what builds the course itself.

    Without `gpu`, Linux gets torch for the CPU, which takes a tenth of the room.
    Raises OSError if pip fails; what it said stands on the terminal.
    """
    lines = (project / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith(("#", "-"))]  # -e . would pack the project itself
    build = re.search(r"(?m)^requires = (\[.*?\])", (project / "pyproject.toml").read_text(encoding="utf-8"))[1]
    pip = [*pip_command(system, python), "--dest", str(wheels), "--find-links", str(wheels)]
    asked = [[*pins, *json.loads(build)]]
    if system.startswith("linux") and not gpu:
        torch = next(pin for pin in pins if pin.startswith("torch="))
        asked.insert(0, ["--no-deps", "--index-url", CPU_TORCH, torch])  # found again by --find-links
    wheels.mkdir(exist_ok=True)
    for what in asked:
        ended = subprocess.run([*pip, *what], cwd=wheels)  # far from the project: pip reads no settings of it
        if ended.returncode:
            hint = (
                f"torch for the CPU comes from {CPU_TORCH}; with --gpu from where pip looks"
                if "--no-deps" in what
                else ""
            )
            raise OSError(f"pip could not fetch {what[-1] if hint else 'the packages'}, nothing was written. {hint}")


def copy_project(project: Path, target: Path) -> None:
    """Copy the course without git's history, environments, downloads, and what the learner has trained or written."""
    ignored = (project / ".gitignore").read_text(encoding="utf-8")
    shipped = {*re.findall(r"(?m)^!models/([\w.-]+)", ignored)}
    of_runs = re.findall(r"(?m)^models/\*/([\w.*-]+)", ignored)  # what a learner's runs leave in them

    def leave_out(folder: str, names: list[str]) -> set[str]:
        out = {name for name in names if name in LEFT_OUT or name.startswith(".part-")}
        out |= {name for name in names if name.endswith((".egg-info", ".part"))}
        out |= {name for name in names if (Path(folder) / name / "pyvenv.cfg").exists()}
        if Path(folder) == project / "models":
            out |= set(names) - shipped
        if Path(folder).parent == project / "models":
            out |= {name for name in names if any(map(partial(fnmatchcase, name), of_runs))}
        return out | ({"downloads"} if Path(folder) == project / "data" else set())

    target.mkdir(parents=True)
    for name in COURSE.split():
        source = project / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=leave_out)
        elif source.exists():
            shutil.copy(source, target / name)


def check_target(folder: Path, project: Path) -> None:
    """Raises ValueError or OSError where `folder` cannot be made, or would be packed into itself."""
    if folder.resolve().is_relative_to(project):
        raise ValueError(f"{folder} lies in the course's own folder: name one outside of {project}")
    if folder.exists() or folder.is_symlink():
        raise FileExistsError(f"there is {folder} already: name a new folder, such as {folder / 'ai4india-usb'}")
    if in_the_way := [place for place in folder.absolute().parents if place.exists() and not place.is_dir()]:
        raise FileExistsError(f"{folder} cannot be made: {in_the_way[0]} is a file")


def run(options: argparse.Namespace) -> None:
    """Fill a folder beside FOLDER, which gets its name in the end."""
    project, folder = project_folder(), Path(options.folder).expanduser()
    system, python = options.system or this_system(), options.python or this_python()
    if not re.fullmatch(r"3\.\d{1,2}", python) or int(python[2:]) < 11:
        raise ValueError(f"--python {python} must be such as 3.12, and at least 3.11")
    check_target(folder, project)
    check_space(folder, 7e9 if options.gpu else 2e9, "the course with its packages")
    beside = folder.with_name(f".part-{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
    try:
        beside.mkdir(parents=True)
        print(f"fetching wheels for {system}, Python {python} …", flush=True)
        fetch_wheels(project, beside / "wheels", system, python, gpu=options.gpu)
        copy_project(project, beside / "ai4india")
        if system == "windows":
            (beside / "install.bat").write_bytes(WINDOWS_INSTALLER.replace("3.xx", python).encode())
        else:
            (beside / "install.sh").write_text(unix_installer(python), encoding="utf-8", newline="\n")
            (beside / "install.sh").chmod(0o755)
        (beside / "README.txt").write_text(about_the_folder(system, python), encoding="utf-8", newline="\r\n")
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    how = "install.bat" if system == "windows" else "sh install.sh"
    print(f"{folder}: {size / 1e6:,.0f} MB for {system} with Python {python}; there, without a network: {how}")
