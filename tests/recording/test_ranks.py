"""What ranks agree on before and after a pass, without starting any."""

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed

from core.errors import ConfigError, DataError
from recording import ranks
from store.disk import remove

A_DAY = timedelta(days=1)


@pytest.fixture
def two_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two processes that srun has started."""
    whole = {"STEP_NUM_TASKS": "2", "NTASKS": "2", "NTASKS_PER_NODE": "2", "PROCID": "0"}
    for name, value in {**whole, "JOB_ID": "1", "JOB_NAME": "x", "NODELIST": "a"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one rank."""
    with ranks._joined(f"file://{tmp_path}/ranks", 0, 1):
        yield


def work() -> Any:
    return ranks.Work(
        job=SimpleNamespace(ids=[0, 1], threads=1, look=SimpleNamespace(models=[])),  # type: ignore[arg-type]
        trainer={},
        threads=1,
    )


@pytest.mark.usefixtures("two_tasks")
def test_processes_without_their_number_a_node_are_a_fault_of_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(ConfigError, match="2 processes without --ntasks-per-node"), ranks.leading():
        pass


@pytest.mark.usefixtures("two_tasks")
def test_what_srun_started_is_asked_before_its_variable_is_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(ranks, "_joined", lambda *_: nullcontext())
    monkeypatch.setattr(ranks, "_order", lambda _: None)
    monkeypatch.setattr(ranks, "_take_part", lambda _, environment: seen.append(environment))
    with ranks.leading() as leads:
        (step,) = ranks._steps
        monkeypatch.setattr(ranks, "Step", None)  # none may be made in here
        ranks.run_on_ranks(work().job, {}, ranks=2)
    assert leads
    assert seen == [step]


@pytest.mark.usefixtures("alone")
def test_the_slowest_rank_may_be_hours_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []
    gather: Any = distributed.all_gather_object

    def gathered(*given: Any, group: Any = None) -> None:
        used.append(group or distributed.group.WORLD)
        gather(*given, group=group)

    monkeypatch.setattr(distributed, "all_gather_object", gathered)
    monkeypatch.setattr(ranks, "_part", lambda *_: ranks.Part())
    monkeypatch.setattr(ranks, "_merge", lambda *_: None)
    assert ranks._take_part(work(), None) is None  # type: ignore[arg-type]
    (group,) = used
    assert group._get_backend(torch.device("cpu")).options._timeout > A_DAY


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("fails", ["a rank", "the merge", "nothing"])
def test_no_part_outlives_its_pass(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [tmp_path / f"{name}.shard" for name in ("own", "of another host")]
    for shard in shards:
        shard.mkdir()
    error = DataError("no") if fails == "a rank" else None
    parts = [*(ranks.Part(shard=shard) for shard in shards), ranks.Part(error=error)]

    def merge(*_: object) -> None:
        if fails == "the merge":
            raise DataError("no")
        remove(shards[0])

    def gathered(into: list[Any], *_: object, group: object) -> None:
        into[:] = parts

    monkeypatch.setattr(distributed, "all_gather_object", gathered)
    monkeypatch.setattr(ranks, "_part", lambda *_: parts[0])
    monkeypatch.setattr(ranks, "_merge", merge)
    told = ranks._take_part(work(), None)  # type: ignore[arg-type]
    assert isinstance(told, DataError) == (fails != "nothing")
    assert not any(shard.exists() for shard in shards)
