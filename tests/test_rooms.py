"""Protects the house: every module stands in a room, imports point down, and no two modules need each other.

The rooms and their order are those of the package's docstring; tests stand as the library does. All imports are read,
those inside functions too.
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import ai4india_lib

LIBRARY = Path(ai4india_lib.__file__).parent
ROOMS = ("basics", "text", "model", "formats", "training", "inference", "evaluation", "tuning")
DOORS = ("plots", "checks", "commands", "benchmarks")  # they use the rooms, no room uses them
ENTRANCE = ("__init__", "__main__")


def module_of(path):
    """ai4india_lib/text/corpus.py → "text.corpus"; a room's own file → "text.__init__"."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts)


def imports_of(path):
    """The modules of the library that a file imports, as `module_of` names them."""
    package = module_of(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = package[: len(package) - node.level + 1]
            base = [*start, *(node.module or "").split(".")] if node.module else start
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ai4india_lib":
            base = node.module.split(".")[1:]
        elif isinstance(node, ast.Import):
            for name in (alias.name for alias in node.names if alias.name.split(".")[0] == "ai4india_lib"):
                yield resolved(name.split(".")[1:])
            continue
        else:
            continue
        for alias in node.names:
            inner = resolved([*base, alias.name])
            yield inner if inner is not None else resolved(base)


def resolved(parts):
    """The module that these names lead to; None if there is none."""
    path = LIBRARY.joinpath(*parts)
    if path.is_dir():
        return module_of(path / "__init__.py")
    return module_of(path.with_suffix(".py")) if parts and path.with_suffix(".py").is_file() else None


IMPORTS = {module_of(path): set(imports_of(path)) for path in sorted(LIBRARY.rglob("*.py"))}
PACKAGES = [module.removesuffix(".__init__") for module in IMPORTS if module.endswith(".__init__")]
GATHERING = [package for package in PACKAGES if package.split(".")[0] in ROOMS]  # names: rooms, and packages in them


def room_of(module):
    return module.split(".")[0]


def test_imports_are_seen():
    """The reading itself: one import of each kind that the library has."""
    assert "text.download" in IMPORTS["text.corpus"] and "text.corpus" in IMPORTS["commands.train_run"]
    assert "plots" in IMPORTS["__init__"] and {"basics.files", "basics.device"} <= set(IMPORTS)


def test_what_a_room_gathers_is_there():
    """The imports of an `__init__` are made when a name is first used: here all names are."""
    for room in ("", *GATHERING):  # the packages within rooms too
        package = import_module(f"ai4india_lib.{room}".rstrip("."))
        source = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
        written = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom)]
        gathered = {alias.name for node in written for alias in node.names} - {"TYPE_CHECKING", "import_when_used"}
        assert gathered == set(package.__all__) <= set(dir(package))
        assert all(hasattr(package, name) for name in gathered), package
        exec(f"from {package.__name__} import *", there := {})
        assert gathered <= set(there)


def test_every_module_stands_in_a_room():
    assert {room_of(module) for module in IMPORTS} == {*ROOMS, *DOORS, *ENTRANCE}


def test_tests_stand_as_the_library_does():
    """Each package has a folder of tests; the other folders are of no package's own."""
    tests = Path(__file__).parent
    folders = {".".join(path.parent.relative_to(tests).parts) for path in tests.rglob("test_*.py")}
    assert folders == {"", *PACKAGES, "browser", "data", "mutations"}


def test_imports_point_down():
    """A room uses those before it in the list; no room uses a door."""
    height = {room: number for number, room in enumerate(ROOMS)}
    up = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if room_of(module) in ROOMS and height.get(room_of(other), len(ROOMS)) > height[room_of(module)]
    ]
    assert up == []


def test_modules_import_modules_and_not_the_room_they_stand_in():
    """The `__init__` of a room, or of a package in it, gathers names for others. Who imports it from within makes a
    circle."""
    within = [
        f"{module} imports {package}, where it stands"
        for module, others in IMPORTS.items()
        for package in GATHERING
        if f"{package}.__init__" in others and module.startswith(f"{package}.")
    ]
    assert within == []


def test_no_modules_need_each_other():
    inside = {m: others - {m} for m, others in IMPORTS.items() if room_of(m) in ROOMS and not m.endswith("__init__")}
    try:
        list(TopologicalSorter(inside).static_order())
    except CycleError as error:
        raise AssertionError("these modules import each other in a circle: " + " → ".join(error.args[1])) from None


def test_each_room_says_what_it_is_for_and_which_lessons_build_it():
    for room in GATHERING:
        path = LIBRARY.joinpath(*room.split("."), "__init__.py")
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert 3 <= len(doc.splitlines()) <= 5 and re.search("[Ll]esson", doc), f"{room}: {doc}"
    lines = ai4india_lib.__doc__.splitlines()
    listed = [line.split()[0] for line in lines if line.split(" ")[0] in (*ROOMS, "doors")]
    assert listed == [*ROOMS, "doors"]
