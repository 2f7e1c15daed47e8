import os
import pickle
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster import arrays, slurm
from cluster.command import Command
from core.errors import ConfigError
from tests.cluster.conftest import FakeSlurm


def settings(folder: Path, **options: Any) -> arrays.Settings:
    return arrays.Settings(
        folder=folder / "sweep", code=folder / "a code", options=options, max_requeues=3
    )


def commands(folder: Path, count: int) -> list[Command]:
    return [
        Command(line=["true"], cwd="/", sweep=str(folder), job=str(job)) for job in range(count)
    ]


def flags(script: str) -> dict[str, str]:
    lines = (line.removeprefix("#SBATCH --") for line in script.splitlines() if "#SBATCH" in line)
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


def test_one_array_is_sent_for_all_jobs(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    ids = arrays.submit(commands(tmp_path, 3), settings(tmp_path, array_parallelism=2), "x-w0")
    assert ids == ["100_0", "100_1", "100_2"]
    (script,) = fake_slurm.scripts
    assert (flags(script)["array"], flags(script)["job-name"]) == ("0-2%2", "x-w0")


@pytest.mark.parametrize(("count", "number"), [(3, 2), (1, 0)], ids=["array", "single"])
def test_a_job_fetches_what_it_runs_and_keeps_what_it_left_there(
    count: int, number: int, tmp_path: Path, fake_slurm: FakeSlurm
) -> None:
    (tmp_path / "a code").mkdir()
    (job, *_) = arrays.submit(commands(tmp_path, count), settings(tmp_path), "x-w0")
    array = job.partition("_")[0]
    known = {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": array}
    run = ["bash", "-c", fake_slurm.scripts[0]]
    subprocess.run(run, env={**os.environ, **known}, check=True)
    id_ = f"{array}_2" if count > 1 else array
    fetched = tmp_path / "sweep" / "logs" / f"{id_}_submitted.pkl"
    assert pickle.loads(fetched.read_bytes()).function.job == str(number)
    fetched.unlink()
    fetched.write_text("of a requeue")
    subprocess.run(run, env={**os.environ, **known}, check=True)
    assert fetched.read_text() == "of a requeue"


def test_the_cores_of_a_task_reach_srun(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    (tmp_path / "a code").mkdir()
    srun = fake_slurm.folder / "srun"
    srun.write_text(f'#!/bin/sh\necho "${{SRUN_CPUS_PER_TASK-unset}}" >> {tmp_path}/seen\n')
    text = arrays.script(1, settings(tmp_path, cpus_per_task=4), "x-w0")
    assert flags(text)["cpus-per-task"] == "4"
    known = {**os.environ, "SLURM_JOB_ID": "1"}
    (tmp_path / "sweep" / "logs").mkdir(parents=True)
    subprocess.run(["bash", "-c", text], env=known, check=True)
    subprocess.run(["bash", "-c", text], env={**known, "SLURM_CPUS_PER_TASK": "4"}, check=True)
    assert (tmp_path / "seen").read_text().split() == ["unset", "4"]


@pytest.mark.parametrize(
    ("requeues", "own", "expected"),
    [(3, {}, "requeue"), (0, {}, "no-requeue"), (3, {"no-requeue": True}, "no-requeue")],
)
def test_slurm_is_asked_to_requeue(
    requeues: int, own: dict[str, bool], expected: str, tmp_path: Path
) -> None:
    chosen = replace(settings(tmp_path, additional_parameters=own), max_requeues=requeues)
    given = flags(arrays.script(2, chosen, "x-w0"))
    assert {"requeue", "no-requeue"} & set(given) == {expected}


def test_an_array_that_was_taken_although_sbatch_failed_is_not_lost(
    tmp_path: Path, fake_slurm: FakeSlurm
) -> None:
    sbatch = fake_slurm.folder / "sbatch"
    sbatch.write_text(sbatch.read_text() + "echo 'Socket timed out' >&2; exit 1\n")
    fake_slurm.says("100_[0-1]|PENDING\n")
    assert arrays.submit(commands(tmp_path, 2), settings(tmp_path), "x-w0") == ["100_0", "100_1"]


def test_an_array_is_known_by_its_name_alone(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    for name in ("x-w0", "x-w1", "y-w0"):
        arrays.submit(commands(tmp_path, 2), settings(tmp_path), name)
    fake_slurm.says("100_[0-1]|RUNNING\n102_1|RUNNING\n", "101_0|COMPLETED\n")
    assert slurm.named({"x-w0", "x-w1", "z-w0"}) == {"x-w0": "100", "x-w1": "101"}
    fake_slurm.says("102_1|RUNNING\n", None)
    assert slurm.named({"x-w0", "y-w0"}) == {"y-w0": "102"}


def test_a_single_job_is_no_array(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    assert arrays.submit(commands(tmp_path, 1), settings(tmp_path), "x-w0") == ["100"]
    assert "array" not in flags(fake_slurm.scripts[0])


def test_every_option_reaches_sbatch(tmp_path: Path) -> None:
    chosen = settings(
        tmp_path,
        **{"partition": "gpu", "qos": "high", "account": "us", "gres": "gpu:2", "time": 90},
        **{"constraint": "a100", "mem": "16GB", "nodelist": "n1", "exclusive": True},
        additional_parameters={"hint": "nomultithread"},
    )
    given = flags(arrays.script(2, chosen, "x-w0", dependency="afterany:7"))
    assert given["partition"] == "gpu"
    assert given["time"] == "90"
    assert (given["exclusive"], given["hint"]) == ("", "nomultithread")
    assert (given["dependency"], given["comment"]) == ("afterany:7", "sweep")
    assert {"qos", "account", "gres", "constraint", "mem", "nodelist"} <= set(given)


def test_the_exit_code_is_that_of_the_job_whatever_comes_after_it(
    tmp_path: Path, fake_slurm: FakeSlurm
) -> None:
    (tmp_path / "a code").mkdir()
    (tmp_path / "sweep" / "logs").mkdir(parents=True)
    srun = fake_slurm.folder / "srun"
    srun.write_text(f'#!/bin/sh\npwd > {tmp_path}/seen; echo "$@" >> {tmp_path}/seen; exit 3\n')
    srun.chmod(0o755)
    chosen = settings(tmp_path, setup=["cd /"], teardown=[f"touch {tmp_path}/after", "true"])
    ended = subprocess.run(["bash", "-c", arrays.script(1, chosen, "x-w0")], check=False)
    assert ended.returncode == 3
    assert (tmp_path / "after").exists()
    folder, arguments = (tmp_path / "seen").read_text().splitlines()
    assert folder == str(tmp_path / "a code")  # where python looks for our part of the job first
    assert "--kill-on-bad-exit=1" in arguments.split()


def test_an_unknown_option_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'partitoin', did you mean 'partition'"):
        arrays.script(1, settings(tmp_path, partitoin="gpu"), "x-w0")


def test_what_sbatch_refuses_is_told(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    (fake_slurm.folder / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition: gpu' >&2\nexit 1\n"
    )
    with pytest.raises(slurm.SlurmError, match=r"refused the sweep.*invalid partition: gpu"):
        arrays.submit(commands(tmp_path, 2), settings(tmp_path), "x-w0")


def test_a_job_around_us_is_hidden_and_the_cluster_is_not(
    tmp_path: Path, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fake_slurm.folder / "sbatch").write_text(
        f"#!/bin/sh\nenv > {tmp_path}/seen\necho Submitted batch job 1\n"
    )
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_CONF", "/etc/there")
    arrays.submit(commands(tmp_path, 1), settings(tmp_path), "x-w0")
    seen = (tmp_path / "seen").read_text()
    assert "SLURM_CONF=/etc/there" in seen
    assert "SLURM_JOB_ID" not in seen


def test_without_slurm_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(slurm.SlurmError, match=r"squeue was not found.*mode=local"):
        slurm.states({"1"})
    with pytest.raises(slurm.SlurmError, match="sbatch was not found"):
        slurm.require()


def test_only_jobs_that_left_the_queue_are_looked_up_in_the_accounting(
    fake_slurm: FakeSlurm,
) -> None:
    fake_slurm.says("12_[0-1,4]|PENDING\n13|RUNNING\n99|RUNNING\n", "12_2|COMPLETED\n99|FAILED\n")
    words = slurm.states({"12_0", "12_1", "12_2", "13", "14"})
    assert words == {
        "12_0": "PENDING",
        "12_1": "PENDING",
        "12_2": "COMPLETED",
        "13": "RUNNING",
    }


def test_the_accounting_is_not_believed_that_a_job_lives_which_the_queue_does_not_know(
    fake_slurm: FakeSlurm,
) -> None:
    fake_slurm.says("", "12_0|RUNNING\n12_1|PENDING\n12_2|TIMEOUT\n")
    assert slurm.states({"12_0", "12_1", "12_2"}) == {"12_2": "TIMEOUT"}


def test_jobs_that_the_controller_has_forgotten_are_no_fault_of_it(fake_slurm: FakeSlurm) -> None:
    (fake_slurm.folder / "squeue").write_text(
        "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n"
    )
    fake_slurm.says(accounts="12|COMPLETED\n")
    assert slurm.states({"12"}) == {"12": "COMPLETED"}


def test_the_queue_is_asked_by_the_ids_of_the_jobs(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    (fake_slurm.folder / "squeue").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    slurm.states({"12_0", "12_1", "13"})
    asked = (tmp_path / "asked").read_text().split()
    assert "--jobs=12,13" in asked
    assert not any(word.startswith("--user") for word in asked)


def test_a_cluster_without_accounting_is_noticed(fake_slurm: FakeSlurm) -> None:
    assert slurm.has_accounting()
    fake_slurm.says(accounts=None)
    assert not slurm.has_accounting()
    assert slurm.accounted(["12_0"]) == {}


def test_jobs_are_cancelled_by_their_ids(fake_slurm: FakeSlurm) -> None:
    slurm.cancel([])
    slurm.cancel(["12_0", "13"])
    assert fake_slurm.cancelled == ["12_0", "13"]
