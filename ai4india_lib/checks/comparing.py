"""Hold a result beside the right one: its type, its shape, its numbers, and the results of usual mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from .calling import NotYet, describe

Mistakes = Iterable[tuple[object, str]]  # (the result of a mistake, the hint for who made it)

NUMBER_WORDS = ("no", "one", "two", "three", "four")


def random_tensor(*shape: int, seed: int) -> Tensor:
    """Normal numbers, the same ones for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- the kind of a result ---


def expect_several(got: object, names: tuple[str, ...]) -> tuple:
    """The parts of a tuple or list, one for each name, such as ("the inputs", "the targets")."""
    if not isinstance(got, tuple | list) or len(got) != len(names):
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        raise NotYet(f"Return {NUMBER_WORDS[len(names)]} things: {listed}. Got {describe(got)}.")
    return tuple(got)


def expect_number(got: object, *, seen: str = "", tensors: bool = True) -> float | int:
    """A Python number, or where `tensors` is true a tensor that holds one, as a Python number."""
    if isinstance(got, Tensor) and got.numel() != 1:
        raise NotYet(f"{seen} Expected one number, got {describe(got)}: is a sum or a mean still missing?".strip())
    if isinstance(got, Tensor) and tensors:
        got = got.item()
    if isinstance(got, bool) or not isinstance(got, int | float):
        raise NotYet(f"{seen} Expected one Python number, got {describe(got)}.".strip())
    return got


def expect_text(got: object, *, seen: str) -> str:
    """One str; `seen` says for which input."""
    if isinstance(got, list | tuple):
        raise NotYet(f"{seen} it returns a {type(got).__name__} of {len(got)}. Join its parts into one str.")
    if not isinstance(got, str):
        raise NotYet(f"{seen} it returns {describe(got)}; it should be a str.")
    return got


def expect_list(got: object, of: str, *, length: int | None = None) -> list:
    """A list (of whole numbers, if `of` is "ids"), where `length` is given with so many entries."""
    if not isinstance(got, list):
        raise NotYet(f"Expected a list of {of}, got {describe(got)}.")
    if length is not None and len(got) != length:
        raise NotYet(f"Expected a list of {length} {of}, got {len(got)}.")
    if of == "ids" and (others := [item for item in got if not isinstance(item, int)]):
        raise NotYet(f"Your list holds {others[0]!r}; it should hold ids, which are whole numbers.")
    return got


def expect_tensor(got: object, like: Tensor, *, what: str = "the result") -> Tensor:
    """A tensor with the shape and dtype of a right one."""
    if not isinstance(got, Tensor):
        hint = ""
        if isinstance(got, tuple):
            hint = " Return one thing alone."
        elif isinstance(got, int | float):
            hint = f" Its shape should be {tuple(like.shape)}: does a sum or mean run over too much?"
        raise NotYet(f"Expected a tensor as {what}, got {describe(got)}.{hint}")
    if got.shape != like.shape:
        raise NotYet(
            f"The shape of {what} is {tuple(got.shape)}; it should be {tuple(like.shape)}. "
            + _shape_hint(tuple(got.shape), tuple(like.shape))
        )
    if got.dtype != like.dtype:
        hint = " Was a table or a number made in double precision?" if got.dtype == torch.float64 else ""
        if got.dtype == torch.bool or like.dtype == torch.bool:
            hint = " A bool answers yes or no, for masks; is that what was asked for?"
        raise NotYet(f"{_capital(what)} holds {got.dtype} numbers; they should be {like.dtype}.{hint}")
    return got


