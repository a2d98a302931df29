"""A trained model → one that answers, and one that writes what is preferred or rewarded.

Built in lessons 14 (`conversation_batches`, `finetuning`) and 15 (`completions`, `dpo`, `rewards`, `grpo`);
`preference_files`, `task_files` and `reward_files` read what these learn from.
"""

from typing import TYPE_CHECKING

from ..basics.imports import import_when_used

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from .completions import completion_batch, completion_log_probabilities, sequence_log_probabilities
    from .conversation_batches import ConversationDataset, encode_examples
    from .dpo import PREFERENCE_TUNING, Preference, dpo_loss, encode_preferences, score_preferences, tune_on_preferences
    from .finetuning import finetune, training_memory
    from .grpo import (
        REINFORCEMENT, Group, frozen_copy, group_advantages, grpo_loss, kl_estimate, kl_to_reference, tune_on_rewards,
    )
    from .preference_files import read_preferences
    from .reward_files import load_reward
    from .rewards import Attempt, Reward, Task, answer_reward, mark, mention_reward, write_attempts
    from .task_files import read_tasks
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)
