"""How the next token is chosen: the filters are those of `transformers`, draws follow the probabilities, and a text's
choice does not depend on its neighbours."""

import itertools

import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation import logits_process

from ai4india_lib.inference.sampling import Sampling, choose, choose_rows, filter_logits, likeliest, random_numbers

GREEDY = Sampling(temperature=0)


def processors(sampling):
    """The same settings in `transformers`, in the order in which its `generate` applies them."""
    made = [logits_process.RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty))]
    made.append(logits_process.TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k is not None:
        made.append(logits_process.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None:
        made.append(logits_process.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p is not None:
        made.append(logits_process.MinPLogitsWarper(sampling.min_p))
    return LogitsProcessorList(made)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"temperature": 3.0},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_k": 10},
        {"temperature": 1.0, "top_k": 1000},
        {"temperature": 1.0, "top_p": 0.9},
        {"temperature": 1.0, "top_p": 0.05},
        {"temperature": 1.0, "min_p": 0.1},
        {"temperature": 1.0, "min_p": 1.0},
        {"temperature": 1.0, "min_p": 0.0},
        {"temperature": 1.0, "repetition_penalty": 1.3},
        {"temperature": 1.0, "repetition_penalty": 0.8},
        {"temperature": 0.8, "top_k": 40, "top_p": 0.8},
        {"temperature": 1.5, "top_k": 50, "top_p": 0.95, "min_p": 0.02, "repetition_penalty": 1.2},
        {"temperature": 0.5, "top_p": 0.9, "min_p": 0.2, "repetition_penalty": 2.0},
    ],
    ids=str,
)
def test_filters_are_those_of_transformers(settings):
    sampling = Sampling(**settings)
    torch.manual_seed(0)
    for spread in (0.5, 2.0, 5.0):
        for logits in torch.randn(20, 300) * spread:
            used = torch.randint(0, 300, (30,))
            theirs = processors(sampling)(used[None], logits[None].clone())[0]
            torch.testing.assert_close(filter_logits(logits, sampling, used.tolist()), theirs)


def test_filters_leave_their_input_alone():
    logits = torch.arange(5.0)
    filter_logits(logits, Sampling(top_k=2, top_p=0.5, min_p=0.5, repetition_penalty=2.0), [3, 4])
    assert torch.equal(logits, torch.arange(5.0))


@pytest.mark.parametrize("top_p, kept", [(0.4, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (0.9, 4), (1.0, 4)])
def test_top_p_keeps_the_fewest(top_p, kept):
    """Probabilities 1/2, 1/4, 1/8, 1/8 are exact in binary: the edge itself is tested."""
    logits = torch.tensor([0.125, 0.5, 0.125, 0.25]).log()
    left = filter_logits(logits, Sampling(temperature=1.0, top_p=top_p)).isfinite()
    assert left.sum() == kept and left[1]


def test_greedy_takes_the_largest_after_the_penalty():
    logits, random = torch.tensor([3.0, 2.9, -1.0]), torch.Generator()
    assert choose(logits, GREEDY, [], random) == 0
    assert choose(logits, Sampling(temperature=0, repetition_penalty=1.5), [0], random) == 1
    assert choose(-logits, Sampling(temperature=0, repetition_penalty=5.0), [2, 0], random) == 2  # 1/5 > -2.9 > -15


def test_draws_follow_the_probabilities():
    logits, random = torch.tensor([1.0, 0.0, -1.0, -9.0]), torch.Generator().manual_seed(0)
    sampling = Sampling(temperature=0.7, top_k=3)
    counts = torch.zeros(4)
    for _ in range(5000):
        counts[choose(logits, sampling, [], random)] += 1
    expected = torch.tensor([1.0, 0.0, -1.0, -torch.inf]).div(0.7).softmax(0)
    assert counts[3] == 0
    chi_square = ((counts - 5000 * expected)[:3] ** 2 / (5000 * expected)[:3]).sum()
    assert chi_square < 13.8  # two degrees of freedom: passed by chance in 999 of 1000 runs, and the seed is fixed


def test_rare_tokens_come_as_often_as_they_should():
    """Drawn by a running sum: tokens behind many others keep their small probability, cut-off ones never come."""
    logits = torch.full((3000,), -20.0)
    logits[[0, 1500, 2999]] = torch.tensor([0.9, 0.09, 0.01]).log()
    logits[2000:2900] = -torch.inf
    rows, random = 20_000, [torch.Generator().manual_seed(seed) for seed in range(20_000)]
    drawn = torch.tensor(
        [
            token
            for start in range(0, rows, 500)
            for token in choose_rows(
                logits.expand(500, -1), [Sampling(temperature=1.0)] * 500, [()] * 500, random[start : start + 500]
            )
        ]
    )
    counts = torch.stack([(drawn == token).sum() for token in (0, 1500, 2999)])
    expected = torch.tensor([0.9, 0.09, 0.01]) * rows
    assert ((counts - expected) ** 2 / expected).sum() < 13.8 and counts.sum() > 0.999 * rows
    assert not ((drawn >= 2000) & (drawn < 2900)).any()


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999])
def test_wide_and_narrow_nuclei(top_p):
    """Some rows need more tokens than are looked at first, some do not: each equals transformers' own."""
    torch.manual_seed(1)
    logits = torch.randn(6, 5000) * torch.tensor([0.01, 0.5, 1.0, 3.0, 6.0, 30.0])[:, None]
    sampling = Sampling(temperature=1.0, top_p=top_p)
    kept = filter_logits(logits, sampling).isfinite()
    theirs = processors(sampling)(torch.zeros(6, 1, dtype=torch.long), logits).isfinite()
    assert kept.sum(-1).min() < 256 < kept.sum(-1).max() or top_p == 0.3
    assert (kept.sum(-1) - theirs.sum(-1)).abs().max() <= 1  # they add up from the other end: one token on the edge
    assert (kept != theirs).sum() <= 6


