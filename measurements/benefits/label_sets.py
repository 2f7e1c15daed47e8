"""Is the model right where one label is not the whole truth?"""

from collections.abc import Iterator

import torch
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from datamodules.cifar_relatives import CIFAR10H
from measurements.functional.label_sets import entropies, set_hits, soft_cross_entropy
from measurements.measurement import Measurement, Request, ends, mean_interval


class RealAccuracy(Measurement):
    """Share of predictions that are among the right classes of the image.

    For ImageNet these are the reassessed labels (ReaL), for Dollar Street the publisher's. Images
    without a right class are skipped.

    Reference:
        Beyer et al., Are we done with ImageNet? (2020). Torchvision's first ResNet-50 has 82.969 %.
    """

    kind = "benefit"
    unit, better, version = "fraction", "higher", 1

    def measure(self) -> dict[str, Estimate]:
        """For every dataset that has sets of labels."""
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            sets = self.datamodules[name].label_sets(self.split)
            if sets is None:
                continue
            records = self.records(name)
            chosen = [sets[i] for i in records.sample_id.tolist()]
            hits = set_hits(records.predicted, chosen)
            if len(hits):
                results[metric_key(name, self.split, "real_accuracy")] = self.value(
                    hits.double().mean().item(), n=len(hits), **ends(mean_interval(hits))
                )
        if not results:
            raise NotApplicable(
                f"{', '.join(self.datamodule_names)}: no sets of right classes are known"
            )
        return results


class HumanAgreement(Measurement):
    """Cross-entropy of what people said about an image and the model's probabilities, in nats.

    It cannot be less than the entropy of what people said, .15446 in the mean over CIFAR-10H, which
    is given beside it. Accuracy is given for the half of the images on which people agree most, and
    for the other.

    Reference:
        Peterson et al., Human uncertainty makes classification more robust (2019).
    """

    kind = "benefit"
    needs = frozenset({"records", "logits"})
    unit, better, version = "nats", "lower", 1

    @property
    def asked(self) -> list[str]:
        """Datasets that many people labelled."""
        return [name for name, one in self.datamodules.items() if isinstance(one, CIFAR10H)]

    def requests(self) -> list[Request]:
        """Only of the datasets that many people labelled."""
        return [request for request in super().requests() if request.datamodule in self.asked]

    def measure(self) -> dict[str, Estimate]:
        """For every dataset that many people labelled."""
        results = {
            metric_key(name, self.split, measured): value
            for name in self.asked
            for measured, value in self._values(name)
        }
        if not results:
            raise NotApplicable(
                f"{', '.join(self.datamodule_names)}: nobody asked many people; use cifar10h"
            )
        return results

    def _values(self, name: str) -> Iterator[tuple[str, Estimate]]:
        datamodule, records = self.datamodules[name], self.records(name)
        assert isinstance(datamodule, CIFAR10H)
        said = torch.from_numpy(datamodule.label_distribution(self.split))[records.sample_id]
        difficulty = entropies(said)
        yield "human_cross_entropy", self._mean(soft_cross_entropy(records.logits, said))
        yield "human_entropy", self.value(difficulty.mean().item(), n=len(records), better="")
        order = difficulty.argsort(stable=True)
        half = len(order) // 2
        for title, rows in (("easier", order[:half]), ("harder", order[half:])):
            if len(rows):
                hits = records.correct[rows]
                yield f"accuracy_human_{title}", self._mean(hits, unit="fraction", better="higher")

    def _mean(self, values: Tensor, **fields: str) -> Estimate:
        interval = ends(mean_interval(values))
        return self.value(values.double().mean().item(), n=len(values), **fields, **interval)
