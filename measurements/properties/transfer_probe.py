"""What a linear classifier learned on the features of one dataset is worth on another."""

from collections.abc import Sequence

from omegaconf import DictConfig

from core.errors import ConfigError, NotApplicable, unknown
from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.probes import transferred_probe
from measurements.measurement import Measurement, Request, ends, mean_interval
from measurements.properties.representation import SAMPLES, chosen_rows, representation_at
from models.base_model import ClassifierModule


class TransferProbe(Measurement):
    """Accuracy on other datasets of a logistic regression on the features of a train split.

    The others have the same classes in the same order. Rows whose logits are not finite do not
    take part.

    Args:
        others: Datasets the probe is tried on; none: not applicable.
        strength: Inverse strength of the L2 penalty.
        samples: Images of the train split, and rows of each other dataset: random subsets, the same
            for every model.

    Reference:
        Kornblith et al., Do better ImageNet models transfer better? (2019), linear probes.
    """

    kind = "property"
    needs = frozenset({"records", "features"})
    unit, better, version = "fraction", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        others: Sequence[str] | None = None,
        strength: float = 1.0,
        samples: int = SAMPLES,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.others, self.strength, self.samples = list(others or []), strength, samples
        library = [*experiment_config.dataset_library]
        if strange := [name for name in self.others if name not in library]:
            raise ConfigError([unknown("dataset", name, library) for name in strange])

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Dataset learned from and dataset tried on, where both can be."""
        return [
            (name, other)
            for name in self.datamodule_names
            for other in self.others
            if other != name and not self._fault(name, other)
        ]

    def requests(self) -> list[Request]:
        """Features of the train splits and of the others."""
        return [
            request
            for name, other in self.pairs
            for request in (
                Request(datamodule=name, split="train", parts=self.parts, samples=self.samples),
                Request(datamodule=other, split=self.split, parts=self.parts),
            )
        ]

    def measure(self) -> dict[str, Estimate]:
        """`transfer_probe_<other>` of every dataset."""
        if not self.others:
            raise NotApplicable("no other dataset is named; set others of this entry")
        if not self.pairs:
            raise NotApplicable(self._why())
        return {
            metric_key(name, self.split, f"transfer_probe_{other}"): self._accuracy(name, other)
            for name, other in self.pairs
        }

    def _accuracy(self, name: str, other: str) -> Estimate:
        learned, tried = (
            representation_at(records, chosen_rows([records], self.samples))
            for records in (
                self.records(name, "train", samples=self.samples),
                self.records(other),
            )
        )
        if len(learned.labels.unique()) < 2 or not len(tried.labels):
            raise NotApplicable("a probe needs samples of two classes, and others to be tried on")
        predicted = transferred_probe(
            learned.features, learned.labels, tried.features, strength=self.strength
        )
        hits = predicted == tried.labels
        return self.value(hits.double().mean().item(), n=len(hits), **ends(mean_interval(hits)))

    def _fault(self, name: str, other: str) -> str:
        """Why nothing can be learned from one for the other; empty where it can."""
        here, there = (self.recorder.datamodule(each, self.model) for each in (name, other))
        if "train" not in here.splits or here.faults("train"):
            return f"{name} has no train split here"
        if there.faults(self.split):
            return f"{other} is not on disk"
        if here.num_classes != there.num_classes:
            return f"{name} has {here.num_classes} classes, {other} {there.num_classes}"
        return ""

    def _why(self) -> str:
        found = [
            self._fault(name, other) for name in self.datamodule_names for other in self.others
        ]
        return "; ".join(dict.fromkeys(filter(None, found))) or "a dataset is no other than itself"
