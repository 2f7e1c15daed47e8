"""Measure a model, and what compression made of it: `python evaluate.py --help`."""

import sys
from typing import TYPE_CHECKING

from core.app import main

if TYPE_CHECKING:
    from omegaconf import DictConfig


@main("evaluate_defaults")
def evaluate(config: "DictConfig") -> int:
    """Evaluate here, or help the process of several that does."""
    # what is wrong is told before the imports that take seconds: of torch, then of the rest
    from core.configuration import KEYS_OF_AN_EVALUATION, require_sound

    require_sound(config, required=KEYS_OF_AN_EVALUATION)
    from evaluation.recipe import require_recipe

    require_recipe(config)
    from recording.ranks import leading

    with leading() as leads:
        return _evaluate(config) if leads else 0


def _evaluate(config: "DictConfig") -> int:
    """Print the table, mirror to wandb; 1 where a measurement failed."""
    from rich.console import Console

    from core.configuration import plain
    from evaluation.pictures import pictures_of
    from evaluation.plan import plan_tables
    from evaluation.run import dry_run, run
    from reporting.mirror import mirror
    from reporting.tables import comparison

    if config.dry_run:
        console = Console()
        for part in plan_tables(dry_run(config)):
            console.print(part)
        return 0
    outcome = run(config)
    table = comparison(
        outcome.layout,
        outcome.run_id,
        measurements=list(config.measurements),
        color=sys.stdout.isatty(),
    )
    sys.stdout.write(f"{table}\n{outcome.summary()}\n")
    mirror(outcome.layout, outcome.changed_runs, plain(config.wandb), image_of=pictures_of(config))
    return outcome.exit_code


if __name__ == "__main__":
    evaluate()
