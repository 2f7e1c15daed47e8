"""Where everything lies under the results folder."""

from dataclasses import dataclass
from pathlib import Path

CORRUPT = ".corrupt-"
"""Stands in the name of a damaged file that was moved aside."""

NAME_BYTES = 140
"""Longest name: with the private suffix of a writer it stays under the 255 bytes of file systems"""


@dataclass(frozen=True)
class Layout:
    """Paths of one results folder; knows names, touches no disk.

    Args:
        root: The folder that `results_dir` names.

    Example:
        >>> Layout(Path("results")).cell_file("digits_cnn-none-0123", "accuracy").as_posix()
        'results/runs/digits_cnn-none-0123/cells/accuracy.json'
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    @property
    def runs(self) -> Path:
        """Folder with one folder a run."""
        return self.root / "runs"

    @property
    def records(self) -> Path:
        """Folder with one folder a pass of a model over a view."""
        return self.root / "records"

    @property
    def artifacts(self) -> Path:
        """Folder with one folder a stored model."""
        return self.root / "artifacts"

    @property
    def sweeps(self) -> Path:
        """Folder with one folder a sweep."""
        return self.root / "sweeps"

    def run(self, run_id: str) -> Path:
        """Folder of a run."""
        return self.runs / _one_name("run id", run_id)

    def run_file(self, run_id: str) -> Path:
        """What a run is: configuration, lineage, provenance."""
        return self.run(run_id) / "run.json"

    def attempts(self, run_id: str) -> Path:
        """Folder with one file for every time a run was started."""
        return self.run(run_id) / "attempts"

    def cells(self, run_id: str) -> Path:
        """Folder of a run's cells."""
        return self.run(run_id) / "cells"

    def cell_file(self, run_id: str, name: str) -> Path:
        """What one measurement of a run gave."""
        return self.cells(run_id) / f"{_one_name('cell name', name)}.json"

    def record(self, key: str) -> Path:
        """Folder with the rows of one pass."""
        return self.records / _one_name("record key", key)

    def artifact(self, digest: str) -> Path:
        """Folder of a stored model."""
        return self.artifacts / _one_name("artifact digest", digest)

    def receipt_file(self, key: str) -> Path:
        """What a command line has committed."""
        return self.root / "receipts" / f"{_one_name('receipt key', key)}.json"

    def lock_file(self, digest: str) -> Path:
        """Held by who starts a sweep."""
        return self.root / "locks" / f"{_one_name('sweep digest', digest)}.lock"

    def recipe_file(self, digest: str) -> Path:
        """Which artifact a baseline and a recipe have given."""
        return self.root / "recipes" / f"{_one_name('recipe digest', digest)}.json"


def _one_name(kind: str, name: str) -> str:
    """Refuse what would leave the folder, be taken for a private file, or not fit."""
    unsafe = not name or name.startswith(".") or CORRUPT in name or set(name) & set("/\\\0\n")
    if unsafe or len(name.encode()) > NAME_BYTES:
        raise ValueError(
            f"a {kind} is one file name of 1 to {NAME_BYTES} bytes that starts with no dot and "
            f"holds no slash, got {name!r}"
        )
    return name
