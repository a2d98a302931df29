"""Protects training.muon: the nearest orthogonal matrix, held to an SVD and to torch.optim.Muon."""

import pytest
import torch

from ai4india_lib.training import muon
from ai4india_lib.training.muon import JORDAN, POLAR_EXPRESS, Muon, orthogonalise

SHAPES = [(12, 12), (8, 40), (40, 8), (12, 12), (1, 30), (30, 1), (20, 25), (1, 1)]


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def with_values(rows, columns, values, seed=0):
    """A matrix (rows, columns) with these singular values, and the orthogonal one that is nearest to it."""
    u = torch.linalg.qr(drawn(rows, rows, seed=seed, dtype=torch.float64))[0]
    v = torch.linalg.qr(drawn(columns, rows, seed=seed + 1, dtype=torch.float64))[0]
    return u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v.T, u @ v.T


def polynomials_by_the_recipe(lowest, count, cushion=0.02, safety=1.01):
    """Amsel et al. (2025), algorithm 1: each polynomial is the odd one of degree 5 that comes nearest to 1 on the
    interval in which the singular values lie by then (Remez' exchange, four points)."""
    low, high, found = lowest, 1.0, []
    for number in range(count):
        start = max(low, cushion * high)
        middle_low, middle_high = (3 * start + high) / 4, (start + 3 * high) / 4
        for _ in range(60):
            points = torch.tensor([start, middle_low, middle_high, high], dtype=torch.float64)
            signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
            system = torch.stack([points, points**3, points**5, signs], dim=1)
            a, b, c, _ = torch.linalg.solve(system, torch.ones(4, dtype=torch.float64)).tolist()
            root = (9 * b * b - 20 * a * c) ** 0.5
            middle_low, middle_high = (((-3 * b + sign * root) / (10 * c)) ** 0.5 for sign in (-1, 1))
        if start > low:  # centred again, since the lowest values were left out
            centre = 2 / sum(a * s + b * s**3 + c * s**5 for s in (low, high))
            a, b, c = a * centre, b * centre, c * centre
        low = a * low + b * low**3 + c * low**5
        high = 2 - low
        slack = safety if number < count - 1 else 1.0
        found.append((a / slack, b / slack**3, c / slack**5))
    return found


def test_the_polynomials_are_those_of_the_recipe():
    torch.testing.assert_close(
        torch.tensor(POLAR_EXPRESS), torch.tensor(polynomials_by_the_recipe(0.005, 4)), rtol=2e-5, atol=1e-5
    )
    published = torch.tensor([8.28721201814563, -23.595886519098837, 17.300387312530933])  # theirs, from 0.001 on
    torch.testing.assert_close(
        torch.tensor(polynomials_by_the_recipe(1e-3, 5, safety=1.0)[0]), published, rtol=0.02, atol=0
    )


