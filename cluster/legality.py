"""Which jobs to compose beforehand: one takes a second, and a sweep has hundreds."""

from collections.abc import Collection, Sequence

from cluster.jobs import root_of


def enough(lines: Sequence[Sequence[str]], groups: Collection[str]) -> list[Sequence[str]]:
    """The fewest jobs that meet what can be wrong with a command line.

    That is every choice of a file, with the settings below it: whether `compressor.sparsity`
    exists depends on `compressor`. Two values of one setting compose alike.

    Args:
        lines: Overrides of each job.
        groups: Groups that a file is chosen of, as an override names them: `compressor@then`.

    Example:
        >>> lines = [["model=a", "seed=1"], ["model=a", "seed=2"], ["model=b", "seed=1"]]
        >>> enough(lines, {"model"})
        [['model=a', 'seed=1'], ['model=b', 'seed=1']]
    """
    met: set[str] = set()
    chosen = []
    for line in lines:
        new = {_matter(override, groups) for override in line} - met
        if new:
            chosen.append(line)
            met |= new
    return chosen


def _matter(override: str, groups: Collection[str]) -> str:
    """What of an override decides whether a job composes; `+key` may add a file of a group."""
    key, _, value = override.partition("=")
    adds_file = key.startswith("+") and "." not in key.partition("@")[0]
    if key in groups or adds_file:
        return f"{root_of(override)}={value}"
    return key
