"""What a sweep costs beyond its evaluations, and how fast its results are read.

Jobs are those of a small project without torch, which commit one cell each: what is timed is ours.
Reading is what `report.py` does before it shows anything, on a made store in a temporary folder;
beside it a bare loop that opens the same files and parses them with Python's json.

    python benchmarks/sweep.py

    jobs=20        of a sweep; 0: only read
    processes=2    that run at once, without SLURM
    slurm=false    true: jobs of a real SLURM of this host, which needs root; false: processes
    runs=10000     of a store, with one cell each
    values=1000000 of another, ten a cell, a hundred cells a run
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import options_of, say  # noqa: E402

DEFAULTS = {
    "jobs": "20",
    "processes": "2",
    "slurm": "false",
    "runs": "10000",
    "values": "1000000",
}
CELLS_A_RUN, VALUES_A_CELL = 100, 10


def main() -> None:
    """Print every time."""
    options = options_of(__doc__, DEFAULTS)
    if options["slurm"] not in ("true", "false"):
        sys.exit(__doc__)
    jobs = int(options["jobs"])
    if jobs:
        with tempfile.TemporaryDirectory() as folder:
            if options["slurm"] == "true":
                sweep_on_slurm(Path(folder), jobs)
            else:
                sweep_here(Path(folder), jobs, int(options["processes"]))
    runs, values = int(options["runs"]), int(options["values"])
    read(f"{runs} runs", "aim < 2 s", runs, cells=1, values=2)
    whole = max(1, values // (CELLS_A_RUN * VALUES_A_CELL))
    read(f"{values} values", "aim < 5 s", whole, cells=CELLS_A_RUN, values=VALUES_A_CELL)


def sweep_here(folder: Path, jobs: int, processes: int) -> None:
    """The jobs as processes of this machine."""
    from tests.cluster.small_app import SmallApp

    app = SmallApp(folder)
    bare = alone(app)
    took, ended = timed(lambda: app.typed("-m", models(jobs), f"hydra.launcher.n_jobs={processes}"))
    require_done(app, jobs, ended)
    each = took * processes / jobs
    say(f"{jobs} jobs, {processes} at once: {took:.1f} s, {each:.2f} s of a processor a job")
    overhead(each, bare)
    again(app, jobs)
    status(app, jobs)


def sweep_on_slurm(folder: Path, jobs: int) -> None:
    """The jobs as one array."""
    from tests.cluster.real_slurm import NODES, NoSlurmError, RealSlurm
    from tests.cluster.small_app import SmallApp

    cluster = RealSlurm(Path(tempfile.mkdtemp(prefix="slurm-")) / "s")  # sockets have short names
    try:
        cluster.start()
        app = SmallApp(folder, {**cluster.environment, "OMP_NUM_THREADS": "1"})
        bare = alone(app)
        line = ("-m", "mode=cluster", models(jobs), "hydra.launcher.detach=true")
        begun = time.perf_counter()
        took, ended = timed(lambda: app.typed(*line))
        require_sent(ended)
        say(f"submitting {jobs} jobs: {took:.1f} s (aim < 10 s for 1000)")
        status(app, jobs)
        ended = followed(app)
        whole = time.perf_counter() - begun
        require_done(app, jobs, ended)
        at_once = len(NODES) * cluster.cpus
        each = whole * at_once / jobs
        say(f"{jobs} jobs, {at_once} at once: {whole:.1f} s, {each:.2f} s of a slot a job")
        overhead(each, bare)
        again(app, jobs, "mode=cluster")
        status(app, jobs)
    except NoSlurmError as reason:
        say(f"no SLURM here: {reason}")
    finally:
        cluster.stop()
        shutil.rmtree(cluster.root.parent, ignore_errors=True)


def followed(app: Any) -> subprocess.CompletedProcess[str]:
    """`python -m cluster attach`, however long it takes."""
    return subprocess.run(
        [sys.executable, "-m", "cluster", "attach", str(app.sweeps()[0])],
        cwd=app.folder,
        env={**os.environ, **app.environment},
        capture_output=True,
        text=True,
        check=False,
    )


def models(jobs: int) -> str:
    """The override that makes so many jobs."""
    return "model_name=" + ",".join(f"m{number}" for number in range(jobs))


def alone(app: Any, rounds: int = 3) -> float:
    """Seconds of the command that a job is, typed by hand."""
    times = [timed(lambda: app.typed("model_name=bare"))[0] for _ in range(rounds)]
    say(f"the same command typed by hand: {statistics.median(times):.2f} s")
    return statistics.median(times)


def overhead(each: float, bare: float) -> None:
    """What a job costs beyond its own command."""
    say(f"beyond the evaluation: {each - bare:.2f} s a job")


def again(app: Any, jobs: int, *mode: str) -> None:
    """The same command once more: nothing is left to do."""
    took, ended = timed(lambda: app.typed("-m", *mode, models(jobs)))
    if f"{jobs} of {jobs} jobs are committed already" not in ended.stderr:
        raise SystemExit(f"the same command started jobs again: {ended.stderr}")
    say(f"the same command again, nothing left to do: {took:.1f} s")


def status(app: Any, jobs: int) -> None:
    """`python -m cluster status`, in a process of its own and without its imports."""
    from cluster import manifest as manifests
    from cluster.states import look

    whole, _ = timed(lambda: app.cluster("status"))
    manifest = manifests.read(app.sweeps()[0])
    with environment(app.environment):
        took, _ = timed(lambda: look(manifest))
    say(f"status of {jobs} jobs: {took:.2f} s (aim < 1 s for 1000), {whole:.2f} s as a command")


@contextlib.contextmanager
def environment(more: dict[str, str]) -> Iterator[None]:
    """Variables set for a while."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def require_sent(ended: subprocess.CompletedProcess[str]) -> None:
    """A time of something that failed says nothing."""
    if ended.returncode:
        raise SystemExit(f"the sweep failed: {ended.stderr}")


