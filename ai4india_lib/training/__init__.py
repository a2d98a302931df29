"""Batches + a model → a trained model and the history of its run.

Built in lesson 09: `hyperparameters`, `optimizers`, `loss`, the `loop`, how a run goes on (`resume`), its `history` and
minutes (`clock`), and what a text needs (`plan`). Lesson 13 learns from a larger model (`distillation`). Lesson 18 asks
what larger runs give (`scaling_law`) and cost (`cluster`), and shares one out (`processes`, `sharding`).
"""

from typing import TYPE_CHECKING

from ..basics.imports import import_when_used

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from .distillation import distillation_loss
    from .history import History
    from .hyperparameters import Hyperparameters, get_hyperparameters
    from .loop import make_model, train
    from .loss import compute_loss_and_perplexity, next_token_loss
    from .optimizers import learning_rate_at, make_optimizers
    from .scaling_law import ScalingLaw, bootstrap_laws, fit_law
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)
