"""Where models lie, and how a folder is written: whole, or not at all."""

from __future__ import annotations

from pathlib import Path

MODELS = Path("models")


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


def holds_model(path: Path) -> bool:
    """Is this the folder of a model, or of an adapter?"""
    return (path / "config.json").is_file() or (path / "adapter_config.json").is_file()


def models_in(folder: str | Path = MODELS) -> list[Path]:
    """The folders of all models and adapters in `folder`, by name."""
    return sorted(path for path in Path(folder).glob("[!.]*") if holds_model(path))
