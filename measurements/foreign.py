"""Which images are foreign to which dataset."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
        absent: What is known but not there, `near` and `far` of it are no means over all.

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
    absent: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        kinds = {kind for sets in (self.known or {}).values() for kind in sets}
        if wrong := sorted(kinds - set(KINDS)):
            raise ValueError(f"expected near and far in known, got {', '.join(wrong)}")

    def without(self, is_there: Callable[[str], bool]) -> "ForeignSets":
        """The same where what is merely known, not stated, may be missing.

        Args:
            is_there: Whether a dataset, by its name in the library, can be read.
        """
        known = {one for name in self.known or {} for one in self.of(name)}
        known -= {*(self.near or ()), *(self.far or ())}
        return replace(self, absent=frozenset(one for one in known if not is_there(place(one)[0])))

    def of(self, name: str) -> list[str]:
        """All foreign sets of a dataset that are there, each once."""
        named = dict.fromkeys(one for sets in self.kinds(name).values() for one in sets)
        return [one for one in named if one not in self.absent]

    def missing(self, name: str) -> list[str]:
        """Foreign sets of a dataset that are not there."""
        return sorted({one for sets in self.kinds(name).values() for one in sets} & self.absent)

    def whole_kinds(self, name: str) -> dict[str, list[str]]:
        """`kinds` of which nothing is missing: those that have a mean."""
        kinds = self.kinds(name)
        return {kind: sets for kind, sets in kinds.items() if not self.absent & {*sets}}

    def kinds(self, name: str) -> dict[str, list[str]]:
        """`near` and `far` -> all foreign sets of a dataset; a kind without any is left out."""
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
