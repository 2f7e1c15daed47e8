"""Which jobs to compose beforehand: one takes a second, and a sweep has hundreds."""

import re
from collections.abc import Sequence

from cluster.jobs import root_of

NAME = re.compile(r"[A-Za-z_][\w/-]*")
"""A file of a group looks like this; a number or a list does not."""


def enough(lines: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The fewest jobs that meet what can be wrong with a command line.

    That is every choice of a file, with the settings below it: whether `compressor.sparsity`
    exists depends on `compressor`. Two values of one setting compose alike.

    Example:
        >>> enough([["model=a", "seed=1"], ["model=a", "seed=2"], ["model=b", "seed=1"]])
        [['model=a', 'seed=1'], ['model=b', 'seed=1']]
    """
    met: set[str] = set()
    chosen = []
    for line in lines:
        new = {_matter(override) for override in line} - met
        if new:
            chosen.append(line)
            met |= new
    return chosen


def _matter(override: str) -> str:
    """What of an override decides whether a job composes."""
    key, _, value = override.partition("=")
    if "." in key or not NAME.fullmatch(value):
        return key
    return f"{root_of(override)}={value}"
