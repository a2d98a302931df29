"""Protects the feedback of lesson 17's exercises: right answers pass, each usual mistake gets its own sentence."""

import pytest
import torch


def scores(attention, looks):
    at, to = zip(*looks, strict=True)
    return attention[:, at, to].mean(1)


def test_right_head_scores(accepted):
    accepted("17.head_scores", scores)
    accepted("17.head_scores", lambda a, looks: [float(head[0]) for head in scores(a, looks)[:, None]])
    accepted("17.head_scores", lambda a, looks: sum(a[:, at, to] for at, to in looks) / len(looks))


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda a, looks: scores(a.mT, looks), "Rows and columns"),
        (lambda a, looks: scores(a, looks) * len(looks), "add the places up"),
        (lambda a, looks: torch.stack([a[:, at, to] for at, to in looks]), "mean over places is missing"),
        (lambda a, looks: torch.stack([a[:, at, to] for at, to in looks], 1), "mean over places is missing"),
        (lambda a, looks: torch.stack([a[:, at, to] for at, to in looks]).mean(1), "mean over heads"),
        (lambda a, looks: torch.stack([a[:, at, to] for at, to in looks]).amax(0), "best place"),
        (lambda a, looks: torch.stack([a[:, at, to] for at, to in looks]).mean(), "all heads together"),
        (lambda a, looks: scores(a, looks[:1]), "Only the first place"),
        (lambda a, looks: scores(a, sorted(set(looks))), "counts twice"),
        (lambda a, looks: a[:, :, sorted({to for _, to in looks})].mean((1, 2)), "from every token"),
        (lambda a, looks: a[:, [x for x, _ in looks]][:, :, [y for _, y in looks]].mean((1, 2)), "pair each `at`"),
        (lambda a, looks: scores(a, looks) + 1, "For 3 heads"),
        (lambda a, looks: ["a", "b", "c"], "Expected a tensor"),
    ],
)
def test_wrong_head_scores(refused, answer, words):
    refused("17.head_scores", answer, words)


def normed(x, dim=-1):
    return x / x.square().mean(dim, keepdim=True).sqrt()


def lens(x, gain, table, right):
    return (normed(x) * gain @ table.T).softmax(-1)[:, right]


def test_right_lens(accepted):
    accepted("17.lens", lens)
    accepted("17.lens", lambda x, g, t, right: torch.stack([lens(one[None], g, t, right)[0] for one in x]))


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x, g, t, right: (x @ t.T).softmax(-1)[:, right], "norm and its gain are left out"),
        (lambda x, g, t, right: (x * g @ t.T).softmax(-1)[:, right], "the norm is left out"),
        (lambda x, g, t, right: (normed(x) @ t.T).softmax(-1)[:, right], "gain is left out"),
        (lambda x, g, t, right: (normed(x) * g @ t.T)[:, right], "These are logits"),
        (lambda x, g, t, right: lens(x, g, t, right).log(), "log-probabilities"),
        (lambda x, g, t, right: (normed(x) * g @ t.T).softmax(0)[:, right], "over the layers"),
        (lambda x, g, t, right: (normed(x) * g @ t.T).softmax(-1), "probabilities of all tokens"),
        (lambda x, g, t, right: lens(x, g, t, right)[-1], "the last layer alone"),
        (lambda x, g, t, right: (x / x.norm(dim=-1, keepdim=True) * g @ t.T).softmax(-1)[:, right], "length"),
        (
            lambda x, g, t, right: (x / x.square().mean().sqrt() * g @ t.T).softmax(-1)[:, right],
            "Each vector has its own",
        ),
        (lambda x, g, t, right: lens(x - x.mean(-1, keepdim=True), g, t, right), "LayerNorm"),
        (lambda x, g, t, right: lens(x, g, t, right) / 2, "times the right one|Take one layer"),
    ],
)
def test_wrong_lens(refused, answer, words):
    refused("17.lens", answer, words)


def ahead(logits, own, twin):
    return logits[..., twin] - logits[..., own]


def gone(o, t, p, a, b):
    return (ahead(p, a, b) - ahead(o, a, b)) / (ahead(t, a, b) - ahead(o, a, b))


