"""How files are written: whole, or not at all. The new is made beside the old, then takes its place in one move."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:  # files are written where there is no tensor, too
    from torch import Tensor


@contextmanager
def replaced_file(target: str | Path) -> Iterator[Path]:
    """Gives a path beside `target` to write to, and puts that file in its place when the block ends.

    If the block fails, `target` is as it was and nothing is left beside it. The name keeps its ending, as some writers
    choose the format by it.

    >>> with replaced_file("picture.png") as beside:
    ...     figure.savefig(beside)
    """
    target = Path(target)
    beside = target.with_name(f".part-{target.name}")
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: str | Path, content: object, *, indent: int | None = 2) -> None:
    """Write `content` to `path` in UTF-8, whole or not at all."""
    with replaced_file(path) as beside:
        beside.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder beside `target`, then put it in its place.

    If `write` fails, `target` is as it was. A new `target` appears in one move; in an old one each file is replaced in
    one move, `config.json` last, and files that `write` did not make stay.
    """
    if target.is_file():
        raise FileExistsError(f"{target} is a file: a folder of that name is to be made, so move it or choose another")
    beside = target.with_name(f".{target.name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
    beside.mkdir(parents=True)
    try:
        write(beside)
        if target.exists():
            for path in sorted(beside.iterdir(), key=lambda path: path.name == "config.json"):
                path.replace(target / path.name)
        else:
            beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_safetensors(path: Path) -> "dict[str, Tensor]":
    """All tensors of a file by name. Raises ValueError for a file that is missing or damaged."""
    with _opened(path) as file:
        # clone: otherwise the tensors stay tied to the file, and Windows could not replace it while they live
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)


def read_safetensors_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → (type of its numbers, such as "F32", shape) of all tensors of a file, without reading them."""
    with _opened(path) as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): it is missing or damaged; copy or train it anew") from error
