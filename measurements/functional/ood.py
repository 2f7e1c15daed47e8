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


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How well a score separates the two sets; each in [0, 1]."""

    auroc: float  # chance that an in-distribution sample scores higher; ties count 1/2
    fpr95: float  # share of foreign samples let in when 95 % of the own are; lower is better
    aupr_in: float  # average precision with the own samples as the positives
    aupr_out: float  # average precision with the foreign samples as the positives


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Samples of both sets by the rank of their score among all distinct scores, best first."""

    own: Tensor  # [N] int64 in [0, K)
    foreign: Tensor  # [M] int64 in [0, K)

    def detection(self) -> Detection:
        """Detection by these ranks; nothing is sorted again."""
        places = int(torch.maximum(self.own.max(), self.foreign.max())) + 1
        return _detection(
            torch.bincount(self.own, minlength=places).double(),
            torch.bincount(self.foreign, minlength=places).double(),
        )

    def resampled(self, generator: torch.Generator) -> "Ranking":
        """Both sets drawn anew with replacement, each from itself."""
        return Ranking(own=_redrawn(self.own, generator), foreign=_redrawn(self.foreign, generator))


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
    ranks = ranking(own, foreign)
    found = [ranks.resampled(generator).detection() for _ in range(draws)]
    return {
        name: torch.tensor([getattr(one, name) for one in found], dtype=torch.float64)
        for name in Detection.__dataclass_fields__
    }


def _redrawn(values: Tensor, generator: torch.Generator) -> Tensor:
    return values[torch.randint(len(values), (len(values),), generator=generator)]


def _detection(own: Tensor, foreign: Tensor) -> Detection:
    """From the counts of both sets at each distinct score, best first, float64 [K] each."""
    let_in, wrongly = own.cumsum(0), foreign.cumsum(0)
    above = own * (foreign.sum() - wrongly + foreign / 2)
    threshold = int((let_in >= TRUE_POSITIVES * let_in[-1] - SLACK).nonzero()[0])
    return Detection(
        auroc=(above.sum() / (own.sum() * foreign.sum())).item(),
        fpr95=(wrongly[threshold] / wrongly[-1]).item(),
        aupr_in=_average_precision(own, foreign),
        aupr_out=_average_precision(foreign.flip(0), own.flip(0)),
    )


def _average_precision(positives: Tensor, negatives: Tensor) -> float:
    """Sum over distinct scores of the recall gained times the precision there."""
    hits, misses = positives.cumsum(0), negatives.cumsum(0)
    precision = hits / (hits + misses).clamp(min=1.0)  # nothing answered yet: nothing gained
    return (positives * precision).sum().item() / positives.sum().item()
