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
    from core.configuration import plain
    from evaluation.recipe import require_recipe
    from store.receipts import leave_receipt_of_files, states_before_files

    require_recipe(config)  # before the imports that take seconds
    settings = plain(config)
    before = states_before_files(settings)
    made = _make(config) if config.get("analyse") is None else _analyse(config)
    leave_receipt_of_files(settings, before, made)
    return 0


def _make(config: "DictConfig") -> "list[Path]":
    from evaluation.artifact import make
    from reporting.compressed import compressed_text

    made = make(config)
    sys.stdout.write(compressed_text(**vars(made), color=sys.stdout.isatty()))
    return [] if made.folder is None or config.dry_run else [made.folder, *made.exports]


def _analyse(config: "DictConfig") -> "list[Path]":
    from evaluation.analyses import analyse
    from evaluation.artifact import validate_compression
    from reporting.analyses import analysis_text, write_analysis

    validate_compression(config)
    if config.dry_run:
        sys.stdout.write(f"analyse={config.analyse} of {config.model_name}: nothing is made\n")
        return []
    done = analyse(config)
    is_terminal = sys.stdout.isatty()
    sys.stdout.write(
        analysis_text(done.kind, done.model, done.found, done.notes, color=is_terminal)
    )
    files = write_analysis(done.kind, done.found, done.csv, done.folder)
    sys.stdout.write("\n" + "".join(f"{path}\n" for path in files))
    return files


if __name__ == "__main__":
    compress()
