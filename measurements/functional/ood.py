"""Out-of-distribution detection: can a score tell images the model was made for from others?

Everywhere a higher score means more in-distribution, and in-distribution is the positive class.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from measurements.functional.checks import require_columns
from measurements.functional.intervals import DRAWS

TRUE_POSITIVES = 0.95
SLACK = 1e-12

VALUES_AT_ONCE = 2**17
"""Numbers of a block of resamples: 1 MB in float64, which stays in the cache."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How well a score separates the two sets; each in [0, 1]."""

    auroc: float  # chance that an in-distribution sample scores higher; ties count 1/2
    fpr95: float  # share of foreign samples let in when 95 % of the own are; lower is better
    aupr_in: float  # average precision with the own samples as the positives
    aupr_out: float  # average precision with the foreign samples as the positives


QUANTITIES = tuple(Detection.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Samples of both sets by the rank of their score among all distinct scores, best first."""

    own: Tensor  # [N] int64 in [0, K)
    foreign: Tensor  # [M] int64 in [0, K)

    @property
    def places(self) -> int:
        """Number of distinct scores K."""
        return int(torch.maximum(self.own.max(), self.foreign.max())) + 1

    def detection(self) -> Detection:
        """Detection by these ranks; nothing is sorted again."""
        counts = (_counts(ranks[None], self.places) for ranks in (self.own, self.foreign))
        return Detection(**{name: value.item() for name, value in _quantities(*counts).items()})

    def draws(self, draws: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Detection of `draws` resamples of both sets, each from itself: name -> float64 [B]."""
        at_once = max(1, VALUES_AT_ONCE // (len(self.own) + len(self.foreign)))
        blocks = []
        for start in range(0, draws, at_once):
            block = min(at_once, draws - start)
            counts = (
                _counts(_redrawn(ranks, block, generator), self.places)
                for ranks in (self.own, self.foreign)
            )
            blocks.append(_quantities(*counts))
        return {name: torch.cat([block[name] for block in blocks]) for name in QUANTITIES}


def ranking(own: Tensor, foreign: Tensor) -> Ranking:
    """Sort both sets by score, once.

    Args:
        own: Scores of in-distribution samples, shape [N], higher = more in-distribution.
        foreign: Scores of the other samples, shape [M].

    Example:
        >>> found = ranking(torch.tensor([3.0, 1.0]), torch.tensor([1.0]))
        >>> found.own.tolist(), found.foreign.tolist()
        ([0, 1], [1])
    """
    require_columns(own=own)
    require_columns(foreign=foreign)
    scores = torch.cat([own.double(), foreign.double()])
    if scores.isnan().any():
        raise ValueError("expected scores without NaN, got some; score broken rows lowest")
    _, ranks = (-scores).unique(return_inverse=True)
    return Ranking(own=ranks[: len(own)], foreign=ranks[len(own) :])


def detection(own: Tensor, foreign: Tensor) -> Detection:
    """AUROC, FPR at 95 % TPR and both average precisions of a score.

    The threshold of `fpr95` is the largest score that lets in at least 95 % of the own samples;
    nothing is interpolated.

    Args:
        own: Scores of in-distribution samples, shape [N], higher = more in-distribution.
        foreign: Scores of the other samples, shape [M].

    Example:
        >>> found = detection(torch.tensor([4.0, 2.0]), torch.tensor([3.0, 1.0]))
        >>> found.auroc, found.fpr95, round(found.aupr_in, 4)  # (1 + 2/3) / 2
        (0.75, 0.5, 0.8333)

    Reference:
        Hendrycks & Gimpel, A baseline for detecting misclassified and out-of-distribution examples
        (2017).
    """
    return ranking(own, foreign).detection()


def detection_draws(
    own: Tensor, foreign: Tensor, *, draws: int = DRAWS, generator: torch.Generator
) -> dict[str, Tensor]:
    """Values of `detection` on resamples of both sets, name -> float64 [B].

    Args:
        own: Scores of in-distribution samples, shape [N].
        foreign: Scores of the other samples, shape [M].
        draws: Number of resamples B.
        generator: Chooses the samples.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> found = detection_draws(torch.ones(3), torch.zeros(2), draws=4, generator=generator)
        >>> found["auroc"].tolist()
        [1.0, 1.0, 1.0, 1.0]

    Reference:
        Efron, Bootstrap methods: another look at the jackknife (1979).
    """
    return ranking(own, foreign).draws(draws, generator=generator)


def _redrawn(ranks: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Resamples of `ranks` [N] with replacement, [B, N]."""
    return ranks[torch.randint(len(ranks), (draws, len(ranks)), generator=generator)]


def _counts(ranks: Tensor, places: int) -> Tensor:
    """How often each rank occurs in the rows of `ranks` [B, N], float64 [B, K]."""
    ones = torch.ones((), dtype=torch.float64).expand_as(ranks)
    return torch.zeros(len(ranks), places, dtype=torch.float64).scatter_add_(1, ranks, ones)


def _quantities(own: Tensor, foreign: Tensor) -> dict[str, Tensor]:
    """From the counts of both sets at each distinct score, best first, float64 [B, K] each."""
    let_in, wrongly = own.cumsum(1), foreign.cumsum(1)
    n, m = let_in[:, -1], wrongly[:, -1]
    above = own * (m[:, None] - wrongly + foreign / 2)
    threshold = (let_in < TRUE_POSITIVES * n[:, None] - SLACK).sum(dim=1, keepdim=True)
    return {
        "auroc": above.sum(dim=1) / (n * m),
        "fpr95": wrongly.gather(1, threshold).squeeze(1) / m,
        "aupr_in": _average_precision(own, foreign),
        "aupr_out": _average_precision(foreign.flip(1), own.flip(1)),
    }


def _average_precision(positives: Tensor, negatives: Tensor) -> Tensor:
    """Sum over distinct scores of the recall gained times the precision there, [B]."""
    hits, misses = positives.cumsum(1), negatives.cumsum(1)
    precision = hits / (hits + misses).clamp(min=1.0)  # nothing answered yet: nothing gained
    return (positives * precision).sum(dim=1) / hits[:, -1]