SETTINGS = [
    GREEDY,
    Sampling(temperature=0, repetition_penalty=1.5),
    Sampling(temperature=0.7, seed=3),
    Sampling(temperature=0.7, seed=4),
    Sampling(temperature=1.3, top_k=20),
    Sampling(temperature=1.0, top_p=0.8, repetition_penalty=1.2),
    Sampling(temperature=1.0, min_p=0.1, top_p=0.95),
]


def test_a_row_is_chosen_as_if_it_were_alone():
    torch.manual_seed(0)
    for trial in range(20):
        samplings = [SETTINGS[i] for i in torch.randint(len(SETTINGS), (11,)).tolist()]
        logits, used = torch.randn(11, 900) * 4, torch.randint(900, (11, 30)).tolist()
        together = choose_rows(logits, samplings, used, [random_numbers(trial, row) for row in range(11)])
        alone = [
            choose(*row, random_numbers(trial, number))
            for number, row in enumerate(zip(logits, samplings, used, strict=True))
        ]
        assert together == alone


FILTERS = [GREEDY, Sampling(temperature=0, repetition_penalty=1.3), Sampling(), Sampling(top_k=5), Sampling(top_p=0.9),
           Sampling(min_p=0.1), Sampling(top_k=9, top_p=0.8, min_p=0.01, repetition_penalty=1.2)]  # fmt: skip


@pytest.mark.parametrize("sampling", FILTERS, ids=str)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("vocab_size", [50, 3000])
def test_damaged_logits_are_told(sampling, value, vocab_size):
    """In whichever row, and be it one single number; −inf everywhere leaves nothing to choose, but −inf at some tokens
    only shuts these out."""
    good = torch.randn(3, vocab_size, generator=torch.Generator().manual_seed(0))
    places = [slice(None)] if value == -torch.inf else [slice(None), 0, 7, -1]
    for row, place in itertools.product(range(3), places):
        logits = good.clone()
        logits[row, place] = value
        for samplings in ([sampling] * 3, [GREEDY, Sampling(temperature=0.3), sampling]):
            if row == 2 or samplings[0] is sampling:
                with pytest.raises(FloatingPointError, match="logits are not numbers: its weights may be damaged"):
                    choose_rows(logits, samplings, [[3, 7]] * 3, [random_numbers(n) for n in range(3)])
    good[:, 5:] = -torch.inf
    chosen = choose_rows(good, [sampling] * 3, [[3, 7]] * 3, [random_numbers(n) for n in range(3)])
    assert max(chosen) < 5


def test_the_likeliest_is_that_of_argmax():
    logits = torch.randn(40, 900, generator=torch.Generator().manual_seed(0))
    assert likeliest(logits) == logits.argmax(-1).tolist()
    logits[3, 8] = torch.nan
    assert likeliest(logits)[3] == 900
