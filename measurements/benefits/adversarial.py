"""Accuracy on the worst images near the real ones, and whether that number can be believed."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from omegaconf import DictConfig
from torch import Tensor

from core.estimate import Estimate
from core.names import CLEAN, metric_key
from measurements.attacked import Attacks, robust, share
from measurements.functional.intervals import paired_difference
from measurements.measurement import Measurement, Request, bounded, ends
from models.base_model import ClassifierModule


class Adversarial(Measurement):
    """Accuracy under each attack, and under the worst of all attacks on each sample.

    The attacks know the model. A high value means robust only where `gradient_masking` has no
    warnings: gradients that are 0 or wrong protect from these attacks alone.

    Args:
        attacks: Names of attacks.
        samples: Of how many samples, a fixed random subset; None = all.

    Reference:
        Madry et al., Towards deep learning models resistant to adversarial attacks (2018); the
        worst case over attacks as in Croce & Hein, Reliable evaluation (2020).
    """

    kind = "benefit"
    needs = frozenset({"records", "gradients"})
    unit, better, version = "fraction", "higher", 1
    measured: ClassVar[str] = "robust_accuracy"
    lost: ClassVar[str] = "adversarial_loss"

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
        self.attacks = Attacks(names=attacks, samples=samples)

    def requests(self) -> list[Request]:
        """Clean records, and those of every attack."""
        return self.attacks.requests(self.datamodule_names, self.split)

    def measure(self) -> dict[str, Estimate]:
        """The worst case over all attacks, each attack, and the share of samples that they break.

        The worst case is that of the unchanged image too: what is wrong on it is not robust.
        """
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            hits = robust(self.attacks.seen(self, self.model, name))
            clean = hits.pop(CLEAN)
            broken = self._share(clean & ~hits[""], better="lower")
            results[metric_key(name, self.split, self.lost)] = broken
            for attack, right in hits.items():
                view = attack or CLEAN
                results[metric_key(name, self.split, self.measured, view)] = self._share(
                    right, view=view
                )
        return results

    def _share(self, chosen: Tensor, **fields: str) -> Estimate:
        return self.value(chosen.double().mean().item(), **share(chosen), **fields)


class BlackBox(Adversarial):
    """Accuracy under attacks that only ask for answers: it holds for any runtime and any rounding.

    Reference:
        Andriushchenko et al., Square attack (2020).
    """

    needs = frozenset({"records"})
    version = 1
    measured = "black_box_accuracy"
    lost = "black_box_loss"


class GradientMasking(Measurement):
    """Signs that attacks by gradient are weak because gradients are, not because the model is firm.

    Each sign is a share, or a difference of two accuracies, that should be 0 or less. Quantisation
    with rounding has them all; then only `black_box` and `transfer` tell something.

    Args:
        single: Attack of one step.
        multi: Attack of many steps, from the same distance.
        black_box: Attack without gradients, from the same distance.
        huge: Attack of many steps, from a distance at which no model can be right.
        samples: Of how many samples, a fixed random subset; None = all.

    Reference:
        Athalye et al., Obfuscated gradients give a false sense of security (2018), section 3.1;
        Carlini et al., On evaluating adversarial robustness (2019).
    """

    kind = "benefit"
    needs = frozenset({"records", "gradients"})
    unit, better, version = "fraction", "lower", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        single: str,
        multi: str,
        black_box: str,
        huge: str,
        samples: int | None = None,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        self.single, self.multi, self.black_box, self.huge = single, multi, black_box, huge
        self.attacks = Attacks(names=[single, multi, black_box, huge], samples=samples)

    def requests(self) -> list[Request]:
        """Clean records, and those of the four attacks."""
        return self.attacks.requests(self.datamodule_names, self.split)

    def measure(self) -> dict[str, Estimate]:
        """Five signs, and `masking_warnings`: how many are above 0 with their whole interval.

        `masking_zero_gradient` is of the samples that are right unattacked; without any, left out.
        """
        results: dict[str, Estimate] = {}
        for name in self.datamodule_names:
            signs = dict(self._signs(name))
            warnings = sum(sign.low is not None and sign.low > 0 for sign in signs.values())
            signs["masking_warnings"] = self.value(warnings, unit="signs")
            results |= {metric_key(name, self.split, key): sign for key, sign in signs.items()}
        return results

    def _signs(self, name: str) -> Iterator[tuple[str, Estimate]]:
        seen = self.attacks.seen(self, self.model, name)
        right = {attack: records.correct for attack, records in seen.items()}
        many = right[self.multi]
        clean = right[CLEAN]
        if clean.any():  # the gradient of what is wrong anyway may be 0 honestly
            blind = seen[self.single].zero_gradient[clean]
            yield "masking_zero_gradient", self._share(blind)
        yield "masking_one_step_beats_many", self._gain(many, right[self.single])
        yield "masking_asking_beats_gradient", self._gain(many, right[self.black_box])
        yield "masking_far_is_weaker_than_near", self._gain(right[self.huge], many)
        yield "masking_right_at_any_distance", self._share(right[self.huge])

    def _gain(self, more: Tensor, less: Tensor) -> Estimate:
        """Accuracy in one place minus that in another, on the same samples."""
        found = paired_difference(more.double() - less.double())
        return self.value(found.mean, n=len(more), **ends(bounded(found.interval)))

    def _share(self, chosen: Tensor) -> Estimate:
        return self.value(chosen.double().mean().item(), **share(chosen))
