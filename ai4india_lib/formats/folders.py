"""Where models lie, what kind of model a folder holds, and which one is meant where none is named."""

from contextlib import suppress
from pathlib import Path

from ..basics.arguments import is_whole
from ..basics.files import read_json
from ..text.chat import TURN_ENDS

MODELS = Path("models")
SHIPPED = ("kahani-hi", "kahani-hi-large", "kahani-en", "kahani-hi-small", "kahani-hi-draft", "kahani-hi-chat")


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
    return sorted(path for path in Path(folder).glob("[!.]*") if holds_model(path))


def is_chat_model(model_name: str | Path, tokenizer=None, *, folder: str | Path = MODELS) -> bool:
    """Was this model taught to answer? An adapter is taken for one; of a whole model `generation_config.json` says
    whether the end of a turn ends its text. Without the tokenizer its file in the folder tells what the ids mean."""
    source = model_folder(model_name, folder)
    path = source / "generation_config.json"
    if holds_adapter(source) or not path.is_file():
        return holds_adapter(source)
    ends = read_settings(path).get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    if tokenizer is not None:
        names = [tokenizer.convert_ids_to_tokens(i) for i in ends if is_whole(i)]
    elif (source / "tokenizer.json").is_file():
        added = read_settings(source / "tokenizer.json").get("added_tokens", [])
        names = [token["content"] for token in added if token["id"] in ends]
    else:
        names = []
    return not set(names).isdisjoint(TURN_ENDS)


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
