import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.command import Command
from cluster.local import Processes, ended_by_signals, threads_each
from cluster.progress import progress_of
from tests.cluster.small_app import until


def command(folder: Path, job: str, script: str) -> Command:
    line = ["sh", "-c", script]
    return Command(line=line, cwd=str(folder), sweep=str(folder), job=job, session=True)


def codes(folder: Path) -> dict[str, int | None]:
    return {job: ranks[0].exit_code for job, ranks in progress_of(folder).items()}


def test_a_wave_waits_for_the_one_before_and_a_failure_stops_nothing(tmp_path: Path) -> None:
    first = [
        command(tmp_path, "0", "sleep 0.1; touch made; exit 1"),
        command(tmp_path, "1", "true"),
    ]
    second = [command(tmp_path, "2", "test -e made")]
    Processes([first, second], n_jobs=2).run()
    assert codes(tmp_path) == {"0": 1, "1": 0, "2": 0}


def test_an_interrupt_ends_what_runs_with_its_children_and_starts_nothing_more(
    tmp_path: Path,
) -> None:
    long = command(tmp_path, "0", "sleep 100 & echo $! > child; wait")
    processes = Processes([[long, command(tmp_path, "1", "true")]], n_jobs=1)
    runner = threading.Thread(target=processes.run)
    runner.start()
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    processes.stop()
    runner.join()
    assert codes(tmp_path) == {"0": 143}
    child = (tmp_path / "child").read_text().strip()
    until(lambda: not is_alive(child))


PARENT = """
import sys
from pathlib import Path
from cluster.command import Command
from cluster.local import Processes, ended_by_signals
import signal, threading, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may have been started by nohup
folder = sys.argv[1]
script = "sleep 1000 & echo $! > child; wait" if sys.argv[2] == "group" else "exec sleep 1000"
line = ["sh", "-c", f"echo $$ > leader; {script}"]
job = Command(line=line, cwd=folder, sweep=folder, job="0", session=True)
processes = Processes([[job]], n_jobs=1)
try:
    with ended_by_signals():
        threading.Thread(target=processes.run, daemon=True).start()
        time.sleep(100)
except SystemExit:
    processes.stop()
    raise
"""


@pytest.mark.parametrize(
    ("number", "kind"), [("SIGTERM", "group"), ("SIGHUP", "group"), ("SIGKILL", "leader")]
)
def test_jobs_end_with_their_parent(number: str, kind: str, tmp_path: Path) -> None:
    line = [sys.executable, "-c", PARENT, str(tmp_path), kind]
    known = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen(line, env=known)
    name = tmp_path / ("child" if kind == "group" else "leader")
    until(lambda: name.exists() and name.read_text())
    parent.send_signal(getattr(signal, number))
    code = parent.wait(60)
    assert code == (-signal.SIGKILL if kind == "leader" else 128 + getattr(signal, number))
    until(lambda: not is_alive(name.read_text().strip()))  # long before it would end by itself


def test_a_terminal_that_is_to_be_outlived_is() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            with pytest.raises(SystemExit):
                signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def is_alive(pid: str) -> bool:
    """Whether a process runs; one that nobody has asked for its end counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("n_jobs", "own", "expected"),
    [
        (1, None, {}),
        (2, "3", {}),
        (2, None, {"OMP_NUM_THREADS": "2"}),
        (9, None, {"OMP_NUM_THREADS": "1"}),
    ],
)
def test_the_cores_are_shared_unless_the_user_has_decided(
    n_jobs: int, own: str | None, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if own:
        monkeypatch.setenv("OMP_NUM_THREADS", own)
    assert threads_each(n_jobs) == expected


def test_a_job_that_cannot_even_be_started_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # where nothing can be written, as on a full disk
    lost = replace(command(tmp_path, "0", "true"), sweep=str(tmp_path / "file"))
    processes = Processes([[lost], [command(tmp_path, "1", "true")]], n_jobs=1)
    processes.run()
    assert processes.failures.keys() == {"0"}
    assert "could not be run" in processes.failures["0"]
    assert codes(tmp_path)["1"] == 0
