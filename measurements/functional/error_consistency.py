"""Whether two models err on the same images, beyond what their accuracies make likely."""

from dataclasses import dataclass

from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.checks import require_columns


@dataclass(frozen=True, kw_only=True)
class ErrorConsistency:
    """Agreement of two models on right and wrong."""

    observed: float  # share of images both have right or both have wrong
    expected: float  # that of independent models of the same accuracies

    @property
    def kappa(self) -> float:
        """Cohen's kappa, at most 1; 0 for independent errors, 1 for the same ones.

        Raises:
            NotApplicable: Both have everything right, or both have everything wrong.
        """
        if self.expected == 1:
            raise NotApplicable("both models are all right or all wrong: chance alone agrees fully")
        return (self.observed - self.expected) / (1 - self.expected)


def error_consistency(correct: Tensor, *, baseline: Tensor) -> ErrorConsistency:
    """Compare which images two models, or a model and a human, have right.

    Args:
        correct: Whether the model is right, bool, shape [N].
        baseline: Whether the other one is right, bool, shape [N], same images.

    Example:
        >>> import torch
        >>> found = error_consistency(
        ...     torch.tensor([True, True, False, False]),
        ...     baseline=torch.tensor([True, True, True, False]),
        ... )
        >>> found, found.kappa
        (ErrorConsistency(observed=0.75, expected=0.5), 0.5)

    Reference:
        Geirhos et al., Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans by
        measuring error consistency (2020).
    """
    require_columns(correct=correct, baseline=baseline)
    one, other = correct.bool(), baseline.bool()
    p, q = one.double().mean().item(), other.double().mean().item()
    return ErrorConsistency(
        observed=(one == other).double().mean().item(),
        expected=p * q + (1 - p) * (1 - q),
    )
