"""A prompt → text, one at a time or many at once, and fast.

Built in lessons 10 to 13: `sampling` and `generation` (10), `timing`, `packed` with `packed_steps` and `packed_single`,
`compiled`, `captured` (for GPUs), and `fast`, which chooses among them (11), `continuous_batching` (12), `speculative`
(13). For all of them `requests` checks what is asked for, and `interruption` what was broken off.
"""

from typing import TYPE_CHECKING

from ..basics.imports import import_when_used

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from .continuous_batching import DynamicBatcher, QueueFull, Request
    from .fast import fast_decoder
    from .generation import generate, generate_steps, generate_text, prefill, stream_reply, stream_text
    from .packed import FastDecoder
    from .sampling import Sampling, choose_rows, filter_logits
    from .speculative import ModelDraft, NgramDraft, Speculation, accept, speculative_generate, speculative_steps
    from .timing import Timing
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)
