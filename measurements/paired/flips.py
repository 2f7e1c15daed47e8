"""Which predictions changed, for better and for worse."""

from collections.abc import Iterator

from torch import Tensor

from core.estimate import Estimate
from core.names import metric_key
from measurements.functional import paired
from measurements.functional.intervals import wilson_interval
from measurements.measurement import PairedMeasurement
from recording.records import Records


class Flips(PairedMeasurement):
    """Churn, and its parts that break a right answer or mend a wrong one.

    Two equally accurate models may still answer differently: churn is what a user notices.

    Reference:
        Milani Fard et al., Launch and iterate: reducing prediction churn (2016);
        Yan et al., Positive-congruent training (2021), negative flip rate.
    """

    unit, better, version = "fraction", "lower", 1

    def measure(self) -> dict[str, Estimate]:
        """Rates over all samples, and `nfr_relative` over those the baseline has right."""
        return {
            metric_key(name, self.split, measured): estimate
            for name in self.datamodule_names
            for measured, estimate in self._rates(*self.pair(name))
        }

    def _rates(self, now: Records, before: Records) -> Iterator[tuple[str, Estimate]]:
        changed = now.predicted != before.predicted
        broken = before.correct & ~now.correct
        mended = now.correct & ~before.correct
        yield "churn", self._share(changed)
        yield "agreement", self._share(~changed, better="higher")
        yield "negative_flip_rate", self._share(broken)
        yield "positive_flip_rate", self._share(mended, better="higher")
        if before.correct.any():
            yield "nfr_relative", self._share(broken[before.correct])
        unnecessary = paired.unnecessary_churn(now.predicted, now.label, baseline=before.predicted)
        yield "unnecessary_churn", self.value(unnecessary, n=len(now))

    def _share(self, chosen: Tensor, **fields: str) -> Estimate:
        hits, n = int(chosen.sum()), len(chosen)
        low, high = wilson_interval(hits, n)
        return self.value(hits / n, n=n, low=low, high=high, **fields)


class McNemar(PairedMeasurement):
    """Exact test of whether the two models are equally accurate.

    Reference:
        McNemar (1947), in its exact binomial form: a fair coin for every discordant sample.
    """

    version = 1

    def measure(self) -> dict[str, Estimate]:
        """p-value, and the two counts it follows from."""
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            now, before = self.pair(name)
            found = paired.mcnemar(now.correct, baseline=before.correct)
            values = {
                "mcnemar_p": self.value(found.p_value, n=len(now), unit="p"),
                "newly_wrong": self.value(found.broken, n=len(now), unit="samples", better="lower"),
                "newly_right": self.value(
                    found.mended, n=len(now), unit="samples", better="higher"
                ),
            }
            results |= {metric_key(name, self.split, key): value for key, value in values.items()}
        return results


class WorstClassDelta(PairedMeasurement):
    """The change of recall of the class that lost most; 0 or above where none lost.

    The lowest of several noisy changes is biased downward where classes are small.
    """

    unit, better, version = "fraction", "higher", 1

    def measure(self) -> dict[str, Estimate]:
        """The lowest change over classes and the index of the class."""
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            now, before = self.pair(name)
            worst = paired.worst_class_delta(now.predicted, now.label, baseline=before.predicted)
            n = worst.count
            results[metric_key(name, self.split, "worst_class_delta")] = self.value(
                worst.delta, n=n
            )
            results[metric_key(name, self.split, "worst_class_delta_class")] = self.value(
                worst.label, n=n, unit="class", better=""
            )
        return results
