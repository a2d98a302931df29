"""A model ↔ a folder that `transformers`, PEFT and other programs open.

Used from lesson 08 on: `llama_format` gives our weights their names there, `pretrained` saves and opens whole models,
`adapters` (lesson 14) those of LoRA, `folders` says where they lie, `cards` what they are; `gguf` and `rounding` (19)
write for llama.cpp and Ollama. `published` and `weights` read what strangers wrote: exactly, or not at all.
"""

from typing import TYPE_CHECKING

from ..basics.imports import import_when_used

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from .adapters import load_adapter, save_adapter
    from .folders import MODELS, is_chat_model, model_folder, models_in, newest_model
    from .llama_format import hugging_face_config, hugging_face_name
    from .pretrained import load_model, save_model
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)
