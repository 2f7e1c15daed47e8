"""Do the two models err on the same images?"""

import torch
from torch import Tensor

from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.error_consistency import error_consistency
from measurements.functional.intervals import (
    DRAWS,
    Interval,
    bootstrap_means,
    percentile_interval,
    wilson_interval,
)
from measurements.measurement import BOOTSTRAP_SEED, PairedMeasurement, ends


class ErrorConsistency(PairedMeasurement):
    """Agreement on right and wrong beyond what the two accuracies make likely: Cohen's kappa.

    1 where compressed and baseline model err on the same images, 0 where their errors have nothing
    to do with each other. The interval is left out where a resample may have no error at all.

    Reference:
        Geirhos et al., Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans by
        measuring error consistency (2020).
    """

    unit, better, version = "", "higher", 1

    def measure(self) -> dict[str, Estimate]:
        """`error_consistency`, and the `error_overlap` it is made of, observed and expected."""
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            now, before = self.pair(name)
            n, correct, baseline = len(now), now.correct, before.correct
            found = error_consistency(correct, baseline=baseline)
            same = wilson_interval(int((correct == baseline).sum()), n)
            values = {
                "error_consistency": self.value(
                    found.kappa, n=n, **ends(kappa_interval(correct, baseline))
                ),
                "error_overlap": self.value(found.observed, n=n, unit="fraction", **ends(same)),
                "error_overlap_expected": self.value(
                    found.expected, n=n, unit="fraction", better=""
                ),
            }
            results |= {metric_key(name, self.split, key): value for key, value in values.items()}
        return results


def kappa_interval(correct: Tensor, baseline: Tensor) -> Interval | None:
    """95 % bootstrap interval of kappa over the images; None where a resample has no kappa.

    Example:
        >>> right = torch.tensor([True, False] * 50)
        >>> kappa_interval(right, right), kappa_interval(right[:2], right[:2])
        (Interval(low=1.0, high=1.0), None)
    """
    one, other, same = (
        bootstrap_means(
            column.double(), draws=DRAWS, generator=torch.Generator().manual_seed(BOOTSTRAP_SEED)
        )
        for column in (correct, baseline, correct == baseline)
    )
    expected = one * other + (1 - one) * (1 - other)
    kappa = (same - expected) / (1 - expected)
    return percentile_interval(kappa) if kappa.isfinite().all() else None
