"""Where models lie, what kind of model a folder holds, and which one is meant where none is named."""

from contextlib import suppress
from pathlib import Path

from ..basics.arguments import is_whole
from ..basics.files import finish_folder, read_json
from ..text.chat import TURN_ENDS, turn_end

MODELS = Path("models")
SHIPPED = ("kahani-hi", "kahani-hi-large", "kahani-en", "kahani-hi-small", "kahani-hi-draft", "kahani-hi-chat")

CHAT_NOTE, MAY_BE_ASKED = "chat.json", "may_be_asked"
"""A file beside a model that `finetune` made, and its one field: what one may ask, as a field of the same name in the
conversations' about.json says it; null where none does."""

MODEL_FILES = (
    "config.json generation_config.json model.safetensors model.safetensors.index.json model-*-of-*.safetensors "
    "pytorch_model*.bin pytorch_model.bin.index.json adapter_config.json adapter_model.safetensors adapter_model.bin "
    "tokenizer.json tokenizer_config.json tokenizer.model special_tokens_map.json added_tokens.json vocab.json "
    "vocab.txt merges.txt spiece.model chat_template.jinja chat_template.json"
).split()
"""Patterns of the files that a model or an adapter is made of: a folder holds those of one, replaced as one."""


def holds_adapter(path: Path) -> bool:
    """Is this the folder of an adapter, without the model that it belongs to?"""
    return (path / "adapter_config.json").is_file() and not (path / "config.json").is_file()


def holds_model(path: Path) -> bool:
    """Is this the folder of a model, or of an adapter?"""
    return (path / "config.json").is_file() or holds_adapter(path)


def model_folder(model_name: str | Path, folder: str | Path = MODELS) -> Path:
    """`models/<model_name>`; a path with several parts, or the path of an existing model folder, as it is."""
    path = Path(model_name).expanduser()
    if not str(model_name).strip() or path.name in ("", ".."):
        raise ValueError(f"model name {str(model_name)!r} names no folder: use a name such as kahani-hi")
    if "\\" in path.name:  # on Windows it parts folders, and never gets here
        raise ValueError(f"model name {str(model_name)!r} has a backslash: write / between folders")
    in_models = Path(folder) / path
    if path.is_absolute() or len(path.parts) > 1 or str(model_name).startswith("."):
        return path
    return path if not in_models.exists() and holds_model(path) else in_models


def models_in(folder: str | Path = MODELS) -> list[Path]:
    """The folders of all models and adapters in `folder`, by name."""
    for path in Path(folder).glob(".*.new"):  # what a killed process had begun to replace
        finish_folder(path.with_name(path.name[1:-4]))
    return sorted(path for path in Path(folder).glob("[!.]*") if holds_model(path))


def read_ends(source: Path) -> list[int]:
    """Ids that end a text, as the files of a model say: several, for a published model that chats."""
    for path in (source / "generation_config.json", source / "config.json"):
        if path.is_file() and (ends := read_settings(path).get("eos_token_id")) is not None:
            ends = ends if isinstance(ends, list) else [ends]
            if not all(map(is_whole, ends)):
                raise ValueError(f"{path} says eos_token_id={ends!r:.60}: it must be an id, or a list of ids")
            return ends
    return []


def is_chat_model(model_name: str | Path, tokenizer=None, *, folder: str | Path = MODELS) -> bool:
    """Was this model taught to answer? An adapter is taken for one. A whole model is one if what ends its text, as its
    files say, is the end of a turn: a token of such a name, or what its chat template writes behind an answer.

    Without the tokenizer its file in the folder tells the names, and the template is not asked.
    """
    source = model_folder(model_name, folder)
    if holds_adapter(source) or not (source / "generation_config.json").is_file():
        return holds_adapter(source)
    ends = read_ends(source)
    if tokenizer is not None:
        known = [token for token in ends if 0 <= token < len(tokenizer)]
        names = tokenizer.convert_ids_to_tokens(known)
    elif (source / "tokenizer.json").is_file():
        added = read_settings(source / "tokenizer.json").get("added_tokens", [])
        names = [token["content"] for token in added if token["id"] in ends]
    else:
        names = []
    if not set(map(str, names)).isdisjoint(TURN_ENDS):
        return True
    return tokenizer is not None and turn_end(tokenizer) in ends


def may_be_asked(model_name: str | Path, *, folder: str | Path = MODELS) -> str | None:
    """In words, what one may ask of this chat model; None where nobody noted it (see `CHAT_NOTE`)."""
    note = model_folder(model_name, folder) / CHAT_NOTE
    words = read_settings(note).get(MAY_BE_ASKED) if note.is_file() else None
    return words if isinstance(words, str) and words.strip() else None


def _talks(path: Path) -> bool:
    """`is_chat_model`, for one model among others: one that cannot be read is none."""
    with suppress(ValueError, OSError, KeyError, TypeError):
        return is_chat_model(path.resolve())
    return False


def newest_model(folder: str | Path = MODELS, *, chat: bool | None = None) -> str:
    """The name of the model or adapter in `folder` that is meant where none is named.

    With `chat` one that was taught to answer, with False one that was not, if there are such. Among these the one that
    the learner made last; if there is none, the first of the course's, as `SHIPPED` lists them: their files have the
    time of a clone or a copy, which says nothing. Raises FileNotFoundError if there is no model.
    """
    found = models_in(folder)
    if not found:
        advice = "train one with `python -m ai4india_lib train`, or give --model FOLDER"
        raise FileNotFoundError(f"no model in {folder}/ yet: {advice}")
    if chat is not None:
        found = [path for path in found if _talks(path) == chat] or found
    if own := [path for path in found if path.name not in SHIPPED]:
        return max(own, key=lambda path: max(file.stat().st_mtime for file in path.glob("*config.json"))).name
    return min(found, key=lambda path: SHIPPED.index(path.name)).name


def read_settings(path: Path) -> dict:
    """The content of one of a folder's JSON files. Raises ValueError if it holds none."""
    return read_json(path)
