"""Which images are foreign to which dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.errors import unknown
from core.names import CLEAN

Named = Sequence[str] | Mapping[str, Sequence[str]]
"""Foreign sets of every dataset, or dataset -> its foreign sets."""


def place(foreign: str) -> tuple[str, str]:
    """Dataset and view of a foreign set.

    Example:
        >>> place("dummy"), place("digits/rotate_90")
        (('dummy', 'clean'), ('digits', 'rotate_90'))
    """
    name, _, view = foreign.partition("/")
    return name, view or CLEAN


@dataclass(frozen=True, kw_only=True)
class ForeignSets:
    """Foreign sets of each dataset, near and far ones.

    Args:
        near: Other classes of the same kind of picture.
        far: Other kinds of picture.

    Example:
        >>> sets = ForeignSets(near={"digits": ["digits/flip"]}, far=["noise"])
        >>> sets.of("digits"), sets.of("cifar10")
        (['digits/flip', 'noise'], ['noise'])
    """

    near: Named = ()
    far: Named = ()

    def of(self, name: str) -> list[str]:
        """All foreign sets of a dataset, each once."""
        return list(dict.fromkeys(one for sets in self.kinds(name).values() for one in sets))

    def kinds(self, name: str) -> dict[str, list[str]]:
        """`near` and `far` -> the foreign sets of a dataset; a kind without any is left out."""
        kinds = {"near": _of(self.near, name), "far": _of(self.far, name)}
        return {kind: sets for kind, sets in kinds.items() if sets}

    def unknown(self, library: Sequence[str]) -> list[str]:
        """A sentence for every dataset that is named but is not in the library."""
        named = [self.near, self.far]
        names = {place(foreign)[0] for each in named for foreign in _all(each)}
        names |= {name for each in named if isinstance(each, Mapping) for name in each}
        return [unknown("dataset", name, library) for name in sorted(names - set(library))]


def _of(named: Named, name: str) -> list[str]:
    return list(named.get(name, ()) if isinstance(named, Mapping) else named)


def _all(named: Named) -> list[str]:
    if isinstance(named, Mapping):
        return [foreign for sets in named.values() for foreign in sets]
    return list(named)
