"""Is a fact written in a model's vectors? A linear probe, and the control task that says how much it learned by itself.

A probe is a small classifier that is trained on vectors of a model which stays as it is (Alain & Bengio, 2017). A high
accuracy may be the probe's own work. So the same probe is given labels that mean nothing, one drawn for each kind of
input (Hewitt & Liang, 2019): what it reaches there, it learned by heart.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...basics.arguments import at_least


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier of vectors, (n, dim) → (n,) classes. Made by `fit_probe`."""

    mean: Tensor  # (dim,) of the vectors that it was trained on
    spread: Tensor  # (dim,)
    weight: Tensor  # (dim, classes)
    bias: Tensor  # (classes,)

    def __call__(self, vectors: Tensor) -> Tensor:
        """The likeliest class of each vector: (n,)."""
        return (self._standard(vectors) @ self.weight + self.bias).argmax(-1)

    def accuracy(self, vectors: Tensor, labels: Tensor) -> float:
        """Share of vectors whose class is found."""
        return float((self(vectors) == labels).double().mean())

    def _standard(self, vectors: Tensor) -> Tensor:
        return (vectors.double().cpu() - self.mean) / self.spread


def fit_probe(vectors: Tensor, labels: Tensor, classes: int, *, decay: float = 0.03) -> Probe:
    """Train a linear probe: for each class a line that is near 1 on its vectors and near 0 on the others (ridge
    regression; Hoerl & Kennard, 1970), with weights pulled towards 0 by `decay`.

    `vectors` (n, dim), `labels` (n,) whole numbers below `classes`. It is solved at once, in float64: no random number,
    no steps, so the same data give the same probe everywhere.
    """
    at_least(2, classes=classes)
    if vectors.dim() != 2 or labels.shape != vectors.shape[:1]:
        raise ValueError(f"vectors {tuple(vectors.shape)} and labels {tuple(labels.shape)}: expected (n, dim) and (n,)")
    lowest, highest = (int(label) for label in labels.aminmax())
    if lowest < 0 or highest >= classes:
        raise ValueError(f"labels go from {lowest} to {highest}: with {classes} classes they are 0 to {classes - 1}")
    vectors = vectors.detach().double().cpu()
    mean, spread = vectors.mean(0), vectors.std(0).clamp(min=1e-6)  # (dim,) each
    standard = (vectors - mean) / spread
    wanted = F.one_hot(labels.cpu(), classes).double()  # (n, classes)
    bias = wanted.mean(0)
    pull = decay * len(vectors) * torch.eye(vectors.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(standard.T @ standard + pull, standard.T @ (wanted - bias))  # (dim, classes)
    return Probe(mean, spread, weight, bias)


def control_labels(kinds: Sequence[Hashable], classes: int, *, seed: int = 0) -> Tensor:
    """A control task (Hewitt & Liang, 2019, §2): each kind of input, such as a token's id, gets one class at random,
    and keeps it wherever it comes. (n,) kinds → (n,) labels, which can only be learned by heart."""
    at_least(2, classes=classes)
    order = list(dict.fromkeys(kinds))
    drawn = torch.randint(classes, (len(order),), generator=torch.Generator().manual_seed(seed))
    label = dict(zip(order, drawn.tolist(), strict=True))
    return torch.tensor([label[kind] for kind in kinds])
