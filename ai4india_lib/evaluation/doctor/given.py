"""The texts that `examine` was given, as lines, a loader or batches: what comes first in them. None is moved."""

import copy
from collections.abc import Iterable, Iterator
from itertools import islice

from torch import Tensor

from ...text.resumable import TextLoader

CHARACTERS = 3_000_000  # of a text that are looked at


def lines_and_loader(given) -> tuple[Iterable[str] | None, Iterable | None]:
    """The documents and the batches of what was given: lines, a loader, or batches."""
    if given is None:
        return None, None
    if isinstance(given, str):
        raise TypeError(f"{given[:40]!r} is one string: give a list of documents, TextLines(path), or a loader")
    given = list(islice(given, 64)) if isinstance(given, Iterator) else given  # which can be read only once
    dataset = getattr(given, "dataset", given)
    lines = getattr(dataset, "lines", None)
    if lines is not None:
        return lines, given
    first = next(iter(given), None)
    return (given, None) if isinstance(first, str) else (None, given)


def first_documents(lines: Iterable[str] | None, most: int) -> list[str]:
    """The first documents, all if they are few."""
    found, size = [], 0
    for line in islice(lines or (), most):
        text = line if isinstance(line, str) else line["text"]
        found.append(text)
        size += len(text)
        if size > CHARACTERS:
            break
    return found


def first_batches(loader: Iterable | None, count: int = 12) -> list[tuple[Tensor, Tensor]]:
    """The first batches of a loader."""
    return [(inputs.cpu(), targets.cpu()) for inputs, targets in islice(rewound(loader) or (), count)]


def rewound(loader):
    """The loader at its beginning; the one that was given stays where it stands."""
    if not isinstance(loader, TextLoader):
        return loader
    twin = copy.copy(loader)
    twin.dataset = copy.copy(loader.dataset)
    twin.rewind()
    return twin
