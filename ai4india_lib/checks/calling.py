"""Run a learner's function, and tell apart a stub, a missing `return`, a changed input and an error, each in words."""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import linecache
import re
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, TracebackType

import torch
from torch import Tensor


class NotYet(Exception):
    """Something in the answer is wrong; the message says what was seen and where to look."""


class NotDone(Exception):
    """The exercise still has its stub."""


def call(function: Callable, *arguments, **named):
    """The result of a learner's function.

    Raises `NotDone` for a stub, and `NotYet` for an error inside, a missing `return`, or tensors, lists and dicts
    among the arguments that were changed in place.
    """
    if not callable(function):
        raise NotYet(f"Expected a function or a class, got {describe(function)}. Give its name, without calling it.")
    given = _by_name(function, arguments, named)
    before = _copy(given)
    try:
        result = function(*arguments, **named)
    except (NotDone, NotYet):
        raise
    except Exception as error:
        if isinstance(error, NotImplementedError) and "not implemented for" not in str(error):  # that one is torch's
            raise NotDone from None
        raise NotYet(_explain(error, function, before)) from None
    if result is ... or (result is None and _is_stub(function)):
        raise NotDone
    changed = [name for name, value in given.items() if not _unchanged(value, before[name])]
    if result is None:
        hint = f"It changed `{changed[0]}` in place: give back a new one instead. " if changed else ""
        raise NotYet(
            f"Your function ran and returned nothing: is `return` missing? {hint}It was called with {_shown(before)}."
        )
    if changed:
        raise NotYet(_change(changed[0], given[changed[0]]))
    return _plain(result)


def call_list(function: Callable, *arguments) -> list:
    """All that a learner's function yields, or the parts of what it returns; errors on the way as in `call`."""
    if not callable(function):
        return call(function)

    @functools.wraps(function)
    def to_the_end(*arguments):
        result = function(*arguments)
        if result is None or result is ...:
            return result
        if not isinstance(result, Iterable):
            raise NotYet(f"Expected several things one after the other (`yield`, or a list), got {describe(result)}.")
        return list(result)

    return call(to_the_end, *arguments)


def _plain(result: object) -> object:
    """A tensor of a class of one's own may compare as it likes: its numbers are what is judged."""
    if isinstance(result, Tensor) and type(result) not in (Tensor, torch.nn.Parameter):
        with torch._C.DisableTorchFunctionSubclass():
            return Tensor.as_subclass(result, Tensor)
    return type(result)(map(_plain, result)) if type(result) in (list, tuple) else result


# --- what a learner's function was given ---


def describe(value: object) -> str:
    """Type and size of a value in a few words: "tensor (2, 3) float32", "tuple of 2", "str 'नमस्ते'"."""
    kind, brief = "tensor" if isinstance(value, Tensor) else type(value).__name__, _brief(value)
    return brief if value is None or brief.startswith(kind) else f"{kind} {brief}"


def _brief(value: object) -> str:
    """A value as it stands beside its name: shape and dtype of a tensor, a short number or text itself."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{tuple(value.shape)} {dtype}"
    if isinstance(value, list | tuple | dict | set):
        flat = value.values() if isinstance(value, dict) else value
        plain = all(isinstance(item, bool | int | float | str | tuple | list | None) for item in flat)
        return repr(value) if plain and len(repr(value)) <= 60 else f"{type(value).__name__} of {len(value)}"
    if isinstance(value, bool | int | float | str | None):
        return repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "…"
    return "function" if inspect.isroutine(value) else type(value).__name__


def _shown(given: dict[str, object]) -> str:
    return ", ".join(f"{name} {_brief(value)}" for name, value in given.items())


def _by_name(function: Callable, arguments: tuple, named: dict) -> dict[str, object]:
    """The arguments under the names that the learner gave them."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in function may have none
        parameters = ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names += [f"argument {number}" for number in range(len(names) + 1, len(arguments) + 1)]
    return dict(zip(names, arguments, strict=False)) | named


