"""Lesson 09's exercises: right answers pass, and usual mistakes get their own message."""

import pytest
import torch

NAMES = ["09.learning_rate", "09.adamw_step", "09.clip"]


def learning_rate(step, total_steps, highest, warmup, decay):
    return highest * min((step + 1) / (warmup + 1), 1.0, (total_steps - step) / (decay + 1))


def adamw_step(w, grad, m, v, step, lr, beta1, beta2, eps, weight_decay):
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    w = w - lr * weight_decay * w
    return w - lr * (m / (1 - beta1**step)) / ((v / (1 - beta2**step)).sqrt() + eps), m, v


def clip(grads, longest):
    norm = sum(g.square().sum() for g in grads).sqrt()
    return [g * min(1.0, float(longest / norm)) for g in grads]


def no_correction(w, grad, m, v, step, lr, beta1, beta2, eps, weight_decay):
    m, v = beta1 * m + (1 - beta1) * grad, beta2 * v + (1 - beta2) * grad**2
    return w - lr * weight_decay * w - lr * m / (v.sqrt() + eps), m, v


def coupled(w, grad, m, v, step, lr, beta1, beta2, eps, weight_decay):
    _, new_m, new_v = adamw_step(w, grad, m, v, step, lr, beta1, beta2, eps, 0.0)
    return adamw_step(w, grad + weight_decay * w, m, v, step, lr, beta1, beta2, eps, 0.0)[0], new_m, new_v


def no_decay(*given, weight_decay, **settings):
    return adamw_step(*given, weight_decay=0.0, **settings)


def climbing(w, *given, lr, **settings):
    _, m, v = adamw_step(w, *given, lr=lr, **settings)
    return 2 * w * (1 - lr * 0.5) - adamw_step(w, *given, lr=lr, **settings)[0], m, v


def in_place(w, grad, m, v, step, lr, **settings):
    new = adamw_step(w, grad, m, v, step, lr, **settings)
    w -= lr * grad
    return new


def corrected_means(w, grad, m, v, step, **settings):
    new_w, m, v = adamw_step(w, grad, m, v, step, **settings)
    return new_w, m / (1 - settings["beta1"] ** step), v / (1 - settings["beta2"] ** step)


def varied(*, m=None, v=None, mean=None, square=None, size=None, decay=None, order=None):
    """One step of AdamW with some of its lines written otherwise."""

    def answer(w, grad, old_m, old_v, step, lr, beta1, beta2, eps, weight_decay):
        new_m = (m or (lambda m, g, b: b * m + (1 - b) * g))(old_m, grad, beta1)
        new_v = (v or (lambda v, g, b: b * v + (1 - b) * g**2))(old_v, grad, beta2)
        m_now = (mean or (lambda m, b: m / (1 - b**step)))(new_m, beta1)
        v_now = (square or (lambda v, b: v / (1 - b**step)))(new_v, beta2)
        move = lr * m_now / (size or (lambda v: v.sqrt() + eps))(v_now)
        pull = (decay or (lambda w: lr * weight_decay * w))(w)
        return (w - pull - move if order is None else order(w, move, lr * weight_decay)), new_m, new_v

    return answer


EPS = 1e-5  # of the check


def by_itself(grads, longest):
    norm = sum(g.square().sum() for g in grads).sqrt()
    return [g / norm * min(float(norm), longest) for g in grads]


def in_place_clip(grads, longest):
    for g in grads:
        g *= 0.1
    return grads


def clip_by(norm, grad, longest):
    return grad * min(1.0, float(longest / norm))


@pytest.mark.parametrize("name, right", list(zip(NAMES, (learning_rate, adamw_step, clip), strict=True)))
def test_right_answer(accepted, name, right):
    accepted(name, right)


