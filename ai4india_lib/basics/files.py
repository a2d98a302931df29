"""How files are written: whole, or not at all. The new is made beside the old, then takes its place in one move.

And how they are read: what is damaged is refused in one sentence, with the file's name.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # files are written where there is no tensor, too
    from safetensors import safe_open
    from torch import Tensor


def _is_full_disk(error: Exception) -> bool:
    """Was it this that a writer complained of? Writers in Rust (safetensors, tokenizers) only say so in words."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return full or any(words in str(error) for words in ("(os error 28)", "(os error 112)", "No space left"))


@contextmanager
def _explain_full_disk(target: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not _is_full_disk(error):
            raise
        told = OSError(
            f"the disk is full: {target} was not written, and what was there before is kept; make room first"
        )
        told.errno = errno.ENOSPC
        raise told from error


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
        with _explain_full_disk(target):
            yield beside
            beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: str | Path, content: object, *, indent: int | None = 2) -> None:
    """Write `content` to `path` in UTF-8, whole or not at all."""
    with replaced_file(path) as beside:
        beside.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path, *, needs: Iterable[str] = ()) -> dict:
    """The object that a JSON file holds. Raises ValueError, with the file's name, for a file that is damaged, holds
    something else, or lacks one of the keys `needs`."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not readable as JSON: it holds no JSON object")
    if lacking := [key for key in needs if key not in content]:
        raise ValueError(f"{path} does not say {', '.join(lacking)}: it is damaged, or another program wrote it")
    return content


def replace_folder(target: Path, write: Callable[[Path], None], *, owned: Iterable[str] = ()) -> None:
    """Let `write` fill a new folder beside `target`, then put it in its place.

    If `write` fails, `target` is as it was. A new `target` appears in one move. In an old one, files whose names match
    a pattern of `owned` go, as they belong to what was there before; all others, and folders, stay. If that is broken
    off, by a killed process say, the folder has no `config.json` or `adapter_config.json`, so that no program opens the
    old and the new mixed, and `finish_folder` goes on with it.
    """
    if target.is_file():
        raise FileExistsError(f"{target} is a file: a folder of that name is to be made, so move it or choose another")
    finish_folder(target)
    target = target.resolve() if target.is_symlink() else target
    beside = target.with_name(f".{target.name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
    try:
        with _explain_full_disk(target):
            beside.mkdir(parents=True)
            write(beside)
            if not target.exists():
                beside.rename(target)
                return
            before = [path.name for path in target.iterdir() if path.is_file() and not (beside / path.name).exists()]
            write_json(beside / _GONE, [name for name in before if any(fnmatch(name, pattern) for pattern in owned)])
            with suppress(OSError):
                _decided(target).rmdir()  # empty, if a process was killed while it tidied up
            beside.rename(_decided(target))  # from here on the new one counts
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    finish_folder(target)


_HEADS = ("config.json", "adapter_config.json")  # without one, no program opens the folder
_GONE = ".gone.json"  # names of the files that the new ones replace


def _decided(target: Path) -> Path:
    """Where the new content of a folder lies, whole, until all of it is moved."""
    return target.with_name(f".{target.name}.new")


def finish_folder(target: Path) -> None:
    """Go on where a process was killed while it put a folder in the place of `target`; else do nothing.

    It may be killed at any moment again: what is moved already is left as it is.
    """
    target = target.resolve() if target.is_symlink() else target
    new = _decided(target)
    if not (new / _GONE).is_file():  # nothing, or not ours
        return
    target.mkdir(parents=True, exist_ok=True)
    files = sorted((path for path in new.iterdir() if path.name != _GONE), key=lambda path: path.name in _HEADS)
    if files:
        gone = json.loads((new / _GONE).read_text(encoding="utf-8")) + [p.name for p in files if p.name in _HEADS]
        for name in sorted(gone, key=lambda name: name not in _HEADS):  # heads first: so it cannot be opened mixed
            (target / name).unlink(missing_ok=True)
        for path in files:
            path.replace(target / path.name)
    shutil.rmtree(new)


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors by name. Raises OSError, with the file's name, if that fails."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        path.touch()
        mode = path.stat().st_mode  # that of any new file here: some versions of safetensors let its user alone read it
        save_file(tensors, path, metadata={"format": "pt", **(metadata or {})})
        path.chmod(mode)
    except (SafetensorError, OSError) as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name. Raises ValueError for a file that is missing or damaged."""
    with _opened(path) as file:
        # clone: otherwise the tensors stay tied to the file, and Windows could not replace it while they live
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)


def read_safetensors_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → (type of its numbers, such as "F32", shape) of all tensors of a file, without reading them."""
    with _opened(path) as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in parts.items()}


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """What a file says of itself beside its tensors."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): it is missing or damaged; copy or train it anew") from error


def fingerprint_json(content: object) -> str:
    """32 hexadecimal digits that differ if anything in `content` does; of what JSON has no words for, only the type."""
    text = json.dumps(content, sort_keys=True, default=lambda value: type(value).__name__)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def fingerprint_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """32 hexadecimal digits that differ if one of these named tensors does, in its name, shape, type or numbers."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def check_space(folder: Path, needed: float, purpose: str) -> None:
    """Raises OSError if nothing may be written to `folder`, which need not exist yet, or its disk has no room for
    `needed` bytes."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise PermissionError(
            f"nothing can be written to {there}, where {purpose} is to be kept: choose another folder"
        )
    if (free := shutil.disk_usage(there).free) < needed:
        room = f"{purpose} takes about {needed / 1e6:,.0f} MB, and the disk of {there} has {free / 1e6:,.0f} MB left"
        error = OSError(f"{room}: make room first, or choose a smaller model or another folder")
        error.errno = errno.ENOSPC
        raise error
