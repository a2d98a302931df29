"""Lesson 04's feedback: right answers pass, and each usual mistake gets its own sentence."""

import math

import pytest
import torch


@pytest.mark.parametrize(
    "answer",
    [
        lambda p: (-p.log().mean()).exp(),
        lambda p: 2 ** (-p.log2().mean()),
        lambda p: math.exp(-sum(math.log(value) for value in p.tolist()) / len(p)),
    ],
)
def test_right_perplexities(accepted, answer):
    accepted("04.perplexity", answer)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda p: 1 / p.mean(), "average the probabilities"),
        (lambda p: (1 / p).mean(), "average 1/p"),
        (lambda p: -p.log().mean(), "in nats"),
        (lambda p: -p.log2().mean(), "in bits"),
        (lambda p: p.log().mean().exp(), "minus sign"),
        (lambda p: (-p.log2().mean()).exp(), "base 2 and your power base e"),
        (lambda p: 2 ** (-p.log().mean()), "base e and your power base 2"),
        (lambda p: (-p.log().sum()).exp(), "grows with the length"),
        (lambda p: -p.log().sum(), "whole text"),
        (lambda p: p.prod(), "probability of the whole text"),
        (lambda p: p.prod() ** (-1 / len(p)), "too small for any float"),
        (lambda p: (1 / math.prod(p.tolist())) ** (1 / len(p)), "too small for any float"),
        (lambda p: 1 / p, "a sum or a mean still missing"),
        (lambda p: p.no_such_method(), "AttributeError"),
    ],
)
def test_wrong_perplexities(refused, answer, words):
    refused("04.perplexity", answer, words)


def smooth(counts, k):
    return (counts + k) / (counts + k).sum(1, keepdim=True)


def changes_the_counts(counts, k):
    counts += 1
    return smooth(counts - 1, k)


def test_right_bigrams(accepted):
    def other(c, k):
        return (c + k) / (c.sum(1, keepdim=True) + k * c.shape[1])

    accepted("04.bigram_probability", smooth)
    accepted("04.bigram_probability", other)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda c, k: c / c.sum(1, keepdim=True), "k is not in your result"),
        (lambda c, k: smooth(c, 1.0), "add one, whatever k is"),
        (lambda c, k: (c + k) / c.sum(1, keepdim=True), "above the line only"),
        (lambda c, k: (c + k) / (c.sum(1, keepdim=True) + k), "k is added once"),
        (lambda c, k: (c + k) / (c.sum(1, keepdim=True) + k * (c > 0).sum(1, keepdim=True)), "seen after the first"),
        (lambda c, k: smooth(c.T, k), "turned"),
        (lambda c, k: smooth(c.T, k).T, "columns sum to 1"),
        (lambda c, k: (c + k) / (c + k).sum(), "whole table sums to 1"),
        (lambda c, k: (c + k) / (c + k).sum(1), "wrong axis"),
        (lambda c, k: smooth(c, k).log(), "logarithms"),
        (lambda c, k: c + k, "still counts"),
        (lambda c, k: smooth(c, k).round().long(), "should be torch.float32"),
        (lambda c, k: smooth(c, k)[0], "shape"),
        (lambda c, k: smooth(c, k) * 0.9, "sums to 0.9"),
        (changes_the_counts, "in place"),
    ],
)
def test_wrong_bigrams(refused, answer, words):
    refused("04.bigram_probability", answer, words)


def discounted(counts, shorter, discount, *, kinds=None, clamp=True, take=True):
    total = counts.sum(1, keepdim=True)
    kinds = (counts > 0).sum(1, keepdim=True) if kinds is None else kinds
    kept = counts - discount if take else counts.float()
    kept = kept.clamp(min=0) if clamp else kept
    return torch.where(total > 0, (kept + discount * kinds * shorter) / total, shorter)


def without_fall_back(counts, shorter, discount):
    kinds = (counts > 0).sum(1, keepdim=True)
    return ((counts - discount).clamp(min=0) + discount * kinds * shorter) / counts.sum(1, keepdim=True)


def zeros_for_unseen(counts, shorter, discount):
    return without_fall_back(counts, shorter, discount).nan_to_num(0)


def even_for_unseen(counts, shorter, discount):
    seen = counts.sum(1, keepdim=True) > 0
    return torch.where(seen, discounted(counts, shorter, discount), torch.tensor(1 / counts.shape[1]))


def witten_bell(counts, shorter, discount):
    total, kinds = counts.sum(1, keepdim=True), (counts > 0).sum(1, keepdim=True)
    return (counts + kinds * shorter) / (total + kinds)


def test_right_discounts(accepted):
    accepted("04.interpolate", discounted)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda c, s, d: discounted(c, s, d, clamp=False), "below 0"),
        (lambda c, s, d: discounted(c, s, d, kinds=0), "hand nothing out"),
        (lambda c, s, d: discounted(c, s, d, kinds=1), "hand out one discount, but"),
        (lambda c, s, d: discounted(c, s, d, kinds=c.shape[1]), "each word of the vocabulary"),
        (lambda c, s, d: discounted(c, s, d, kinds=(c > 0).sum()), "all histories together"),
        (lambda c, s, d: discounted(c, s, d, kinds=c.sum(1, keepdim=True)), "each *time*"),
        (lambda c, s, d: discounted(c, s, d, take=False), "have not taken"),
        (witten_bell, "Witten–Bell"),
        (lambda c, s, d: discounted(c, torch.full_like(s, 1 / s.shape[1]), d), "spread evenly"),
        (lambda c, s, d: c / c.sum(1, keepdim=True), "Neither"),
        (without_fall_back, "never seen gets [nan"),
        (zeros_for_unseen, "never seen gets [0.0"),
        (even_for_unseen, "without counts that differs"),
        (lambda c, s, d: discounted(c, s, d)[:, :2], "shape"),
        (lambda c, s, d: discounted(c.sub_(0), s, d) if c.zero_() is None else s, "in place"),
    ],
)
def test_wrong_discounts(refused, answer, words):
    refused("04.interpolate", answer, words)