@pytest.mark.parametrize(
    "name, wrong, words",
    [
        (NAMES[0], lambda step, total, top, up, down: top, "neither a rise nor a fall"),
        (NAMES[0], lambda step, total, top, up, down: top * min(1.0, (total - step) / (down + 1)), "no warm-up"),
        (NAMES[0], lambda step, total, top, up, down: top * min(1.0, (step + 1) / (up + 1)), "no decay"),
        (NAMES[0], lambda *given: learning_rate(*given) / given[2], "What do they multiply"),
        (NAMES[0], lambda s, t, top, up, down: top * min(s / (up + 1), 1.0, (t - s) / (down + 1)), "learns nothing"),
        (NAMES[0], lambda s, t, top, up, down: top * min((s + 1) / (up + 1), 1, (t - 1 - s) / down), "wasted"),
        (NAMES[0], lambda *given: torch.tensor(1.0), "one Python number"),
        (NAMES[0], lambda *given: 0.5 * learning_rate(*given), "in the warm-up"),
        (NAMES[1], no_correction, "began at 0"),
        (NAMES[1], coupled, "before AdamW"),
        (NAMES[1], no_decay, "decay is missing"),
        (NAMES[1], climbing, "You climb"),
        (NAMES[1], lambda *given, **named: adamw_step(*given, **named)[0], "three things"),
        (NAMES[1], in_place, "changed `w` in place"),
        (NAMES[1], corrected_means, "give the corrected m back"),
        (NAMES[1], lambda w, *given, **named: (w, *adamw_step(w, *given, **named)[1:]), "has not moved"),
        (NAMES[1], lambda *given, **named: (*adamw_step(*given, **named)[:2], given[3]), "Your v is the old one"),
        (NAMES[0], lambda s, t, top, up, down: top * max((s + 1) / (up + 1), (t - s) / (down + 1)), "highest of the"),
        (NAMES[0], lambda s, t, top, up, down: top * min((s + 1) / (up + 1), (t - s) / (down + 1)), "third line"),
        (
            NAMES[0],
            lambda s, t, top, up, down: top * min((s + 1) / max(up, 1), 1, (t - s) / max(down, 1)),
            "Off by one",
        ),
        (NAMES[0], lambda s, t, top, up, down: top * min((s + 1) / max(up, 1), 1, (t - s) / (down + 1)), "Off by one"),
        (
            NAMES[0],
            lambda s, t, top, up, down: top * min((s + 1) / (up + 1), 1.0, ((t - s) / (down + 1)) ** 2),
            "decay",
        ),
        (NAMES[0], lambda *given: [learning_rate(*given)], "one Python number, got list"),
        (NAMES[0], lambda s, t, top, up, down: top * min((s + 1) / up, 1.0), "in the warm-up"),
        (NAMES[1], varied(m=lambda m, g, b: b * g + (1 - b) * m), "beta1 and 1 − beta1 exchanged"),
        (NAMES[1], varied(m=lambda m, g, b: b * m + g), "leaves out (1 − beta1)"),
        (NAMES[1], varied(m=lambda m, g, b: 0.95 * m + 0.05 * g), "Your m uses beta2"),
        (NAMES[1], varied(m=lambda m, g, b: m), "Your m is the old one"),
        (NAMES[1], varied(m=lambda m, g, b: (m + g) / 2), "m is a running mean of the gradients"),
        (NAMES[1], varied(v=lambda v, g, b: b * v + (1 - b) * g), "averages the gradient, not its square"),
        (NAMES[1], varied(v=lambda v, g, b: 0.8 * v + 0.2 * g**2), "Your v uses beta1"),
        (NAMES[1], varied(v=lambda v, g, b: b * g**2 + (1 - b) * v), "beta2 and 1 − beta2 exchanged"),
        (NAMES[1], varied(v=lambda v, g, b: b * v + g**2), "leaves out (1 − beta2)"),
        (NAMES[1], varied(v=lambda v, g, b: b * v + ((1 - b) * g) ** 2), "Only the gradient is squared"),
        (NAMES[1], varied(v=lambda v, g, b: (v + g**2) / 2), "v is a running mean of the squared"),
        (
            NAMES[1],
            lambda *given, **named: (*adamw_step(*given, **named)[:2], corrected_means(*given, **named)[2]),
            "corrected v back",
        ),
        (NAMES[1], varied(mean=lambda m, b: m), "m is not corrected"),
        (NAMES[1], varied(square=lambda v, b: v), "v is not corrected"),
        (NAMES[1], varied(size=lambda v: (v + EPS).sqrt()), "inside the square root"),
        (NAMES[1], varied(size=lambda v: v.sqrt()), "eps has no effect"),
        (NAMES[1], varied(size=lambda v: v + EPS), "square root is missing"),
        (NAMES[1], varied(decay=lambda w: 0.5 * w), "not multiplied by the learning rate"),
        (NAMES[1], varied(decay=lambda w: -0.05 * w), "your weights grow"),
        (NAMES[1], varied(order=lambda w, move, pull: (w - move) * (1 - pull)), "Look at the last three lines"),
        (
            NAMES[1],
            lambda *given, **named: [x.tolist() for x in adamw_step(*given, **named)],
            "Expected a tensor as the",
        ),
        (NAMES[1], lambda *given, **named: [x.sum(-1) for x in adamw_step(*given, **named)], "One dimension is gone"),
        (NAMES[2], lambda grads, longest: list(grads), "Nothing is clipped"),
        (
            NAMES[2],
            lambda grads, n: [g / sum(x.square().sum() for x in grads).sqrt() for g in grads],
            "forget how long",
        ),
        (
            NAMES[2],
            lambda grads, n: [clip_by(sum(x.square().sum() for x in grads), g, n) for g in grads],
            "squared length",
        ),
        (NAMES[2], lambda grads, longest: [g * longest for g in grads], "You multiply by `longest`"),
        (NAMES[2], by_itself, "0 divided by 0"),
        (NAMES[2], in_place_clip, "in place"),
        (
            NAMES[2],
            lambda grads, longest: [g.tolist() for g in clip(grads, longest)],
            "Expected a tensor as gradient 0",
        ),
        (NAMES[2], lambda grads, longest: clip(grads, longest)[0], "list of 2 tensors"),
        (NAMES[2], lambda grads, longest: [g.mT if g.dim() > 1 else g for g in clip(grads, longest)], "transpose"),
        (NAMES[2], lambda grads, longest: [g.clamp(-longest, longest) for g in grads], "single numbers"),
        (NAMES[2], lambda grads, longest: [clip([g], longest)[0] for g in grads], "own length"),
        (NAMES[2], lambda grads, n: [g * n / sum(x.square().sum() for x in grads).sqrt() for g in grads], "longer"),
        (NAMES[2], lambda grads, longest: torch.cat([g.flatten() for g in grads]), "list of 2 tensors"),
        (NAMES[2], lambda grads, n: [clip_by(max(g.norm() for g in grads), g, n) for g in grads], "longest t"),
        (NAMES[2], lambda grads, longest: [clip_by(sum(g.norm() for g in grads), g, longest) for g in grads], "add up"),
        (NAMES[2], lambda grads, longest: [g / (sum(x.square() for x in grads)).sqrt() for g in grads], "dimension"),
        (NAMES[2], lambda grads, longest: [g[:1] for g in grads], "shape"),
    ],
)
def test_mistakes_get_their_own_words(refused, name, wrong, words):
    refused(name, wrong, words)
