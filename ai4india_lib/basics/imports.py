"""Names that a package gathers from its modules, each imported when it is first used.

Torch and what stands on it take seconds to load. So `import ai4india_lib` loads nothing of it, and `--help` answers at
once: what a name needs is imported when somebody asks for that name (PEP 562).
"""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules


def import_when_used(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` for the `__init__` of a package: what its `if TYPE_CHECKING:` imports.

    Python passes over those imports, as TYPE_CHECKING is false. Editors read them, and so does this function: the names
    are there as if imported, for `from package import name` and `import *` too. So are all modules of the package.

    >>> if TYPE_CHECKING:
    ...     from .loop import train
    >>> __getattr__, __dir__, __all__ = import_when_used(__name__)
    """
    module = sys.modules[package]
    gathered = _gathered(ast.parse(module.__spec__.loader.get_source(package)))

    def load(name: str) -> object:
        if gathered.get(name, ".") != ".":
            value = getattr(import_module(gathered[name], package), name)
        elif not name.startswith("_") and find_spec(f"{package}.{name}"):
            value = import_module(f".{name}", package)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=module)
        setattr(module, name, value)  # from now on Python finds it by itself
        return value

    def names() -> list[str]:
        return sorted({*vars(module), *gathered, *(found.name for found in iter_modules(module.__path__))})

    for name in gathered:
        if gathered[name] == f".{name}":  # now: once the module of that name is loaded, the package has it in its place
            load(name)
    return load, names, list(gathered)


def _gathered(source: ast.Module) -> dict[str, str]:
    """name → the module that has it, such as ".loop", of each import under `if TYPE_CHECKING:`; of a module "."."""
    blocks = [node for node in source.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body]
    return {alias.name: f".{node.module or ''}" for node in imports for alias in node.names}
