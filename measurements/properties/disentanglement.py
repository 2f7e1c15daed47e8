"""Does each feature stand for one property of the image?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import MODEL, metric_key
from datamodules.factors import FactorDataModule
from measurements.functional.disentanglement import (
    BINS,
    TREES,
    attribute_predictability,
    dci,
    mutual_information_gap,
)
from measurements.measurement import Measurement, Request
from models.base_model import ClassifierModule
from recording.records import Records


class Disentanglement(Measurement):
    """DCI, MIG and SAP of the features the classifier head sees, on images of known factors.

    The model need not know the images: its features are asked, not its classes. SAP leaves out
    factors whose values have no order. Classifiers are not trained to be disentangled; the change
    under compression tells more than the level. Rows whose logits are not finite do not take part.
    No intervals: forests and binned information are biased on resamples.

    Args:
        seed: Of the halves and of the forests of DCI.

    Reference:
        Eastwood & Williams (2018), DCI; Chen et al. (2018), MIG; Kumar et al. (2018), SAP.
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
        seed: int = 0,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.seed = seed

    def definition(self) -> dict[str, Any]:
        """Also how the scores learn."""
        learned = {"regressor": f"random forest of {TREES} trees", "split": "random halves"}
        return {**super().definition(), **learned, "seed": self.seed, "bins": BINS}

    def requests(self) -> list[Request]:
        """Features on the datasets with factors."""
        return [
            Request(datamodule=name, split=self.split, parts=self.parts, classes_of=MODEL)
            for name in self.having_factors()
        ]

    def having_factors(self) -> dict[str, FactorDataModule]:
        """Datasets whose factors are known."""
        return {
            name: datamodule
            for name, datamodule in self.datamodules.items()
            if isinstance(datamodule, FactorDataModule)
        }

    def measure(self) -> dict[str, Estimate]:
        """`dci_disentanglement`, `dci_completeness`, `dci_informativeness`, `mig`, `sap`."""
        datamodules = self.having_factors()
        if not datamodules:
            raise NotApplicable(
                "no dataset has known factors; datamodule_names of this entry are "
                f"{self.datamodule_names}, factors and dsprites have them"
            )
        results: dict[str, Estimate] = {}
        for name, datamodule in datamodules.items():
            records = self.records(name, classes_of=MODEL)
            records = records.take(records.finite.nonzero().flatten())
            for measured, value in self._scores(records, datamodule).items():
                results[metric_key(name, self.split, measured)] = self.value(value, n=len(records))
        return results

    def _scores(self, records: Records, datamodule: FactorDataModule) -> dict[str, float]:
        columns = datamodule.factors(self.split)
        still = [one for one in columns if len(_rows(columns, [one], records).unique()) < 2]
        if still:
            raise NotApplicable(f"in {len(records)} samples nothing varies: {', '.join(still)}")
        codes, factors = records.features, _rows(columns, list(columns), records)
        ordered = _rows(columns, datamodule.ordered, records)
        found = dci(codes, factors, seed=self.seed)
        return {
            "dci_disentanglement": found.disentanglement,
            "dci_completeness": found.completeness,
            "dci_informativeness": found.informativeness,
            "mig": mutual_information_gap(codes, factors),
            "sap": attribute_predictability(codes, ordered),
        }


def _rows(columns: dict[str, np.ndarray], names: Sequence[str], records: Records) -> Tensor:
    """Values of some factors for the recorded samples, int64 [n, F]."""
    chosen = np.stack([columns[name] for name in names], axis=1)
    return torch.from_numpy(chosen)[records.sample_id]
