import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cluster import manifest as manifests
from cluster import states
from cluster import watch as module
from cluster.__main__ import main
from cluster.manifest import Entry, Manifest
from cluster.states import KILLED, Seen
from cluster.watch import counts, eta_s, failures, job_table, save, summary, watch
from tests.cluster.conftest import FakeSlurm

Sweep = Callable[..., Manifest]
Told = Callable[..., None]


def seen(state: str, *, started: float | None = None, ended: float | None = None) -> Seen:
    entry = Entry(id="0", overrides=["seed=0", state], wave=0, state=state)
    return Seen(entry=entry, started=started, ended=ended)


@pytest.fixture
def manifest(sweep: Sweep) -> Manifest:
    """Two jobs of an array, on disk; one more was committed before."""
    folder = sweep().folder
    jobs = [
        Entry(id=str(i), overrides=[f"seed={i}"], wave=0, slurm=f"12_{i}", folder=folder)
        for i in (0, 1)
    ]
    manifest = sweep(*jobs, Entry(id="2", overrides=["seed=2"], wave=0, state="committed"))
    manifests.write(manifest)
    return manifest


def followed(manifest: Manifest, **more: object) -> tuple[list[Seen], str]:
    text = io.StringIO()
    console = Console(file=text, width=200)
    return watch(manifest, every_s=0.01, console=console, **more), text.getvalue()  # type: ignore[arg-type]


def test_a_sweep_is_counted_in_a_line() -> None:
    jobs = [seen(state) for state in ("done", "committed", "running", "pending", "waiting")]
    assert counts(jobs) == "2 of 5 done, 1 running, 2 pending, 0 failed"
    assert counts([seen("cancelled")]) == (
        "0 of 1 done, 0 running, 0 pending, 0 failed, 1 cancelled"
    )


def test_the_end_is_estimated_from_what_has_ended() -> None:
    # Each takes 100 s; at 130 s two run for 30 s, three wait: 2 * 70 + 3 * 100 s of work for two.
    jobs = [
        seen("done", started=0, ended=100),
        *(seen("running", started=100) for _ in range(2)),
        *(seen("pending") for _ in range(3)),
    ]
    assert eta_s(jobs, now=130) == 220


def test_before_the_first_has_ended_and_after_the_last_there_is_no_estimate() -> None:
    assert eta_s([seen("running", started=0), seen("pending")]) is None
    assert eta_s([seen("done", started=0, ended=9)]) is None
    assert "left" not in summary([seen("done", started=0, ended=9)])


def test_a_row_shows_what_distinguishes_a_job() -> None:
    table = job_table([seen("done"), seen("failed")])
    text = io.StringIO()
    Console(file=text, width=200).print(table)
    assert "seed=0" not in text.getvalue()
    assert "SLURM" not in text.getvalue()  # none of them was sent


def test_a_sweep_is_followed_to_its_end(
    manifest: Manifest, told: Told, fake_slurm: FakeSlurm
) -> None:
    told("0", 0)
    told("1", 1, tail=["Traceback", "ZeroDivisionError: the reason"])
    fake_slurm.says("", "12_0|COMPLETED\n12_1|FAILED\n")
    jobs, text = followed(manifest)
    assert "2 of 3 done, 0 running, 0 pending, 1 failed" in text
    assert [job.state for job in manifests.read(manifest.path).jobs] == [
        "done",
        "failed",
        "committed",
    ]
    assert failures(jobs).splitlines()[:3] == [
        "FAILED 1 (exit code 1): seed=1",
        "    Traceback",
        "    ZeroDivisionError: the reason",
    ]


