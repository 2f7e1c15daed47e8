import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster import slurm
from cluster.command import Command
from core.errors import ConfigError
from tests.cluster.conftest import FakeSlurm


def settings(folder: Path, **options: Any) -> slurm.Settings:
    return slurm.Settings(
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
    ids = slurm.submit(commands(tmp_path, 3), settings(tmp_path, array_parallelism=2))
    assert ids == ["100_0", "100_1", "100_2"]
    (script,) = fake_slurm.scripts
    assert flags(script)["array"] == "0-2%2"
    assert len(list((tmp_path / "sweep" / "logs").glob("100_?_submitted.pkl"))) == 3


def test_a_single_job_is_no_array(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    assert slurm.submit(commands(tmp_path, 1), settings(tmp_path)) == ["100"]
    assert "array" not in flags(fake_slurm.scripts[0])


def test_every_option_reaches_sbatch(tmp_path: Path) -> None:
    chosen = settings(
        tmp_path,
        **{"partition": "gpu", "qos": "high", "account": "us", "gres": "gpu:2", "time": 90},
        **{"constraint": "a100", "mem": "16GB", "nodelist": "n1", "exclusive": True},
        additional_parameters={"hint": "nomultithread"},
    )
    given = flags(slurm.script(2, chosen, dependency="afterany:7"))
    assert given["partition"] == "gpu"
    assert given["time"] == "90"
    assert (given["exclusive"], given["hint"]) == ("", "nomultithread")
    assert (given["dependency"], given["comment"]) == ("afterany:7", "sweep")
    assert {"qos", "account", "gres", "constraint", "mem", "nodelist"} <= set(given)


def test_the_exit_code_is_that_of_the_job_whatever_comes_after_it(
    tmp_path: Path, fake_slurm: FakeSlurm
) -> None:
    (tmp_path / "a code").mkdir()
    srun = fake_slurm.folder / "srun"
    srun.write_text(f'#!/bin/sh\npwd > {tmp_path}/seen; echo "$@" >> {tmp_path}/seen; exit 3\n')
    srun.chmod(0o755)
    chosen = settings(tmp_path, setup=["cd /"], teardown=[f"touch {tmp_path}/after", "true"])
    ended = subprocess.run(["bash", "-c", slurm.script(1, chosen)], check=False)
    assert ended.returncode == 3
    assert (tmp_path / "after").exists()
    folder, arguments = (tmp_path / "seen").read_text().splitlines()
    assert folder == str(tmp_path / "a code")  # where python looks for our part of the job first
    assert "--kill-on-bad-exit=1" in arguments.split()


def test_an_unknown_option_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'partitoin', did you mean 'partition'"):
        slurm.script(1, settings(tmp_path, partitoin="gpu"))


def test_what_sbatch_refuses_is_told(tmp_path: Path, fake_slurm: FakeSlurm) -> None:
    (fake_slurm.folder / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition: gpu' >&2\nexit 1\n"
    )
    with pytest.raises(slurm.SlurmError, match=r"refused the sweep.*invalid partition: gpu"):
        slurm.submit(commands(tmp_path, 2), settings(tmp_path))


def test_a_job_around_us_is_hidden_and_the_cluster_is_not(
    tmp_path: Path, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fake_slurm.folder / "sbatch").write_text(
        f"#!/bin/sh\nenv > {tmp_path}/seen\necho Submitted batch job 1\n"
    )
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_CONF", "/etc/there")
    slurm.submit(commands(tmp_path, 1), settings(tmp_path))
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
    fake_slurm.says("12_[0-1,4]|PENDING\n13|RUNNING\n99|RUNNING\n", "12_2|COMPLETED\n")
    queue, accounts = slurm.states({"12_0", "12_1", "12_2", "13"})
    assert queue == {"12_0": "PENDING", "12_1": "PENDING", "13": "RUNNING"}
    assert accounts == {"12_2": "COMPLETED"}


def test_a_cluster_without_accounting_is_noticed(fake_slurm: FakeSlurm) -> None:
    assert slurm.has_accounting()
    fake_slurm.says(accounts=None)
    assert not slurm.has_accounting()
    assert slurm.accounted(["12_0"]) == {}


def test_jobs_are_cancelled_by_their_ids(fake_slurm: FakeSlurm) -> None:
    slurm.cancel([])
    slurm.cancel(["12_0", "13"])
    assert fake_slurm.cancelled == ["12_0", "13"]
