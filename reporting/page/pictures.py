"""What a page asks of whoever knows the datasets: pictures of samples and names of classes."""

from collections.abc import Callable, Sequence
from typing import Protocol

from core.names import Split
from store.runs import Run


class Pictures(Protocol):
    """The datasets of one run, as far as they are on this machine."""

    def absence(self, datamodule: str, split: Split, dataset: str) -> str:
        """Why there are no pictures, as the end of a sentence; empty where there are.

        Args:
            datamodule: Name of the dataset.
            split: Which part of it.
            dataset: Digest of the data that the models saw; pictures of other data are refused.
        """

    def thumbnail(self, datamodule: str, split: Split, sample: int) -> bytes | None:
        """PNG of a sample, None where it cannot be decoded."""

    def class_names(self, datamodule: str) -> Sequence[str]:
        """Names of the classes in the order of the labels; empty where nobody knows them."""


PicturesOf = Callable[[Run], Pictures]


class NoPictures:
    """For whoever knows no dataset: every class is called by its number."""

    def absence(self, datamodule: str, split: Split, dataset: str) -> str:
        """No picture is at hand."""
        return "no datasets were given"

    def thumbnail(self, datamodule: str, split: Split, sample: int) -> bytes | None:
        """None for any sample."""
        return None

    def class_names(self, datamodule: str) -> Sequence[str]:
        """None are known."""
        return []


def name_of(names: Sequence[str], index: int) -> str:
    """Name of a class, its number where it has none.

    Example:
        >>> name_of(["cat", "dog"], 1), name_of([], 7), name_of(["cat"], -1)
        ('dog', 'class 7', 'no answer')
    """
    if index < 0:
        return "no answer"  # a row whose logits are broken
    return names[index] if index < len(names) else f"class {index}"
