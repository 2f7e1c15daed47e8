"""`python -m cluster status|attach|cancel SWEEP`: a sweep from another terminal, on another day."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cluster import manifest as manifests
from cluster.manifest import FAILED, Manifest
from cluster.states import Seen, count, look
from cluster.watch import SHOWN_JOBS, cancel, failures, note, overview, watch
from store.layout import Layout

EVERY_S = 5.0
FAILURE, FAULT = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0, or 1 where a job failed, or 2 where the sweep is not found."""
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    told = "show it as it is, follow it to its end, or cancel its jobs"
    parser.add_argument("verb", choices=("status", "attach", "cancel"), help=told)
    parser.add_argument("sweep", help="id of the sweep, its folder, or its manifest.json")
    parser.add_argument(
        "--results-dir", default="results", help="where an id is looked up (results)"
    )
    parser.add_argument("--all", action="store_true", help="status: a row for every job")
    given = parser.parse_args(arguments)
    try:
        manifest = manifests.read(manifests.find(given.sweep, Layout(Path(given.results_dir))))
        if given.verb == "status":
            return _status(manifest, every_job=given.all)
        if given.verb == "attach":
            seen = watch(manifest, every_s=float(manifest.options.get("poll_seconds", EVERY_S)))
        else:
            seen = cancel(manifest)
        Console().print(overview(manifest, seen))
    except (OSError, LookupError) as error:
        sys.stderr.write(f"{error}\n")
        return FAULT
    return _told(seen)


def _status(manifest: Manifest, *, every_job: bool) -> int:
    seen = look(manifest, anywhere=True)
    note(manifest, seen)
    sys.stdout.write(f"started {manifest.started}: {shlex.join(manifest.command)}\n")
    most = len(seen) if every_job else SHOWN_JOBS
    Console().print(overview(manifest, seen, most=most))
    return _told(seen)


def _told(seen: list[Seen]) -> int:
    told = failures(seen)
    if told:
        sys.stdout.write(f"{told}\n")
    return FAILURE if count(seen, FAILED) else 0


if __name__ == "__main__":
    sys.exit(main())
