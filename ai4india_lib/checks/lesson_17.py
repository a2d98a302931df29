"""Feedback for the exercises of lesson 17, looking inside: scores of heads, logit lens, patching, a mean, a hook."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import NotYet, call, describe, exercise, expect_close, expect_list, expect_tensor, random_tensor, results, same

# Warm-up

Looks = list[tuple[int, int]]


def _attention(heads: int, time: int, seed: int) -> Tensor:
    later = torch.ones(time, time, dtype=torch.bool).triu(1)
    return (2 * random_tensor(heads, time, time, seed=seed)).masked_fill(later, -torch.inf).softmax(-1)


def _shares(attention: Tensor, looks: Looks) -> Tensor:
    """(heads, looks)"""
    return torch.stack([attention[:, at, to] for at, to in looks], dim=1)


WRONG_SCORES: list[tuple[Callable, str]] = [
    (lambda a, looks: _shares(a.mT, looks).mean(1),
     "Rows and columns have changed places: a row of attention belongs to the token that looks."),
    (lambda a, looks: _shares(a, looks).sum(1), "You add the places up. Asked is their mean."),
    (lambda a, looks: _shares(a, looks).amax(1), "That is each head's best place. Asked is the mean over all places."),
    (lambda a, looks: _shares(a, looks).mT,
     "That is a number for each place and head: the mean over places is missing."),
    (lambda a, looks: _shares(a, looks), "That is a number for each head and place: the mean over places is missing."),
    (lambda a, looks: _shares(a, looks).mean(0),
     "That is one number for each place, a mean over heads. A head's score is a mean over places."),
    (lambda a, looks: _shares(a, looks).mean(),
     "That is one number for all heads together. Each head has its own score."),
    (lambda a, looks: a[:, :, sorted({to for _, to in looks})].mean((1, 2)),
     "You look from every token. Only the rows `at` were asked."),
    (lambda a, looks: _shares(a, looks[:1]).mean(1), "Only the first place counts in yours."),
    (lambda a, looks: _shares(a, list(set(looks))).mean(1), "A place that comes twice counts twice: keep the list."),
    (lambda a, looks: a[:, [at for at, _ in looks]][:, :, [to for _, to in looks]].mean((1, 2)),
     "You pair each `at` with each `to`. They belong together two by two: with zip, or with two lists in one index."),
]  # fmt: skip


@exercise("17.head_scores")
def check_head_scores(answer: object) -> str:
    for seed, (heads, time, looks) in enumerate(
        [(3, 6, [(4, 1), (5, 1), (3, 2)]), (4, 5, [(4, 0)]), (2, 7, [(6, 2), (6, 2), (5, 0), (3, 3)])]
    ):
        attention = _attention(heads, time, seed)
        wanted = _shares(attention, looks).mean(1)
        got = call(answer, attention, looks)
        seen = f"For {heads} heads and the places {looks}:"
        if isinstance(got, list):
            got = torch.tensor(got) if got and all(isinstance(one, float) for one in got) else got
        for wrong, hint in results(WRONG_SCORES, attention, looks):
            if same(got, wrong) and not same(wrong, wanted):
                raise NotYet(f"{seen} {hint}")
        expect_close(got, wanted, "Work the first head out by hand.", what="the scores", seen=seen)
    return "Beside it belongs chance: a head that looks at all it may see alike gets 1 / (at + 1)."


# Core


def _normed(stream: Tensor) -> Tensor:
    return stream / stream.square().mean(-1, keepdim=True).sqrt()


def _lens(stream: Tensor, gain: Tensor, table: Tensor, right: int) -> Tensor:
    return (_normed(stream) * gain @ table.T).softmax(-1)[:, right]


WRONG_LENSES: list[tuple[Callable, str]] = [
    (lambda x, g, t, right: (x @ t.T).softmax(-1)[:, right],
     "The norm and its gain are left out: the table never met such vectors."),
    (lambda x, g, t, right: (x * g @ t.T).softmax(-1)[:, right], "The gain is there, but the norm is left out."),
    (lambda x, g, t, right: (_normed(x) @ t.T).softmax(-1)[:, right],
     "The gain is left out: it is a part of the last norm."),
    (lambda x, g, t, right: (_normed(x) * g @ t.T)[:, right],
     "These are logits. A probability comes from all of a layer's logits."),
    (lambda x, g, t, right: (_normed(x) * g @ t.T).log_softmax(-1)[:, right],
     "These are log-probabilities. Asked are probabilities."),
    (lambda x, g, t, right: (_normed(x) * g @ t.T).softmax(0)[:, right],
     "Your softmax runs over the layers. Each layer chooses among the tokens of the table."),
    (lambda x, g, t, right: (_normed(x) * g @ t.T).softmax(-1),
     "These are the probabilities of all tokens. Asked is that of the right one."),
    (lambda x, g, t, right: _lens(x[-1:], g, t, right)[0], "That is the last layer alone. Asked is each layer."),
    (lambda x, g, t, right: ((x / x.norm(dim=-1, keepdim=True)) * g @ t.T).softmax(-1)[:, right],
     "You divide by the vector's length. RMSNorm divides by the root of the *mean* of the squares."),
    (lambda x, g, t, right: ((x / x.square().mean().sqrt()) * g @ t.T).softmax(-1)[:, right],
     "Your norm is one number for all layers together. Each vector has its own."),
    (lambda x, g, t, right: (_normed(x - x.mean(-1, keepdim=True)) * g @ t.T).softmax(-1)[:, right],
     "You subtract the mean: that is LayerNorm. RMSNorm does not."),
]  # fmt: skip


@exercise("17.lens")
def check_lens(answer: object) -> str:
    for seed, (layers, dim, vocab, right) in enumerate([(4, 6, 9, 3), (3, 8, 5, 0), (2, 4, 7, 6)]):
        stream = random_tensor(layers, dim, seed=seed) * torch.arange(1, layers + 1)[:, None] + 0.3
        gain, table = random_tensor(dim, seed=seed + 10).abs() + 0.5, random_tensor(vocab, dim, seed=seed + 20)
        got, wanted = call(answer, stream, gain, table, right), _lens(stream, gain, table, right)
        seen = f"For {layers} layers and the token {right}:"
        for wrong, hint in results(WRONG_LENSES, stream, gain, table, right):
            if same(got, wrong) and not same(wrong, wanted):
                raise NotYet(f"{seen} {hint}")
        hint = "Take one layer: norm, gain, table, softmax. What do you have after each?"
        expect_close(got, wanted, hint, what="the probabilities", seen=seen)
    return "What the lens does not see may still be there, in another form: patching asks for that."


def _gone(own: Tensor, twin: Tensor, patched: Tensor, a: int, b: int) -> Tensor:
    start, end = own[b] - own[a], twin[b] - twin[a]
    return (patched[:, b] - patched[:, a] - start) / (end - start)


WRONG_WAYS: list[tuple[Callable, str]] = [
    (lambda o, t, p, a, b: p[:, b] - p[:, a], "That is the twin's lead itself. How much of the *way* has it gone?"),
    (lambda o, t, p, a, b: p[:, b] - p[:, a] - (o[b] - o[a]),
     "That is how far the lead moved, in logits. Divide by how far the twin's is away."),
    (lambda o, t, p, a, b: (p[:, b] - p[:, a]) / (t[b] - t[a]),
     "A patch that changes nothing must give 0: where does the way begin?"),
    (lambda o, t, p, a, b: (p[:, b] - p[:, a] - (o[b] - o[a])) / (t[b] - t[a]),
     "The way is as long as from the own lead to the twin's: the divisor forgets where it begins."),
    (lambda o, t, p, a, b: 1 - _gone(o, t, p, a, b),
     "That is how much is left to go: 1 for a patch that changes nothing."),
    (lambda o, t, p, a, b: (p[:, b] - o[b]) / (t[b] - o[b]),
     "You follow the twin's name alone. All logits may rise together: only the lead over the own name counts."),
    (lambda o, t, p, a, b: (p[:, a] - o[a]) / (t[a] - o[a]),
     "You follow the own name alone. Only the lead of one name over the other counts."),
    (lambda o, t, p, a, b: _gone(o.softmax(-1), t.softmax(-1), p.softmax(-1), a, b),
     "You compare probabilities. They saturate at 0 and 1; take the logits."),
    (lambda o, t, p, a, b: _gone(o, t, p, a, b).clamp(0, 1),
     "You cut it off at 0 and 1. A patch may also go backwards, or too far: show that."),
    (lambda o, t, p, a, b: _gone(o, t, p, a, b).mean(),
     "That is a mean over the patches. Each one has its own number."),
]  # fmt: skip


@exercise("17.gone_over")
def check_gone_over(answer: object) -> str:
    for seed, (vocab, patches, own_name, twin_name) in enumerate([(6, 4, 1, 4), (9, 5, 7, 0), (5, 3, 2, 3)]):
        own, twin = random_tensor(vocab, seed=seed), random_tensor(vocab, seed=seed + 10)
        own[own_name] += 3
        twin[twin_name] += 4
        share = torch.linspace(-0.2, 1.3, patches)[:, None]
        patched = own + share * (twin - own) + 0.3 * random_tensor(patches, vocab, seed=seed + 20)
        got = call(answer, own, twin, patched, own_name, twin_name)
        wanted = _gone(own, twin, patched, own_name, twin_name)
        seen = f"For {patches} patches:"
        for wrong, hint in results(WRONG_WAYS, own, twin, patched, own_name, twin_name):
            if same(got, wrong) and not same(wrong, wanted):
                raise NotYet(f"{seen} {hint}")
        hint = "Write down three leads: own, twin, patched. Then the way from the first to the second."
        expect_close(got, wanted, hint, what="the share of the way", seen=seen)
    return "Above 1 or below 0 is possible: a place may work against another one."


# Stretch


def _real(heads: Tensor, lengths: Tensor) -> Tensor:
    """(stories, time): a token, not what stands behind a story's end"""
    return torch.arange(heads.shape[1]) < lengths[:, None]