def _shape_hint(got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if sorted(got) == sorted(wanted):
        return "The sizes are right, their order is not: is there a transpose too much or too little?"
    if len(got) < len(wanted) and any(wanted[:i] + wanted[i + 1 :] == got for i in range(len(wanted))):
        return "One dimension is gone: did a sum, a mean or an index take it? `keepdim=True` keeps it, with size 1."
    if len(got) > len(wanted):
        return "There is a dimension too many: are two tensors spread against each other, as (n,) against (n, 1)?"
    different = [(i, a, b) for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b]
    if len(got) == len(wanted) and len(different) == 1:
        i, size, right = different[0]
        if size == 1:
            return f"Dimension {i} has one number only: does a sum or mean run over it that should not?"
        if abs(size - right) == 1:
            return f"Dimension {i} is one too {'long' if size > right else 'short'}: at which end?"
    return "Write the shape beside each line: where does it change?"


# --- the numbers ---


def same(one: object, other: object, tolerance: float = 1e-4) -> bool:
    """Whether two results hold the same numbers, ids or text, whatever the dtype. NaN equals nothing."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, Tensor | float) or isinstance(other, Tensor | float):
        if not (isinstance(one, Tensor | int | float) and isinstance(other, Tensor | int | float)):
            return False
        one, other = (x if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float64) for x in (one, other))
        return one.shape == other.shape and bool(_close(one, other, tolerance).all())
    return one == other


def _close(got: Tensor, wanted: Tensor, tolerance: float) -> Tensor:
    """Which numbers differ by at most `tolerance`, as part of the number itself or of the largest one; ids exactly."""
    if not (got.is_floating_point() or wanted.is_floating_point()):
        return got == wanted
    got, wanted = got.double(), wanted.double()
    return torch.isclose(got, wanted, rtol=tolerance, atol=tolerance * (_largest(wanted) or _largest(got) or 1.0))


def _largest(x: Tensor) -> float:
    finite = x[x.isfinite()].abs()
    return float(finite.max()) if finite.numel() else 0.0


def first_difference(got: object, wanted: object) -> int | tuple[int, ...]:
    """The index of the first difference of two tensors of one shape, or of two lists or texts."""
    if isinstance(got, Tensor):
        return tuple(int(i) for i in (got != wanted).nonzero()[0])
    pairs = enumerate(zip(got, wanted, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(got), len(wanted)))


def results(mistakes: Iterable[tuple[Callable, str]], *arguments) -> Iterator[tuple[object, str]]:
    """What each mistake of a table of (function, hint) gives for these arguments, with its hint."""
    for mistake, hint in mistakes:
        yield mistake(*arguments), hint


def recognise(got: object, wanted: object, mistakes: Mistakes, *, seen: str = "", tolerance: float = 1e-4) -> None:
    """Raise `NotYet` with the hint of the first mistake that gives `got`.

    A mistake that changes nothing here, so that its result is `wanted`, explains nothing and is passed over.
    """
    for wrong, hint in mistakes:
        if same(got, wrong, tolerance) and not same(wrong, wanted, tolerance):
            raise NotYet(f"{seen} {hint}".strip())


def expect_close(
    got: object,
    wanted: Tensor,
    hint: str,
    *,
    mistakes: Mistakes = (),
    what: str = "the result",
    seen: str = "",
    tolerance: float = 1e-4,
) -> None:
    """A tensor with right shape, dtype and numbers.

    On a difference the first mistake that explains it speaks, those of the exercise before those that any exercise may
    see (a sign, a logarithm, a factor, a shift); else the first wrong number is shown, and `hint`.
    """
    got = expect_tensor(got, wanted, what=what)
    right = _close(got, wanted, tolerance)
    if right.all():
        return
    recognise(got, wanted, mistakes, seen=seen, tolerance=tolerance)
    if got.isnan().any():
        raise NotYet(
            f"{seen} {_capital(what)} holds nan in {int(got.isnan().sum())} of {got.numel()} numbers: somewhere 0 is "
            f"divided by 0, or −∞ meets −∞ or 0. {hint}".strip()
        )
    if wanted.is_floating_point():
        general = [(wrong, f"{_capital(what)}: {said} {hint}") for wrong, said in _general_mistakes(got, wanted)]
        recognise(got, wanted, general, seen=seen, tolerance=tolerance)
    raise NotYet(f"{seen} {_where(got, right, what)} {hint}".strip())


def _general_mistakes(got: Tensor, wanted: Tensor) -> Iterator[tuple[Tensor, str]]:
    """(result, what was seen) of mistakes that can happen in every exercise."""
    yield torch.zeros_like(wanted), "every number is 0."
    yield -wanted, "all signs are turned round."
    yield wanted.log(), "these are the logarithms of the right numbers."
    yield wanted.exp(), "these are powers of e; their logarithms would be right."
    yield wanted.square(), "these are the squares of the right numbers. Is a root missing?"
    yield wanted.sqrt(), "these are the square roots of the right numbers."
    yield 1 / wanted, "these are 1 divided by the right numbers."
    if wanted.numel() < 3 or same(wanted, wanted.flatten()[0].expand_as(wanted)):
        return  # of one number, or many equal ones, the rest says nothing
    if wanted.dim() > 1 and wanted.shape[-1] == wanted.shape[-2]:
        yield wanted.mT, "rows and columns have changed places."
    for dim, size in enumerate(wanted.shape):
        if size > 1:
            yield wanted.flip(dim), f"the numbers are right, but in reverse along dimension {dim}."
            yield wanted.roll(1, dim), f"the numbers stand one position too late along dimension {dim}: off by one?"
            yield wanted.roll(-1, dim), f"the numbers stand one position too early along dimension {dim}: off by one?"
    largest = wanted.abs().argmax()
    factor = float(got.flatten()[largest] / wanted.flatten()[largest])
    part = f"every number is {factor:.4g} times the right one."
    if any(math.isclose(factor, base, rel_tol=1e-3) for base in (math.log(2), 1 / math.log(2))):
        yield factor * wanted, part + " ln 2 is 0.693: which base should the logarithm have?"
    yield factor * wanted, part + " Which factor is forgotten, or counts twice? Is a sum taken for a mean?"
    more = float(got.flatten()[largest] - wanted.flatten()[largest])
    yield wanted + more, f"every number is {abs(more):.4g} too {'large' if more > 0 else 'small'}."


def _where(got: Tensor, right: Tensor, what: str) -> str:
    """How many numbers are wrong, what they have in common, and the first of them."""
    first = tuple(int(i) for i in (~right).nonzero()[0])
    number = got[first].item()
    shown = f"{number:.4g}" if got.is_floating_point() else str(number)
    where = f", at {list(first)}," if first else ""
    if not right.any():
        if not first:
            return f"{_capital(what)} is {shown}."
        return f"Not one number of {what} is right. The first{where} is {shown}."
    common = ""
    for dim, size in enumerate(right.shape):
        indices = (~right).nonzero()[:, dim].unique().tolist()
        if size > 1 and len(indices) == 1:
            common = f", all at index {indices[0]} of dimension {dim}"
            break
    wrong = int((~right).sum())
    return f"{_capital(what)} is wrong in {wrong} of {right.numel()} numbers{common}; the first{where} is {shown}."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