def _copy(value: object) -> object:
    """A copy of tensors, lists, tuples and dicts, all the way down; anything else itself."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(map(_copy, value))
    return {key: _copy(item) for key, item in value.items()} if type(value) is dict else value


def _unchanged(now: object, before: object) -> bool:
    if isinstance(now, Tensor):
        return now.shape == before.shape and now.dtype == before.dtype and torch.equal(now, before)
    if type(now) in (list, tuple):
        return len(now) == len(before) and all(map(_unchanged, now, before))
    if type(now) is dict:
        return list(now) == list(before) and all(map(_unchanged, now.values(), before.values()))
    return now is before or now == before


def _change(name: str, value: object) -> str:
    hint = f"work on a copy, or build a new {type(value).__name__}"
    if isinstance(value, Tensor):
        hint = f"make a new tensor ({name} = {name} + …, not {name} += …)"
    return f"Your function changed `{name}` in place. Who called it may still need it as it was: {hint}."


# --- a stub ---


def _is_stub(function: Callable) -> bool:
    """Whether the body is only dots, `pass` or a docstring. Asks the byte code: the source may not be there."""
    while isinstance(function, functools.partial) or hasattr(function, "__wrapped__"):
        function = function.func if isinstance(function, functools.partial) else function.__wrapped__
    if not inspect.isroutine(function):
        function = type(function).__call__  # an object that can be called
    code = getattr(function, "__code__", None)
    return isinstance(code, CodeType) and all(map(_does_nothing, dis.get_instructions(code)))


def _does_nothing(instruction: dis.Instruction) -> bool:
    if instruction.opname in ("LOAD_CONST", "RETURN_CONST"):
        return instruction.argval is None or instruction.argval is ...
    return instruction.opname in ("RESUME", "NOP", "CACHE", "POP_TOP", "RETURN_VALUE", "COPY_FREE_VARS", "MAKE_CELL")


# --- an error ---


def _explain(error: Exception, function: Callable, given: dict[str, object]) -> str:
    """Type and text of an error, the learner's line, the arguments, and a question where the kind of error is known."""
    step = _learners_step(error.__traceback__)
    lines = [f"It stopped with {type(error).__name__}" + (f" in {_line(step)}" if step else "")]
    text = " ".join(str(error).split())
    lines.append(f"The error says: {text[:200]}{'…' if len(text) > 200 else ''}")
    if step and (local := _locals(step, given)):
        lines.append(f"In this line: {_shown(local)}")
    lines.append(f"It was called with {_shown(given)}" if given else "It was called with nothing")
    if step is None and isinstance(error, TypeError):  # not one line of the learner's has run
        hint = f"The check hands {len(given)} arguments over. Keep the function's first line as the lesson has it."
    else:
        hint = _question(error, text)
    lines += [hint] if hint else []
    return "\n  ".join(lines)


_NOT_THE_LEARNERS = tuple(
    {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(torch.__file__).parents[1]), str(Path(__file__).parents[1]), "<frozen "}
)


def _learners_step(step: TracebackType | None) -> TracebackType | None:
    """The deepest step of the traceback that stands neither in a library nor in this one."""
    deepest = None
    while step:
        if not step.tb_frame.f_code.co_filename.startswith(_NOT_THE_LEARNERS):
            deepest = step
        step = step.tb_next
    return deepest


