"""How a learner installs what is not there: the one place that words it."""

import sys
from importlib.util import find_spec


def how_to_install(extra: str) -> str:
    """The command for an extra of pyproject.toml. The quotes are for zsh and PowerShell, which read [ ] otherwise."""
    return f'pip install -e ".[{extra}]" in the course\'s folder'


def not_in_the_environment(module: str) -> str:
    """What a new terminal, in which nobody went into the environment, is told: this Python lacks `module`."""
    environment = 'go into the environment that you made for the course (README.md, "Two commands")'
    return f"{sys.executable} lacks {module}: {environment}, or pip install -r requirements.txt in the course's folder"


def check_installed(user: str, packages: tuple[str, ...], extra: str) -> None:
    """Raises ValueError if `user`, such as "export", lacks one of the packages; says what brings them."""
    if lacking := [package for package in packages if not is_installed(package)]:
        raise ValueError(f"{user} needs {', '.join(lacking)}, not installed here: {how_to_install(extra)}")


def is_installed(module: str) -> bool:
    """Could this module be imported? Nothing of it is run but what it belongs to."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it belongs to is there
        return False
