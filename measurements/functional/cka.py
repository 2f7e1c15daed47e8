"""Centred kernel alignment: how alike two representations of the same samples are.

Feature maps have to be flattened or pooled to [N, D] first; the two give different numbers, so say
which. The plain form is misleading for wide layers: .80 for independent features, 500 samples of
2000 numbers. The unbiased form gives about 0.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.features import require_features
from measurements.functional.jackknife import Jackknife, delete_group_jackknife


@dataclass(kw_only=True)
class StreamingCKA:
    """Unbiased linear CKA of samples that come in batches; keeps three numbers a batch.

    The ratio of summed HSICs, each weighted by the samples of its batch: batches of one size count
    alike, and a short last one counts less. The batches must be the same for all comparisons that
    are to be compared.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0], [5.0, 4.0]])
        >>> found = StreamingCKA()
        >>> for batch in (x, x + 1):
        ...     found.add(batch, 3 * batch + 7)
        >>> round(found.value, 9), found.samples
        (1.0, 10)

    Reference:
        Nguyen et al., Do wide and deep networks learn the same things? (2021), minibatch CKA.
    """

    samples: int = 0
    _terms: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, one: Tensor, other: Tensor) -> None:
        """Take a batch: features [B, D1] and [B, D2] of the same samples, B >= 4."""
        terms = _hsics(one, other)
        n = len(one)
        self._terms.append((n * terms[0], n * terms[1], n * terms[2]))
        self.samples += n

    @property
    def value(self) -> float:
        """CKA of what was taken so far; at most about 1, for unrelated features around 0.

        Raises:
            NotApplicable: One of the two representations does not vary.
        """
        if not self._terms:
            raise ValueError("no batch was added: nothing to compare")
        return _ratio(torch.tensor(self._terms, dtype=torch.float64))

    @property
    def batches(self) -> int:
        """Number of batches taken so far."""
        return len(self._terms)

    def estimate(self, *, generator: torch.Generator) -> Jackknife:
        """The value with an interval, by leaving out a twentieth of the batches; 20 at least."""
        terms = torch.tensor(self._terms, dtype=torch.float64)
        found = delete_group_jackknife(
            lambda ids: {"cka": _ratio(terms[ids])}, len(terms), generator=generator
        )
        return found["cka"]


def linear_cka(one: Tensor, other: Tensor) -> float:
    """Unbiased linear CKA of two representations of the same samples.

    Args:
        one: Features, shape [N, D1], finite, N >= 4.
        other: Features of the same samples, shape [N, D2].

    Returns:
        1 for representations that differ by rotation, reflection, one scale and a shift; around 0,
        of either sign, for independent ones.

    Raises:
        NotApplicable: One of the two does not vary.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0], [5.0, 4.0]])
        >>> round(linear_cka(x, 2 * x.flip(1) - 1), 9)
        1.0

    Reference:
        Kornblith et al., Similarity of neural network representations revisited (2019), with the
        unbiased HSIC of Song et al., Feature selection via dependence maximization (2012).
    """
    return _ratio(torch.tensor([_hsics(one, other)], dtype=torch.float64))


def biased_linear_cka(one: Tensor, other: Tensor) -> float:
    """Linear CKA as first published: for comparison with papers, not for a verdict.

    Args:
        one: Features, shape [N, D1], finite.
        other: Features of the same samples, shape [N, D2].

    Returns:
        In [0, 1]; for wide independent features far above 0.

    Raises:
        NotApplicable: One of the two does not vary.

    Example:
        >>> x, y = torch.tensor([[1.0], [-1.0], [0.0]]), torch.tensor([[1.0], [0.0], [-1.0]])
        >>> round(biased_linear_cka(x, y), 9)  # squared correlation of two columns
        0.25

    Reference:
        Kornblith et al., Similarity of neural network representations revisited (2019).
    """
    one, other = _centred(one, other, at_least=2)
    joint, own, others = (_cross_squared(*pair) for pair in _pairs(one, other))
    return _ratio(torch.tensor([[joint, own, others]], dtype=torch.float64))


def _hsics(one: Tensor, other: Tensor) -> tuple[float, float, float]:
    """Unbiased HSIC of both, of the first with itself, and of the second with itself."""
    one, other = _centred(one, other, at_least=4)
    joint, own, others = (_unbiased_hsic(*pair) for pair in _pairs(one, other))
    return joint, own, others


def _pairs(one: Tensor, other: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    return (one, other), (one, one), (other, other)


def _centred(one: Tensor, other: Tensor, *, at_least: int) -> tuple[Tensor, Tensor]:
    """Both in float64, less their means: HSIC does not see a shift, but its rounding does."""
    if one.shape[:1] != other.shape[:1]:
        raise ValueError(
            "expected features [N, D1] and [N, D2] of the same samples, "
            f"got {list(one.shape)} and {list(other.shape)}"
        )
    for features in (one, other):
        require_features(features, at_least=at_least)
    x, y = one.detach().double(), other.detach().double()
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return _without_rounding(x, one), _without_rounding(y, other)


def _without_rounding(centred: Tensor, features: Tensor) -> Tensor:
    """Exact zeros where nothing but the rounding of the mean is left."""
    rounding = 4 * torch.finfo(torch.float64).eps * features.abs().max()
    return torch.zeros_like(centred) if centred.abs().max() <= rounding else centred


def _unbiased_hsic(x: Tensor, y: Tensor) -> float:
    """HSIC of centred features from kernels whose diagonal is left out.

    The features are centred, so a row of the kernel sums to 0, and without its diagonal entry to
    minus that.
    """
    n = len(x)
    kx, ky = x.square().sum(dim=1), y.square().sum(dim=1)  # diagonals
    joint = _cross_squared(x, y) - (kx @ ky).item()
    sums = (kx.sum() * ky.sum()).item() / ((n - 1) * (n - 2))
    return (joint + sums - 2 * (kx @ ky).item() / (n - 2)) / (n * (n - 3))


def _cross_squared(x: Tensor, y: Tensor) -> float:
    """Trace of the product of the kernels, through whichever of [N, N] and [D1, D2] is smaller."""
    if len(x) ** 2 > x.shape[1] * y.shape[1]:
        return (x.T @ y).square().sum().item()
    return ((x @ x.T) * (y @ y.T)).sum().item()


def _ratio(terms: Tensor) -> float:
    """CKA from rows of HSICs: of both, of the first and of the second alone."""
    joint, own, others = terms.sum(dim=0).tolist()
    if own <= 0 or others <= 0:
        raise NotApplicable("one of the representations does not vary over the samples")
    return joint / (own * others) ** 0.5
