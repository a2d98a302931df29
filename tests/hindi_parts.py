"""The Hindi of a lesson: in each markdown cell one folded part, at the cell's end, of one form everywhere."""

import re

OPENING = '<details class="hindi" lang="hi"><summary>हिन्दी</summary>'
_PART = re.compile(re.escape(OPENING) + r"\n\n(.+?)\n\n</details>", re.DOTALL)


def hindi_of(cell_text: str) -> str | None:
    """The Hindi at the end of a markdown cell, without its fold; None if there is none."""
    found = re.search(r"(?:^|\n\n)" + _PART.pattern + r"\Z", cell_text.rstrip(), re.DOTALL)
    return found[1] if found else None


def without_hindi(text: str) -> str:
    """What a reader of English reads: they leave the Hindi folded."""
    return _PART.sub("", text)
