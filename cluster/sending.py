"""The way to SLURM: the arrays of a sweep are sent wave by wave, noted before and after."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster import arrays, slurm
from cluster import manifest as manifests
from cluster.command import Command
from cluster.manifest import CANCELLED, ENDED, FAILED, WAITING, Entry, Manifest
from cluster.watch import how_to
from core.errors import ConfigError
from core.names import slug


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Sends the waiting jobs of a sweep.

    Args:
        options: Of `config/hydra/launcher`.
        folder: Of this start of the sweep.
        command: Function job, manifest -> what the job runs.
        say: Tells somebody who watches a line.
    """

    options: dict[str, Any]
    folder: Path
    command: Callable[[Entry, Manifest], Command]
    say: Callable[[str], None]

    def send(self, manifest: Manifest, lock: int) -> Manifest:
        """Send one array a wave; returns the manifest as it is then.

        Raises:
            SlurmError: Nothing could be sent.
        """
        settings = self._settings(Path(manifest.code))
        if manifest.waiting and not slurm.has_accounting():
            self.say(
                "this cluster keeps no accounting: some minutes after its end nobody can tell why "
                "a job was killed"
            )
        first = str(settings.options.get("dependency") or "")
        for number in sorted({job.wave for job in manifest.jobs}):
            manifest = manifests.read(manifest.path)  # somebody may have cancelled jobs meanwhile
            wave = [job for job in manifest.waiting if job.wave == number]
            if not wave:
                continue
            name = f"interplay-{slug(manifest.id)}-{manifest.token}-w{number}"
            self._note(manifest, _named(wave, name))  # first: SLURM is asked by it for what it has
            try:
                ids = arrays.submit(
                    [self.command(job, manifest) for job in wave],
                    settings,
                    name,
                    dependency=_after_earlier_waves(manifest, number) or first,
                    keep=[lock],
                )
            except slurm.SlurmError as error:
                manifest = self._note(manifest, _refused(manifest.waiting, str(error)))
                if not any(job.slurm for job in manifest.jobs):
                    raise
                self.say(f"{error}; the jobs sent before go on, the same command sends the rest")
                break
            sent = zip(_named(wave, name), ids, strict=True)
            pending = [replace(job, slurm=id_, state=manifests.PENDING) for job, id_ in sent]
            manifest = self._note(manifest, pending)
            slurm.cancel(_cancelled_meanwhile(manifest, pending))
        self.say(f"sweep {manifest.id}: {how_to('status', manifest)}")
        return manifest

    def unsent(self, manifest: Manifest) -> Manifest:
        """The manifest of a sweep that was interrupted while it was sent."""
        stored = manifests.read(manifest.path)
        if left := stored.waiting:
            self.say(f"{len(left)} jobs may not be sent; the same command sends the rest")
        return self._note(stored, _refused(left, "interrupted"))

    def show(self, entries: list[Entry]) -> None:
        """Print the scripts that would be sent."""
        settings = self._settings(self.folder / "snapshot")
        dependency = str(settings.options.get("dependency") or "")
        for number in sorted({entry.wave for entry in entries if entry.state == WAITING}):
            count = sum(entry.wave == number and entry.state == WAITING for entry in entries)
            name = f"interplay-{slug(self.folder.name)}-w{number}"
            text = arrays.script(count, settings, name, dependency=dependency)
            sys.stdout.write(f"\nwave {number}, {count} jobs\n{text}\n")
            dependency = f"afterany:<wave {number}>"

    def _note(self, manifest: Manifest, jobs: list[Entry]) -> Manifest:
        """Keep what is known of jobs; one that somebody has cancelled stays so."""
        now = {job.id: job for job in jobs}

        def changed(stored: Manifest) -> Manifest:
            live = [job.id for job in stored.jobs if job.state != CANCELLED]
            return stored.with_jobs({id_: now[id_] for id_ in live if id_ in now})

        return manifests.update(manifest.path, changed)

    def _settings(self, code: Path) -> arrays.Settings:
        chosen = {
            key: value
            for key, value in self.options["options"].items()
            if value is not None and value != {}
        }
        if not isinstance(chosen.get("time", 1), int):
            raise ConfigError(
                [f"hydra.launcher.options.time is a number of minutes, got {chosen['time']!r}"]
            )
        return arrays.Settings(
            folder=self.folder,
            code=code,
            options=chosen,
            max_requeues=self.options["max_requeues"],
        )


def _named(wave: list[Entry], name: str) -> list[Entry]:
    """The jobs of an array with what SLURM calls them."""
    if len(wave) == 1:
        return [replace(wave[0], sent_as=name)]
    return [replace(job, sent_as=f"{name}_{place}") for place, job in enumerate(wave)]


def _cancelled_meanwhile(manifest: Manifest, sent: list[Entry]) -> list[str]:
    """SLURM's ids of jobs that somebody has cancelled while they were sent."""
    cancelled = {job.id for job in manifest.jobs if job.state == CANCELLED}
    return [job.slurm for job in sent if job.id in cancelled and job.slurm]


def _refused(jobs: list[Entry], reason: str) -> list[Entry]:
    return [replace(job, state=FAILED, reason=f"was not sent: {reason}") for job in jobs]


def _after_earlier_waves(manifest: Manifest, wave: int) -> str:
    """Dependency on all arrays that make the baselines, those of an earlier start among them."""
    earlier = [
        job.slurm.partition("_")[0]
        for job in manifest.jobs
        if job.slurm and job.wave < wave and job.state not in ENDED
    ]
    return f"afterany:{':'.join(dict.fromkeys(earlier))}" if earlier else ""
