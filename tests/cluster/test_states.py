from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import states
from cluster.manifest import Entry, Manifest
from cluster.slurm import SlurmError
from cluster.states import KILLED, look
from tests.cluster.conftest import FakeSlurm

Sweep = Callable[..., Manifest]
Told = Callable[..., None]
UNKNOWN = "SLURM does not know it, it may still tell how it ended"
SAYS = "SLURM says"
GONE = 2**22 + 1
"""No process has this id: it is above the largest that Linux gives."""


@pytest.fixture
def job(sweep: Sweep) -> Entry:
    return Entry(id="0", overrides=["seed=0"], wave=0, slurm="12_0", folder=sweep().folder)


def state_of(manifest: Manifest) -> tuple[str, str]:
    (seen,) = look(manifest)
    return seen.state, seen.entry.reason


@pytest.mark.parametrize(
    ("queue", "accounts", "exit_code", "expected"),
    [
        ("12_0|RUNNING", "", None, ("running", "")),
        ("12_0|COMPLETING", "", 0, ("running", "")),
        ("12_0|WORD_OF_A_LATER_SLURM", "", None, ("running", "")),
        ("12_0|SPECIAL_EXIT", "", 1, ("pending", "")),
        ("12_[0-3%2]|PENDING", "", None, ("pending", "")),
        ("12_0|PENDING", "12_0|PREEMPTED", 143, ("pending", "")),
        ("12_0|OUT_OF_MEMORY", None, None, ("failed", "SLURM says OUT_OF_MEMORY")),
        ("", "12_0|COMPLETED", 0, ("done", "")),
        ("", "12_0|RUNNING", 0, ("done", "")),
        ("", "12_0|COMPLETED", None, ("done", "")),
        ("", "12_0|RUNNING", None, ("running", UNKNOWN)),
        ("", "12_0|WORD_OF_A_LATER_SLURM", None, ("running", UNKNOWN)),
        ("", "12_0|FAILED", 1, ("failed", "exit code 1")),
        ("", "12_0|FAILED", 137, ("failed", "killed by signal 9")),
        ("", "12_0|OUT_OF_MEMORY", 137, ("failed", f"{SAYS} OUT_OF_MEMORY, killed by signal 9")),
        ("", "12_0|TIMEOUT", 143, ("failed", f"{SAYS} TIMEOUT, killed by signal 15")),
        ("", "12_0|PREEMPTED", 1, ("failed", f"{SAYS} PREEMPTED, exit code 1")),
        ("", "12_0|NODE_FAIL", None, ("failed", "SLURM says NODE_FAIL")),
        ("", "12_0|CANCELLED by 0", 143, ("cancelled", "cancelled")),
        ("", None, None, ("running", UNKNOWN)),
        ("", None, 0, ("done", "")),
        ("", None, 2, ("failed", "exit code 2")),
    ],
)
def test_the_queue_comes_first_then_the_accounting_and_the_job_itself(
    queue: str,
    accounts: str | None,
    exit_code: int | None,
    expected: tuple[str, str],
    job: Entry,
    sweep: Sweep,
    told: Told,
    fake_slurm: FakeSlurm,
) -> None:
    told("0", exit_code)
    fake_slurm.says(queue, accounts)
    assert state_of(sweep(job)) == expected


@pytest.mark.parametrize("accounts", [None, "12_0|RUNNING"], ids=["none", "late"])
@pytest.mark.parametrize(
    ("seconds", "expected"), [(59.9, ("running", UNKNOWN)), (60.1, ("failed", KILLED))]
)
def test_a_job_that_slurm_does_not_know_is_given_up_after_a_minute(
    seconds: float,
    expected: tuple[str, str],
    accounts: str | None,
    job: Entry,
    sweep: Sweep,
    fake_slurm: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_slurm.says("", accounts)
    monkeypatch.setattr(states.time, "time", lambda: 1000.0)
    first = look(sweep(job))
    assert first[0].state == "running"
    monkeypatch.setattr(states.time, "time", lambda: 1000.0 + seconds)
    assert state_of(states.remembered(sweep(job), first)) == expected


def test_a_job_that_slurm_knows_again_has_all_its_time_again(
    job: Entry, sweep: Sweep, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.says("12_0|RUNNING\n")
    (seen,) = look(sweep(replace(job, missing_since=1.0)))
    assert (seen.state, seen.entry.missing_since) == ("running", None)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([0, 0], ("done", "")),
        ([0], ("failed", f"rank 1 {KILLED}")),
        ([0, None], ("failed", f"rank 1 {KILLED}")),
        ([None, 0], ("failed", f"rank 0 {KILLED}")),
    ],
)
def test_a_rank_that_says_nothing_is_missed_where_there_is_no_accounting(
    codes: list[int | None],
    expected: tuple[str, str],
    job: Entry,
    sweep: Sweep,
    told: Told,
    fake_slurm: FakeSlurm,
) -> None:
    for rank, code in enumerate(codes):
        told("0", code, rank=rank, ranks=2)
    fake_slurm.says("", None)
    assert state_of(sweep(replace(job, missing_since=1.0))) == expected