def _line(step: TracebackType) -> str:
    """ "line 7: `scores = q @ k + bias`, at `q @ k`", as far as the source can be read."""
    code, number = step.tb_frame.f_code, step.tb_lineno
    line = linecache.getline(code.co_filename, number, step.tb_frame.f_globals)
    if not line.strip():
        return f"line {number}"
    end, first, last = next(itertools.islice(code.co_positions(), step.tb_lasti // 2, None))[1:]
    part = line.encode()[first:last].decode(errors="ignore") if end == number and last else ""  # columns count bytes
    return f"line {number}: `{line.strip()}`" + (f", at `{part}`" if part and part != line.strip() else "")


def _locals(step: TracebackType, given: dict[str, object]) -> dict[str, object]:
    """The tensors and numbers that the failing line names, but for arguments that are as they were."""
    frame = step.tb_frame
    line = linecache.getline(frame.f_code.co_filename, step.tb_lineno, frame.f_globals)
    named = dict.fromkeys(re.findall(r"[^\W\d]\w*", line))
    known = {name: frame.f_locals[name] for name in named if name in frame.f_locals}
    plain = {name: value for name, value in known.items() if isinstance(value, Tensor | int | float | str | list)}
    return {name: value for name, value in plain.items() if name not in given or _brief(value) != _brief(given[name])}


_PRODUCT = (
    "A matrix product adds up over the last size of its left side, here {0}, and over the last size but one of its "
    "right side, here {1}. Which sizes should it add up over? Does a side need a transpose (.mT)?"
)
_SPREAD = (
    "In dimension {2} (counted from 0) size {0} meets size {1}. They must be equal, or one of them 1. Did a sum or "
    "mean drop its dimension (is `keepdim=True` missing), or must a tensor be transposed?"
)
_WHOLE = "These are whole numbers, or yes and no. What makes them float before you divide, average or take logarithms?"
_ONE_VALUE = (
    "`if`, min(), max(), float() and .item() want one value, and this tensor holds many. Is a sum or mean missing, or "
    "a function of torch that decides for each number?"
)
_DTYPES = "Two tensors hold numbers of different types. Look at each dtype: which one should be changed, with .to(…)?"
_OUTSIDE = "The last of n numbers has the index n − 1. Is an index one too high, or the list shorter than you think?"
_NOT_A_TENSOR = (
    "Tensors can do this, a plain Python {0} can't. Print type(…) of the value: where did it cease to be a tensor, or "
    "what does Python itself have for it?"
)

# what the text of an error looks like, and the question that helps; {0}, {1} … are the groups of the pattern
_QUESTIONS = [
    (r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton dimension (\d+)", _SPREAD),
    (r"mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)", _PRODUCT),
    (r"of batch2 tensor to be: \[(?:\d+), (\d+)\] but got: \[\d+, (\d+)\]", _PRODUCT),
    (r"got input \(\d+\), mat \(\d+x(\d+)\), vec \((\d+)\)", _PRODUCT),
    (r"inconsistent tensor size, expected tensor \[(\d+)\] and src \[(\d+)\]",
     "A dot product needs two vectors of one length; here one has {0} numbers, the other {1}. Which are meant?"),
    (r"shape '(.+)' is invalid for input of size (\d+)",
     "There are {1} numbers, and the sizes of {0} must multiply to that. Which size is not what you think?"),
    (r"Sizes of tensors must match except in dimension (\d+)\. Expected size (\d+) but got size (\d+)",
     "Along dimension {0} they are joined; in all others they must agree, and {1} meets {2}. Is that the dimension?"),
    (r"expanded size of the tensor \((\d+)\) must match the existing size \((\d+)\) at non-singleton dimension (\d+)",
     _SPREAD),
    (r"Dimension out of range \(expected to be in range of \[-\d+, (\d+)\], but got (-?\d+)\)",
     "You name dimension {1}, but the last one is {0}. Has the tensor lost one before? -1 always means the last."),
    (r"The shape of the mask (\[.*?\]) at index (\d+) does not match the shape of the indexed tensor (\[.*?\])",
     "The mask has the shape {0}, the tensor {2}: they part in dimension {1}. Which of the two is of another shape?"),
    (r"same dtype|scalar type \w+ but found|should have the same dtype", _DTYPES),
    (r"not implemented for '(?:Long|Int|Bool)'|could not infer output dtype", _WHOLE),
    (r"Boolean value of Tensor with more than one value|can only convert|only one element tensors|cannot be converted "
     r"to Scalar", _ONE_VALUE),
    (r"only supports boolean masks|bool tensors? is not supported|only implemented on integer and Boolean",
     "A mask is a bool tensor: it comes from a comparison, or from .bool(). Which of the two do you have, and which "
     "does this line want?"),
    (r"'(float|int|bool|list|tuple)' object has no attribute", _NOT_A_TENSOR),
    (r"must be Tensor, not (float|int|list|tuple)", _NOT_A_TENSOR),
    (r"out of bounds|out of range", _OUTSIDE),
]  # fmt: skip


def _question(error: Exception, text: str) -> str:
    """Where to look after such an error; "" for one that speaks for itself."""
    for pattern, question in _QUESTIONS:
        if found := re.search(pattern, text):
            return question.format(*found.groups())
    if isinstance(error, NameError):
        return "Is the name spelled as where it was made, and has that cell run, or is an import missing?"
    return "Which of the numbers above makes the divisor 0?" if isinstance(error, ZeroDivisionError) else ""
