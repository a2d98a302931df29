"""The tasks of the sheets, and their answers: computed here, with the library and with torch, never typed in."""

import json
import math
from collections import Counter
from itertools import pairwise, product

import torch
from torch.nn.functional import scaled_dot_product_attention

from ai4india_lib import train_tokenizer
from ai4india_lib.inference.speculative import accept
from ai4india_lib.text.ngrams import NgramModel
from ai4india_lib.training.loss import next_token_loss

# 1: byte-pair encoding on ten words

WORDS = "कमल नमक कमर कमल नमन कलम कमल नमक हलचल कमल".split()
NUM_MERGES = 4


def merges() -> list[tuple[str, str, int]]:
    """(left, right, how often) of the first merges that `train_tokenizer` learns from `WORDS`.

    The library merges bytes. So each letter gets a byte of its own, and comes back afterwards.
    """
    letters = sorted(set("".join(WORDS)))
    stand_in = {letter: chr(ord("a") + number) for number, letter in enumerate(letters)}
    back = {latin: letter for letter, latin in stand_in.items()}
    lines = ["".join(stand_in[letter] for letter in word) for word in WORDS]
    core = train_tokenizer(lines, 263 + NUM_MERGES).backend_tokenizer
    pairs = json.loads(core.to_str())["model"]["merges"]
    words, learned = [list(word) for word in WORDS], []
    for left, right in (["".join(back[latin] for latin in part) for part in pair] for pair in pairs):
        counts = pair_counts(words)
        learned.append((left, right, counts[left, right]))
        words = [joined(word, left, right) for word in words]
    return learned


def pair_counts(words: list[list[str]]) -> Counter:
    return Counter(pair for word in words for pair in pairwise(word))


def joined(word: list[str], left: str, right: str) -> list[str]:
    """The pieces of a word after one merge, from left to right."""
    out: list[str] = []
    for piece in word:
        if out and out[-1] == left and piece == right:
            out[-1] = left + right
        else:
            out.append(piece)
    return out


def spelled() -> list[list[list[str]]]:
    """The ten words in pieces: at the start, then after each merge."""
    words = [list(word) for word in WORDS]
    states = [words]
    for left, right, _ in merges():
        words = [joined(word, left, right) for word in words]
        states.append(words)
    return states


def replay(word: str) -> list[str]:
    """The pieces of a new word: the merges in the order in which they were learned."""
    pieces = list(word)
    for left, right, _ in merges():
        pieces = joined(pieces, left, right)
    return pieces


# 2: attention of four words

ATTENTION_WORDS = ["नीली", "पतंग", "लाल", "गेंद"]
QUERIES = torch.tensor([[0, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]]).float()  # (time=4, head_dim=4)
KEYS = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [2, 0, 1, 0], [0, 1, 0, 0]]).float()  # (4, 4)
VALUES = torch.tensor([[1, 0], [0, 0], [0, 1], [0, 0]]).float()  # (4, 2): blue, red


def attention() -> dict[str, torch.Tensor]:
    """`scores` (4, 4), divided by the root of head_dim; `weights` (4, 4); `result` (4, 2), as torch computes them."""
    scores = QUERIES @ KEYS.T / math.sqrt(KEYS.shape[1])
    weights = scaled_dot_product_attention(QUERIES, KEYS, torch.eye(4), is_causal=True)
    result = scaled_dot_product_attention(QUERIES, KEYS, VALUES, is_causal=True)
    return {"scores": scores, "weights": weights, "result": result}


# 3: a bigram table

SENTENCES = ["मीरा स्कूल जाती है ।", "मीरा घर जाती है ।", "रवि स्कूल जाता है ।", "रवि खेत जाता है ।"]
SEEN = "रवि स्कूल जाता है ।"  # to be scored
WRONG = "मीरा स्कूल जाता है ।"  # bad grammar that a bigram cannot see
NEW = "मीरा खेत जाती है ।"  # good grammar that was never counted
VOCABULARY = list(dict.fromkeys(word for sentence in SENTENCES for word in ["।", *sentence.split()]))


def _ids(sentence: str) -> list[int]:
    return [VOCABULARY.index(word) for word in ["।", *sentence.split()]]


def bigram_counts() -> dict[tuple[str, str], int]:
    """How often each word came after each: the table that `NgramModel` keeps."""
    first, table = NgramModel([_ids(sentence) for sentence in SENTENCES], 2, len(VOCABULARY)).tables
    pairs = {}
    for key, count in zip(table.keys.tolist(), table.count.tolist(), strict=True):
        history, word = divmod(key, len(VOCABULARY))
        pairs[VOCABULARY[first.keys[history]], VOCABULARY[word]] = count
    return pairs