def test_what_several_jobs_said_stands_once_behind_them() -> None:
    def failed(job: str, tail: list[str]) -> Seen:
        entry = Entry(id=job, overrides=[f"seed={job}"], wave=0, state="failed", reason="why")
        return Seen(entry=entry, tail=tail, log=Path(job))

    jobs = [failed("0", ["no data"]), failed("1", []), failed("2", ["no data"]), failed("3", [])]
    assert failures(jobs).splitlines() == [
        "FAILED 0 (why): seed=0", "FAILED 2 (why): seed=2",
        "    no data", "    log: 0", "    log: 2",
        "FAILED 1 (why): seed=1", "    log: 1", "FAILED 3 (why): seed=3", "    log: 3",
    ]  # fmt: skip


def test_it_is_over_when_two_looks_agree(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = [Seen(entry=replace(job, state="done")) for job in manifest.jobs]
    late = [Seen(entry=replace(job, state="running")) for job in manifest.jobs]
    looks = iter([ended, late, ended, ended])
    monkeypatch.setattr(module, "look", lambda _: next(looks))
    followed(manifest)
    assert list(looks) == []


def test_a_cluster_that_is_down_for_a_moment_is_asked_again(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = [Seen(entry=replace(job, state="done")) for job in manifest.jobs]

    def answers() -> Iterator[list[Seen]]:
        yield ended
        yield ended

    given, calls = answers(), []

    def look(_: Manifest) -> list[Seen]:
        calls.append(1)
        if len(calls) == 1:
            raise module.slurm.SlurmError("squeue failed: down")
        return next(given)

    monkeypatch.setattr(module, "look", look)
    assert "squeue failed: down; asking again" in followed(manifest)[1]


def interrupted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look is interrupted by the user."""
    real, calls = module.look, []

    def look(manifest: Manifest) -> list[Seen]:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(manifest)

    monkeypatch.setattr(module, "look", look)


def test_an_interrupt_can_detach(
    manifest: Manifest, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm.says("12_0|RUNNING\n12_1|PENDING\n")
    interrupted_once(monkeypatch)
    jobs, text = followed(manifest, ask=lambda: "detach")
    assert [job.state for job in jobs] == ["running", "pending", "committed"]
    assert f"python -m cluster attach {manifest.folder}" in text.replace("\n", "")
    assert fake_slurm.cancelled == []


def test_an_interrupt_can_cancel_what_has_not_ended(
    manifest: Manifest, told: Told, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    told("0", 0)
    fake_slurm.says("12_1|PENDING\n", "12_0|COMPLETED\n")
    interrupted_once(monkeypatch)
    jobs, _ = followed(manifest, ask=lambda: "cancel")
    assert fake_slurm.cancelled == ["12_1"]
    assert [job.state for job in jobs] == ["done", "cancelled", "committed"]


def test_without_a_terminal_to_ask_the_jobs_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("c\n"))
    assert module._asked() == "detach"


def test_saving_keeps_what_another_process_has_written(manifest: Manifest) -> None:
    stale = [Seen(entry=replace(job, slurm="9_9", state="failed")) for job in manifest.jobs[:1]]
    save(manifest, stale)
    assert manifests.read(manifest.path) == manifest


def test_what_somebody_has_cancelled_stays_so_and_the_rest_is_learned(manifest: Manifest) -> None:
    first, second, *_ = manifest.jobs
    stored = {"0": replace(first, state="cancelled"), "1": replace(second, slurm=None)}
    manifests.write(manifest.with_jobs(stored))
    now = [replace(first, state="running"), replace(second, state="running", missing_since=5.0)]
    save(manifest, [Seen(entry=entry) for entry in now])
    assert manifests.read(manifest.path).jobs[:2] == [stored["0"], now[1]]


def test_a_watch_remembers_since_when_a_job_is_missing(
    manifest: Manifest, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, real = [1000.0], module.look

    def look(manifest: Manifest) -> list[Seen]:
        now[0] += 20  # seconds since the look before
        return real(manifest)

    monkeypatch.setattr(states.time, "time", lambda: now[0])
    monkeypatch.setattr(module, "look", look)
    jobs, _ = followed(manifest)
    assert {job.entry.reason for job in jobs[:2]} == {KILLED}
    assert now[0] == 1100  # missed at 1020, given up at 1080, and looked at once more


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (3, 1)])
def test_a_status_from_another_terminal(
    code: int,
    ends: int,
    manifest: Manifest,
    told: Told,
    fake_slurm: FakeSlurm,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told("0", 0)
    told("1", code)
    fake_slurm.says("", "12_0|COMPLETED\n12_1|COMPLETED\n")
    assert main(["status", manifest.folder]) == ends
    told_text = capsys.readouterr().out
    assert f"{3 - ends} of 3 done" in told_text
    assert ("FAILED 1 (exit code 3)" in told_text) == bool(code)


def test_who_sees_nothing_new_writes_nothing(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "update", lambda *_: pytest.fail("the lock was opened"))
    save(manifest, [Seen(entry=job) for job in manifest.jobs])


def test_a_status_is_told_to_who_may_not_write_there(
    manifest: Manifest,
    fake_slurm: FakeSlurm,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "manifest.lock")

    fake_slurm.says("12_0|RUNNING\n12_1|PENDING\n")
    monkeypatch.setattr(manifests, "update", refused)
    assert main(["status", manifest.folder]) == 0
    told = capsys.readouterr()
    assert "1 of 3 done, 1 running, 1 pending" in told.out
    assert "sweep one is not kept: [Errno 13] Permission denied" in told.err


def test_a_refused_sweep_is_told_where_there_is_no_slurm(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = replace(manifest.jobs[0], slurm=None, sent_as="x-w0", state="failed", reason="no")
    monkeypatch.setenv("PATH", "")
    manifests.write(replace(manifest, jobs=[refused]))
    assert main(["status", manifest.folder]) == 1
    assert "FAILED 0 (no)" in capsys.readouterr().out
    with pytest.raises(module.slurm.SlurmError):
        states.look(manifests.read(manifest.path))  # who would send it again has to know
    manifests.write(replace(manifest, jobs=[replace(refused, state="waiting")]))
    assert main(["status", manifest.folder]) == 2


def test_a_sweep_can_be_cancelled_from_another_terminal(
    manifest: Manifest, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.says("12_[0-1]|PENDING\n")
    results = Path(manifest.folder).parents[1]
    assert main(["cancel", "one", f"--results-dir={results}"]) == 0
    assert fake_slurm.cancelled == ["12_0", "12_1"]


def test_an_id_that_is_noted_while_a_sweep_is_cancelled_is_cancelled_too(
    manifest: Manifest, fake_slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = manifest.jobs[0]
    unsent = manifest.with_jobs({"0": replace(first, slurm=None, state="waiting")})
    fake_slurm.says("12_[0-1]|PENDING\n")
    monkeypatch.setattr(module, "save", lambda *_: manifests.write(manifest))  # its sender notes it
    jobs = module.cancel(unsent)
    assert fake_slurm.cancelled == ["12_1", "12_0"]
    assert [job.state for job in jobs] == ["cancelled", "cancelled", "committed"]


def test_a_sweep_that_is_not_there_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "nowhere"]) == 2
    assert "unknown sweep 'nowhere'" in capsys.readouterr().err


def test_processes_of_another_terminal_are_not_cancelled_from_here(
    sweep: Callable[..., Manifest], fake_slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sweep(Entry(id="0", overrides=[], wave=0), launcher="processes")
    manifests.write(made)
    assert main(["cancel", made.folder]) == 2
    assert "press Ctrl-C there" in capsys.readouterr().err
    assert manifests.read(made.path).jobs[0].state == "waiting"


def test_a_watch_ends_with_what_runs_the_jobs(sweep: Callable[..., Manifest]) -> None:
    made = sweep(Entry(id="0", overrides=[], wave=0), launcher="processes")
    manifests.write(made)
    (job,) = watch(made, every_s=0.01, alive=lambda: False)
    assert job.state == "waiting"