def _with(heads: Tensor, head: int, value: Tensor | float) -> Tensor:
    changed = heads.clone()
    changed[:, :, head] = value
    return changed


def _mean_ablated(heads: Tensor, lengths: Tensor, head: int) -> Tensor:
    return _with(heads, head, heads[_real(heads, lengths)].mean(0)[head])


def _means_of_stories(heads: Tensor, lengths: Tensor, head: int) -> Tensor:
    """(stories, head_dim): the mean over each story's own tokens"""
    return torch.stack([one[:length, head].mean(0) for one, length in zip(heads, lengths.tolist(), strict=True)])


def _only_real(heads: Tensor, lengths: Tensor, head: int) -> Tensor:
    right, real = _mean_ablated(heads, lengths, head), _real(heads, lengths)[..., None, None]
    return torch.where(real, right, heads)


WRONG_MEANS: list[tuple[Callable, str]] = [
    (lambda h, n, i: _with(h, i, 0.0), "You put 0 there. A mean is what the head usually says: rarely 0."),
    (lambda h, n, i: _with(h, i, h.mean((0, 1))[i]),
     "Your mean counts what stands behind the end of the shorter stories. Only the first `lengths` tokens are real."),
    (lambda h, n, i: _with(h, i, h[_real(h, n)].mean((0, 1))),
     "Your mean runs over all heads. It should be this head's own."),
    (lambda h, n, i: _with(h, i, h[_real(h, n)].mean(0)[i].mean()),
     "You put one number there. The mean has as many numbers as the head, one for each of its places."),
    (lambda h, n, i: h[_real(h, n)].mean(0).expand_as(h),
     "All heads have their mean in yours. Only one is switched off."),
    (lambda h, n, i: _with(h, i, _means_of_stories(h, n, i)[:, None]),
     "Each story has its own mean in yours, and with it what the head says about this story. Take one mean for all."),
    (lambda h, n, i: _with(h, i, _means_of_stories(h, n, i).mean(0)),
     "You take the mean of the stories' means: a short story weighs as much as a long one. Count tokens."),
    (lambda h, n, i: _with(h, i, h.mean(0)[:, i]),
     "Each position has its own mean in yours. Take one mean over all real tokens."),
    (_only_real,
     "Behind a story's end the head keeps its old values. Asked is the mean everywhere: simpler, and it does no harm."),
    (lambda h, n, i: h, "Nothing has changed: you give back what you were given."),
]  # fmt: skip


