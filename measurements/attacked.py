"""Which attacks a measurement looks at, on which samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import ConfigError
from core.names import CLEAN, Split
from measurements.functional.intervals import wilson_interval
from measurements.measurement import Measurement, Request
from models.base_model import ClassifierModule
from recording.attacks.grammar import TRANSFER, attack
from recording.records import Records, require_same_samples


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """Attacks of a fixed random subset, beside the clean images of all samples.

    Args:
        names: Attacks as they stand in result keys, `pgd_8`; no `transfer_` before them.
        samples: Size of the subset; None = all samples.
        transferred: Whether the images are made against the baseline.

    Raises:
        ConfigError: There is none, or one that does not exist.
    """

    names: Sequence[str]
    samples: int | None
    transferred: bool = False

    def __post_init__(self) -> None:
        faults = [] if self.names else ["expected at least one attack, got none"]
        for name in self.names:
            try:
                if attack(name) is None or name.startswith(TRANSFER):
                    faults.append(f"{name!r} is no attack; expected names such as pgd_8")
            except LookupError as error:
                faults.append(str(error))
        if self.samples is not None and self.samples < 1:
            faults.append(f"samples is a number of at least 1, or empty, got {self.samples}")
        if faults:
            raise ConfigError(faults)

    def requests(self, datamodules: Sequence[str], split: Split) -> list[Request]:
        """Clean records of all samples, and those of the attacks."""
        clean = [Request(datamodule=name, split=split) for name in datamodules]
        return clean + [
            Request(datamodule=name, split=split, view=self._view(one), samples=self.samples)
            for name in datamodules
            for one in self.names
        ]

    def seen(
        self, measurement: Measurement, model: ClassifierModule, datamodule: str
    ) -> dict[str, Records]:
        """Records by attack, and those of the same samples as `clean`."""
        found = {
            name: measurement.records_of(
                model, datamodule, view=self._view(name), samples=self.samples
            )
            for name in self.names
        }
        ids = next(iter(found.values())).sample_id
        clean = measurement.records_of(model, datamodule)
        rows = torch.searchsorted(clean.sample_id, ids).clamp(max=len(clean) - 1)
        every = {CLEAN: clean.take(rows), **found}
        for records in every.values():
            require_same_samples(records, every[CLEAN])
        if not torch.equal(every[CLEAN].sample_id, ids):
            raise ValueError("the attacked samples are not among the clean ones")
        return every

    def _view(self, name: str) -> str:
        return f"{TRANSFER}{name}" if self.transferred else name


def robust(seen: dict[str, Records]) -> dict[str, Tensor]:
    """Hits by view, bool [n]; with the empty name, those that hold under every one of them."""
    hits = {view: records.correct for view, records in seen.items()}
    return {"": torch.stack(list(hits.values())).all(dim=0), **hits}


def share(chosen: Tensor) -> dict[str, float]:
    """Share of True with its Wilson interval, as arguments of an `Estimate`."""
    n, hits = len(chosen), int(chosen.sum())
    low, high = wilson_interval(hits, n)
    return {"n": n, "low": low, "high": high}
