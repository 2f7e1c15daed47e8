"""Make one compressed model, or look at a model before: `python compress.py --help`."""

import sys
from typing import TYPE_CHECKING

from core.app import main

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig


@main("compress_defaults")
def compress(config: "DictConfig") -> int:
    """Make or find the artifact of a recipe and say what was achieved; or write an analysis."""
    from evaluation.artifact import make, validate_compression
    from reporting.compressed import compressed_text

    if config.get("analyse") is not None:
        validate_compression(config)
        return _analyse(config)
    made = make(config)
    sys.stdout.write(compressed_text(**vars(made), color=sys.stdout.isatty()))
    if made.folder is not None and not config.dry_run:
        _leave_receipt(config, [made.folder, *made.exports])
    return 0


def _leave_receipt(config: "DictConfig", made: "list[Path]") -> None:
    from omegaconf import OmegaConf

    from store.receipts import leave_receipt_of_files

    leave_receipt_of_files(OmegaConf.to_container(config, resolve=True), made)  # type: ignore[arg-type]


def _analyse(config: "DictConfig") -> int:
    from evaluation.analyses import analyse
    from reporting.analyses import analysis_text, write_analysis

    if config.dry_run:
        sys.stdout.write(f"analyse={config.analyse} of {config.model_name}: nothing is made\n")
        return 0
    done = analyse(config)
    is_terminal = sys.stdout.isatty()
    sys.stdout.write(
        analysis_text(done.kind, done.model, done.found, done.notes, color=is_terminal)
    )
    files = write_analysis(done.kind, done.found, done.csv, done.folder)
    sys.stdout.write("\n" + "".join(f"{path}\n" for path in files))
    _leave_receipt(config, files)
    return 0


if __name__ == "__main__":
    compress()
