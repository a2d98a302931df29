"""In which language a model was trained, and what there is to measure a model of that language with."""

import re
from contextlib import suppress
from pathlib import Path

from ..formats.adapters import base_of
from ..formats.folders import holds_adapter, model_folder
from ..text.archives import CorpusError
from ..text.corpus import json_lines, read_about
from ..training.history import History
from .options import ARCHIVE, in_words, known_languages

ITEMS = {
    "data": "data/kahani-{}.tar.gz",
    "pairs": "data/kahani/pairs-{}.jsonl",
    "questions": "data/kahani-questions-{}.tar.gz",
    "conversations": "data/kahani-chat-{}.tar.gz",
}
"""Option of `evaluate` → where the course keeps what it names, of a language."""


def archives_of(name: str | Path) -> list[str]:
    """What a model was trained on, as its history notes it; [] where it was made before histories did."""
    with suppress(ValueError, OSError):
        return History.load(model_folder(name) / "history.json").data
    return []


def _archives_of_base(name: str | Path) -> list[str]:
    """What the model below an adapter was trained on; [] for what is no adapter."""
    with suppress(ValueError, OSError):
        return archives_of(base_of(model_folder(name))) if holds_adapter(model_folder(name)) else []
    return []


def language_of(name: str | Path) -> str | None:
    """The language of a model: of an adapter that of its base; else that of the archive that it was trained on; else,
    where none is noted, the one in its name (kahani-en-mine). None if nothing tells it, as for a text of one's own."""
    folder = model_folder(name)
    if holds_adapter(folder):
        with suppress(ValueError, OSError):
            if (language := language_of(base_of(folder))) is not None:
                return language
    for archive in (noted := archives_of(name)):
        with suppress(ValueError, OSError):  # it may have been moved away
            if Path(archive).exists() and isinstance(language := read_about(archive).get("language"), str):
                return language
        if match := ARCHIVE.fullmatch(Path(archive).name):
            return match[1]
    parts = [] if noted else re.split(r"[-_.]", Path(name).name)
    return next((part for part in parts if part in known_languages()), None)


def sources_of(name: str, language: str | None) -> dict[str, str | None]:
    """Test text, pairs, questions and chats for a model, by the options that name them: those that are there, in its
    language. Of a model of one's own text that text; of an adapter that learned from chats, that of its base."""
    if language is None:
        found: dict[str, str | None] = dict.fromkeys(ITEMS)
        noted = [*archives_of(name), *_archives_of_base(name)]
        found["data"] = next((source for source in noted if Path(source).exists() and _is_text(source)), None)
        return found
    return {
        what: path if (path := place.format(language)) and Path(path).exists() else None
        for what, place in ITEMS.items()
    }


def _is_text(source: str) -> bool:
    """Is this a text, and not the conversations or the pairs of a fine-tuning?"""
    with suppress(CorpusError, OSError):
        return not {"messages", "prompt"} & next(json_lines(source), {}).keys()
    return True


def lacking_in_words(language: str | None, sources: dict[str, str | None]) -> str:
    """What a model of this language is not measured with, in words; "" if there is all."""
    kinds = {"data": "test stories", "pairs": "minimal pairs", "questions": "questions", "conversations": "chats"}
    lacking = [kinds[what] for what, source in sources.items() if source is None]
    return f"not measured, as {in_words(language)} has none: {', '.join(lacking)}" if lacking else ""
