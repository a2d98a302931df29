"""Feedback for the exercises of lesson 15, Preferences and rewards."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from ..tuning.rewards import Attempt, Task, mention_reward
from . import NotYet, call, exercise, expect_close, expect_number, expect_tensor, random_tensor, recognise, same

STORIES = (
    ("पतंग पतंग घर पतंग पतंग पतंग", ["पतंग", "घर", "मेले", "चाय", "किताब"]),  # each mistake gives another number
    ("पतंग, चाय और किताब!", ["पतंग", "चाय"]),
    ("मेले में पतंग उड़ी।", ["पतंग", "चाय", "मेले"]),
    ("घर में सबने पी चाय।", ["चाय", "घर", "पतंग"]),
    ("पतंगें और चायवाला", ["पतंग", "चाय"]),
    ("“चाय!” मीरा ने कहा।", ["पतंग", "चाय", "मीरा", "किताब"]),
    ("रात हुई।", ["पतंग"]),
)


@exercise("15.reward")
def check_reward(answer: object) -> str:
    for text, words in STORIES:
        wanted = mention_reward(Attempt(Task([1], words), [], text, True))
        got = expect_number(call(answer, text, words))
        if not same(got, wanted, tolerance=1e-6):
            _explain_reward(text, words, got, wanted)
    return "A reward that counts each word once has a highest value: there is nothing to gain by repeating."


def _explain_reward(text: str, words: list[str], got: float, wanted: float) -> None:
    seen = f"For {text!r} and the words {words} your reward is {got:g}, it should be {wanted:g}."
    n, right = len(words), round(wanted * len(words))
    found = sum(text.count(word) for word in words)
    repeats = found > right  # else it says nothing that a count is reached
    pieces = re.findall(r"\w+", text)  # Python's \w leaves out vowel signs and the anusvara
    with_danda = re.findall(r"[\u0900-\u097f]+", text)
    recognise(got, wanted, [
        (sum(word in text for word in words) / n,
         "A word counts in yours that is only a part of another, as पतंग of पतंगें. Compare whole words."),
        (found if repeats else math.nan,
         "A text that repeats a word earns more and more. What should the highest reward be?"),
        (found / n if repeats else math.nan, "A word that is repeated earns again. Each counts once."),
        (right, "This is a number of words; the fraction of the wanted words was asked for."),
        (float(wanted == 1), "You ask whether all words are there. Some of them earn a part."),
        (float(wanted > 0), "You ask whether any word is there. The more of them, the higher the reward."),
        (sum(word in with_danda for word in words) / n,
         "“चाय।” with its full stop is not yet the word चाय: the danda । lies among the signs of Devanagari (U+0964)."),
        (sum(word in text.split() for word in words) / n,
         "Is “पतंग,” with its comma the word पतंग for your function? Take the signs off first."),
        (sum(word in pieces for word in words) / n,
         "Python's \\w has no vowel signs, anusvara and virama: it tears पतंग into pieces. Which signs end a word?"),
        (1 - wanted, "That is the fraction of words that are missing."),
    ], seen=seen, tolerance=1e-6)  # fmt: skip
    if not 0 <= got <= 1:
        raise NotYet(f"{seen} A fraction lies between 0 and 1.")
    raise NotYet(f"{seen} Count by hand: which of the words stand in the text?")


@exercise("15.advantages")
def check_advantages(answer: object) -> str:
    for rewards in (
        torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0], [0.0, -3.0, 3.0]]),  # square: a wrong dimension shows
        torch.tensor([[1.0, 0.0, 0.0, 1.0]]),
        torch.rand(4, 6, generator=torch.Generator().manual_seed(14)),
    ):
        got, others = call(answer, rewards), _mean_of_others(rewards)
        if expect_tensor(got, rewards).isnan().any():
            raise NotYet(
                "There are NaN in the result. Do you divide by the deviation of a group whose rewards are equal?"
            )
        hint = f"The rewards are {rewards[0].tolist()}: compute the first one by hand."
        expect_close(got, rewards - others, hint, mistakes=_wrong_advantages(rewards, others))
    return "This baseline is called RLOO (Ahmadian et al., 2024); it does not divide by the deviation."


def _mean_of_others(rewards: Tensor, dim: int = 1) -> Tensor:
    return (rewards.sum(dim, keepdim=True) - rewards) / (rewards.shape[dim] - 1)


def _wrong_advantages(rewards: Tensor, others: Tensor) -> list[tuple[Tensor, str]]:
    """(result of a usual mistake, hint) pairs."""
    size = rewards.shape[1]
    centred = rewards - rewards.mean(1, keepdim=True)
    mistakes = [
        (centred, "You subtract the mean of the whole group, the text itself included. It is to be left out."),
        (centred / (rewards.std(1, keepdim=True) + 1e-6),
         "That is the lesson's own, divided by the deviation. Here a text is compared with the *others*; nothing is "
         "divided."),
        (others, "That is the mean of the others. How much better than they is the text?"),
        (others - rewards, "The signs are turned: a text better than the others should have a number above zero."),
        (rewards - others * (size - 1) / size, "Of how many others do you take the mean?"),
        (rewards - others * (size - 1), "You subtract the sum of the others. How many are they?"),
        (rewards - rewards.mean(), "You subtract the mean of all tasks. A text is compared with its own group."),
        (rewards, "These are the rewards themselves. What are they compared with?"),
    ]  # fmt: skip
    if len(rewards) > 1:
        column = rewards - _mean_of_others(rewards, 0)
        mistakes.append((column, "You compare texts of different tasks. A group is a row: which dimension is summed?"))
    if len(rewards) == size:
        spread = rewards - rewards.mean(1)
        mistakes.append((spread, "The means were spread along the wrong dimension: is `keepdim=True` missing?"))
    return mistakes


@exercise("15.ipo")
def check_ipo(answer: object) -> str:
    for number, beta in ((5, 0.1), (1, 0.5), (4, 2.0)):
        scores = list(random_tensor(4, number, seed=15) * 3 - 20)
        margin = (scores[0] - scores[2]) - (scores[1] - scores[3])
        hint = f"The first margin is {margin[0]:.3f}. Where do the two part?"
        wanted, seen = (margin - 1 / (2 * beta)).square(), f"With β = {beta}:"
        mistakes = _wrong_distances(scores, margin, beta)
        expect_close(call(answer, *scores, beta), wanted, hint, mistakes=mistakes, seen=seen)
    return "A pair that is far enough apart is left alone, and one that is too far is called back."


def _wrong_distances(scores: list[Tensor], margin: Tensor, beta: float) -> list[tuple[Tensor, str]]:
    """(result of a usual mistake, hint) pairs."""
    chosen, rejected, reference_chosen, reference_rejected = scores
    goal = 1 / (2 * beta)
    crossed = (chosen - reference_rejected) - (rejected - reference_chosen)
    return [
        (-torch.nn.functional.logsigmoid(beta * margin), "That is the loss of DPO. IPO asks for a certain distance."),
        ((-margin - goal).square(),
         "The margin has the wrong sign (have chosen and rejected changed sides?), or the goal is added to it."),
        ((chosen - rejected - goal).square(), "The reference does not count. How far apart did *it* hold the two?"),
        ((crossed - goal).square(),
         "Each text is compared with the reference of the other one, or the reference is added."),
        ((margin - 1 / beta).square(), "The goal is 1 / (2 β), with the 2."),
        ((margin - beta / 2).square(), "1 / (2 β) is not β / 2: a small β asks for a large distance."),
        ((margin - beta).square(), "β is not the goal itself: a small β asks for a large distance."),
        ((beta * margin - 0.5).square(), "The margin was multiplied by β: only the goal depends on it."),
        ((margin - goal).abs(), "This is the distance to the goal; its square was asked for."),
        (margin - goal, "This is the distance to the goal, with its sign; its square was asked for."),
        ((margin - goal).clamp(max=0).square(), "You do not call back a pair that is too far apart."),
        (margin.square(), "The goal does not count: where is β?"),
    ]  # fmt: skip
