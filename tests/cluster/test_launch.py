import errno
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from cluster import launch, sending, states, watch
from cluster import manifest as manifests
from cluster.__main__ import main
from cluster.launch import Sweep
from cluster.local import Processes
from cluster.manifest import Manifest
from core.errors import ConfigError
from store.cells import Cell, write_cell
from store.layout import Layout
from store.receipts import ASKED_FOR, CODE_ASKED_FOR, write_receipt
from tests.cluster.conftest import FakeSlurm

Start = Callable[..., list[int]]
Typed = Callable[..., int]
LAUNCHERS = launch.ROOT / "config" / "hydra" / "launcher"


def sweeps() -> list[Manifest]:
    return [manifests.read(path) for path in sorted(Path("results/sweeps").glob("*/manifest.json"))]


def never(config: DictConfig) -> None:
    pytest.fail("a job ran in the process that sends them")


def crossed(compressors: str, models: str = "a") -> list[list[str]]:
    return [
        [f"compressor={compressor}", f"model_name={model}"]
        for compressor in compressors.split(",")
        for model in models.split(",")
    ]


class Context:
    """In the place of Hydra's: an override sets a key."""

    def __init__(self) -> None:
        self.config_loader = self

    def load_sweep_config(self, config: DictConfig, overrides: list[str]) -> DictConfig:
        return OmegaConf.merge(config, OmegaConf.from_dotlist(overrides))  # type: ignore[return-value]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a sweep of some lines without Hydra; returns the exit codes it tells."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "code_digest", lambda: "code")
    monkeypatch.setattr(sys, "argv", ["job.py", "seed=3", "--config-name=other"])

    def run_job(*, task_function: Any, config: DictConfig, **_: Any) -> JobReturn:
        result = JobReturn(status=JobStatus.COMPLETED)
        result.return_value = task_function(config)
        return result

    monkeypatch.setattr(launch, "run_job", run_job)

    def call(
        task: Any, lines: list[list[str]], kind: str = "slurm", dry: bool = False, **options: Any
    ) -> list[int]:
        codes: list[int] = []
        most = options.pop("most", None)
        number = len(list(Path("results/sweeps").glob("*")))
        config = {
            "results_dir": "results",
            "dry_run": dry,
            "hydra": {
                "sweep": {"dir": f"results/sweeps/{number}"},
                "sweeper": {"max_batch_size": most},
                "hydra_logging": {"root": None},
                "verbose": False,
                "job": {"id": "", "num": 0},
                "overrides": {"hydra": ["hydra.job.name=x", "hydra.launcher.detach=true"]},
            },
        }
        given = OmegaConf.load(LAUNCHERS / f"{kind}.yaml")
        given.merge_with({"snapshot": False, "poll_seconds": 0.01, **options})

        def told(config: DictConfig) -> Any:
            return task(config)

        vars(told)["ended"] = lambda line, code: codes.append(code)
        sweep = Sweep(Context(), told, OmegaConf.create(config), dict(given))  # type: ignore[arg-type]
        returned = sweep.launch(lines)
        return [*codes, *(int(result.return_value) for result in returned)]

    return call