@exercise("17.mean_ablated")
def check_mean_ablated(answer: object) -> str:
    for seed, (shape, lengths, head) in enumerate([((2, 5, 3, 4), [5, 3], 1), ((3, 6, 2, 3), [2, 6, 4], 0)]):
        heads, long = random_tensor(*shape, seed=seed) + 1, torch.tensor(lengths)
        got, wanted = call(answer, heads, long, head), _mean_ablated(heads, long, head)
        seen = f"For stories of {lengths} tokens and head {head}:"
        hint = "Which entries may differ from what you were given, and are they all alike?"
        mistakes = results(WRONG_MEANS, heads, long, head)
        expect_close(got, wanted, hint, mistakes=mistakes, what="the result", seen=seen)
    return "The mean comes from many stories. From one alone it would still tell a little about that story."


class _Planned(Exception):
    """The error with which the check's run() stops."""


def _hooks_left(module: nn.Module) -> int:
    return len(module._forward_hooks) + len(module._forward_pre_hooks)


def _expect_no_hook(module: nn.Module, when: str) -> None:
    if left := _hooks_left(module):
        for kept in (module._forward_hooks, module._forward_pre_hooks):
            kept.clear()
        raise NotYet(f"{when} {left} of your hooks is left on the module: it goes on working. What takes a hook away?")