def bigram_probability(sentence: str) -> list[float]:
    """p of each word of the sentence, by counting alone."""
    counts = bigram_counts()
    totals = Counter()
    for (history, _), count in counts.items():
        totals[history] += count
    return [counts.get(pair, 0) / totals[pair[0]] for pair in pairwise(["।", *sentence.split()])]


def add_one(history: str, word: str) -> tuple[int, int]:
    """p(word | history) with add-one smoothing, as (above, below) the line."""
    counts = bigram_counts()
    total = sum(count for (left, _), count in counts.items() if left == history)
    return counts.get((history, word), 0) + 1, total + len(VOCABULARY)


# 4: a loss by logarithm

TOKENS = ["मीरा", "ने", "लाल", "पतंग", "उड़ाई", "।"]
GIVEN = [1 / 8, 1 / 2, 1 / 16, 1 / 4, 1 / 8, 1]  # the probability that the model gave to each token that came


def loss() -> dict[str, float]:
    """Bits of each token, their mean, nats by `next_token_loss`, perplexity, and bits per byte of the text."""
    logits = torch.full((1, len(GIVEN), 2), -torch.inf, dtype=torch.float64)  # (batch, time, right word and the others)
    given = torch.tensor(GIVEN, dtype=torch.float64)
    logits[0, :, 0], logits[0, :, 1] = given.log(), (1 - given).log()
    nats = next_token_loss(logits, torch.zeros(1, len(GIVEN), dtype=torch.long)).item()
    text = " ".join(TOKENS[:-1]) + TOKENS[-1]
    size = len(text.encode())
    bits = [math.log2(1 / p) for p in GIVEN]
    means = {"mean": nats / math.log(2), "nats": nats, "perplexity": math.exp(nats)}
    return {"bits": bits, "all": sum(bits), **means, "bytes": size, "per_byte": sum(bits) / size}


# 5: a speculative round with dice

DRINKS = ["चाय", "लस्सी", "पानी"]
TARGET = torch.tensor([3, 1, 2]) / 6
DRAFT = torch.tensor([2, 3, 1]) / 6
ROUNDS = 12


def speculation() -> dict[str, list[float] | float]:
    """Chance that each guess stands, what to draw from else, and how often a guess is refused."""
    left = (TARGET - DRAFT).clamp(min=0)
    return {
        "stands": (TARGET / DRAFT).clamp(max=1).tolist(),
        "else": (left / left.sum()).tolist(),
        "refused": 1 - torch.minimum(TARGET, DRAFT).sum().item(),
        "expected": (ROUNDS * TARGET).tolist(),
    }


def one_game(seed: int = 1) -> list[tuple[int, bool, int]]:
    """`ROUNDS` rounds, judged by the library's `accept`: (guess, did it stand, what was written), numbers of drinks."""
    generator = torch.Generator().manual_seed(seed)
    rounds = []
    for _ in range(ROUNDS):
        guess = int(torch.multinomial(DRAFT, 1, generator=generator))
        stood, written = accept(torch.stack([TARGET, TARGET]), DRAFT[None], [guess], generator)
        rounds.append((guess, bool(stood), guess if stood else written))
    return rounds


# 6: a beam

NEXT = {  # p(next word | the last one)
    "": {"गरम": 0.5, "ठंडी": 0.4, "मीठी": 0.1},
    "गरम": {"चाय": 0.4, "दाल": 0.3, "रोटी": 0.3},
    "ठंडी": {"लस्सी": 0.9, "चाय": 0.1},
    "मीठी": {"लस्सी": 0.5, "चाय": 0.5},
    "चाय": {"पी": 0.6, "बनाई": 0.4},
    "लस्सी": {"पी": 0.9, "बनाई": 0.1},
    "दाल": {"बनाई": 0.8, "खाई": 0.2},
    "रोटी": {"खाई": 1.0},
}
STEPS, BEAMS = 3, 2


def continued(beams: list[tuple[list[str], float]]) -> list[tuple[list[str], float]]:
    """Each beginning with each next word, the likeliest first."""
    grown = [([*words, word], p * q) for words, p in beams for word, q in NEXT[words[-1] if words else ""].items()]
    return sorted(grown, key=lambda beam: -beam[1])


def beam_search(width: int = BEAMS) -> list[list[tuple[list[str], float]]]:
    """For each step all candidates, the likeliest first; the first `width` of them go on. Width 1 is greedy."""
    beams, steps = [([], 1.0)], []
    for _ in range(STEPS):
        steps.append(continued(beams))
        beams = steps[-1][:width]
    return steps


def all_texts() -> dict[tuple[str, ...], float]:
    """Every text of three words, with its probability: what a beam hopes to find the best of."""
    words = [*NEXT, "पी", "बनाई", "खाई"]
    texts = {}
    for text in product(words[1:], repeat=STEPS):
        p = math.prod(NEXT.get(before, {}).get(word, 0) for before, word in pairwise(["", *text]))
        if p:
            texts[text] = p
    return texts
