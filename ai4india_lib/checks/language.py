"""In which language checks and questions speak to the learner."""

import os

LANGUAGES = {"en": "English", "hi": "हिन्दी"}
_VARIABLE = "AI4INDIA_LANGUAGE"


def language(code: str | None = None) -> str:
    """The language in which checks and questions speak: "en" or "hi". A code chooses it from here on.

    It stands in the environment variable AI4INDIA_LANGUAGE, so it holds for this process and those that it starts. Who
    sets the variable before Python starts need not call this. Where it is not set, the language is English.

    Raises ValueError for a code of another language, given here or found in the variable.

    >>> language("hi"), language()
    ('hi', 'hi')
    """
    known = ", ".join(f'"{known}" ({name})' for known, name in LANGUAGES.items())
    if code is not None:
        if not isinstance(code, str) or code not in LANGUAGES:
            raise ValueError(f"language {code!r} is not known: choose {known}")
        os.environ[_VARIABLE] = code
    found = os.environ.get(_VARIABLE) or "en"
    if found not in LANGUAGES:
        raise ValueError(f"the environment variable {_VARIABLE} is {found!r}: set it to one of {known}")
    return found
