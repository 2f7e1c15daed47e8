import io
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.command import Command
from cluster.progress import Progress, progress_of

TRAPS = """
import signal, sys
ignored = [s for s in (signal.SIGUSR1, signal.SIGUSR2) if signal.getsignal(s) is signal.SIG_IGN]
sys.exit(len(ignored))
"""


@pytest.fixture(autouse=True)
def outside_of_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUBMITIT_EXECUTOR", "SLURM_RESTART_COUNT", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def command(folder: Path, script: str, **more: Any) -> Command:
    return Command(line=["sh", "-c", script], cwd=str(folder), sweep=str(folder), job="0", **more)


def told(folder: Path) -> Progress:
    (progress,) = progress_of(folder)["0"]
    return progress


def run(each: Command) -> tuple[int, list[str], str]:
    errors = io.BytesIO()
    with open(os.devnull, "wb") as output:  # noqa: PTH123 - no file of ours
        code, tail = each.run(output, errors)
    return code, tail, errors.getvalue().decode()


def test_the_exit_code_and_the_last_words_are_kept(tmp_path: Path) -> None:
    script = "for i in $(seq 30); do echo line $i >&2; done; exit 3"
    code, tail, log = run(command(tmp_path, script))
    assert code == told(tmp_path).exit_code == 3
    assert tail == told(tmp_path).tail == [f"line {number}" for number in range(16, 31)]
    assert log.splitlines()[0] == "line 1"


def test_a_signal_counts_as_a_shell_counts_it(tmp_path: Path) -> None:
    code, tail, _ = run(command(tmp_path, "echo said >&2; kill -KILL $$"))
    assert (code, tail) == (137, ["said", "killed by SIGKILL"])


def test_the_command_runs_in_its_folder_with_its_environment(tmp_path: Path) -> None:
    each = command(tmp_path, 'pwd >&2; echo "$RECEIPT" >&2', environment={"RECEIPT": "key"})
    assert run(each)[1] == [str(tmp_path), "key"]


def test_the_command_ignores_the_signals_that_ask_for_a_requeue(tmp_path: Path) -> None:
    each = Command(line=[sys.executable, "-S", "-c", TRAPS], cwd=".", sweep=str(tmp_path), job="0")
    assert run(each)[0] == 2


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
    run(command(tmp_path, "true"))
    assert (told(tmp_path).slurm, told(tmp_path).rank) == ("12_3", 1)


def test_a_folder_that_the_node_does_not_see_is_told(tmp_path: Path) -> None:
    each = Command(line=["true"], cwd=str(tmp_path / "absent"), sweep=str(tmp_path), job="0")
    code, tail, _ = run(each)
    assert code == told(tmp_path).exit_code == 1
    assert "could not be started" in tail[0]
    assert "absent" in tail[0]


@pytest.mark.parametrize(("requeues", "code"), [(2, 0), (3, 1)])
def test_a_job_that_came_back_too_often_does_not_run(
    requeues: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(requeues))
    assert run(command(tmp_path, "true", max_requeues=2))[0] == code
    assert (told(tmp_path).requeues, told(tmp_path).exit_code) == (requeues, code)


def stopped(each: Command, folder: Path) -> Any:
    """What a checkpoint of a running command gives back."""
    thread = threading.Thread(target=run, args=(each,))
    thread.start()
    while not (folder / "running").exists():
        time.sleep(0.01)
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