def _expect_outputs(got: object, given: list[Tensor], wanted: list[Tensor]) -> None:
    if isinstance(got, tuple):
        got = list(got)
    if isinstance(got, Tensor) and len(wanted) > 1:
        raise NotYet(f"The module was used {len(wanted)} times. Return a list of all it gave, not one tensor.")
    got = expect_list(got, "tensors", length=None)
    if len(got) != len(wanted):
        raise NotYet(
            f"The module was used {len(wanted)} times, your list has {len(got)} entries. Is run() called once?"
        )
    for number, (one, right) in enumerate(zip(got, wanted, strict=True)):
        if isinstance(one, tuple):
            raise NotYet(f"Your list holds {describe(one)}: the hook's second argument is what the module was given.")
        if isinstance(one, Tensor) and same(one, given[number]) and not same(one, right):
            raise NotYet("Your list holds what the module was given. Asked is what it gave.")
        one = expect_tensor(one, right, what=f"entry {number}")
        if not same(one, right):
            raise NotYet(f"Entry {number} is not what the module gave at its use number {number}. Is the order right?")


@exercise("17.noted")
@torch.no_grad()
def check_noted(answer: object) -> str:
    with torch.random.fork_rng(devices=[]):  # the learner's random numbers stay theirs
        module = nn.Linear(3, 2)
    module.weight.copy_(random_tensor(2, 3, seed=1))
    module.bias.copy_(random_tensor(2, seed=2))
    for uses in (1, 3):
        given = [random_tensor(2, 3, seed=10 + number) for number in range(uses)]
        wanted = [x @ module.weight.T + module.bias for x in given]
        got = call(answer, module, lambda given=given: [module(x) for x in given])
        _expect_no_hook(module, "After run() is over,")
        _expect_outputs(got, given, wanted)

    def stops() -> None:
        module(given[0])
        raise _Planned("run() stops with this error, on purpose")

    try:
        answer(module, stops)
    except _Planned:
        _expect_no_hook(module, "After run() stopped with an error,")
    except Exception as error:
        raise NotYet(
            f"run() stopped with an error of its own; from yours came {type(error).__name__}: {error}"
        ) from None
    else:
        _expect_no_hook(module, "After run() stopped with an error,")
        raise NotYet("run() stopped with an error, and your function hid it. The caller must hear of it.")
    if not _used_as_it_is(answer, module, given[0]):
        raise NotYet(
            "While you watch, the module gives something else than before. A hook that only notes returns None."
        )
    return "So does `watch`: a stack of hooks, and all are taken away whatever happens."


def _used_as_it_is(answer: Callable, module: nn.Module, x: Tensor) -> bool:
    """Whether the module gives the same while it is watched."""
    during = []
    answer(module, lambda: during.append(module(x)))
    return len(during) == 1 and same(during[0], module(x))
