"""What goes on inside a model? Built in lesson 17.

`watching` reads what flows in a model and replaces it, `scores` says what heads and layers do with it, `probe` whether
a fact can be read from it.
"""

from typing import TYPE_CHECKING

from ...basics.imports import import_when_used

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from .probe import Probe, control_labels, fit_probe
    from .scores import (
        Look, look_chance, look_shares, seen_in, stream_logits, tokens_at, trace, trace_heads,
    )
    from .watching import Patch, Watched, watch
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)
