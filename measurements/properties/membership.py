"""What a model gives away about the samples it was trained on."""

from collections.abc import Sequence

import torch
from omegaconf import DictConfig

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import Split, metric_key
from measurements.functional.intervals import percentile_interval
from measurements.functional.membership import membership_advantage
from measurements.functional.ood import detection, detection_draws
from measurements.measurement import BOOTSTRAP_SEED, Measurement, Request, ends
from models.base_model import ClassifierModule
from recording.loop import threads_set
from recording.records import Records


class MembershipInference(Measurement):
    """How well the loss tells samples of the train split from those of the test split.

    Half for a model that gives nothing away; its interval is a bootstrap of both splits. It speaks
    of the model's own training only where that was the train split; images that differ by
    where they come from are told apart without any training. Broken rows are left out.

    Args:
        samples: Images of the train split: a fixed random subset, the same for every model.

    Reference:
        Yeom et al., Privacy risk in machine learning (2018).
    """

    kind = "property"
    unit, better, version = "fraction", "lower", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int = 2000,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.samples = samples

    @property
    def with_train(self) -> list[str]:
        """Datasets whose train split is there."""
        found = ((name, self.datamodules[name]) for name in self.datamodule_names)
        return [name for name, data in found if "train" in data.splits and not data.faults("train")]

    def requests(self) -> list[Request]:
        """Records of both splits."""
        return [
            Request(datamodule=name, split=split, samples=self._most(split))
            for name in self.with_train
            for split in ("train", self.split)
        ]

    def measure(self) -> dict[str, Estimate]:
        """`membership_auroc`, and the advantage of the bound that is the mean training loss."""
        if not self.with_train:
            names = ", ".join(self.datamodule_names)
            raise NotApplicable(f"{names} has no train split here to tell from the test split")
        return {
            metric_key(name, self.split, measured): value
            for name in self.with_train
            for measured, value in self._found(name).items()
        }

    def _found(self, name: str) -> dict[str, Estimate]:
        trained, others = (
            self._whole(self.records(name, split, samples=self._most(split)))
            for split in ("train", self.split)
        )
        own, foreign = trained.log_p_label, others.log_p_label
        generator = torch.Generator().manual_seed(BOOTSTRAP_SEED)
        with threads_set(1):
            draws = detection_draws(own, foreign, generator=generator)["auroc"]
        n = len(own) + len(foreign)
        auroc = detection(own, foreign).auroc
        return {
            "membership_auroc": self.value(auroc, n=n, **ends(percentile_interval(draws))),
            "membership_advantage": self.value(membership_advantage(-own, -foreign), n=n),
        }

    def _most(self, split: Split) -> int | None:
        return self.samples if split == "train" else None

    def _whole(self, records: Records) -> Records:
        kept = records.finite.nonzero().flatten()
        if not len(kept):
            raise NotApplicable("no logits of a split are finite")
        return records.take(kept)
