"""Samples on which a compressed model and its baseline decide differently."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.names import CLEAN, Split
from store.layout import Layout
from store.records import find_records
from store.runs import Run

Manifest = Mapping[str, Any]

COLUMNS = ["sample_id", "label", "predicted", "confidence"]

SAME = ("dataset", "split", "subset", "label_space", "view")
"""Parts of a pass in which the records of two models must agree to be paired."""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One sample; `broken` where the baseline alone is right, `mended` where it alone is wrong."""

    sample_id: int
    label: int
    baseline: int
    compressed: int
    baseline_confidence: float
    compressed_confidence: float

    @property
    def kind(self) -> str:
        """`broken`, `mended`, or `changed` where both are wrong."""
        if self.baseline == self.label:
            return "broken"
        return "mended" if self.compressed == self.label else "changed"


@dataclass(frozen=True, kw_only=True)
class Disagreements:
    """Those of one dataset, the broken ones first, then by confidence of the compressed model."""

    datamodule: str
    split: Split
    dataset: str  # digest of the data both models saw
    total: int
    rows: list[Disagreement]


def records_of(run: Run, manifests: Sequence[Manifest]) -> list[Manifest]:
    """Manifests of the passes a run's cells may have read: of its model, of its subset."""
    limit = run.config.get("limit_samples")
    return [
        manifest
        for manifest in manifests
        if manifest.get("parts", {}).get("model") == run.fingerprint
        and manifest["parts"].get("subset") == _subset(limit, manifest)
    ]


def _subset(limit: int | None, manifest: Manifest) -> int | None:
    """What a pass says of its subset: nothing where a limit leaves no sample out."""
    is_whole = manifest["parts"].get("subset") is None and limit is not None
    return None if is_whole and manifest["rows"] <= limit else limit


def disagreements(
    layout: Layout, run: Run, baseline: Run, manifests: Sequence[Manifest], *, most: int = 200
) -> Iterator[Disagreements]:
    """Disagreements on the clean view of every dataset that both models have records of.

    Args:
        layout: The store.
        run: Run of the compressed model.
        baseline: Run of its baseline.
        manifests: All records of the store.
        most: Rows that are given of each dataset; all are counted.
    """
    for manifest, partner in paired_manifests(run, baseline, manifests):
        if manifest["parts"].get("view", {}).get("name") != CLEAN:
            continue
        now, before = (find_records(layout, found["key"]) for found in (manifest, partner))
        if now is None or before is None:
            continue
        rows = _rows(now.columns(COLUMNS), before.columns(COLUMNS))
        yield Disagreements(
            datamodule=manifest["datamodule"],
            split=manifest["parts"]["split"],
            dataset=manifest["parts"]["dataset"],
            total=len(rows),
            rows=rows[:most],
        )


def paired_manifests(
    run: Run, baseline: Run, manifests: Sequence[Manifest]
) -> Iterator[tuple[Manifest, Manifest]]:
    """Labelled passes of a run, each with that of its baseline over the same samples and view."""
    theirs = records_of(baseline, manifests)
    for manifest in records_of(run, manifests):
        partner = _partner(manifest, theirs)
        is_labelled = manifest["parts"].get("labelled", True)
        if partner is not None and is_labelled:
            yield manifest, partner


def _partner(manifest: Manifest, others: Sequence[Manifest]) -> Manifest | None:
    """Records of the same samples, of the same numerics where there are several."""
    parts = manifest["parts"]
    same = [
        other
        for other in others
        if all(other["parts"].get(name) == parts.get(name) for name in SAME)
    ]
    return min(
        same,
        key=lambda other: other["parts"].get("numerics") != parts.get("numerics"),
        default=None,
    )


def _rows(now: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> list[Disagreement]:
    """Rows of samples both have; one may lack what could not be decoded."""
    _, mine, theirs = np.intersect1d(now["sample_id"], before["sample_id"], return_indices=True)
    differ = now["predicted"][mine] != before["predicted"][theirs]
    rows = [
        Disagreement(
            sample_id=int(now["sample_id"][i]),
            label=int(now["label"][i]),
            baseline=int(before["predicted"][j]),
            compressed=int(now["predicted"][i]),
            baseline_confidence=float(before["confidence"][j]),
            compressed_confidence=float(now["confidence"][i]),
        )
        for i, j in zip(mine[differ], theirs[differ], strict=True)
    ]
    return sorted(rows, key=lambda row: (row.kind != "broken", -row.compressed_confidence))
