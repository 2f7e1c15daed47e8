"""What compression does to robustness, and whether old attacks work on the new model."""

from collections.abc import Iterator, Sequence

from omegaconf import DictConfig
from torch import Tensor

from core.estimate import Estimate
from core.names import CLEAN, metric_key
from measurements.attacked import Attacks, robust, share
from measurements.functional.intervals import paired_difference
from measurements.measurement import PairedMeasurement, Request, bounded, ends
from models.base_model import ClassifierModule


class AttackedPair(PairedMeasurement):
    """Two models under the same attacks, on the same samples.

    Args:
        attacks: Names of attacks.
        samples: Of how many samples, a fixed random subset; None = all.
    """

    transferred = False

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        attacks: Sequence[str],
        samples: int | None = None,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.attacks = Attacks(names=attacks, samples=samples, transferred=self.transferred)

    def requests(self) -> list[Request]:
        """Clean records, and those of every attack."""
        return self.attacks.requests(self.datamodule_names, self.split)

    def robust(self, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Hits of the model and of its baseline, as `measurements.attacked.robust` has them."""
        now, before = (
            robust(self.attacks.seen(self, model, name)) for model in (self.model, self.baseline)
        )
        return now, before

    def difference(self, now: Tensor, before: Tensor) -> Estimate:
        """Accuracy of the model minus that of its baseline, with a paired interval."""
        found = paired_difference(now.double() - before.double())
        return self.value(found.mean, n=len(now), **ends(bounded(found.interval)))

    def share(self, chosen: Tensor, **fields: str) -> Estimate:
        """Share of True."""
        return self.value(chosen.double().mean().item(), **share(chosen), **fields)


class AdversarialDelta(AttackedPair):
    """Change of accuracy under attacks that know the model they attack, each its own.

    A gain may be a loss of gradients: look at `gradient_masking` and `transfer` beside it.

    Reference:
        Miller, Adding error bars to evals (2024), section 4.2; Yan et al., Positive-congruent
        training (2021), negative flips.
    """

    needs = frozenset({"records", "gradients"})
    unit, better, version = "fraction", "higher", 1

    def measure(self) -> dict[str, Estimate]:
        """Differences and negative flips under each attack, and under the worst of all."""
        return {
            metric_key(name, self.split, measured, view): value
            for name in self.datamodule_names
            for measured, view, value in self._values(name)
        }

    def _values(self, name: str) -> Iterator[tuple[str, str, Estimate]]:
        now, before = self.robust(name)
        for attack in ("", *self.attacks.names):
            view = attack or CLEAN
            broken = before[attack] & ~now[attack]
            change = self.difference(now[attack], before[attack])
            change.view = view
            yield "delta_robust_accuracy", view, change
            yield "robust_negative_flip_rate", view, self.share(broken, better="lower", view=view)


class Transfer(AttackedPair):
    """Images made against the baseline, shown to both models.

    It needs no gradient of the model itself, and so holds for any runtime and any rounding. For a
    model equal to its baseline it is the attack on the model itself.

    Reference:
        Papernot et al., Transferability in machine learning (2016).
    """

    transferred = True
    unit, better, version = "fraction", "higher", 1

    def measure(self) -> dict[str, Estimate]:
        """Accuracy on these images, its difference to the baseline's, and the transfer rate.

        The rate is the share of those that both models have right unattacked, and the baseline has
        wrong attacked, that the model has wrong attacked; left out where there is none.
        """
        return {
            metric_key(name, self.split, measured, attack): value
            for name in self.datamodule_names
            for measured, attack, value in self._values(name)
        }

    def _values(self, name: str) -> Iterator[tuple[str, str, Estimate]]:
        now, before = self.robust(name)
        for attack in self.attacks.names:
            change = self.difference(now[attack], before[attack])
            change.view = attack
            yield "transfer_accuracy", attack, self.share(now[attack], view=attack)
            yield "delta_transfer_accuracy", attack, change
            fooled = now[CLEAN] & before[CLEAN] & ~before[attack]
            if fooled.any():
                rate = self.share(~now[attack][fooled], better="lower", view=attack)
                yield "transfer_rate", attack, rate
