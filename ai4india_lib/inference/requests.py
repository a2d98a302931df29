"""What is asked for: prompts, their length and what ends a text, brought into one form or refused in a sentence.

The ids of a prompt may come as a list, an array or a tensor. What cannot be meant is told with what was given.
"""

from collections.abc import Iterable, Mapping

from ..basics.arguments import is_whole
from ..model.decoder import DecoderLanguageModel

EXAMPLE = [1, 40, 50]


def _listed(given: object, called: str) -> list:
    """What was given, as a list: of an array or a tensor its numbers."""
    if isinstance(given, (str, bytes)):
        raise ValueError(f"{called} is text, {given!r:.40}, not ids: encode it, with encode_prompt(tokenizer, text)")
    given = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise ValueError(f"{called} must be a list of ids, such as {EXAMPLE}; got {given!r:.60}")
    return list(given)


def _all_whole(values: list, must: str) -> list[int]:
    """The values, if all are whole numbers, as Python's own."""
    if set(map(type, values)) <= {int}:
        return values
    for value in values:
        if not is_whole(value):
            raise ValueError(f"{must}; it holds {value!r:.60}")
    return [int(value) for value in values]


def _checked_ids(model: DecoderLanguageModel, given: object, called: str) -> list[int]:
    if isinstance(model, tuple):
        raise ValueError("model is a tuple: load_model gives two things, so write model, tokenizer = load_model(…)")
    ids = _listed(given, called)
    if not ids:
        raise ValueError("nothing to write on: each prompt needs at least one id, such as the begin token")
    ids = _all_whole(ids, f"{called} must be a list of ids, whole numbers, such as {EXAMPLE}")
    for token in (min(ids), max(ids)):
        if not 0 <= token < model.config.vocab_size:
            known = f"the model knows 0 to {model.config.vocab_size - 1}"
            raise ValueError(f"a prompt has id {token}, {known}: was it encoded with another tokenizer?")
    return ids


def checked_prompt(model: DecoderLanguageModel, prompt: object) -> list[int]:
    """One prompt as a list of ids. Raises ValueError for one that is empty, of another shape, or that has ids which
    the model doesn't know."""
    return _checked_ids(model, prompt, "the prompt")


def checked_prompts(model: DecoderLanguageModel, prompts: object) -> list[list[int]]:
    """Several prompts, each as `checked_prompt` gives it. A tensor has one in each row."""
    rows = _listed(prompts, "prompts")
    if not rows:
        raise ValueError("nothing to write on: prompts is empty, and each prompt needs at least one id")
    if is_whole(rows[0]):
        raise ValueError(f"prompts must be a list of prompts, each a list of ids: for one prompt give [{rows!r:.60}]")
    return [_checked_ids(model, ids, f"prompt {number}") for number, ids in enumerate(rows)]


def checked_count(new_tokens: object) -> int:
    """How many new tokens, as int. Raises ValueError for what is no whole number of at least 0."""
    if not is_whole(new_tokens) or new_tokens < 0:
        raise ValueError(f"cannot write {new_tokens!r:.80} tokens: their number must be whole, and 0 or more")
    return int(new_tokens)


def checked_stops(stop_ids: object) -> set[int]:
    """The ids that end a text. Raises ValueError for what is no list of ids, such as a single one."""
    if is_whole(stop_ids):
        raise ValueError(f"stop_ids={stop_ids} must be a list of ids, also for one: give [{stop_ids}]")
    given = [] if stop_ids is None else _listed(stop_ids, "stop_ids")
    return set(_all_whole(given, "stop_ids must be a list of ids, whole numbers"))
