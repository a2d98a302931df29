"""What exercises call: compare a learner's answer with the library's, and say in words what is wrong.

The checks of lesson 06 are in `lesson_06.py`, each a function marked with `@exercise("06.causal_mask")`. It gets the
learner's answer, raises `NotYet` with a sentence when something is wrong, and returns a sentence of praise that adds
one more thing to know. Feedback says what was seen, what it means and where to look, never the answer.

`calling` runs a learner's function: a stub, a missing `return`, a changed input and an error each get their sentence.
`comparing` holds a result beside the right one, and beside those of usual mistakes.
`language("hi")` makes checks and questions speak Hindi; `translation` finds the Hindi of a sentence in `hindi/`.
`questions("06")` asks five questions about a lesson; `answer(3, 2)` answers one of them (`quiz`).
`tries` keeps what was tried, in one small file of the learner's own; `course_map` shows it; `certificates` makes a page
of it. `exercises` reads from the lessons which exercises there are.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from .calling import NotDone, NotYet, call, call_list, describe
from .comparing import (
    expect_close,
    expect_list,
    expect_number,
    expect_several,
    expect_tensor,
    expect_text,
    first_difference,
    random_tensor,
    recognise,
    results,
    same,
)
from .certificates import certificate
from .course_map import progress
from .language import LANGUAGES, language
from .quiz import answer as answer, questions
from .translation import in_words
from .tries import keep_try

_EXERCISES: dict[str, Callable[[object], str]] = {}


def exercise(name: str) -> Callable:
    """Mark a function as the check of the exercise `name`, such as "06.causal_mask"."""

    def keep(function: Callable[[object], str]) -> Callable[[object], str]:
        _EXERCISES[name] = function
        return function

    return keep


def check(name: str, answer: object) -> bool:
    """Check `answer` (a function, class or value) to an exercise, print the verdict, and return whether it is right.

    An unsolved exercise (a stub with nothing but dots, or one that raises NotImplementedError) is "not done yet"; an
    error inside a learner's function is shown in words, not raised. Raises ValueError for an unknown exercise.
    """
    lesson = name.split(".")[0]
    try:
        importlib.import_module(f"{__name__}.lesson_{lesson}")
    except ModuleNotFoundError:
        raise ValueError(f"no exercises of lesson {lesson!r} are known: names look like 06.causal_mask") from None
    if name not in _EXERCISES:
        known = ", ".join(sorted(other for other in _EXERCISES if other.startswith(lesson)))
        raise ValueError(f"no exercise is called {name!r}; lesson {lesson} has {known}")
    try:
        if answer is None or answer is ...:
            raise NotDone
        praise = _EXERCISES[name](answer)
    except NotDone:
        said = "not done yet. Replace the dots with your own code, then run this cell again."
        print(f"{name}: {in_words(said, lesson)}")
        return False
    except NotYet as wrong:
        print(f"{name}: {in_words(f'not yet. {wrong}', lesson)}")
        keep_try(name, False, str(wrong))
        return False
    print(f"{name}: {in_words(f'right. {praise}', lesson)}")
    keep_try(name, True, praise)
    return True
