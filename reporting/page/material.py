"""What a page and its figures show, read from the store: numbers alone, no drawing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from core.estimate import Estimate
from core.names import CLEAN, SPLITS
from reporting.compare import Comparison, Row, compare
from reporting.disagreements import (
    Disagreements,
    Manifest,
    disagreements,
    paired_manifests,
)
from store.layout import Layout
from store.records import find_records, list_records
from store.runs import Run, read_run

if TYPE_CHECKING:
    from reporting.association import Associations
    from reporting.population import Member

COSTS = ("params", "macs", "weight_bytes", "latency_p50_ms")
"""What a model costs, as measured names of `model_test_<name>`."""

SEVERE = re.compile(r"(?P<corruption>.+)_(?P<severity>[1-9])")
CLASS = re.compile(r"accuracy_class_(?P<index>\d+)")
GROUP = "group_accuracy_"

ALL_DISAGREEMENTS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Key:
    """A result key in its parts."""

    datamodule: str
    split: str
    measured: str


def parts_of(name: str) -> Key:
    """Parts of a result key; the name of a measurement without a number is all `measured`.

    Example:
        >>> parts_of("cifar10_test_accuracy_fog_3").measured
        'accuracy_fog_3'
    """
    found = re.fullmatch(rf"(\w+?)_({'|'.join(SPLITS)})_(\w+)", name)
    if found is None:
        return Key(datamodule="", split="", measured=name)
    return Key(datamodule=found[1], split=found[2], measured=found[3])


@dataclass(frozen=True, kw_only=True)
class Bins:
    """The bins of a reliability diagram that hold a sample, in ascending order."""

    confidence: list[float]
    accuracy: list[float]
    low: list[float]  # 95 % interval of the accuracy
    high: list[float]
    counts: list[int]


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How often each model is right where it is so and so sure."""

    datamodule: str
    split: str
    baseline: Bins
    compressed: Bins


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracy of both models over the severity of one corruption; 0 is the clean image."""

    corruption: str
    severities: list[int]
    baseline: list[Estimate]
    compressed: list[Estimate]


@dataclass(frozen=True, kw_only=True)
class Corruptions:
    """The curves of one dataset."""

    datamodule: str
    split: str
    curves: list[Curve]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What compression did to the accuracy of a part of the samples."""

    part: str  # number of a class, or name of a group
    row: Row


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The parts of one dataset: its classes, or the groups of one column."""

    datamodule: str
    split: str
    column: str  # empty for classes
    rows: list[Change]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The data both models of a pair looked at."""

    datamodule: str
    split: str
    samples: int
    classes: int | None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A run, and everything that is known of it beside its baseline."""

    found: Comparison
    baseline: Run | None
    seen: list[Seen] = field(default_factory=list)
    reliability: list[Reliability] = field(default_factory=list)
    corruptions: list[Corruptions] = field(default_factory=list)
    changes: list[Changes] = field(default_factory=list)
    disagreements: list[Disagreements] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """Run of the compressed model."""
        return self.found.run


@dataclass(frozen=True, kw_only=True)
class Point:
    """A model as what it costs and what it is worth."""

    run: Run
    cost: Estimate
    benefit: Estimate
    on_front: bool = False


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """All models of a store in one cost and one benefit, measured on the same samples."""

    benefit: str  # result key
    cost: str  # result key
    limit_samples: int | None
    points: list[Point]

    @property
    def front(self) -> list[Point]:
        """The points that no other beats in both, by ascending cost."""
        return sorted((p for p in self.points if p.on_front), key=lambda point: point.cost)


@dataclass(frozen=True, kw_only=True)
class Material:
    """All that is shown of a store."""

    pairs: list[Pair]
    trade_offs: list[TradeOff]
    associations: "list[Associations]"  # of the models' own numbers, then of their changes


def read_material(layout: Layout, run_id: str | None = None, *, benefit: str) -> Material:
    """Read what a page shows.

    Args:
        layout: The store.
        run_id: The one run to show; None for all compressed runs, or all where none is compressed.
        benefit: Measured name for the trade-off, `accuracy`; any that has a better direction.

    Raises:
        LookupError: The store is empty, or there is no such run.
    """
    from reporting.association import associations
    from reporting.population import read_members

    members = read_members(layout)
    compressed = [member.run_id for member in members if member.run.baseline is not None]
    chosen = [run_id] if run_id else compressed or [member.run_id for member in members]
    manifests = list_records(layout)
    return Material(
        pairs=[read_pair(layout, name, manifests) for name in chosen],
        trade_offs=trade_offs(members, benefit),
        associations=[associations(members, "values"), associations(members, "changes")],
    )


def read_pair(layout: Layout, run_id: str, manifests: Sequence[Manifest]) -> Pair:
    """Read one run beside its baseline; of a run without one, its numbers alone."""
    found = compare(layout, run_id)
    baseline = read_run(layout, found.baseline) if found.baseline else None
    if baseline is None:
        return Pair(found=found, baseline=None)
    passes = list(paired_manifests(found.run, baseline, manifests))
    clean = [pair for pair in passes if _view(pair[0]) == CLEAN]
    return Pair(
        found=found,
        baseline=baseline,
        seen=[_seen(now) for now, _ in clean],
        reliability=list(_reliability(layout, clean)),
        corruptions=list(_corruptions(layout, passes)),
        changes=list(changes_of([*found.rows, *found.paired])),
        disagreements=list(
            disagreements(layout, found.run, baseline, manifests, most=ALL_DISAGREEMENTS)
        ),
    )


def trade_offs(members: "Sequence[Member]", benefit: str) -> list[TradeOff]:
    """One for every dataset and cost that two models or more have numbers of.

    Args:
        members: All runs of a store.
        benefit: Measured name.
    """
    names = dict.fromkeys(
        name for member in members for name in member.rows if parts_of(name).measured == benefit
    )
    subsets = dict.fromkeys(member.run.config.get("limit_samples") for member in members)
    found = [
        TradeOff(benefit=name, cost=f"model_test_{cost}", limit_samples=subset, points=points)
        for name, cost, subset in product(names, COSTS, subsets)
        for points in [_points(members, name, f"model_test_{cost}", subset)]
        if len(points) > 1
    ]
    return [one for one in found if one.points[0].benefit.better]


def _points(
    members: "Sequence[Member]", benefit: str, cost: str, limit_samples: int | None
) -> list[Point]:
    """Models that were measured in both, on one part of the data."""
    points = [
        Point(run=member.run, cost=paid, benefit=worth)
        for member in members
        if member.run.config.get("limit_samples") == limit_samples
        for paid, worth in [(member.value(cost), member.value(benefit))]
        if paid is not None and worth is not None and paid > 0
    ]
    return _with_front(points) if points else []


def changes_of(rows: Sequence[Row]) -> Iterator[Changes]:
    """Change of accuracy class by class and group by group, where it was measured."""
    found: dict[tuple[str, str, str], list[Change]] = {}
    columns = _group_columns(rows)
    for row in rows:
        key = parts_of(row.name)
        part = _part(key.measured, columns)
        if part is not None and row.difference is not None:
            place = (key.datamodule, key.split, part[0])
            found.setdefault(place, []).append(Change(part=part[1], row=row))
    for (datamodule, split, column), parts in found.items():
        yield Changes(datamodule=datamodule, split=split, column=column, rows=parts)


def reliability_bins(confidence: np.ndarray, correct: np.ndarray) -> Bins:
    """Bins of a reliability diagram, as the calibration error sorts them.

    Args:
        confidence: Probability of the predicted class, shape [N], in [0, 1].
        correct: Whether the prediction is right, bool, shape [N].
    """
    import torch

    from measurements.functional.calibration import calibration_bins

    bins = calibration_bins(torch.from_numpy(confidence), torch.from_numpy(correct))
    counts = bins.counts.tolist()
    shares = bins.accuracy.tolist()
    found = [_share(round(share * n), n) for share, n in zip(shares, counts, strict=True)]
    return Bins(
        confidence=bins.confidence.tolist(),
        accuracy=shares,
        low=[one.low or 0.0 for one in found],
        high=[1.0 if one.high is None else one.high for one in found],
        counts=counts,
    )


def _with_front(points: Sequence[Point]) -> list[Point]:
    from measurements.functional import tradeoff

    def loss(value: Estimate) -> float:
        return -float(value) if value.better == "higher" else float(value)

    front = tradeoff.pareto_front(
        [tradeoff.Point(error=loss(p.benefit), cost=float(p.cost)) for p in points]
    )
    return [replace(point, on_front=place in front) for place, point in enumerate(points)]


def _group_columns(rows: Sequence[Row]) -> list[str]:
    """Names of the columns of groups; the longest first, as one may begin like another."""
    prefix = "group_gap_null_"
    names = {parts_of(row.name).measured for row in rows}
    columns = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return sorted(columns, key=len, reverse=True)


def _part(measured: str, columns: Sequence[str]) -> tuple[str, str] | None:
    """Column and part of `accuracy_class_3` or `group_accuracy_<column>_<name>`."""
    if found := CLASS.fullmatch(measured):
        return "", found["index"]
    if not measured.startswith(GROUP):
        return None
    rest = measured.removeprefix(GROUP)
    for column in columns:
        if rest.startswith(f"{column}_"):
            return column, rest.removeprefix(f"{column}_")
    return None


def _seen(manifest: Manifest) -> Seen:
    return Seen(
        datamodule=manifest["datamodule"],
        split=manifest["parts"]["split"],
        samples=int(manifest["rows"]),
        classes=manifest.get("classes"),
    )


def _view(manifest: Manifest) -> str:
    return str(manifest["parts"].get("view", {}).get("name", ""))


Passes = Sequence[tuple[Manifest, Manifest]]


def _reliability(layout: Layout, clean: Passes) -> Iterator[Reliability]:
    for now, before in clean:
        both = [_answers(layout, manifest) for manifest in (before, now)]
        if None in both:
            continue
        bins = [reliability_bins(one["confidence"], one["correct"]) for one in both if one]
        yield Reliability(
            datamodule=now["datamodule"],
            split=now["parts"]["split"],
            baseline=bins[0],
            compressed=bins[1],
        )


def _answers(layout: Layout, manifest: Manifest) -> dict[str, np.ndarray] | None:
    """Confidence, and whether it is right, of the samples whose logits are finite."""
    records = find_records(layout, manifest["key"])
    if records is None:
        return None
    columns = records.columns(["label", "predicted", "confidence"])
    whole = np.isfinite(columns["confidence"])
    correct = columns["label"] == columns["predicted"]
    return {"confidence": columns["confidence"][whole], "correct": correct[whole]}


def _corruptions(layout: Layout, passes: Passes) -> Iterator[Corruptions]:
    places: dict[tuple[str, str], dict[str, tuple[Manifest, Manifest]]] = {}
    for now, before in passes:
        place = (now["datamodule"], now["parts"]["split"])
        places.setdefault(place, {})[_view(now)] = (now, before)
    for (datamodule, split), views in places.items():
        curves = list(_curves(layout, views))
        if curves:
            yield Corruptions(datamodule=datamodule, split=split, curves=curves)


def _curves(layout: Layout, views: Mapping[str, tuple[Manifest, Manifest]]) -> Iterator[Curve]:
    """One for every corruption that both models have a severity of, from the clean view on."""
    names: dict[str, dict[int, str]] = {}
    for name in views:
        if found := SEVERE.fullmatch(name):
            names.setdefault(found["corruption"], {})[int(found["severity"])] = name
    clean = _both_accuracies(layout, views.get(CLEAN))
    for corruption, of_severity in sorted(names.items()):
        seen = {s: _both_accuracies(layout, views[name]) for s, name in sorted(of_severity.items())}
        points = {s: both for s, both in {0: clean, **seen}.items() if both is not None}
        if set(points) - {0}:
            yield Curve(
                corruption=corruption,
                severities=list(points),
                baseline=[before for _, before in points.values()],
                compressed=[now for now, _ in points.values()],
            )


def _both_accuracies(
    layout: Layout, pair: tuple[Manifest, Manifest] | None
) -> tuple[Estimate, Estimate] | None:
    if pair is None:
        return None
    now, before = (_accuracy(layout, manifest) for manifest in pair)
    return None if now is None or before is None else (now, before)


def _accuracy(layout: Layout, manifest: Manifest) -> Estimate | None:
    records = find_records(layout, manifest["key"])
    if records is None:
        return None
    columns = records.columns(["label", "predicted"])
    hits = int((columns["label"] == columns["predicted"]).sum())
    return _share(hits, len(columns["label"]))


def _share(hits: int, n: int) -> Estimate:
    from measurements.functional.intervals import wilson_interval

    fields: dict[str, Any] = wilson_interval(hits, n)._asdict()
    return Estimate(hits / n, n=n, unit="fraction", better="higher", **fields)
