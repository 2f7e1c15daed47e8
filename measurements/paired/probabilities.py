"""How alike the two models order and weigh the classes."""

from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.logit_similarity import logit_cosine, rank_correlation, topk_overlap
from measurements.measurement import PairedMeasurement, ends, mean_interval

TOP = 5


class LogitSimilarity(PairedMeasurement):
    """Overlap of the five best classes, cosine and rank correlation of the logits.

    Reference:
        Fagin et al., Comparing top k lists (2003); Spearman (1904).
    """

    needs = frozenset({"records", "logits"})
    unit, better, version = "", "higher", 1

    def measure(self) -> dict[str, Estimate]:
        """Means over samples; the overlap only where there are more than five classes."""
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            now, before = self.pair(name)
            per_sample = {
                "logit_cosine": logit_cosine(now.logits, baseline=before.logits),
                "logit_rank_correlation": rank_correlation(now.logits, baseline=before.logits),
            }
            if now.classes > TOP:
                per_sample["top5_overlap"] = topk_overlap(
                    now.topk_ids, baseline=before.topk_ids, k=TOP
                )
            for measured, values in per_sample.items():
                results[metric_key(name, self.split, measured)] = self.value(
                    values.mean().item(), n=len(now), **ends(mean_interval(values))
                )
        return results
