"""Any network as a ClassifierModule."""

from typing import Any

from torch import nn

from core.preprocessing import Preprocessing
from models.base_model import ClassifierModule


class WrappedModel(ClassifierModule):
    """A network that somebody built already.

    Args:
        network: Images to logits; it is held, not copied.
        preprocessing: How it wants its images; None = unchanged.
        **options: Those of ClassifierModule.
    """

    _given: tuple[nn.Module, Preprocessing | None] | None

    def __init__(
        self, network: nn.Module, *, preprocessing: Preprocessing | None = None, **options: Any
    ) -> None:
        self._given = (network, preprocessing)  # in a tuple, so that it is no submodule
        super().__init__(**options)
        self._given = None

    def load_backbone(self) -> nn.Module:
        """The network that was given."""
        assert self._given is not None, "asked for while it is constructed"
        return self._given[0]

    def default_preprocessing(self) -> Preprocessing:
        """What was given, else images go in as they are."""
        assert self._given is not None, "asked for while it is constructed"
        return self._given[1] or super().default_preprocessing()