class Job:
    """A task that commits a cell, or fails where it is told to."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.ran = failing, list[str]()

    def __call__(self, config: DictConfig) -> int:
        name = f"{config.model_name}-{config.compressor}"
        self.ran.append(name)
        if config.compressor == self.failing:
            return 3
        layout = Layout(Path(config.results_dir))
        cell = Cell(measurement="m", key="k", status="done", values={"a_test_b": 1.0})
        write_cell(layout, name, cell)
        write_receipt(layout, os.environ[ASKED_FOR], {name: ["m"]}, {})
        return 0


def test_jobs_of_this_process_run_with_the_baselines_first(start: Start) -> None:
    job = Job()
    assert start(job, crossed("level,none", "a,b"), "processes") == [0, 0, 0, 0]
    assert job.ran == ["a-none", "b-none", "a-level", "b-level"]
    (manifest,) = sweeps()
    assert {entry.state for entry in manifest.jobs} == {"done"}


def test_the_same_command_runs_only_what_is_not_committed(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = crossed("none,level,fpgm")
    assert start(Job(failing="level"), lines, "processes") == [0, 3, 0]
    job = Job()
    assert start(job, lines, "processes") == [0]
    assert job.ran == ["a-level"]
    told = capfd.readouterr()
    assert "2 of 3 jobs are committed already, 1 to start" in told.err
    assert ["sweep 0: 2 of 3 done" in told.out, "sweep 1: 3 of 3 done" in told.out] == [True, True]
    states = [[entry.state for entry in manifest.jobs] for manifest in sweeps()]
    assert states == [["done", "failed", "done"], ["committed", "done", "committed"]]


@pytest.mark.parametrize(
    ("code", "resume"),
    [("edited", True), (None, True), ("code", False)],
    ids=["edited", "not in a repository", "asked for"],
)
def test_every_job_is_asked_where_the_receipts_are_not_to_be_believed(
    code: str | None,
    resume: bool,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start(Job(), crossed("none,level"), "processes")
    monkeypatch.setattr(launch, "code_digest", lambda: code)
    ran: list[str] = []
    start(
        lambda config: ran.append(config.compressor) or 0,
        crossed("none,level"),
        "processes",
        resume=resume,
    )
    assert ran == ["none", "level"]
    assert ("is no git repository, so" in capsys.readouterr().err) == (code is None)


def test_a_cluster_gets_one_array_a_wave(start: Start, fake_slurm: FakeSlurm) -> None:
    lines = crossed("level,none,fpgm", "a,b")
    start(never, lines, detach=True, options={"qos": "high"})
    first, second = fake_slurm.scripts
    assert "--array=0-1%2" in first
    assert "--dependency" not in first
    assert "--array=0-3%4" in second
    assert "--dependency=afterany:100" in second
    assert all("--qos=high" in script for script in (first, second))
    (manifest,) = sweeps()
    assert {entry.slurm: entry.overrides for entry in manifest.jobs} == {
        "100_0": ["compressor=none", "model_name=a"],
        "100_1": ["compressor=none", "model_name=b"],
        "101_0": ["compressor=level", "model_name=a"],
        "101_1": ["compressor=level", "model_name=b"],
        "101_2": ["compressor=fpgm", "model_name=a"],
        "101_3": ["compressor=fpgm", "model_name=b"],
    }


def test_a_dependency_of_the_users_own_is_that_of_the_first_wave(
    start: Start, fake_slurm: FakeSlurm
) -> None:
    start(never, crossed("none,level"), detach=True, options={"dependency": "afterok:7"})
    assert ["--dependency=afterok:7" in script for script in fake_slurm.scripts] == [True, False]


def test_a_job_is_the_command_line_itself(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(
        sending.arrays, "submit", lambda commands, *_, **__: sent.extend(commands) or ["1"]
    )
    monkeypatch.setattr(sending.slurm, "has_accounting", lambda: True)
    monkeypatch.setattr(sending.slurm, "require", lambda: None)
    start(never, [["seed=3"]], detach=True)
    (command,) = sent
    assert command.line == [
        sys.executable,
        str(launch.ROOT / "job.py"),
        "--config-name=other",
        "seed=3",
        "hydra.job.name=x",
        "hydra.mode=RUN",
    ]
    assert command.cwd == str(Path.cwd())
    assert command.max_requeues == 3
    assert set(command.environment) == {ASKED_FOR, CODE_ASKED_FOR}


def test_the_manifest_is_on_disk_before_anything_is_sent(
    start: Start, fake_slurm: FakeSlurm
) -> None:
    (fake_slurm.folder / "sbatch").write_text(
        f"#!/bin/sh\ncp {Path.cwd()}/results/sweeps/*/manifest.json {Path.cwd()}/seen; exit 1\n"
    )
    with pytest.raises(sending.slurm.SlurmError):
        start(never, [["seed=3"]])
    seen = json.loads(Path("seen").read_text())
    assert [job["state"] for job in seen["jobs"]] == ["waiting"]


def test_what_is_in_the_queue_already_is_followed_and_not_sent_again(
    start: Start, fake_slurm: FakeSlurm
) -> None:
    start(never, crossed("none,level"), detach=True)
    fake_slurm.says("100|RUNNING\n", "101|FAILED\n")
    start(never, crossed("none,level"), detach=True)
    assert len(fake_slurm.scripts) == 3
    first, second = sweeps()
    assert [job.slurm for job in second.jobs] == ["100", "102"]
    assert second.jobs[0].folder == first.folder


def test_a_job_that_slurm_has_forgotten_is_sent_again_after_a_minute(
    start: Start, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm.says("", None)  # nobody watches, and there is no accounting
    for second in (1000.0, 1010.0, 1071.0):
        monkeypatch.setattr(states.time, "time", lambda now=second: now)
        start(never, [["seed=3"]], detach=True)
    assert [job.slurm for start in sweeps() for job in start.jobs] == ["100", "100", "101"]
    assert {job.state for start in sweeps()[:2] for job in start.jobs} == {"failed"}


def test_what_a_newer_start_has_seen_end_is_not_followed(
    start: Start, fake_slurm: FakeSlurm
) -> None:
    start(never, [["seed=3"]], detach=True)
    fake_slurm.says("100|RUNNING\n")
    start(never, [["seed=3"]], detach=True)
    newer = sweeps()[1]
    manifests.write(newer.with_jobs({"0": replace(newer.jobs[0], state="failed")}))
    fake_slurm.says()
    start(never, [["seed=3"]], detach=True)
    assert sweeps()[2].jobs[0].slurm == "101"


def test_what_is_committed_is_not_sent(start: Start, fake_slurm: FakeSlurm) -> None:
    start(Job(), crossed("none,level"), "processes")
    start(never, crossed("none,level,fpgm"), detach=True)
    (script,) = fake_slurm.scripts
    assert "--dependency" not in script
    assert [job.slurm for job in sweeps()[-1].jobs] == [None, None, "100"]


@pytest.mark.slow
def test_a_thousand_jobs_are_sent_as_one_array(start: Start, fake_slurm: FakeSlurm) -> None:
    start(never, [[f"limit_samples={n}"] for n in range(1000)], detach=True)
    (manifest,) = sweeps()
    assert len({job.slurm for job in manifest.jobs}) == 1000
    assert len(fake_slurm.scripts) == 1


def test_a_dry_run_prints_the_scripts_and_sends_nothing(
    start: Start, fake_slurm: FakeSlurm, capfd: pytest.CaptureFixture[str]
) -> None:
    assert start(never, crossed("none,level"), dry=True) == []
    told = capfd.readouterr().out
    assert "compressor=level" in told
    assert told.count("#!/bin/bash") == 2
    assert fake_slurm.scripts == []
    assert not Path("results").exists()


def test_a_dry_run_leaves_what_was_there(start: Start, fake_slurm: FakeSlurm) -> None:
    Path("results/runs").mkdir(parents=True)
    start(never, crossed("none,level"), dry=True)
    assert [path.name for path in Path("results").iterdir()] == ["runs"]


def test_a_cluster_without_accounting_is_told_at_the_submit(
    start: Start, fake_slurm: FakeSlurm, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_slurm.says(accounts=None)
    start(never, [["seed=3"]], detach=True)
    assert "keeps no accounting" in capfd.readouterr().err


def test_a_failed_job_of_a_cluster_is_told_and_hands_on_its_exit_code(
    start: Start, fake_slurm: FakeSlurm, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_slurm.says("", "100|COMPLETED\n101|OUT_OF_MEMORY\n")
    assert start(never, crossed("none,level")) == [0, 1]
    told = capfd.readouterr()
    assert "FAILED 1 (SLURM says OUT_OF_MEMORY): compressor=level model_name=a" in told.err
    assert "1 of 2 done, 0 running, 0 pending, 1 failed" in told.out


def test_two_sweeps_never_share_a_folder(start: Start, fake_slurm: FakeSlurm) -> None:
    start(never, [["seed=3"]], detach=True)
    Path("results/sweeps/0").rename("results/sweeps/1")
    with pytest.raises(ConfigError, match=r"holds a sweep; set another hydra\.sweep\.dir"):
        start(never, [["seed=3"]], detach=True)


class Killed(BaseException):
    """In the place of SIGKILL: nobody catches it."""


@pytest.mark.parametrize("also_status", [False, True], ids=["at once", "after a status"])
def test_a_sweep_whose_sender_was_killed_before_it_noted_the_ids_is_not_sent_again(
    also_status: bool, start: Start, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> str:
        real(*_, **__)
        raise Killed

    real = sending.slurm.call
    monkeypatch.setattr(
        sending.slurm,
        "call",
        lambda *command, **known: (killed if command[0] == "sbatch" else real)(*command, **known),
    )
    with pytest.raises(Killed):
        start(never, crossed("level,fpgm", "a,b"), detach=True)
    monkeypatch.setattr(sending.slurm, "call", real)
    (first,) = sweeps()
    assert {job.slurm for job in first.jobs} == {None}
    if also_status:  # while SLURM does not say a word: nothing seems to have been sent
        manifests.write(replace(first, pid=2**22 + 1))
        main(["status", first.folder])
        assert {job.state for job in sweeps()[0].jobs} == {"failed"}
    fake_slurm.says("100_[0-1]|PENDING\n")
    start(never, crossed("level,fpgm", "a,b"), detach=True)
    assert len(fake_slurm.scripts) == 2
    assert "--dependency=afterany:100\n" in fake_slurm.scripts[1]
    assert [job.slurm for job in sweeps()[1].jobs] == ["100_0", "100_1", "101_0", "101_1"]
    assert [job.folder for job in sweeps()[1].jobs[:2]] == [first.folder] * 2
    main(["status", first.folder])
    assert [job.slurm for job in sweeps()[0].jobs][:2] == ["100_0", "100_1"]


def test_the_same_sweep_is_started_once_at_a_time(start: Start, fake_slurm: FakeSlurm) -> None:
    def again(_: DictConfig) -> int:
        with pytest.raises(ConfigError, match=rf"started or run by process {os.getpid()} on") as no:
            start(never, [["seed=3"]], detach=True)
        told.append(str(no.value))
        start(lambda _: 0, [["seed=4"]], "processes")  # another one is free
        return 0

    told: list[str] = []
    start(again, [["seed=3"]], "processes")
    assert f"python -m cluster status {Path.cwd()}/results/sweeps/0" in told[0]
    assert fake_slurm.scripts == []
    assert len(sweeps()) == 2
    start(never, [["seed=3"]], detach=True)
    assert len(fake_slurm.scripts) == 1


def test_sbatch_holds_the_lock_longer_than_its_killed_parent(
    start: Start, fake_slurm: FakeSlurm, tmp_path: Path
) -> None:
    sbatch = fake_slurm.folder / "sbatch"
    sbatch.write_text(f"#!/bin/sh\nls -l /proc/self/fd > {tmp_path}/held\n{sbatch.read_text()}")
    start(never, [["seed=3"]], detach=True)
    assert f"-> {tmp_path}/results/locks/" in (tmp_path / "held").read_text()


def test_what_sbatch_refuses_of_a_later_wave_is_told_and_sent_by_the_same_command(
    start: Start, fake_slurm: FakeSlurm, capfd: pytest.CaptureFixture[str]
) -> None:
    sbatch = fake_slurm.folder / "sbatch"
    answers = sbatch.read_text()
    no = f'[ "$(cat {fake_slurm.folder}/next)" = 101 ] && {{ echo "limit reached" >&2; exit 1; }}'
    sbatch.write_text(f"#!/bin/sh\n{no}\n{answers}")
    fake_slurm.says("", "100|COMPLETED\n")
    assert start(never, crossed("none,level,fpgm")) == [0, 1, 1]
    told = capfd.readouterr()
    assert "1 of 3 done, 0 running, 0 pending, 2 failed" in told.out
    assert "FAILED 1 (was not sent: sbatch refused the sweep: limit reached)" in told.err
    (first,) = sweeps()
    assert [job.state for job in first.jobs] == ["done", "failed", "failed"]
    sbatch.write_text(answers)
    start(never, crossed("none,level,fpgm"), detach=True)
    assert [job.slurm for job in sweeps()[1].jobs[1:]] == ["102_0", "102_1"]


def while_sending(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Something happens each time that sbatch has taken an array, before its id is noted."""
    real = sending.arrays.submit

    def submit(*given: Any, **known: Any) -> list[str]:
        ids = real(*given, **known)
        happens()
        return ids

    monkeypatch.setattr(sending.arrays, "submit", submit)


