"""Samples that compression gives up: two populations of models of one kind, from their records."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from measurements.functional.exemplars import (
    FEWEST_SEEDS,
    ClassTest,
    class_tests,
    exemplars,
    modal_labels,
)
from reporting.population import Member
from store.layout import Layout
from store.records import find_records

COLUMNS = ["sample_id", "label", "predicted"]

What = Literal["exemplars", "churn"]


@dataclass(frozen=True, kw_only=True)
class Exemplar:
    """One sample on which most compressed models answer differently than most baselines."""

    sample_id: int
    label: int
    baseline: int  # modal label of the baselines
    compressed: int  # modal label of the compressed models


@dataclass(frozen=True, kw_only=True)
class Populations:
    """What one recipe does to one kind of model on one dataset.

    Args:
        model: Name of the model's configuration.
        recipe: The recipe as text.
        dataset: Entry of the dataset library; its test split as it is.
        compressed: Runs of different models, one each.
        baselines: Runs of their baselines, one a model.
        what: `churn` where a population has fewer than five models.
        samples: How many samples both populations saw.
        ties: Samples with several most frequent labels in a population.
        rows: The samples, by id.
        classes: Whether the recall of a class moved more than accuracy; empty where a population
            has a single model.
        notes: What a reader has to know, one sentence each.
    """

    model: str
    recipe: str
    dataset: str
    compressed: list[str]
    baselines: list[str]
    what: What
    samples: int
    ties: int
    rows: list[Exemplar] = field(default_factory=list)
    classes: list[ClassTest] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Fraction of the samples, in [0, 1]."""
        return len(self.rows) / self.samples


@dataclass(frozen=True)
class _Voters:
    """Runs of different models and what each said, of samples all of them saw."""

    run_ids: list[str]
    tables: list[Mapping[str, np.ndarray]]

    def predicted(self, ids: np.ndarray) -> torch.Tensor:
        """Predictions [K, N] of these samples."""
        rows = [
            table["predicted"][np.searchsorted(table["sample_id"], ids)] for table in self.tables
        ]
        return torch.from_numpy(np.stack(rows)).long()


def exemplar_populations(layout: Layout, members: Sequence[Member]) -> Iterator[Populations]:
    """Every recipe of a store with the models it made, beside the baselines they were made of.

    A population is made of models with different weights; runs of the same weights count once.

    Args:
        layout: The store, for the records.
        members: All its runs.
    """
    by_id = {member.run_id: member for member in members}
    groups: dict[str, list[Member]] = {}
    for member in members:
        if member.run.baseline in by_id:
            groups.setdefault(member.signature, []).append(member)
    for group in groups.values():
        bases = [by_id[member.run.baseline or ""] for member in group]
        for dataset in group[0].run.passes:
            now, before = (_voters(layout, side, dataset) for side in (group, bases))
            if now.tables and before.tables:
                yield _populations(group[0], dataset, now, before)


def _voters(layout: Layout, members: Sequence[Member], dataset: str) -> _Voters:
    """Members whose records of a dataset are in the store, one for each model."""
    found: dict[str, tuple[str, Mapping[str, np.ndarray]]] = {}
    for member in members:
        key = member.run.passes.get(dataset)
        records = None if key is None else find_records(layout, key)
        if records is not None and member.run.fingerprint not in found:
            found[member.run.fingerprint] = (member.run_id, records.columns(COLUMNS))
    return _Voters([run_id for run_id, _ in found.values()], [table for _, table in found.values()])


def _populations(of: Member, dataset: str, now: _Voters, before: _Voters) -> Populations:
    ids, label = _common([*now.tables, *before.tables])
    predicted, baseline = now.predicted(ids), before.predicted(ids)
    found = exemplars(predicted, baseline=baseline)
    modal = [modal_labels(votes).labels for votes in (baseline, predicted)]
    chosen = found.chosen.nonzero().flatten().tolist()
    sizes = [len(side.run_ids) for side in (now, before)]
    return Populations(
        model=of.run.model,
        recipe=of.recipe or of.run.compressor,
        dataset=dataset,
        compressed=now.run_ids,
        baselines=before.run_ids,
        what="churn" if found.is_churn else "exemplars",
        samples=len(ids),
        ties=found.ties,
        rows=[
            Exemplar(
                sample_id=int(ids[i]),
                label=int(label[i]),
                baseline=int(modal[0][i]),
                compressed=int(modal[1][i]),
            )
            for i in chosen
        ],
        classes=_class_tests(predicted, label, baseline),
        notes=_notes(*sizes),
    )


def _common(tables: Sequence[Mapping[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Samples everybody saw, and their labels."""
    ids = tables[0]["sample_id"]
    for table in tables[1:]:
        ids = np.intersect1d(ids, table["sample_id"])
    return ids, tables[0]["label"][np.searchsorted(tables[0]["sample_id"], ids)]


def _class_tests(
    predicted: torch.Tensor, label: np.ndarray, baseline: torch.Tensor
) -> list[ClassTest]:
    if min(len(predicted), len(baseline)) < 2:
        return []
    return class_tests(predicted, torch.from_numpy(label).long(), baseline=baseline)


def _notes(compressed: int, baselines: int) -> list[str]:
    if min(compressed, baselines) >= FEWEST_SEEDS:
        return []
    found = [
        f"with fewer than {FEWEST_SEEDS} models of different weights in either population what "
        f"differs is churn, not a set of exemplars: {max(0, FEWEST_SEEDS - compressed)} compressed "
        f"models and {max(0, FEWEST_SEEDS - baselines)} baselines are missing"
    ]
    if min(compressed, baselines) < 2:
        found.append("one model alone has no spread, so no class is tested")
    return found