def test_right_way(accepted):
    accepted("17.gone_over", gone)
    accepted("17.gone_over", lambda o, t, p, a, b: gone(-o, -t, -p, b, a))


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda o, t, p, a, b: ahead(p, a, b), "lead itself"),
        (lambda o, t, p, a, b: ahead(p, a, b) - ahead(o, a, b), "Divide by how far"),
        (lambda o, t, p, a, b: ahead(p, a, b) / ahead(t, a, b), "where does the way begin"),
        (lambda o, t, p, a, b: (ahead(p, a, b) - ahead(o, a, b)) / ahead(t, a, b), "the divisor forgets"),
        (lambda o, t, p, a, b: 1 - gone(o, t, p, a, b), "left to go"),
        (lambda o, t, p, a, b: (p[:, b] - o[b]) / (t[b] - o[b]), "twin's name alone"),
        (lambda o, t, p, a, b: (p[:, a] - o[a]) / (t[a] - o[a]), "own name alone"),
        (lambda o, t, p, a, b: gone(o.softmax(-1), t.softmax(-1), p.softmax(-1), a, b), "probabilities"),
        (lambda o, t, p, a, b: gone(o, t, p, a, b).clamp(0, 1), "cut it off"),
        (lambda o, t, p, a, b: gone(o, t, p, a, b).mean(), "mean over the patches"),
        (lambda o, t, p, a, b: gone(o, t, p, a, b) * 2, "2 times the right one"),
    ],
)
def test_wrong_way(refused, answer, words):
    refused("17.gone_over", answer, words)


def real(heads, lengths):
    return torch.arange(heads.shape[1]) < lengths[:, None]


def put(heads, head, value):
    heads = heads.clone()
    heads[:, :, head] = value
    return heads


def ablated(heads, lengths, head):
    return put(heads, head, heads[real(heads, lengths)][:, head].mean(0))


def of_stories(heads, lengths, head):
    return torch.stack([one[: int(n), head].mean(0) for one, n in zip(heads, lengths, strict=True)])


def in_place(heads, lengths, head):
    heads[:, :, head] = heads[real(heads, lengths)][:, head].mean(0)
    return heads


def test_right_mean(accepted):
    accepted("17.mean_ablated", ablated)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda h, n, i: put(h, i, 0.0), "You put 0 there"),
        (lambda h, n, i: put(h, i, h[:, :, i].mean((0, 1))), "behind the end of the shorter stories"),
        (lambda h, n, i: put(h, i, h[real(h, n)].mean((0, 1))), "over all heads"),
        (lambda h, n, i: put(h, i, h[real(h, n)][:, i].mean()), "one number there"),
        (lambda h, n, i: h[real(h, n)].mean(0).expand_as(h), "Only one is switched off"),
        (lambda h, n, i: put(h, i, of_stories(h, n, i)[:, None]), "one mean for all"),
        (lambda h, n, i: put(h, i, of_stories(h, n, i).mean(0)), "a short story weighs as much"),
        (lambda h, n, i: put(h, i, h[:, :, i].mean(0)), "Each position has its own mean"),
        (lambda h, n, i: torch.where(real(h, n)[..., None, None], ablated(h, n, i), h), "keeps its old values"),
        (lambda h, n, i: h, "Nothing has changed"),
        (in_place, "changed `heads` in place"),
        (lambda h, n, i: ablated(h, n, i)[:, :, i], "dimension is gone|shape"),
    ],
)
def test_wrong_mean(refused, answer, words):
    refused("17.mean_ablated", answer, words)


def watching(*, finish=True, swallow=False, what=2, before=False, change=False, twice=False):
    """An answer, with or without the mistakes that its options name."""

    def noted(module, run):
        kept = []

        def note(*seen):
            kept.append(seen[what])
            return seen[2] * 2 if change else None

        add = module.register_forward_pre_hook if before else module.register_forward_hook
        hook = add((lambda module, given: kept.append(given[0])) if before else note)
        try:
            run()
            if twice:
                run()
        except Exception:
            if swallow:
                return kept
            if finish:
                hook.remove()
            raise
        hook.remove()
        return kept

    return noted


def leaves_it(module, run):
    kept = []
    module.register_forward_hook(lambda module, given, result: kept.append(result))
    run()
    return kept


def test_right_notes(accepted):
    accepted("17.noted", watching())
    accepted("17.noted", lambda module, run: tuple(watching()(module, run)))


@pytest.mark.parametrize(
    "answer, words",
    [
        (leaves_it, "After run() is over, 1 of your hooks is left"),
        (watching(finish=False), "After run() stopped with an error, 1 of your hooks is left"),
        (watching(swallow=True), "After run() stopped with an error, 1 of your hooks is left"),
        (watching(what=1), "what the module was given"),
        (watching(before=True), "what the module was given"),
        (watching(change=True), "something else than before"),
        (watching(twice=True), "Is run() called once"),
        (lambda module, run: watching()(module, run)[0], "not one tensor|Expected a list"),
        (lambda module, run: watching()(module, run)[::-1], "Is the order right"),
        (lambda module, run: [], "your list has 0 entries"),
    ],
)
def test_wrong_notes(refused, answer, words):
    refused("17.noted", answer, words)
