"""How much each layer may lose: one layer at a time is pruned, at several strengths, and scored."""

import copy
import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from compressors.base import Compressor, Decision
from compressors.pruning.filters import L1Filter
from compressors.resources import Resources
from compressors.selection import sparsity_faults
from compressors.tracing import LAYERS, prefix_of
from core.errors import ConfigError, IncompatibleModel
from models.edits import Edits, perform

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Criterion(Protocol):
    """Makes the compressor that prunes one layer: a class such as `L1Filter`, or a `partial`."""

    def __call__(self, *, sparsity: float, op_names: list[str] | None = None) -> Compressor:
        """The compressor; without `op_names` it treats every layer it would treat."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """When a layer is pruned no further; the score that says so is kept. None never stops.

    Args:
        minimum: Stop below this score.
        maximum: Stop above this score, where lower is better.
        drop: Stop where the score has fallen by more than this.
        rise: Stop where the score has risen by more than this.
    """

    minimum: float | None = None
    maximum: float | None = None
    drop: float | None = None
    rise: float | None = None

    def is_reached(self, score: float, baseline: float) -> bool:
        """Whether a stronger pruning of the layer is not asked for.

        Example:
            >>> Stop(drop=0.1).is_reached(0.75, 0.9), Stop(minimum=0.7).is_reached(0.75, 0.9)
            (True, False)
        """
        return (
            (self.minimum is not None and score < self.minimum)
            or (self.maximum is not None and score > self.maximum)
            or (self.drop is not None and baseline - score > self.drop)
            or (self.rise is not None and score - baseline > self.rise)
        )


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Scores of a model with one of its layers pruned.

    Args:
        baseline: Score of the model as it is.
        sparsities: Strengths, ascending.
        scores: Layer -> score at each strength, fewer after an early stop; None where it was not
            measured. Tied layers are pruned together and have the same scores.
        tied: Layer -> all layers that lose filters with it, itself the first.
        unmeasured: Layer -> strength -> why the layer cannot be pruned so.
        left_out: Layer -> why it cannot be pruned at any strength.
    """

    baseline: float
    sparsities: tuple[float, ...]
    scores: dict[str, list[float | None]] = field(default_factory=dict)
    tied: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unmeasured: dict[str, dict[float, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def tolerated(self, *, drop: float) -> dict[str, float]:
        """Layer -> the largest sparsity up to which no score falls by more than `drop`.

        What was not measured tells nothing: the last one before it, or one behind it, counts.

        Example:
            >>> found = Sensitivity(baseline=0.9, sparsities=(0.1, 0.5), scores={"a": [0.89, 0.5]})
            >>> found.tolerated(drop=0.05)
            {'a': 0.1}
        """
        chosen = {}
        for layer, scores in self.scores.items():
            kept = 0.0
            for sparsity, score in zip(self.sparsities, scores, strict=False):
                if score is None:
                    continue
                if self.baseline - score > drop:
                    break
                kept = sparsity
            chosen[layer] = kept
        return chosen

    def to_csv(self) -> str:
        """One line a layer: `layername,0.1,0.2,...`; nothing where it was not measured."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["layername", *(f"{sparsity:g}" for sparsity in self.sparsities)])
        for layer, scores in self.scores.items():
            empty = [""] * (len(self.sparsities) - len(scores))
            writer.writerow([layer, *scores, *empty])  # None is empty, too
        return text.getvalue()

    def gaps(self) -> list[str]:
        """What was not measured, and why, as sentences; tied layers share one."""
        told: dict[tuple[tuple[str, ...], str], list[str]] = {}
        for layer, reasons in self.unmeasured.items():
            tie = tuple(sorted(self.tied[layer]))
            for strength, why in reasons.items():
                told.setdefault((tie, why), []).append(f"{strength:g}")
        return [
            f"{', '.join(tie)}: not measured at {', '.join(dict.fromkeys(strengths))}: {why}"
            for (tie, why), strengths in told.items()
        ]


def sensitivity_analysis(
    model: nn.Module,
    example_inputs: Tensor,
    score: Callable[[nn.Module], float],
    *,
    criterion: Criterion = L1Filter,
    sparsities: Sequence[float] = SPARSITIES,
    layers: Sequence[str] | None = None,
    stop: Stop | None = None,
    resources: Resources | None = None,
) -> Sensitivity:
    """Prune one layer at a time, with all that is tied to it, and score what is left.

    Args:
        model: A classifier; left as it is.
        example_inputs: One batch it accepts, shape [N, K, H, W].
        score: Of a model in eval mode that it may use up; any number, such as an accuracy.
        criterion: What chooses; its own layers are those that are looked at.
        sparsities: Fractions to remove, each in [0, 1).
        layers: Names of the layers to look at instead.
        stop: When a layer is pruned no further.
        resources: For a criterion that needs data.

    Raises:
        ConfigError: A sparsity or a layer is none.
        IncompatibleModel: No layer can be pruned; the text says why.
    """
    strengths = tuple(sorted(set(sparsities)))
    faults = [fault for sparsity in strengths for fault in sparsity_faults(sparsity)]
    if faults or not strengths:
        raise ConfigError(faults or ["sparsities is a list of numbers in [0, 1), got an empty one"])
    names = list(layers or criterion(sparsity=strengths[0]).layers(model, example_inputs))
    baseline = _number(score(copy.deepcopy(model).eval()), "the model as it is")
    found = Sensitivity(baseline=baseline, sparsities=strengths)
    for name in _shown(names):
        partner = next((other for other, tie in found.tied.items() if name in tie), None)
        if partner is not None:
            others = (other for other in found.tied[partner] if other != name)
            found.scores[name], found.tied[name] = found.scores[partner], (name, *others)
            if partner in found.unmeasured:
                found.unmeasured[name] = found.unmeasured[partner]
            continue
        asked = {sparsity: criterion(sparsity=sparsity, op_names=[name]) for sparsity in strengths}
        plans = (
            (sparsity, _plan(compressor, model, example_inputs, resources))
            for sparsity, compressor in asked.items()
        )
        scan = _scanned(model, name, plans, score, baseline, stop or Stop())
        if all(score is None for score in scan.scores):
            found.left_out[name] = [*scan.unmeasured.values()][-1]
            continue
        found.scores[name], found.tied[name] = scan.scores, scan.tie
        if scan.unmeasured:
            found.unmeasured[name] = scan.unmeasured
    if not found.scores:
        raise IncompatibleModel(f"no layer can be pruned. {'; '.join(found.left_out.values())}")
    return found


@dataclass(frozen=True, kw_only=True)
class _Scan:
    """Scores of one layer, None where there is a reason why there is none."""

    scores: list[float | None]
    tie: tuple[str, ...]
    unmeasured: dict[float, str]


def _plan(
    compressor: Compressor, model: nn.Module, inputs: Tensor, resources: Resources | None
) -> Decision | str:
    """What a compressor would do, or why it cannot, or would do nothing."""
    try:
        return compressor.plan(model, inputs, resources)
    except IncompatibleModel as error:
        return str(error)


def _scanned(
    model: nn.Module,
    name: str,
    plans: Iterable[tuple[float, Decision | str]],
    score: Callable[[nn.Module], float],
    baseline: float,
    stop: Stop,
) -> _Scan:
    """Scores at one strength after the other, until it is time to stop."""
    scores: list[float | None] = []
    tie: dict[str, None] = {name: None}
    unmeasured: dict[float, str] = {}
    for sparsity, plan in plans:
        if isinstance(plan, str):  # 0.1 of 4 filters is none
            unmeasured[sparsity] = plan
            scores.append(None)
            continue
        pruned = _performed(model, plan)
        found = _number(score(pruned), f"{name} at sparsity {sparsity:g}")
        scores.append(found)
        tie |= dict.fromkeys(_losing(model, plan.edits))
        if stop.is_reached(found, baseline):
            break
    return _Scan(scores=scores, tie=tuple(tie), unmeasured=unmeasured)


def _performed(model: nn.Module, plan: Decision) -> nn.Module:
    """The model that a plan describes, in eval mode."""
    if plan.model is not None:
        return plan.model.eval()
    pruned = copy.deepcopy(model).eval()
    perform(pruned, plan.edits)
    return pruned


def _losing(model: nn.Module, edits: Edits) -> list[str]:
    """Short names of the layers that lose filters."""
    modules = dict(model.named_modules())
    return [
        name.removeprefix(prefix_of(model))
        for name, module in modules.items()
        if "out" in edits.removed.get(name, ()) and isinstance(module, LAYERS)
    ]


def _number(score: float, where: str) -> float:
    if math.isnan(score):
        raise ValueError(f"expected a number as score of {where}, got nan")
    return float(score)


def _shown(names: list[str]) -> Iterable[str]:
    """The names, with a progress bar where somebody watches."""
    console = Console(stderr=True)
    quiet = not console.is_terminal
    return track(names, "each layer alone", console=console, transient=True, disable=quiet)
