"""Where models lie, and what kind of model a folder holds."""

from pathlib import Path

from ..basics.files import read_json

MODELS = Path("models")


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


def newest_model(folder: str | Path = MODELS) -> str:
    """The name of the model or adapter in `folder` that was written last. Raises FileNotFoundError if there is none."""
    found = models_in(folder)
    if not found:
        advice = "train one with `python -m ai4india_lib train`, or give --model FOLDER"
        raise FileNotFoundError(f"no model in {folder}/ yet: {advice}")
    return max(found, key=lambda path: max(file.stat().st_mtime for file in path.glob("*config.json"))).name


def read_settings(path: Path) -> dict:
    """The content of one of a folder's JSON files. Raises ValueError if it holds none."""
    return read_json(path)
