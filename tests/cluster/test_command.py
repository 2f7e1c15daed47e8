import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import command as commands
from cluster.command import Command
from cluster.progress import Progress, progress_of
from tests.cluster.small_app import until

TRAPS = """
import signal, sys
ignored = [s for s in (signal.SIGUSR1, signal.SIGUSR2) if signal.getsignal(s) is signal.SIG_IGN]
sys.exit(len(ignored))
"""


@pytest.fixture(autouse=True)
def outside_of_slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SUBMITIT_EXECUTOR", "SLURM_RESTART_COUNT", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    before = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, before)


def command(folder: Path, script: str, **more: Any) -> Command:
    return Command(line=["sh", "-c", script], cwd=str(folder), sweep=str(folder), job="0", **more)


def told(folder: Path) -> Progress:
    (progress,) = progress_of(folder)["0"]
    return progress


def log_of(folder: Path) -> str:
    return (folder / "logs" / "0.err").read_text()


def test_the_exit_code_and_the_last_words_are_kept(tmp_path: Path) -> None:
    script = "for i in $(seq 30); do echo line $i >&2; done; exit 3"
    code, tail = command(tmp_path, script).run()
    assert code == told(tmp_path).exit_code == 3
    assert tail == told(tmp_path).tail == [f"line {number}" for number in range(16, 31)]
    assert log_of(tmp_path).splitlines()[0] == "line 1"


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (35, "signal 35")])
def test_a_signal_counts_as_a_shell_counts_it(number: int, name: str, tmp_path: Path) -> None:
    code, tail = command(tmp_path, f"echo said >&2; kill -{number} $$").run()
    assert (code, tail) == (128 + number, ["said", f"killed by {name}"])


def test_the_command_runs_in_its_folder_with_its_environment(tmp_path: Path) -> None:
    each = command(tmp_path, 'pwd >&2; echo "$RECEIPT" >&2', environment={"RECEIPT": "key"})
    assert each.run()[1] == [str(tmp_path), "key"]


def test_the_command_ignores_the_signals_that_ask_for_a_requeue(tmp_path: Path) -> None:
    each = Command(line=[sys.executable, "-S", "-c", TRAPS], cwd=".", sweep=str(tmp_path), job="0")
    assert each.run()[0] == 2


def test_called_it_ends_the_process_with_the_exit_code(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        command(tmp_path, "exit 7")()
    assert ended.value.code == 7
    assert command(tmp_path, "exit 0")() == 0


def test_in_slurm_it_tells_its_job_and_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    for name, value in {**names, "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    command(tmp_path, "echo said >&2").run()
    assert (told(tmp_path).slurm, told(tmp_path).rank, told(tmp_path).ranks) == ("12_3", 1, 2)
    assert (tmp_path / "logs" / "12_3_1_log.err").read_text() == "said\n"


def test_a_folder_that_the_node_does_not_see_is_told(tmp_path: Path) -> None:
    each = Command(line=["true"], cwd=str(tmp_path / "absent"), sweep=str(tmp_path), job="0")
    code, tail = each.run()
    assert code == told(tmp_path).exit_code == 1
    assert "could not be started" in tail[0]
    assert "absent" in tail[0]


@pytest.mark.parametrize(("requeues", "code"), [(2, 0), (3, 1)])
def test_a_job_that_came_back_too_often_does_not_run(
    requeues: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(requeues))
    assert command(tmp_path, "true", max_requeues=2).run()[0] == code
    assert (told(tmp_path).requeues, told(tmp_path).exit_code) == (requeues, code)


def stopped(each: Command, folder: Path) -> Any:
    """What a checkpoint of a running command gives back."""
    thread = threading.Thread(target=each.run)
    thread.start()
    until((folder / "running").exists)
    given = each.checkpoint()
    thread.join()
    return given


def test_a_checkpoint_ends_the_command_and_sends_the_same_again(tmp_path: Path) -> None:
    each = command(tmp_path, "touch running; exec sleep 100", max_requeues=1)
    again = stopped(each, tmp_path)
    assert each._process.returncode == -signal.SIGTERM
    assert pickle.loads(pickle.dumps(again.function)).line == each.line


def test_after_the_last_requeue_a_checkpoint_ends_the_job(tmp_path: Path) -> None:
    each = command(tmp_path, "touch running; exec sleep 100", max_requeues=0)
    assert stopped(each, tmp_path) is None


@pytest.mark.parametrize(
    ("rank", "ends", "stays"),
    [("1", "kill -USR2 $PPID; exit 1", True), ("1", "exit 1", False), ("0", "exit 1", False)],
)
def test_a_rank_says_nothing_of_a_command_that_failed_because_the_job_is_requeued(
    rank: str, ends: str, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_PROCID", rank)
    heard, stayed, wait = list[int](), list[int | None](), time.sleep

    def sleep(seconds: float) -> None:
        if seconds == commands.STAY_S:
            stayed.append(told(tmp_path).exit_code)
        else:
            wait(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    signal.signal(signal.SIGUSR2, lambda number, _: heard.append(number))  # submitit's
    assert command(tmp_path, ends).run()[0] == 1
    assert stayed == ([None] if stays else [])
    assert heard == ([signal.SIGUSR2] if stays else [])


def test_a_job_that_has_ended_is_not_kept_alive_by_its_children(tmp_path: Path) -> None:
    each = command(tmp_path, "sleep 100 & echo $! > child; exit 3")
    try:
        assert each.run()[0] == 3  # at once: the test has no hundred seconds
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_what_was_said_before_a_requeue_is_not_the_last_word(tmp_path: Path) -> None:
    command(tmp_path, "echo before >&2").run()
    assert command(tmp_path, "echo after >&2; exit 1").run()[1] == ["after"]
    assert log_of(tmp_path) == "before\nafter\n"


def test_a_command_that_was_stopped_before_it_began_ends_at_once(tmp_path: Path) -> None:
    each = command(tmp_path, "exec sleep 100", session=True)
    each.stop()
    assert each.run()[0] == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("told_by_slurm", "own", "expected"),
    [
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "4"}, None, "4"),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_NTASKS_PER_NODE": "2"}, None, "4"),
        ({"SLURM_CPUS_ON_NODE": "1", "SLURM_NTASKS_PER_NODE": "2"}, None, "1"),
        ({"SLURM_CPUS_ON_NODE": "8"}, "3", "3"),
        ({}, None, "unset"),
    ],
)
def test_a_rank_has_as_many_threads_as_cores(
    told_by_slurm: dict[str, str],
    own: str | None,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**told_by_slurm, **({"OMP_NUM_THREADS": own} if own else {})}.items():
        monkeypatch.setenv(name, value)
    script = 'echo "${OMP_NUM_THREADS:-unset}" >&2'
    assert command(tmp_path, script).run()[1] == [expected]


def test_a_signal_to_our_own_process_stops_the_command_politely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each, sent = command(tmp_path, "touch running; exec sleep 100"), list[int]()
    real = Command._signal

    def told(self: Command, number: signal.Signals) -> None:
        sent.append(number)
        real(self, number)

    def tell() -> None:
        until((tmp_path / "running").exists)
        os.kill(os.getpid(), signal.SIGUSR2)

    monkeypatch.setattr(Command, "_signal", told)
    before = signal.signal(signal.SIGUSR2, lambda *_: each.stop())
    try:
        threading.Thread(target=tell).start()
        assert each.run()[0] == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert sent == [signal.SIGTERM]