@pytest.mark.parametrize("rows, columns", [(6, 6), (6, 8), (6, 9), (6, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_directions_come_out_about_equally_strong(rows, columns, dtype):
    """Held to the SVD: the same directions, and no singular value further from 1 than the recipe promises."""
    values = [1.0, 0.7, 0.3, 0.1, 0.03, 0.015]
    matrix, nearest = with_values(rows, columns, values)
    result = orthogonalise((1e-3 * matrix)[None].to(dtype))[0].double()
    strengths = nearest @ result.T  # (rows, rows): symmetric, with the new singular values
    rounding = 1e-4 if dtype == torch.float32 else 0.06
    assert (strengths - strengths.T).abs().max() < rounding
    left, _, _ = torch.linalg.svd(matrix, full_matrices=False)
    new = (left.T @ strengths @ left).double()
    assert (new - torch.diag(new.diag())).abs().max() < rounding
    assert 0.88 - rounding < new.diag().min() and new.diag().max() < 1.12 + rounding


@pytest.mark.parametrize("polynomials", [POLAR_EXPRESS, JORDAN])
@pytest.mark.parametrize("rank", [1, 3, 16])
def test_small_matrices_and_large_ones_give_the_same(polynomials, rank):
    """Iterated on XXᵀ (wide), or on X itself: the same polynomials, also where singular values are zero."""
    x = (drawn(2, 16, rank, seed=2) @ drawn(2, rank, 64, seed=3)).float()
    exact = x.double()  # in this dtype X itself is iterated
    torch.testing.assert_close(
        orthogonalise(x, polynomials), orthogonalise(exact, polynomials).float(), rtol=0, atol=2e-3
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("columns", [9, 12, 30])
def test_a_tall_matrix_is_a_wide_one_turned(columns, dtype):
    x = drawn(3, 9, columns, dtype=dtype)
    tolerance = 1e-4 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(orthogonalise(x.mT.contiguous()), orthogonalise(x).mT, rtol=0, atol=tolerance)


def test_the_way_follows_the_shape_and_the_precision(monkeypatch):
    ways = []
    monkeypatch.setattr(muon, "_factor", lambda gram, polynomials: ways.append((gram.dtype, gram.shape[1])) or gram)
    for rows, columns in ((16, 16), (16, 24), (16, 25), (24, 16), (26, 16)):
        for dtype in (torch.float32, torch.bfloat16):
            orthogonalise(drawn(1, rows, columns, dtype=dtype))
    assert ways == [(torch.float32, 16)] * 2, "only where it is wider than 1.5 times its height, and in float32"


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e6])
def test_the_size_of_a_gradient_does_not_count(scale):
    x = drawn(3, 8, 20)
    torch.testing.assert_close(orthogonalise(scale * x), orthogonalise(x), rtol=0, atol=1e-4)
    assert not orthogonalise(torch.zeros(1, 4, 9)).any()


def parameters(shapes=SHAPES, seed=0):
    return [torch.nn.Parameter(0.1 * drawn(*shape, seed=seed + n)) for n, shape in enumerate(shapes)]


def give_gradients(weights, seed):
    for n, p in enumerate(weights):
        p.grad = drawn(*p.shape, seed=1000 * seed + n)


needs_torchs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch 2.9 brought it")


def pair(polynomials=POLAR_EXPRESS):
    ours, theirs = parameters(), parameters()
    own = Muon(ours, lr=0.02, weight_decay=0.3, momentum=0.9, polynomials=polynomials)
    other = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.3, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    return ours, theirs, own, other


@needs_torchs_muon
def test_with_the_same_polynomials_it_is_the_muon_of_torch(monkeypatch):
    """Gradients of rank one, for which both divide by the same size; theirs kept in float32, too."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    monkeypatch.setattr(muon, "MARGIN", 1.0)
    ours, theirs, own, other = pair(JORDAN)
    for n, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        a.grad = b.grad = drawn(len(a), 1, seed=n) @ drawn(1, a.shape[1], seed=50 + n)
    before = [p.detach().clone() for p in theirs]
    own.step()
    other.step()
    for a, b, start in zip(ours, theirs, before, strict=True):
        assert (a - b).norm() < 1e-3 * (b - start).norm()


@needs_torchs_muon
def test_momentum_decay_and_rate_are_those_of_torch(monkeypatch):
    """With an exact U Vᵀ in place of both approximations, step after step."""

    def exact(x, *_):
        left, _, right = torch.linalg.svd(x, full_matrices=False)
        return left @ right

    monkeypatch.setattr(muon, "orthogonalise", exact)
    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", exact)
    ours, theirs, own, other = pair()
    for seed in range(4):
        give_gradients(ours, seed)
        give_gradients(theirs, seed)
        own.step()
        other.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [1, 500, 10**9])
def test_how_many_are_stacked_does_not_matter(monkeypatch, most):
    def moved():
        weights = parameters([*SHAPES, *SHAPES])
        optimizer = Muon(weights, lr=0.02)
        give_gradients(weights, 1)
        weights[3].grad = None  # frozen for this step
        optimizer.step()
        return weights

    expected = moved()
    monkeypatch.setattr(muon, "MOST_AT_ONCE", most)
    for a, b in zip(moved(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert torch.equal(expected[3], parameters([*SHAPES, *SHAPES])[3])


def test_only_matrices_are_taken():
    with pytest.raises(ValueError, match=r"matrices, not a parameter of shape \(3,\)"):
        Muon([torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(3))], lr=0.1)


def test_a_closure_is_called_with_gradients_on():
    weight = torch.nn.Parameter(torch.ones(2, 3))

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert Muon([weight], lr=0.1, weight_decay=0.0).step(closure).item() == 6 and weight.norm() < 6**0.5
