"""Views that a publisher has made: images on disk beside the clean ones."""

from abc import abstractmethod
from typing import Any, ClassVar

from datamodules.base import ImageDataModule
from datamodules.views.view import SEVERITIES, Unchanged, View


class StoredViews(ImageDataModule):
    """A dataset whose corruptions lie on disk; other views are made of its clean images.

    Samples of a view are those of `clean`, in the same order.

    Args:
        options: As in ImageDataModule.
    """

    kinds: ClassVar[tuple[str, ...]]
    """Corruptions that were published."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._stored: dict[str, ImageDataModule] = {}

    @abstractmethod
    def stored(self, kind: str, severity: int) -> ImageDataModule:
        """The dataset that one corruption at one severity is."""

    def own_options(self) -> dict[str, Any]:
        """Arguments that a stored view shares with the dataset."""
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "max_decode_errors": self.max_decode_errors,
            "cache_pixels": self.cache_pixels,
        }

    def behind(self, view: str) -> ImageDataModule:
        """The published images of a corruption; the clean ones of every other view."""
        kind, severity = _parsed(view)
        if kind not in self.kinds or severity not in SEVERITIES:
            return self
        if view not in self._stored:
            self._stored[view] = self.stored(kind, severity)
        self._stored[view].preprocessing = self.preprocessing
        return self._stored[view]

    def view(self, name: str) -> View:
        """Nothing is left to do to images that are published corrupted."""
        if self.behind(name) is self:
            return super().view(name)
        return Unchanged(name=name, family="published")


def _parsed(view: str) -> tuple[str, int]:
    """Kind and severity of `fog_3`; severity 0 of what has none."""
    kind, _, number = view.rpartition("_")
    return kind, int(number) if number in map(str, SEVERITIES) else 0
