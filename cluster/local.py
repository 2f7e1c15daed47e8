"""Jobs of a sweep as processes of this machine."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from cluster.command import Command
from cluster.slurm import LOGS


class Processes:
    """Runs commands a few at a time, one wave after the other, until told to stop."""

    def __init__(self, waves: Sequence[Sequence[Command]], *, n_jobs: int) -> None:
        self.waves = waves
        self.n_jobs = n_jobs
        self.failures: dict[str, str] = {}
        """Jobs that could not even be started, and why."""
        self._stopped = Event()

    def run(self) -> None:
        """Run all; how each went stands in its own file."""
        for wave in self.waves:
            with ThreadPoolExecutor(self.n_jobs) as pool:
                list(pool.map(self._run_one, wave))

    def stop(self) -> None:
        """Start no other, and end those that run."""
        self._stopped.set()
        for wave in self.waves:
            for command in wave:
                command.stop()

    def _run_one(self, command: Command) -> None:
        """One job; what keeps it from starting is its own failure, and stops no other."""
        if self._stopped.is_set():
            return
        try:
            self._run(command)
        except OSError as error:
            self.failures[command.job] = f"could not be run: {error}"

    def _run(self, command: Command) -> None:
        folder = Path(command.sweep) / LOGS
        folder.mkdir(parents=True, exist_ok=True)
        with (
            (folder / f"{command.job}.out").open("wb") as output,
            (folder / f"{command.job}.err").open("wb") as errors,
        ):
            command.run(output, errors)


def threads_each(n_jobs: int) -> dict[str, str]:
    """Environment that shares the cores among the jobs, unless the user has decided already."""
    if n_jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // n_jobs))}
