"""Jobs of a sweep as processes of this machine."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from cluster.command import Command


class Processes:
    """Runs commands a few at a time, one wave after the other, until told to stop."""

    def __init__(self, waves: Sequence[Sequence[Command]], *, n_jobs: int) -> None:
        self.waves = waves
        self.n_jobs = n_jobs
        self.failures: dict[str, str] = {}
        """Jobs that could not even be started, and why."""
        self._stopped = threading.Event()

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
            command.run()
        except (OSError, RuntimeError, ValueError) as error:
            self.failures[command.job] = f"could not be run: {error}"


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn the end of a terminal or of a session into one that children can be told of.

    What is ignored, as `nohup` wants it, stays so; only the main thread hears of signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(each, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def threads_each(n_jobs: int) -> dict[str, str]:
    """Environment that shares the cores among the jobs, unless the user has decided already."""
    if n_jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // n_jobs))}