def require_done(app: Any, jobs: int, ended: subprocess.CompletedProcess[str]) -> None:
    """Every job has committed its own cell, and none came twice."""
    from store.layout import Layout
    from store.query import connect

    require_sent(ended)
    starts = {run: count for run, count in app.starts().items() if run != "bare-none"}
    if len(starts) != jobs or set(starts.values()) != {1}:
        raise SystemExit(f"expected {jobs} jobs, each started once, got {starts}")
    ask = "SELECT count(*) FROM cells WHERE status = 'done' AND run_id != 'bare-none'"
    found = connect(Layout(app.results)).execute(ask).fetchall()[0][0]
    if found != jobs:
        raise SystemExit(f"{found} of {jobs} cells are there")


def read(what: str, aim: str, runs: int, *, cells: int, values: int) -> None:
    """Make a store and open it as a report does."""
    from store.layout import Layout
    from store.query import connect

    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        fill(layout, runs, cells, values)
        connect(Layout(Path(folder) / "nothing"))  # the first call loads the library
        wall, cpu = time.perf_counter(), time.process_time()
        connection = connect(layout)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        bare, found = timed(
            lambda: [json.loads(f.read_bytes()) for f in layout.root.rglob("*.json")]
        )
        counted = "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM results)"
        if connection.execute(counted).fetchall() != [(runs, runs * cells * values)]:
            raise SystemExit("the database does not hold what the files say")
    times = f"{wall:.2f} s, {cpu:.2f} s of a processor ({aim}), {wall / bare:.2f}x a bare loop"
    say(f"reading {what} from {len(found)} files: {times}")


def fill(layout: Any, runs: int, cells: int, values: int) -> None:
    """Files as an evaluation writes them, without waiting for the disk."""
    from core.estimate import Estimate
    from store.runs import Run
    from store.sealed import sealed

    known = Estimate(0.9, n=359, low=0.88, high=0.92, unit="fraction", better="higher").fields()
    stored = [
        {
            "measurement": f"m{cell}",
            "key": f"{cell:032x}",
            "status": "done",
            "kind": "benefit",
            "version": 1,
            "seconds": 0.01,
            "reason": "",
            "error": "",
            "values": {
                f"digits_test_m{cell}_{i}": {"value": 0.9 + i / 1000, **known}
                for i in range(values)
            },
        }
        for cell in range(cells)
    ]
    contents = [(f"{each['measurement']}.json", sealed(each)) for each in stored]
    attempt = {"id": "0" * 32, "started": "2026-01-01T00:00:00", "ended": "2026-01-01T00:00:01"}
    config = {f"key_{i}": {"name": "value", "number": i} for i in range(20)}
    for number in range(runs):
        run = Run(
            run_id=f"digits_cnn-level_{number}-{number:010x}",
            model="digits_cnn",
            compressor=f"level_{number}",
            baseline=None,
            fingerprint=f"{number:032x}",
            seed=0,
            config=config,
            lineage={"base_id": "0" * 32, "operation": {"name": "level", "parameters": config}},
            provenance={"git_hash": "0" * 40, "versions": {"torch": "2.11.0"}},
            attempts=[attempt],
        )
        layout.cells(run.run_id).mkdir(parents=True)
        layout.attempts(run.run_id).mkdir()
        layout.run_file(run.run_id).write_bytes(sealed(asdict(run)))
        (layout.attempts(run.run_id) / f"{attempt['id']}.json").write_bytes(sealed(attempt))
        for name, content in contents:
            (layout.cells(run.run_id) / name).write_bytes(content)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds on the clock, and what came out."""
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    main()
