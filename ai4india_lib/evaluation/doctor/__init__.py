"""A doctor for runs: is this loss normal, and if not, what is wrong? Used in lesson 09, on broken runs.

`examination` asks the looks one after the other: `model`, `parts` (against `reference`), `text`, `measures`, `replay`,
and `history`, which also warns on the way. Each looks at the `patient` (`given` texts in `rows`) and names one of the
`findings`. `floor`: what of the loss lies above the stories' known floor, word by word.
"""

from typing import TYPE_CHECKING

from ...basics.imports import import_when_used

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from .examination import examine
    from .findings import Finding, Report
    from .floor import Excess, by_kind, by_place, in_words, read_floors, token_excess
    from .history import Watch
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)
