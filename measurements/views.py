"""Which views of a dataset a measurement of corruptions looks at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datamodules.base import ImageDataModule


@dataclass(frozen=True, kw_only=True)
class CorruptionViews:
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
    def names(self) -> list[str]:
        """All views."""
        return [view for views in self.by_corruption.values() for view in views]

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


def has_view(datamodule: ImageDataModule, view: str) -> bool:
    """Whether a dataset knows a view of this name."""
    try:
        datamodule.view(view)
    except LookupError:
        return False
    return True
