"""Test items, pairs and questions alike: made from the objects of JSON Lines, scored kind by kind."""

from collections.abc import Iterable, Iterator, Sequence

from ..text.archives import CorpusError
from ..text.reading import place_of


def items_from(records: Iterable[dict], item: type, source: str) -> Iterator:
    """Each record as an `item`, a dataclass whose fields are texts; what is one already passes.

    Raises CorpusError, with its line (or its number in `source`) and what is missing, for one that lacks a text.
    """
    names = list(item.__dataclass_fields__)
    for number, record in enumerate(records, 1):
        if isinstance(record, item):
            yield record
            continue
        if absent := [name for name in names if not isinstance(record.get(name), str)]:
            where = place_of(record, f"{source}, number {number}")
            raise CorpusError(f"{where}, has no text as {', '.join(absent)}: each needs {names}")
        yield item(**{name: record[name] for name in names})


def accuracy_by_kind(kinds: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """Mean score of each kind, in the order in which the kinds first come, and "mean", the mean of all scores."""
    if not scores:
        raise ValueError("no items to score: the list is empty")
    grouped: dict[str, list[float]] = {}
    for kind, score in zip(kinds, scores, strict=True):
        grouped.setdefault(kind, []).append(score)
    grouped["mean"] = list(scores)
    return {kind: sum(values) / len(values) for kind, values in grouped.items()}
