"""A person's own Python function that marks what a model wrote, from a file; nothing here needs torch."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .rewards import Attempt, Reward


def reward_file(named: str) -> tuple[Path, str]:
    """The file and the function that "my_reward.py:mark" names. Raises ValueError if there can be no such function."""
    file, colon, function = named.rpartition(":")
    example = "write FILE.py:FUNCTION, for example my_reward.py:mark"
    if not colon or not function.isidentifier():
        raise ValueError(f"{named!r} names no function in a file: {example}")
    if Path(file).suffix != ".py":
        raise ValueError(f"{file} is not a .py, a file of Python: {example}")
    if not Path(file).is_file():
        raise FileNotFoundError(f"there is no file {file}: write the reward's function into it, or name another")
    return Path(file), function


def load_reward(named: str) -> "Reward":
    """The function that "my_reward.py:mark" names: it is given an `Attempt` and returns a number, more for better.

    The file runs as a program would, beside the modules in its folder. What goes wrong in it, now or when the function
    is called, is a ValueError in one sentence, with the line of the file.
    """
    path, name = reward_file(named)
    module = ModuleType(f"reward_of_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look for their module there
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # an import would leave a folder behind
    except (Exception, SystemExit) as error:  # of a person's own program: anything
        raise ValueError(f"{_where(error, path)}: mend it, so that the file runs") from error
    finally:
        sys.path.remove(str(path.parent.absolute()))
    function = getattr(module, name, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        has = f"it has {', '.join(own)}" if own else "it has none"
        raise ValueError(f"{path} has no function {name}: {has}; define `def {name}(attempt):` there")
    return _explained(function, path, name)


def _explained(function: Callable, path: Path, name: str) -> "Reward":
    """The function, with its errors told in one sentence."""

    def reward(attempt: "Attempt") -> float:
        try:
            return function(attempt)
        except (Exception, SystemExit) as error:
            on = f"on the text {attempt.text[:40]!r}"
            raise ValueError(f"{_where(error, path)}, {on}: mend {name}(attempt), it must return a number") from error

    return reward


def _where(error: BaseException, path: Path) -> str:
    """What went wrong in a file, with the last of its lines that had a part in it."""
    number, line = getattr(error, "lineno", None), getattr(error, "text", None)
    if not (isinstance(error, SyntaxError) and error.filename == str(path)):
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        number, line = (frames[-1].lineno, frames[-1].line) if frames else (None, None)
    place = f"{path}, line {number}" + (f", `{line.strip()}`" if line else "") if number else str(path)
    happened = getattr(error, "msg", None) if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{place}: {type(error).__name__}" + (f": {happened:.200}" if happened else "")
