"""Feedback for the exercises of lesson 15, Preferences and rewards."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tuning.rewards import Attempt, Task, mention_reward
from . import NotYet, call, exercise, expect_close, expect_tensor

STORIES = (
    ("मेले में पतंग उड़ी।", ["पतंग", "चाय"]),
    ("पतंग, चाय और किताब!", ["पतंग", "चाय"]),
    ("पतंग पतंग पतंग पतंग", ["पतंग", "चाय"]),
    ("पतंगें और चायवाला", ["पतंग", "चाय"]),
    ("“चाय!” मीरा ने कहा।", ["पतंग", "चाय", "मीरा", "किताब"]),
    ("रात हुई।", ["पतंग"]),
)


@exercise("15.reward")
def check_reward(answer: object) -> str:
    for text, words in STORIES:
        wanted = mention_reward(Attempt(Task([1], words), [], text, True))
        got = call(answer, text, list(words))
        if isinstance(got, Tensor) and got.numel() == 1:
            got = got.item()
        if isinstance(got, bool) or not isinstance(got, (int, float)):
            raise NotYet(f"Expected a number as the reward, got {type(got).__name__} {str(got)[:60]!r}.")
        if abs(got - wanted) > 1e-6:
            _say_reward(text, words, float(got), wanted)
    return "A reward that counts each word once has a highest value: there is nothing to gain by repeating."


def _say_reward(text: str, words: list[str], got: float, wanted: float) -> None:
    told = f"For {text!r} and the words {words} your reward is {got:g}, it should be {wanted:g}. "
    if got == sum(text.count(word) for word in words) and got > 1:
        raise NotYet(told + "A text that repeats a word earns more and more. What should the highest reward be?")
    if got == wanted * len(words):
        raise NotYet(told + "This is a number of words; the share of the wanted words was asked for.")
    if text.startswith("पतंगें"):
        raise NotYet(told + "पतंग is only a part of पतंगें. Compare whole words, not pieces of text.")
    if any(sign in text for sign in ",!“”।") and got < wanted:
        raise NotYet(told + "Is “पतंग,” with its comma the word पतंग for your function? Take the signs off first.")
    if got < 0 or got > 1:
        raise NotYet(told + "A share lies between 0 and 1.")
    raise NotYet(told + "Count by hand: which of the words stand in the text?")


@exercise("15.advantages")
def check_advantages(answer: object) -> str:
    for rewards in (
        torch.tensor([[1.0, 0.0, 0.0, 1.0]]),
        torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0], [0.0, -3.0, 3.0]]),  # square: a wrong dimension shows
        torch.rand(4, 6, generator=torch.Generator().manual_seed(14)),
    ):
        given = rewards.clone()
        size = rewards.shape[1]
        wanted = rewards - (rewards.sum(1, keepdim=True) - rewards) / (size - 1)
        got = expect_tensor(call(answer, given), wanted, what="the result")
        if not torch.equal(given, rewards):
            raise NotYet("The rewards you were given have changed. They are still needed: work on a copy.")
        _hold_advantages(got, wanted, rewards)
    return "This baseline is called RLOO (Ahmadian et al., 2024); it does not divide by the deviation."


def _hold_advantages(got: Tensor, wanted: Tensor, rewards: Tensor) -> None:
    if got.isnan().any():
        raise NotYet("There are NaN in the result. Do you divide by the deviation of a group whose rewards are equal?")
    if torch.allclose(got, wanted, atol=1e-5):
        return
    size = rewards.shape[1]
    centred = rewards - rewards.mean(1, keepdim=True)
    others = (rewards.sum(1, keepdim=True) - rewards) / (size - 1)
    usual = [
        (centred, "You subtract the mean of the whole group, the text itself included. It is to be left out."),
        (centred / (rewards.std(1, keepdim=True) + 1e-6), "That is the lesson's own, divided by the deviation. Here "
                                                          "a text is compared with the *others*; nothing is divided."),
        (others, "That is the mean of the others. How much better than they is the text?"),
        (-wanted, "The signs are turned: a text better than the others should have a number above zero."),
        (rewards - (rewards.sum(1, keepdim=True) - rewards) / size, "Of how many others do you take the mean?"),
    ]  # fmt: skip
    if rewards.shape[0] == rewards.shape[1]:
        column = rewards - (rewards.sum(0, keepdim=True) - rewards) / (len(rewards) - 1)
        usual.append((column, "You compare texts of different tasks. A group is one row: which dimension is summed?"))
    for wrong, told in usual:
        if torch.allclose(got, wrong, atol=1e-5):
            raise NotYet(told)
    expect_close(got, wanted, f"The rewards are {rewards[0].tolist()}: compute the first one by hand.")


@exercise("15.ipo")
def check_ipo(answer: object) -> str:
    generator = torch.Generator().manual_seed(15)
    for number, beta in ((1, 0.1), (5, 0.5), (4, 2.0)):
        scores = [torch.randn(number, generator=generator) * 3 - 20 for _ in range(4)]
        margin = (scores[0] - scores[2]) - (scores[1] - scores[3])
        wanted = (margin - 1 / (2 * beta)).square()
        got = expect_tensor(call(answer, *(x.clone() for x in scores), beta), wanted, what="the result")
        _hold_ipo(got, wanted, margin, scores, beta)
    return "A pair that is far enough apart is left alone, and one that is too far is called back."


def _hold_ipo(got: Tensor, wanted: Tensor, margin: Tensor, scores: list[Tensor], beta: float) -> None:
    if torch.allclose(got, wanted, rtol=1e-4, atol=1e-4):
        return
    chosen, rejected = scores[:2]
    goal = 1 / (2 * beta)
    usual = [
        (-torch.nn.functional.logsigmoid(beta * margin), "That is the loss of DPO. IPO asks for a certain distance."),
        ((-margin - goal).square(), "The margin has the wrong sign: chosen and rejected have changed places."),
        ((chosen - rejected - goal).square(), "The reference does not count. How far apart did *it* hold the two?"),
        ((margin - 1 / beta).square(), "The goal is 1 / (2 β), with the 2."),
        ((margin - beta).square(), "β is not the goal itself: a small β asks for a large distance."),
        ((beta * margin - 0.5).square(), "The margin was multiplied by β: only the goal depends on it."),
        ((margin - goal).abs(), "This is the distance to the goal; its square was asked for."),
        (margin - goal, "This is the distance to the goal, with its sign; its square was asked for."),
        ((margin - goal).clamp(max=0).square(), "You do not call back a pair that is too far apart."),
    ]
    for wrong, told in usual:
        if torch.allclose(got, wrong, rtol=1e-4, atol=1e-4):
            raise NotYet(f"With β = {beta}: {told}")
    expect_close(got, wanted, f"With β = {beta} the first margin is {margin[0]:.3f}. Where do the two part?")
