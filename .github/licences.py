"""Writes the table of DEPENDENCIES.md: all packages that the course installs, with their licences, from their metadata.

python .github/licences.py          prints the table
python .github/licences.py --write  puts it into DEPENDENCIES.md
"""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PAGE = Path(__file__).parent / "DEPENDENCIES.md"
PINS = Path(__file__).parents[1] / "requirements.txt"
NAMES = {  # what some packages write where others write the licence's name
    "apache license": "Apache-2.0", "apache software license": "Apache-2.0", "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0", "apache 2.0 license": "Apache-2.0", "apache": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0", "mit license": "MIT", "the mit license (mit)": "MIT",
    "bsd license": "BSD-3-Clause", "bsd": "BSD", "bsd 3-clause license": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause", "isc license": "ISC", "isc license (iscl)": "ISC",
    "python software foundation license": "PSF-2.0", "psfl": "PSF-2.0",
}  # fmt: skip


def key(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(package: Distribution, extras: set[str]) -> list[Requirement]:
    """What this package asks for here, on this system and Python, with these extras of it."""
    lines = [Requirement(line) for line in package.requires or []]
    return [line for line in lines if not line.marker or any(line.marker.evaluate({"extra": e}) for e in extras | {""})]


def all_packages() -> dict[str, Distribution]:
    """The packages of requirements.txt, those that they need, and so on; by name."""
    lines = [line for line in PINS.read_text(encoding="utf-8").splitlines() if line and not line.startswith(("#", "-"))]
    found, seen, open_ends = {}, set(), [(key(Requirement(line).name), frozenset()) for line in lines]
    while open_ends:
        name, extras = open_ends.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # asked for on other systems only
        found[key(name)] = package
        open_ends += [(key(line.name), frozenset(line.extras)) for line in needed(package, set(extras))]
    return dict(sorted(found.items()))


def licence(package: Distribution) -> str:
    """Its licence as an SPDX name where the package gives one, else in its own words."""
    facts = package.metadata
    if expression := facts.get("License-Expression"):
        return expression
    classes = [
        line.split("::")[-1].strip() for line in facts.get_all("Classifier", []) if line.startswith("License ::")
    ]
    own = (facts.get("License") or "").strip()
    is_name = len(own) < 40 and own != "UNKNOWN"  # some packages put the whole text there
    said = [line for line in ([own] if is_name else []) + classes if line and line != "OSI Approved"]
    return NAMES.get(said[0].lower(), said[0]) if said else "not said in a word: see its licence file"


def table() -> str:
    rows = [
        f"| {name} | {package.version.partition('+')[0]} | {licence(package)} |"
        for name, package in all_packages().items()
    ]
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows])


def main(arguments: list[str]) -> None:
    if arguments != ["--write"]:
        print(table())
        return
    text = PAGE.read_text(encoding="utf-8")
    before, _, _ = text.partition("| package |")
    PAGE.write_text(before + table() + "\n", encoding="utf-8")
    print(f"{PAGE.name}: {len(all_packages())} packages")


if __name__ == "__main__":
    main(sys.argv[1:])
