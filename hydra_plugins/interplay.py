"""What Hydra sees of our sweeps; it imports this at every start, so nothing heavy stands here."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SweepLauncher(Launcher):
    """Hands the jobs of a sweep to `cluster`."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what a launch needs."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs, or send them; how each ended is told to the task itself."""
        from cluster.launch import Sweep
        from core.errors import ConfigError

        if initial_job_idx:
            raise ConfigError(["only hydra/sweeper=cross makes batches: leave that group alone"])
        sweep = Sweep(self.context, self.task, self.config, self.options)
        return sweep.launch([list(line) for line in job_overrides])


class CrossSweeper(BasicSweeper):
    """All combinations of the given values; composes a few, where Hydra composes every job.

    The launcher gets all of them at once, and makes the batches: it alone knows what goes first.
    """

    def __init__(
        self, max_batch_size: int | None = None, params: dict[str, str] | None = None
    ) -> None:
        super().__init__(max_batch_size=None, params=params)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose enough of the jobs to meet every fault of the command line."""
        from cluster.legality import enough

        assert self.config is not None
        super().validate_batch_is_legal(enough(batch, self.config.hydra.runtime.choices))