def test_what_a_rank_told_before_a_requeue_does_not_count(
    job: Entry, sweep: Sweep, told: Told, fake_slurm: FakeSlurm
) -> None:
    told("0", 143, rank=1, ranks=2)
    told("0", 0, rank=0, ranks=2, requeues=1)
    fake_slurm.says("", "12_0|COMPLETED")
    assert state_of(sweep(job)) == ("done", "")


def test_one_failing_rank_fails_the_job(
    job: Entry, sweep: Sweep, told: Told, fake_slurm: FakeSlurm
) -> None:
    told("0", 0, rank=0)
    told("0", 3, rank=1, tail=["the reason"])
    fake_slurm.says("", "12_0|FAILED")
    (seen,) = look(sweep(job))
    assert (seen.state, seen.exit_code, seen.tail) == ("failed", 3, ("the reason",))
    assert seen.entry.reason == "rank 1: exit code 3"


def test_the_log_of_a_job_that_could_not_say_a_word_is_shown(
    job: Entry, sweep: Sweep, fake_slurm: FakeSlurm
) -> None:
    log = Path(job.folder) / "logs" / "12_0_0_log.err"
    log.parent.mkdir()
    log.write_text("first\n\nslurmstepd: error: Detected 1 oom_kill event\n")
    fake_slurm.says("", "12_0|OUT_OF_MEMORY")
    (seen,) = look(sweep(job))
    assert seen.tail[-1] == "slurmstepd: error: Detected 1 oom_kill event"
    assert seen.log == log


def test_a_job_whose_sender_died_before_it_could_note_the_id_tells_it_itself(
    job: Entry, sweep: Sweep, told: Told, fake_slurm: FakeSlurm
) -> None:
    told("0", slurm="12_0")
    fake_slurm.says("12_0|RUNNING")
    (seen,) = look(sweep(replace(job, slurm=None)))
    assert (seen.entry.slurm, seen.state) == ("12_0", "running")


@pytest.mark.parametrize("state", ["waiting", "failed"])
def test_a_job_whose_id_nobody_noted_is_found_by_its_name(
    state: str, job: Entry, sweep: Sweep, fake_slurm: FakeSlurm
) -> None:
    (fake_slurm.folder / "named.12").write_text("x-w0")
    fake_slurm.says("12_[0-3]|PENDING\n12_4|RUNNING\n")
    lost = replace(job, slurm=None, sent_as="x-w0_4", state=state)
    (seen,) = look(sweep(lost, pid=GONE))
    assert (seen.entry.slurm, seen.state) == ("12_4", "running")
    (seen,) = look(sweep(replace(lost, sent_as="y-w0_4"), pid=GONE))
    assert (seen.entry.slurm, seen.state) == (None, "failed")


def test_what_has_ended_is_not_asked_again(job: Entry, sweep: Sweep) -> None:
    assert state_of(sweep(replace(job, state="done"))) == ("done", "")  # there is no squeue here


def test_a_cluster_that_does_not_answer_is_told(
    job: Entry, sweep: Sweep, fake_slurm: FakeSlurm
) -> None:
    (fake_slurm.folder / "squeue").write_text("#!/bin/sh\necho down >&2\nexit 1\n")
    with pytest.raises(SlurmError, match="squeue failed: down"):
        look(sweep(job))


@pytest.mark.parametrize(
    ("codes", "pid", "expected"),
    [
        ([], None, ("waiting", "")),
        ([None], None, ("running", "")),
        ([0], GONE, ("done", "")),
        ([137], None, ("failed", "killed by signal 9")),
        ([], GONE, ("failed", "was not started")),
        ([None], GONE, ("failed", "was interrupted")),
    ],
)
def test_processes_of_this_machine_live_as_long_as_their_parent(
    codes: list[int | None],
    pid: int | None,
    expected: tuple[str, str],
    job: Entry,
    sweep: Sweep,
    told: Told,
) -> None:
    for code in codes:
        told("0", code)
    known = {} if pid is None else {"pid": pid}
    assert state_of(sweep(replace(job, slurm=None), **known)) == expected


def test_another_machine_is_not_judged(job: Entry, sweep: Sweep) -> None:
    assert state_of(sweep(replace(job, slurm=None), host="elsewhere", pid=GONE))[0] == "waiting"
