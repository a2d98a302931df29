"""What a model writes for a task, and the marks that a program gives it.

A reward is a function of an `Attempt` that returns a number, more for a better text. No model judges: the answer is
right or it is not, a word stands in the story or it does not.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..evaluation.questions import normalise_answer
from ..inference.generation import generate
from ..inference.sampling import Sampling
from ..model.decoder import DecoderLanguageModel
from ..text.chat import stop_ids


@dataclass(frozen=True)
class Task:
    """A prompt, as ids, and what a reward function needs to know to mark an answer to it."""

    prompt: list[int]
    wanted: object = None


@dataclass(frozen=True)
class Attempt:
    """One text that a model wrote for a task."""

    task: Task
    ids: list[int]  # the new ids, with the end token if there was room for it
    text: str  # the new text, without special tokens
    ended: bool  # did the model end the text itself?


Reward = Callable[[Attempt], float]


def write_attempts(
    model: DecoderLanguageModel, tokenizer, tasks: Sequence[Task], *, max_new_tokens: int = 64, seed: int = 0
) -> list[Attempt]:
    """Let the model write one text for each task, drawn from its own probabilities (temperature 1, nothing cut off).

    So the log-probability of what was drawn is the model's, as `completion_log_probabilities` gives it.
    """
    stops, prompts = stop_ids(tokenizer), [task.prompt for task in tasks]
    sampling = Sampling(temperature=1.0, seed=seed)
    written = generate(model, prompts, max_new_tokens=max_new_tokens, sampling=sampling, stop_ids=stops)
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    return [Attempt(task, ids, text, ids[-1] in stops) for task, ids, text in zip(tasks, written, texts, strict=True)]


def mark(attempts: Sequence[Attempt], reward: Reward) -> Tensor:
    """The reward of each attempt, (attempts,). Raises ValueError for a reward that is not a finite number."""
    if not callable(reward):
        raise ValueError(f"reward must be a function of one attempt that returns a number, not {reward!r:.60}")
    return torch.tensor([_marked(attempt, reward(attempt)) for attempt in attempts])


def _marked(attempt: Attempt, given: object) -> float:
    """The reward that was given for an attempt, as a number that float32 holds."""
    try:
        number = math.nan if isinstance(given, (str, bytes)) else float(given)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # of None, of a list, of a tensor with many numbers
        number = math.nan
    if not abs(number) <= torch.finfo(torch.float32).max:  # "not <=" refuses NaN too
        what = "the function returned nothing (is `return` missing?), " if given is None else f"it is {given!r:.60}, "
        raise ValueError(f"the reward of {attempt.text[:60]!r} is not a finite number: {what}mend the reward function")
    return number


def answer_reward(attempt: Attempt) -> float:
    """1 if the text is the wanted answer, as exact match counts it (see `questions.normalise_answer`), else 0."""
    if attempt.task.wanted is None:
        raise ValueError("answer_reward needs the answer: give each task one, Task(prompt, wanted=…)")
    return float(normalise_answer(attempt.text) == normalise_answer(str(attempt.task.wanted)))


def mention_reward(attempt: Attempt) -> float:
    """Share of the wanted words that stand in the text as words of their own: 1 if all do. Each counts once."""
    if not attempt.task.wanted or not isinstance(attempt.task.wanted, (list, tuple, set)):
        wanted = f"wanted={attempt.task.wanted!r:.60}"
        raise ValueError(
            f"mention_reward needs a list of words: give each task one, Task(prompt, [word, …]), not {wanted}"
        )
    said = set(re.split(r"[\s।॥,.;:?!\"“”'‘’()]+", attempt.text))
    return sum(word in said for word in attempt.task.wanted) / len(attempt.task.wanted)
