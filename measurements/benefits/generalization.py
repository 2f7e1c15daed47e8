"""Accuracy, in the whole and by class."""

from collections.abc import Iterable

from torch import Tensor

from core.estimate import Estimate
from measurements.functional import accuracy
from measurements.functional.intervals import mean_difference_interval, wilson_interval
from measurements.measurement import MeanMeasurement, RecordMeasurement, bounded
from recording.records import Records, require_same_samples


class ClassificationAccuracyEvaluation(MeanMeasurement):
    """Share of samples whose label is the best class, or among the five best.

    Records are all it reads: a good example to begin a measurement of your own with.

    Reference:
        Ties are broken towards the lower class; a row with a non-finite logit is wrong.
    """

    kind = "benefit"
    unit, better, version = "fraction", "higher", 1

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        """Hit or miss, [n]; the top-5 form only where there are more than five classes."""
        hits = {"accuracy": records.rank < 1}
        return hits if records.classes <= 5 else {**hits, "top5_accuracy": records.rank < 5}


class PerClassAccuracy(RecordMeasurement):
    """Recall of every class, named by its index; Wilson intervals with the class's own n."""

    kind = "benefit"
    unit, better, version = "fraction", "higher", 1

    def statistic(self, records: Records) -> dict[str, float]:
        """Recall of the classes that occur."""
        return {
            _name(index): chosen.correct.double().mean().item()
            for index, chosen in _by_class(records)
        }

    def estimate(self, records: Records) -> dict[str, Estimate]:
        """Recall with a Wilson interval."""
        results = {}
        for index, chosen in _by_class(records):
            hits, n = int(chosen.correct.sum()), len(chosen)
            low, high = wilson_interval(hits, n)
            results[_name(index)] = self.value(hits / n, n=n, low=low, high=high)
        return results

    def difference(self, records: Records, baseline: Records) -> dict[str, Estimate]:
        """Change of the recall, paired within the class."""
        require_same_samples(records, baseline)
        results = {}
        for (index, now), (_, before) in zip(_by_class(records), _by_class(baseline), strict=True):
            change = now.correct.double() - before.correct.double()
            low, high = bounded(mean_difference_interval(change))
            mean = change.mean().item()
            results[_name(index)] = self.value(mean, n=len(change), low=low, high=high)
        return results


class WorstClassAccuracy(RecordMeasurement):
    """Lowest recall of any class; its n is the number of samples of that class.

    Without an interval: the lowest of several noisy recalls is biased downward where classes are
    small, and resampling biases it once more, so that its percentiles miss the truth.
    """

    kind = "benefit"
    unit, better, version = "fraction", "higher", 2
    has_interval = False

    def statistic(self, records: Records) -> dict[str, float]:
        """Lowest recall over the classes that occur."""
        worst = accuracy.worst_class(records.predicted, records.label)
        return {"worst_class_accuracy": worst.recall}

    def estimate(self, records: Records) -> dict[str, Estimate]:
        """Lowest recall with the size of its class."""
        worst = accuracy.worst_class(records.predicted, records.label)
        return {"worst_class_accuracy": self.value(worst.recall, n=worst.count)}


class MacroAccuracy(RecordMeasurement):
    """Mean recall over the classes: accuracy as if all were of one size."""

    kind = "benefit"
    unit, better, version = "fraction", "higher", 1

    def statistic(self, records: Records) -> dict[str, float]:
        """Mean recall over the classes that occur."""
        return {"macro_accuracy": accuracy.macro_accuracy(records.predicted, records.label)}


class Nonfinite(MeanMeasurement):
    """Share of samples for which the model gave a NaN or infinite logit."""

    kind = "benefit"
    unit, better, version = "fraction", "lower", 1

    def per_sample(self, records: Records) -> dict[str, Tensor]:
        """Whether the row is broken, [n]."""
        return {"nonfinite": ~records.finite}


class ClassCollapse(RecordMeasurement):
    """Share of samples that get the most predicted class; 1 for a constant model.

    Without an interval: the largest of several shares is biased upward in every resample, so far
    that a percentile interval may leave the value itself out.
    """

    kind = "benefit"
    unit, better, version = "fraction", "", 1
    has_interval = False

    def statistic(self, records: Records) -> dict[str, float]:
        """Share of the most predicted class."""
        return {"class_collapse": accuracy.class_collapse(records.predicted)}


def _name(index: int) -> str:
    return f"accuracy_class_{index}"


def _by_class(records: Records) -> Iterable[tuple[int, Records]]:
    for index in records.label.unique().tolist():
        yield index, records.take((records.label == index).nonzero().squeeze(1))
