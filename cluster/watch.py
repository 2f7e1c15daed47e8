"""Watch a sweep: a live table in a terminal, a line for every change elsewhere."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import mean
from typing import Literal

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cluster import manifest as manifests
from cluster import slurm
from cluster.manifest import (
    CANCELLED,
    COMMITTED,
    DONE,
    ENDED,
    FAILED,
    PENDING,
    RUNNING,
    WAITING,
    Entry,
    Manifest,
)
from cluster.states import Seen, count, finished, is_over, look, remembered

SHOWN_JOBS = 20
SHOWN_FAILURES = 10
COLORS = {DONE: "green", COMMITTED: "green", RUNNING: "cyan", FAILED: "red", CANCELLED: "yellow"}

Answer = Literal["detach", "cancel", "go on"]


def watch(
    manifest: Manifest,
    *,
    every_s: float,
    console: Console | None = None,
    ask: Callable[[], Answer] | None = None,
    alive: Callable[[], bool] = lambda: True,
) -> list[Seen]:
    """Follow a sweep to its end; an interrupt asks whether to detach or to cancel.

    It is over when two looks agree: on a shared file system a job's last words may come later
    than its end. It is over too when what runs the jobs is no more `alive`.

    Returns:
        Every job as it was at the last look.
    """
    console = console or Console(stderr=True)
    while True:
        try:
            return _to_the_end(manifest, every_s, console, alive)
        except KeyboardInterrupt:
            seen = answer(manifest, console=console, ask=ask)
            if seen is not None:
                return seen


def answer(
    manifest: Manifest,
    *,
    console: Console | None = None,
    ask: Callable[[], Answer] | None = None,
) -> list[Seen] | None:
    """Ask what an interrupt is to do, and do it; None: the watch goes on."""
    chosen = (ask or _asked)()
    if chosen == "cancel":
        return cancel(manifest)
    if chosen == "detach":
        console = console or Console(stderr=True)
        console.print(f"detached; the jobs go on: {how_to('attach', manifest)}")
        return look(manifest)
    return None


def _to_the_end(
    manifest: Manifest, every_s: float, console: Console, alive: Callable[[], bool]
) -> list[Seen]:
    before, was_over = "", False
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            is_last = not alive()
            try:
                seen = look(manifest)
            except slurm.SlurmError as error:
                console.print(f"{error}; asking again")
                time.sleep(every_s)
                continue
            save(manifest, seen)
            manifest = remembered(manifest, seen)
            line = counts(seen)
            if console.is_terminal:
                live.update(overview(manifest, seen), refresh=True)
            elif line != before:
                console.print(line)
            before = line
            if is_last or (is_over(seen) and was_over):
                return seen
            was_over = is_over(seen)
            time.sleep(min(every_s, 1.0) if was_over else every_s)


def save(manifest: Manifest, seen: list[Seen]) -> None:
    """Keep the states in the manifest; what another process wrote meanwhile stays."""
    now = {each.entry.id: each.entry for each in seen}

    def changed(stored: Manifest) -> Manifest:
        return stored.with_jobs(
            {job.id: _merged(job, now[job.id]) for job in stored.jobs if job.id in now}
        )

    stored = manifests.read(manifest.path)
    if changed(stored) != stored:  # who finds nothing new need not be allowed to write
        manifests.update(manifest.path, changed)


def note(manifest: Manifest, seen: list[Seen]) -> None:
    """Save what somebody has seen who may not be allowed to write there."""
    try:
        save(manifest, seen)
    except OSError as error:
        sys.stderr.write(f"what was seen of sweep {manifest.id} is not kept: {error}\n")


def _merged(stored: Entry, now: Entry) -> Entry:
    """What is known of a job; one that somebody has cancelled, or sent again, stays so."""
    if stored.state == CANCELLED or stored.slurm not in (None, now.slurm):
        return stored
    return replace(
        stored,
        slurm=now.slurm,
        state=now.state,
        reason=now.reason,
        missing_since=now.missing_since,
    )


def cancel(manifest: Manifest) -> list[Seen]:
    """Take what has not ended out of the queue and remember that this was wanted.

    Raises:
        LookupError: The jobs are processes of another terminal.
    """
    if manifest.launcher != "slurm":
        raise LookupError(
            f"sweep {manifest.id} runs on {manifest.host} as process {manifest.pid} and its "
            "children: press Ctrl-C there"
        )
    seen = look(manifest)
    save(manifest, seen)
    wanted = {each.entry.id: each.entry.slurm for each in seen if each.state not in ENDED}
    slurm.cancel([id_ for id_ in wanted.values() if id_])

    def cancelled(stored: Manifest) -> Manifest:
        live = [job for job in stored.jobs if job.id in wanted and job.state not in ENDED]
        return stored.with_jobs(
            {job.id: replace(job, state=CANCELLED, reason="cancelled") for job in live}
        )

    stored = manifests.update(manifest.path, cancelled)
    late = [job for job in stored.jobs if job.state == CANCELLED and job.slurm]
    slurm.cancel([str(job.slurm) for job in late if wanted.get(job.id, job.slurm) != job.slurm])
    return look(stored)


def _asked() -> Answer:
    """What to do with the jobs; without a terminal to ask, they go on."""
    if not sys.stdin.isatty():
        return "detach"
    try:
        while True:
            sys.stderr.write("\nd: detach, the jobs go on   c: cancel them   w: watch on   [d] ")
            sys.stderr.flush()
            typed = sys.stdin.readline()
            answers: dict[str, Answer] = {"d": "detach", "": "detach", "c": "cancel", "w": "go on"}
            answer = answers.get(typed.strip().lower())
            if answer:
                return answer
    except KeyboardInterrupt:
        return "detach"


def overview(manifest: Manifest, seen: list[Seen], *, most: int = SHOWN_JOBS) -> Group:
    """Counts, and the jobs that say most: what failed, then what runs, then the others."""
    order = (FAILED, CANCELLED, RUNNING, PENDING, WAITING, DONE, COMMITTED)
    chosen = sorted(seen, key=lambda each: order.index(each.state))[:most]
    title = Text(f"sweep {manifest.id}: {summary(seen)}")
    rows = sorted(chosen, key=lambda each: each.entry.id)
    parts: list[Text | Table] = [title, job_table(rows)]
    if len(seen) > len(chosen):
        parts.append(Text(f"and {len(seen) - len(chosen)} more jobs"))
    return Group(*parts)


def job_table(seen: list[Seen]) -> Table:
    """One row a job, with what distinguishes its command from those of the others."""
    sent = any(each.entry.slurm for each in seen)
    table = Table("job", *["SLURM"] * sent, "state", "time", "command")
    shared = _shared(seen)
    for each in seen:
        state = each.state + (f", requeued {each.requeues}x" if each.requeues else "")
        table.add_row(
            each.entry.id,
            *[each.entry.slurm or ""] * sent,
            Text(state, style=COLORS.get(each.state, "")),
            _duration(_seconds(each)),
            Text(" ".join(word for word in each.entry.overrides if word not in shared)),
        )
    return table


def _shared(seen: list[Seen]) -> set[str]:
    """Overrides that all of several jobs have."""
    if len(seen) < 2:
        return set()
    return set.intersection(*(set(each.entry.overrides) for each in seen))


def summary(seen: list[Seen]) -> str:
    """Counts in a line, and how long it may still take."""
    left = eta_s(seen)
    return counts(seen) + ("" if left is None else f", about {_duration(left)} left")


def counts(seen: list[Seen]) -> str:
    """Number of jobs in each state."""
    parts = [
        f"{finished(seen)} of {len(seen)} done",
        f"{count(seen, RUNNING)} running",
        f"{count(seen, PENDING, WAITING)} pending",
        f"{count(seen, FAILED)} failed",
    ]
    if cancelled := count(seen, CANCELLED):
        parts.append(f"{cancelled} cancelled")
    return ", ".join(parts)


def eta_s(seen: list[Seen], now: float | None = None) -> float | None:
    """Seconds to the end if as many run at once as now; None before the first has ended."""
    now = time.time() if now is None else now
    took = [
        each.ended - each.started
        for each in seen
        if each.ended is not None and each.started is not None
    ]
    running = [each for each in seen if each.state == RUNNING]
    waiting = count(seen, PENDING, WAITING)
    if not took or not (running or waiting):
        return None
    typical = mean(took)
    begun = [now - each.started for each in running if each.started is not None]
    work = typical * (waiting + len(running)) - sum(min(one, typical) for one in begun)
    return work / max(1, len(running))


def failures(seen: list[Seen]) -> str:
    """Every job that failed, with the end of what it said and where the rest is.

    Jobs that said the same stand together, before what they said.
    """
    failed = [each for each in seen if each.state in (FAILED, CANCELLED)]
    alike: dict[tuple[str, ...], list[Seen]] = {}
    for each in failed[:SHOWN_FAILURES]:
        alike.setdefault((*each.tail,) or (each.entry.id,), []).append(each)
    lines = []
    for jobs in alike.values():
        lines += [f"FAILED {job.entry.id} ({job.entry.reason}): {_words(job)}" for job in jobs]
        lines += [f"    {line}" for line in jobs[0].tail]
        lines += [f"    log: {job.log}" for job in jobs if job.log is not None]
    if len(failed) > SHOWN_FAILURES:
        lines.append(f"and {len(failed) - SHOWN_FAILURES} more")
    return "\n".join(lines)


def how_to(verb: str, manifest: Manifest) -> str:
    """Command that does something with a sweep from any terminal."""
    return f"python -m cluster {verb} {manifest.folder}"


def _words(each: Seen) -> str:
    return " ".join(each.entry.overrides)


def _seconds(each: Seen) -> float | None:
    if each.started is None:
        return None
    if each.ended is None and each.state != RUNNING:
        return None
    return (each.ended or time.time()) - each.started


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
