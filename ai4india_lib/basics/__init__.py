"""What every room may use: where to compute, how files are written, and how senseless values are refused.

No lesson builds it. `device` picks the device and the precision; `files` writes a file or a folder whole or not at all;
`arguments` names the value that makes no sense; `imports` lets a room's names be imported when they are first used;
`processes` says which of several this one is, and lets them speak with one voice.
"""

from typing import TYPE_CHECKING

from .imports import import_when_used

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from .arguments import above, at_least, between, check_types
    from .device import keep_freed_memory, may_lack_threads, pick_device, pick_precision
    from .files import (
        finish_folder, read_json, read_safetensors, replace_folder, replaced_file, write_json, write_safetensors,
    )
    from .processes import rank_and_world_size, silent_unless_first, tell_once
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)
