"""What every room may use: where to compute, and how files are written.

No lesson builds it. `device` picks the device and the precision; `files` writes a file or a folder whole or not at all.
"""

from .device import keep_freed_memory, may_lack_threads, pick_device, pick_precision
from .files import read_safetensors, replace_folder, write_json
