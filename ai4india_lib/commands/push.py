"""python -m ai4india_lib push: a model with its card → the Hugging Face hub. Nothing else here sends anything there."""

import argparse
import re

from ..formats.cards import CARD, adapter_base
from ..formats.folders import MODEL_FILES, holds_adapter, holds_model, model_folder
from .card import HISTORY, PICTURE, card_head

PUBLISHED = [*MODEL_FILES, CARD, HISTORY, PICTURE, "evaluation.png", "chat.json"]
"""Patterns of what goes to the hub: not the checkpoints of the run, and not what else lies in the folder."""


def _notes(folder) -> list[str]:
    """What the learner should mend in the card before others rely on it."""
    if not (folder / CARD).is_file():
        return [f"there is no {CARD}: `python -m ai4india_lib card {folder.name}` writes one"]
    notes = []
    if getattr(card_head(folder), "license", None) is None:
        notes.append(f"no licence is chosen in {folder / CARD}, so others may not use the model")
    base = adapter_base(folder) if holds_adapter(folder) else None
    if base and "/" not in base:
        notes.append(
            f"the adapter's model {base} must be on the hub too, and be named in adapter_config.json and {CARD}"
        )
    return notes


def run(options: argparse.Namespace) -> None:
    """Make the place on the hub if it is new, send the files, say where they are."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    folder = model_folder(options.model)
    if not holds_model(folder):
        raise FileNotFoundError(f"no model in {folder}: give the name of a model, or its folder")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", options.to, re.ASCII):
        raise ValueError(f"--to {options.to} is no place on the hub: write USER/NAME, in Latin letters and digits")
    for note in _notes(folder):
        print(f"note: {note}", flush=True)
    api = HfApi(library_name="ai4india_lib")
    try:
        api.create_repo(options.to, private=not options.public, exist_ok=True)
        api.upload_folder(
            repo_id=options.to, folder_path=folder, allow_patterns=PUBLISHED, commit_message=f"Upload {folder.name}"
        )
    except LocalTokenNotFoundError:
        raise ValueError("the hub does not know you yet: log in with `hf auth login`, then push again") from None
    except OfflineModeIsEnabled:
        raise ValueError("HF_HUB_OFFLINE is set, so nothing is sent: unset it, then push again") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        why = "log in with `hf auth login`, with a token that may write" if status in (401, 403) else str(error)
        raise OSError(f"the hub refused {options.to} (status {status}): {why}") from None
    except Exception as error:
        if not type(error).__module__.startswith(("httpx", "requests")):  # of the version of `huggingface_hub`
            raise
        raise OSError(f"the hub was not reached: {error}") from None
    print(f"{folder} is at {api.endpoint}/{options.to}")
