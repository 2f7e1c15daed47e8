"""Which views of a dataset a measurement of corruptions or of transformations looks at."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.errors import ConfigError, unknown
from datamodules.base import ImageDataModule
from datamodules.views.registry import TRANSFORMS
from datamodules.views.registry import view as named_view


class Views(ABC):
    """Views by kind, and the datasets that have them."""

    @property
    @abstractmethod
    def by_kind(self) -> dict[str, list[str]]:
        """Views of each kind."""

    @property
    def names(self) -> list[str]:
        """All views."""
        return [view for views in self.by_kind.values() for view in views]

    def having(self, datamodules: Mapping[str, ImageDataModule]) -> list[str]:
        """Datasets that have all of them; nothing is read."""
        return [
            name
            for name, datamodule in datamodules.items()
            if all(has_view(datamodule, view) for view in self.names)
        ]

    @property
    def absent(self) -> str:
        """Sentence for datasets of which none has all the views."""
        return f"no dataset has all the views {', '.join(self.names)}"


@dataclass(frozen=True, kw_only=True)
class CorruptionViews(Views):
    """The views `<corruption>_<severity>` for every corruption and severity.

    Raises:
        ValueError: There is none.
    """

    corruptions: Sequence[str]
    severities: Sequence[int]

    def __post_init__(self) -> None:
        if not self.corruptions or not self.severities:
            raise ValueError(
                "expected at least one corruption and one severity, "
                f"got {list(self.corruptions)} and {list(self.severities)}"
            )

    @property
    def by_corruption(self) -> dict[str, list[str]]:
        """Views of each corruption, in the order of the severities.

        Example:
            >>> CorruptionViews(corruptions=["fog"], severities=[1, 3]).by_corruption
            {'fog': ['fog_1', 'fog_3']}
        """
        return {name: [f"{name}_{s}" for s in self.severities] for name in self.corruptions}

    @property
    def by_kind(self) -> dict[str, list[str]]:
        """A corruption is a kind."""
        return self.by_corruption


@dataclass(frozen=True, kw_only=True)
class TransformViews(Views):
    """The views `<kind>_<magnitude>` of transformations.

    Args:
        magnitudes: Kind -> magnitudes in its unit; an empty list leaves a kind out, and a kind
            without magnitudes (`flip`) takes any number for yes.

    Raises:
        ConfigError: There is no such kind or magnitude, or no view at all.
    """

    magnitudes: Mapping[str, Sequence[int]]

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults or not self.names:
            raise ConfigError(faults or ["expected at least one magnitude of a transformation"])

    @property
    def by_kind(self) -> dict[str, list[str]]:
        """Views of each kind, in the order of the magnitudes.

        Example:
            >>> TransformViews(magnitudes={"rotate": [5, 15], "flip": [1], "roll": []}).by_kind
            {'rotate': ['rotate_5', 'rotate_15'], 'flip': ['flip']}
        """
        return {
            kind: [f"{kind}_{number}" for number in numbers] if TRANSFORMS[kind].unit else [kind]
            for kind, numbers in self.magnitudes.items()
            if numbers
        }

    def _faults(self) -> Iterator[str]:
        for kind in self.magnitudes:
            if kind not in TRANSFORMS:
                yield unknown("transformation", kind, TRANSFORMS)
                return
        for name in self.names:
            try:
                named_view(name)
            except LookupError as error:
                yield str(error)


def has_view(datamodule: ImageDataModule, view: str) -> bool:
    """Whether a dataset knows a view of this name."""
    try:
        datamodule.view(view)
    except LookupError:
        return False
    return True
