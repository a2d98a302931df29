"""How good is a model, how sure is that figure, and is one model better than another?

Built in lesson 16: `likelihood` (also lesson 04), `minimal_pairs`, `questions` (`items`: what both share), `chats` for
lesson 14, `reliability`, `significance`, `memorisation`. In packages of their own: `doctor/` for lesson 09 (what is
wrong with a run?), `inside/` for lesson 17 (what goes on in a model?).
"""

from typing import TYPE_CHECKING

from ..basics.imports import import_when_used

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from .chats import Chat, answer_chats, read_chats, refusing_answers, score_chats
    from .doctor.examination import examine
    from .doctor.findings import Finding, Report
    from .inside.probe import Probe, control_labels, fit_probe
    from .inside.scores import (
        Look, look_chance, look_shares, seen_in, stream_logits, tokens_at, trace, trace_heads,
    )
    from .inside.watching import Patch, Watched, watch
    from .items import accuracy_by_kind
    from .likelihood import bits_per_byte, document_bits, token_log_probabilities
    from .memorisation import TrainingText
    from .minimal_pairs import Pair, judge_pairs, minimal_pair_accuracy, read_pairs, sentence_log_probabilities
    from .questions import (
        Question, answer_questions, normalise_answer, question_accuracy, question_prompt, read_questions, score_answers,
        written_answers,
    )
    from .reliability import Calibration, calibrate, calibration
    from .significance import Comparison, Interval, bootstrap_interval, cohen_kappa, compare, sign_test
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)
