"""Show what the store holds, as a table or in wandb: `python report.py --help`."""

import sys
from typing import TYPE_CHECKING

from core.app import main
from core.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


@main("report_defaults")
def report(config: "DictConfig") -> int:
    """Write what is to be shown; 1 where wandb was asked for and broke."""
    from pathlib import Path

    from core.files import write_atomically
    from reporting.mirror import mirror
    from reporting.publish import is_asked, publish
    from reporting.render import require_format
    from reporting.views import require_show, show
    from store.layout import Layout
    from store.runs import list_runs

    if not isinstance(config.wandb, bool):
        raise ConfigError([f"wandb is true or false here, got {config.wandb!r}"])
    layout, kind = Layout(Path(config.results_dir)), require_format(config.format)
    if is_asked(config):
        from evaluation.pictures import Datasets

        files = publish(layout, config, lambda run: Datasets(run.config.get("dataset_library", {})))
        sys.stdout.writelines(f"{path}\n" for path in files)
        return 0
    color = config.output is None and sys.stdout.isatty()
    options = {"run": config.run, "columns": config.columns, "cost": config.cost}
    text = show(layout, require_show(config.show), kind, **options, color=color)
    if config.output is None:
        sys.stdout.write(text)
    else:
        write_atomically(Path(config.output), text)
    if not config.wandb:
        return 0
    runs = [config.run] if config.run else [run.run_id for run in list_runs(layout)]
    return 0 if mirror(layout, runs, config.wandb_settings) else 1


if __name__ == "__main__":
    report()
