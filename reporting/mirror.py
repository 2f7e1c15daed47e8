"""The mirror of a store in wandb; it can be made again from the store at any time."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from core.names import slug
from core.tracking import wandb_for
from reporting.disagreements import Disagreements, Manifest, disagreements, records_of
from store.cells import list_cells
from store.layout import Layout
from store.records import list_records
from store.runs import Run, read_run

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

ImageOf = Callable[[str, int], object]

TAG_CHARS = 64  # wandb takes no longer tag
ARTIFACT_CHARS = 120

TABLE_COLUMNS = [
    "sample_id",
    "kind",
    "label",
    "baseline",
    "compressed",
    "baseline_confidence",
    "compressed_confidence",
]


def mirror(
    layout: Layout,
    run_ids: Sequence[str],
    settings: Mapping[str, Any],
    *,
    image_of: ImageOf | None = None,
    most: int = 200,
) -> bool:
    """Show runs in wandb, one wandb run each; the store is only read.

    Where wandb breaks this is told in one sentence, and nothing else happens.

    Args:
        layout: The store; wandb's own files go into its folder.
        run_ids: Runs to show.
        settings: `project`, `name`, `group`, `tags`, `notes` and `mode` (`online`, `offline` or
            `disabled`) of the configuration.
        image_of: Gives the picture of a sample, by datamodule and sample id, in any form that
            `wandb.Image` takes.
        most: Samples a table of disagreements holds.

    Returns:
        Whether all runs were shown, or none was wanted.
    """
    if settings["mode"] == "disabled":
        return True
    try:
        manifests = list_records(layout)
        for run_id in run_ids:
            _Mirror(layout, settings, manifests, image_of, most).show(run_id)
    except Exception as error:  # noqa: BLE001 - whatever wandb raises, the results are committed
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning(
            "wandb broke (%s); the results are safe in %s, to show them later: "
            "python report.py wandb=true results_dir=%s",
            reason,
            layout.root,
            layout.root,
        )
        return False
    return True


class _Mirror:
    def __init__(
        self,
        layout: Layout,
        settings: Mapping[str, Any],
        manifests: Sequence[Manifest],
        image_of: ImageOf | None,
        most: int,
    ) -> None:
        self._layout, self._settings, self._manifests = layout, settings, manifests
        self._image_of, self._most = image_of, most

    def show(self, run_id: str) -> None:
        """One run: summary, disagreements with its baseline, a reference to its records."""
        run = read_run(self._layout, run_id)
        if run is None:
            raise LookupError(f"there is no run {run_id!r} in {self._layout.root}")
        cells = list_cells(self._layout, run_id)
        values = {name: float(value) for cell in cells for name, value in cell.values.items()}
        failed = any(cell.status == "failed" for cell in cells)
        with _started(self._options(run), failed=failed) as shown:
            shown.summary.update(values)
            baseline = read_run(self._layout, run.baseline) if run.baseline else None
            if baseline is not None:
                for found in disagreements(
                    self._layout, run, baseline, self._manifests, most=self._most
                ):
                    self._show_disagreements(shown, found)
            self._refer_to_records(shown, run)

    def _options(self, run: Run) -> dict[str, Any]:
        given = self._settings
        named = given.get("name")
        datasets = run.config.get("datasets") or []
        tags = [*(given.get("tags") or []), run.model, run.compressor, *datasets]
        mode = given["mode"]
        return {
            "project": given.get("project"),
            "group": given.get("group"),
            "notes": given.get("notes"),
            "mode": mode,
            "name": f"{named}-{run.compressor}" if named else run.run_id,
            "tags": list(dict.fromkeys(str(tag)[:TAG_CHARS] for tag in tags)),
            "job_type": "evaluate",
            "id": run.run_id,  # shown again, a run is updated, not doubled
            "resume": "allow" if mode == "online" else None,
            "dir": str(self._layout.root),
            "config": {
                **run.config,
                "run_id": run.run_id,
                "baseline_run_id": run.baseline,
                "lineage": run.lineage,
                "provenance": run.provenance,
            },
            "reinit": "create_new",
        }

    def _show_disagreements(self, shown: "wandb.Run", found: Disagreements) -> None:
        import wandb

        pictured = self._image_of is not None
        table = wandb.Table(columns=[*TABLE_COLUMNS, *(["image"] if pictured else [])])
        for row in found.rows:
            cells = [getattr(row, column) for column in TABLE_COLUMNS]
            if self._image_of is not None:
                cells.append(wandb.Image(self._image_of(found.datamodule, row.sample_id)))
            table.add_data(*cells)
        shown.log({f"{found.datamodule}_{found.split}_disagreements": table})

    def _refer_to_records(self, shown: "wandb.Run", run: Run) -> None:
        import wandb

        found = records_of(run, self._manifests)
        if not found:
            return
        artifact = wandb.Artifact(
            f"records-{run.run_id}"[:ARTIFACT_CHARS],
            type="records",
            metadata={manifest["key"]: manifest for manifest in found},
        )
        for manifest in found:
            folder = self._layout.record(manifest["key"]).resolve()
            parts = manifest["parts"]
            view = parts.get("view", {}).get("name", "")
            name = "/".join(slug(part) for part in (manifest["datamodule"], parts["split"], view))
            # No checksum: the key is the digest of what made the content, and nothing is uploaded.
            artifact.add_reference(
                folder.as_uri(), name=f"{name}/{manifest['key']}", checksum=False
            )
        shown.log_artifact(artifact)


@contextmanager
def _started(options: Mapping[str, Any], *, failed: bool) -> Iterator["wandb.Run"]:
    """A wandb run that is always finished; as failed where a cell, or showing it, failed."""
    wandb = wandb_for(options["mode"])
    quiet = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
    run = wandb.init(**options, settings=quiet)
    code = 1
    try:
        yield run
        code = int(failed)
    finally:
        run.finish(exit_code=code)