def test_what_is_cancelled_from_elsewhere_while_it_is_sent_stays_so(
    start: Start, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled() -> None:
        main(["cancel", sweeps()[0].folder])

    while_sending(monkeypatch, cancelled)
    assert start(never, crossed("none,level")) == [1, 1]
    assert {job.state for job in sweeps()[0].jobs} == {"cancelled"}
    assert fake_slurm.cancelled == ["100"]
    assert len(fake_slurm.scripts) == 1  # the second wave is not sent any more


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("answer", ["detach", "cancel", "go on"])
def test_an_interrupt_while_a_sweep_is_sent_asks_too(
    answer: str, start: Start, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_sending(monkeypatch, interrupted)
    monkeypatch.setattr(watch, "_asked", lambda: answer)
    fake_slurm.says("100|COMPLETED\n" if answer == "go on" else "100|PENDING\n")
    codes = {"detach": [1], "cancel": [1, 1], "go on": [0, 1]}  # the second wave was not sent
    assert start(never, crossed("none,level")) == codes[answer]
    assert fake_slurm.cancelled == (["100"] if answer == "cancel" else [])
    assert sweeps()[0].jobs[1].reason == "was not sent: interrupted"


def test_a_sweep_of_which_nothing_could_be_sent_is_not_left_waiting(
    start: Start, fake_slurm: FakeSlurm
) -> None:
    (fake_slurm.folder / "sbatch").write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    with pytest.raises(sending.slurm.SlurmError, match="refused the sweep: no"):
        start(never, crossed("none,level"))
    reason = "was not sent: sbatch refused the sweep: no"
    assert {(job.state, job.reason) for job in sweeps()[0].jobs} == {("failed", reason)}


def test_a_batch_is_an_array_and_waits_for_those_before(
    start: Start, fake_slurm: FakeSlurm
) -> None:
    start(never, crossed("none,level,fpgm,taylor"), detach=True, most=2)
    assert [job.slurm for job in sweeps()[0].jobs] == ["100", "101_0", "101_1", "102"]
    assert "--dependency=afterany:100:101\n" in fake_slurm.scripts[2]


def test_processes_run_at_once_and_leave_their_logs(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "import sys\nprint('out')\nsys.exit('level' in sys.argv[2] and 'the reason')\n"
    )
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    assert start(never, crossed("none,level"), "processes", n_jobs=2) == [0, 1]
    told = capfd.readouterr()
    assert "    the reason" in told.err
    folder = Path(sweeps()[0].folder) / "logs"
    assert (folder / "0.out").read_text() == "out\n"
    assert f"log: {folder}/1.err" in told.err


def test_a_job_that_nobody_runs_any_more_has_failed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Processes, "run", lambda _: None)  # no thread could be started
    assert start(never, crossed("none,level"), "processes", n_jobs=2) == [1, 1]


def test_processes_are_ended_whatever_ends_their_parent(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    released, real = threading.Event(), Processes.stop
    monkeypatch.setattr(Processes, "run", lambda _: released.wait())

    def stop(self: Processes) -> None:
        real(self)
        released.set()

    monkeypatch.setattr(Processes, "stop", stop)
    monkeypatch.setattr(watch, "save", full)
    monkeypatch.setattr(launch, "save", full)
    try:
        with pytest.raises(OSError, match="no space left"):
            start(never, crossed("none,level"), "processes", n_jobs=2)
        assert released.is_set()
    finally:
        released.set()


CLUSTER = ("mode=cluster", "hydra.launcher.snapshot=false", "hydra.launcher.detach=true")


@pytest.mark.slow
def test_a_mode_of_a_cluster_computes_nothing_here_even_without_m(
    typed: Typed, fake_slurm: FakeSlurm
) -> None:
    assert typed(never, *CLUSTER) == 0
    assert len(fake_slurm.scripts) == 1


@pytest.mark.slow
def test_batches_are_arrays_of_one_sweep(typed: Typed, fake_slurm: FakeSlurm) -> None:
    assert typed(never, *CLUSTER, "-m", "seed=0,1,2", "hydra.sweeper.max_batch_size=1") == 0
    assert len(fake_slurm.scripts) == 3
    assert [job.slurm for job in sweeps()[0].jobs] == ["100", "101", "102"]


@pytest.mark.slow
def test_a_sweep_hidden_in_the_sweeper_is_refused_too(
    typed: Typed, capfd: pytest.CaptureFixture[str]
) -> None:
    assert typed(never, "-m", "+hydra.sweeper.params.mode='local,cluster'") == 2
    assert "choose one of mode=cluster, mode=local" in capfd.readouterr().err


@pytest.mark.slow
def test_the_worst_exit_code_is_that_of_the_command(typed: Typed) -> None:
    assert typed(lambda config: config.seed, "-m", "seed=0,3,2") == 3


def test_jobs_wait_for_the_baselines_that_an_earlier_start_has_sent(
    start: Start, fake_slurm: FakeSlurm
) -> None:
    sbatch = fake_slurm.folder / "sbatch"
    answers = sbatch.read_text()
    sbatch.write_text(
        f'#!/bin/sh\n[ "$(cat {fake_slurm.folder}/next)" = 101 ] && exit 1\n{answers}'
    )
    assert start(never, crossed("none,level"), detach=True) == [1]
    sbatch.write_text(answers)
    (first,) = sweeps()
    baseline = str(first.jobs[0].slurm)
    fake_slurm.says(f"{baseline}|PENDING\n")
    start(never, crossed("none,level"), detach=True)
    assert sweeps()[1].jobs[0].slurm == baseline
    assert len(fake_slurm.scripts) == 2
    assert "--dependency=afterany:100\n" in fake_slurm.scripts[-1]


def test_a_time_that_is_no_number_of_minutes_is_refused(
    start: Start, fake_slurm: FakeSlurm
) -> None:
    with pytest.raises(ConfigError, match="number of minutes, got '04:00:00'"):
        start(never, [["seed=3"]], options={"time": "04:00:00"})
    assert fake_slurm.scripts == []
