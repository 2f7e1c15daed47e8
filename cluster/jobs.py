"""The jobs of a sweep, from its overrides: pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.digest import digest
from core.errors import ConfigError

RECIPE = ("compressor", "finetune", "then")
"""Top-level keys that say what is done to a baseline; jobs that differ in them alone share it."""

NO_BASELINE = ("tuning", "seed", "name", "wandb")
"""Top-level keys that decide no record of a baseline; `seed` decides random weights alone."""

RANDOM_WEIGHTS = "model.pretrained=false"

ELSEWHERE = ("hydra", "wandb", "name")
"""Top-level keys that never change what a command commits, where the name is no folder's."""

NAMES_A_FOLDER = ("train.py",)
"""Entry files that commit to a folder of that `name`."""

UNCERTAIN = ("allowed_targets", "verify_data")
"""Top-level keys behind which nobody can tell without starting."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One command line of a sweep.

    Args:
        id: Position in the sweep, `0007`; also the name of the job's files.
        overrides: What stands behind `python evaluate.py`.
        wave: Order of the start: those that make baselines, then those that find them made.
    """

    id: str
    overrides: tuple[str, ...]
    wave: int


def jobs_of(
    lines: Sequence[Sequence[str]], most: int | None = None, *, baselines: bool = True
) -> list[Job]:
    """Number the distinct command lines of a sweep and say which go first.

    Of the jobs that share a baseline one goes first: that of the baseline itself, or where there
    is none, the first.

    Args:
        lines: Overrides of each job.
        most: Jobs of a wave; what is over goes into the next.
        baselines: Whether they record any; if not, none waits for another.

    Raises:
        ConfigError: They differ in where they run, or a wave may have no job.

    Example:
        >>> [(job.id, job.wave) for job in jobs_of([["compressor=l1"], ["compressor=none"]])]
        [('0', 1), ('1', 0)]
    """
    distinct = list(dict.fromkeys(tuple(line) for line in lines))
    _refuse_several_modes(distinct)
    leaders: dict[tuple[str, ...], tuple[str, ...]] = {}
    for line in sorted(distinct, key=is_baseline, reverse=True):
        leaders.setdefault(baseline_line(line), line)
    leading = set(leaders.values() if baselines else distinct)
    first = [line for line in distinct if line in leading]
    others = [line for line in distinct if line not in leading]
    batches = [*_batches(first, most), *_batches(others, most)]
    wave = {line: number for number, batch in enumerate(batches) for line in batch}
    width = len(str(len(distinct) - 1))
    return [
        Job(id=f"{number:0{width}d}", overrides=line, wave=wave[line])
        for number, line in enumerate(distinct)
    ]


def _batches(lines: list[tuple[str, ...]], most: int | None) -> Iterator[list[tuple[str, ...]]]:
    if most is not None and most < 1:
        raise ConfigError([f"hydra.sweeper.max_batch_size is 1 or more, or null, got {most}"])
    size = most or max(1, len(lines))
    for start in range(0, len(lines), size):
        yield lines[start : start + size]


def baseline_line(line: Sequence[str]) -> tuple[str, ...]:
    """What of a command line decides the records of its baseline.

    Example:
        >>> baseline_line(["model=a", "compressor=l1", "compressor.sparsity=0.5", "seed=1"])
        ('model=a',)
    """
    kept = "seed" if any(each.lstrip("+").lower() == RANDOM_WEIGHTS for each in line) else None
    return tuple(
        override
        for override in line
        if (root := root_of(override)) not in RECIPE and (root not in NO_BASELINE or root == kept)
    )


def is_baseline(line: Sequence[str]) -> bool:
    """Whether a command line leaves every slot of the recipe empty."""
    chosen = (override for override in line if root_of(override) in RECIPE)
    return all(override.partition("=")[2] == "none" for override in chosen)


def root_of(override: str) -> str:
    """Top-level key an override writes below.

    Example:
        >>> [root_of(each) for each in ("compressor@then=x", "+then.samples=5", "~wandb")]
        ['then', 'then', 'wandb']
    """
    key = override.lstrip("+~").partition("=")[0]
    return key.rpartition("@")[2].split(".")[0].split("/")[0]


def receipt_key(line: Sequence[str], surroundings: Mapping[str, Any]) -> str:
    """Name under which a job tells that all of it is committed: by what decides its numbers.

    Args:
        line: Overrides of the job.
        surroundings: JSON: the entry file, its flags, the code, versions, and where it runs.
    """
    left_out = set(ELSEWHERE)
    if surroundings["entry"] in NAMES_A_FOLDER:
        left_out.remove("name")
    return digest([surroundings, [each for each in line if root_of(each) not in left_out]])


def is_certain(line: Sequence[str]) -> bool:
    """Whether a command line says by itself what it reads: the other ones start every time.

    Classes and configurations from elsewhere may change unseen, and who asks for the data to be
    verified wants it done.

    Example:
        >>> [is_certain([each]) for each in ("seed=1", "verify_data=true", "hydra.searchpath=[x]")]
        [True, False, False]
    """
    return not any(
        root_of(each) in UNCERTAIN or each.lstrip("+~").startswith("hydra.searchpath")
        for each in line
    )


def sweep_digest(jobs: Sequence[Job], surroundings: Mapping[str, Any]) -> str:
    """The same for every start of the same sweep of the same code."""
    return digest([surroundings, [list(job.overrides) for job in jobs]])


def _refuse_several_modes(lines: Sequence[Sequence[str]]) -> None:
    modes = {each for line in lines for each in line if root_of(each) == "mode"}
    if len(modes) > 1:
        raise ConfigError(
            [
                "a mode is where things run, not what is compared: "
                f"choose one of {', '.join(sorted(modes))}"
            ]
        )
