"""A walk among vectors of sparsities that cools down."""

import math
import random
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from compressors.options import positive, whole
from compressors.search.base import Search
from compressors.search.budget import Budget, Fit, fitted
from compressors.search.oracle import Oracle, Scored
from core.errors import ConfigError, unknown

LEAST = 0.01
"""Every group keeps a chance to lose filters, so that every direction leads to the budget."""

PRESETS: Mapping[str, Mapping[str, float]] = {  # unit: of a score of 1, in temperatures
    "points": {"start_temperature": 3.0, "stop_temperature": 0.05, "unit": 100.0},
    "nni": {"start_temperature": 100.0, "stop_temperature": 20.0, "unit": 1.0},
}


class SimulatedAnnealing(Search):
    """Shifts the shares of all layers by chance, less and less; a worse one is taken by chance.

    A candidate that is worse by d percentage points of score is gone on with at temperature T with
    probability exp(-d / T). What comes out is the best that was scored.

    Args:
        start_temperature: In percentage points of score; None for that of the preset.
        stop_temperature: The walk ends below it; None for that of the preset.
        cool_down_rate: Temperature over the one before; None for that which comes from the first to
            the last in as many candidates as may be scored.
        perturbation_magnitude: Largest shift of a share at the first temperature; later shifts are
            smaller as the temperature is.
        candidates_per_temperature: Steps of the walk before it cools.
        preset: points: from 3 to 0.05; or nni: from 100 to 20, and temperatures are in units of
            the score, not in points of it, so that nearly every step is taken: a random walk.
        **options: Those of Search.

    Reference:
        Liu et al., AutoCompress, AAAI 2020, section 3.2; Kirkpatrick et al., Science 1983.
    """

    efforts: ClassVar = {
        "quick": {"epochs": 0, "max_evaluations": 40, "candidates_per_temperature": 1},
        "paper": {"epochs": 0, "max_evaluations": 400, "candidates_per_temperature": 10},
    }

    def __init__(
        self,
        *,
        start_temperature: float | None = None,
        stop_temperature: float | None = None,
        cool_down_rate: float | None = 0.9,
        perturbation_magnitude: float = 0.35,
        candidates_per_temperature: int | None = None,
        preset: str = "points",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        values = PRESETS.get(preset, PRESETS["points"])
        start = values["start_temperature"] if start_temperature is None else start_temperature
        stop = values["stop_temperature"] if stop_temperature is None else stop_temperature
        faults = positive(start, "start_temperature") + positive(stop, "stop_temperature")
        if cool_down_rate is not None:
            faults += positive(cool_down_rate, "cool_down_rate", below=1)
        faults += positive(perturbation_magnitude, "perturbation_magnitude")
        faults += whole(candidates_per_temperature, "candidates_per_temperature", or_null=True)
        if preset not in PRESETS:
            faults.append(unknown("compressor.preset", preset, PRESETS))
        if not faults and stop >= start:
            faults.append(
                "compressor.stop_temperature is below start_temperature, "
                f"got {stop:g} and {start:g}"
            )
        if faults:
            raise ConfigError(faults)
        self.start_temperature, self.stop_temperature = start, stop
        self.unit = values["unit"]
        self.cool_down_rate, self.preset = cool_down_rate, preset
        self.perturbation_magnitude = perturbation_magnitude
        self.candidates_per_temperature: int = (
            candidates_per_temperature or self.efforts[self.effort]["candidates_per_temperature"]
        )

    def options(self) -> dict[str, Any]:
        """Those of every search, and how the walk cools."""
        return {
            **super().options(),
            "start_temperature": self.start_temperature,
            "stop_temperature": self.stop_temperature,
            "cool_down_rate": self.cool_down_rate,
            "perturbation_magnitude": self.perturbation_magnitude,
            "candidates_per_temperature": self.candidates_per_temperature,
            "preset": self.preset,
        }

    @property
    def temperatures(self) -> list[float]:
        """From the first to the last, falling."""
        spread = math.log(self.start_temperature / self.stop_temperature)
        if self.cool_down_rate is None:
            walked = cast(int, self.max_evaluations) - 1  # after the same share of every group
            count = max(1, walked // self.candidates_per_temperature)
            rate = math.exp(-spread / count)
        else:
            rate = self.cool_down_rate
            count = math.ceil(spread / -math.log(rate))
        return [self.start_temperature * rate**step for step in range(count)]

    def expected(self, oracle: Oracle) -> int:
        """The first, and each step of the walk."""
        return 1 + len(self.temperatures) * self.candidates_per_temperature

    def search(self, oracle: Oracle, budget: Budget, first: Fit) -> Scored | None:
        """Walk from the same share of every group, past what cannot be made."""
        chance = random.Random(oracle.task.given.seed)
        ratios, score = first.ratios, oracle.score(first.candidate)
        steps = [t for t in self.temperatures for _ in range(self.candidates_per_temperature)]
        for temperature in steps:
            fit = self._neighbour(oracle, budget, ratios, temperature, chance)
            if fit is None:
                continue
            if fit.candidate.score is None and oracle.is_exhausted:
                break
            new = oracle.score(fit.candidate)
            if new is not None and self._goes_on(oracle, score, new, temperature, chance):
                ratios, score = fit.ratios, new
        return oracle.best

    def _goes_on(
        self,
        oracle: Oracle,
        score: float | None,
        new: float,
        temperature: float,
        chance: random.Random,
    ) -> bool:
        """Whether the walk takes a step; always to what is better, and from what was not made."""
        if score is None:
            return True
        gain = (new - score if oracle.maximize else score - new) * self.unit
        return gain >= 0 or chance.random() < math.exp(gain / temperature)

    def _neighbour(
        self,
        oracle: Oracle,
        budget: Budget,
        ratios: Mapping[str, float],
        temperature: float,
        chance: random.Random,
    ) -> Fit | None:
        """Shares shifted by chance, scaled so that the budget is just met, if that can be made."""
        reach = self.perturbation_magnitude * temperature / self.start_temperature
        shifted = {
            name: min(max(ratio + chance.uniform(-reach, reach), LEAST), 1.0)
            for name, ratio in ratios.items()
        }
        return fitted(oracle, budget, shifted)
