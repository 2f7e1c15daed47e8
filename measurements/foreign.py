"""Which images are foreign to which dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.errors import unknown
from core.names import CLEAN

KINDS = ("near", "far")

Named = Mapping[str, Mapping[str, Sequence[str]]]
"""Dataset -> `near` and `far` -> foreign sets."""


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
        near: Other classes of the same kind of picture, for every dataset; None = as in `known`.
        far: Other kinds of picture, likewise.
        known: Those of single datasets.

    Raises:
        ValueError: A kind of foreign set is neither near nor far.

    Example:
        >>> sets = ForeignSets(near=["mnist"], known={"digits": {"far": ["noise"]}})
        >>> sets.of("digits"), sets.of("cifar10")
        (['mnist', 'noise'], ['mnist'])
    """

    near: Sequence[str] | None = None
    far: Sequence[str] | None = None
    known: Named | None = None

    def __post_init__(self) -> None:
        kinds = {kind for sets in (self.known or {}).values() for kind in sets}
        if wrong := sorted(kinds - set(KINDS)):
            raise ValueError(f"expected near and far in known, got {', '.join(wrong)}")

    def of(self, name: str) -> list[str]:
        """All foreign sets of a dataset, each once."""
        return list(dict.fromkeys(one for sets in self.kinds(name).values() for one in sets))

    def kinds(self, name: str) -> dict[str, list[str]]:
        """`near` and `far` -> the foreign sets of a dataset; a kind without any is left out."""
        known = (self.known or {}).get(name, {})
        kinds = {
            kind: list(known.get(kind, ()) if stated is None else stated)
            for kind, stated in zip(KINDS, (self.near, self.far), strict=True)
        }
        return {kind: sets for kind, sets in kinds.items() if sets}

    def unknown(self, library: Sequence[str]) -> list[str]:
        """A sentence for every dataset that is named but is not in the library."""
        known = self.known or {}
        foreign = [one for name in known for one in self.of(name)]
        stated = [*(self.near or ()), *(self.far or ())]
        names = {*known, *(place(one)[0] for one in [*foreign, *stated])}
        return [unknown("dataset", name, library) for name in sorted(names - set(library))]
