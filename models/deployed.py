"""Models as deployed: files run by another runtime, as classifiers."""

import shutil
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from core.digest import digest, file_digest
from core.errors import IncompatibleModel, NotApplicable
from core.preprocessing import Preprocessing
from models.base_model import ClassifierModule

TOLERANCE = 1e-3
"""Largest distance, relative to the largest logit, of an export from its model."""


class Session(nn.Module, ABC):
    """An open network of another runtime that can be copied and sent to another process.

    Args:
        path: The file, or the first of several.
        threads: None for torch's number.
        options: Of `open`; plain values.
    """

    def __init__(self, path: Path, threads: int | None, **options: Any) -> None:
        super().__init__()
        self.path, self.threads, self.options = path, threads, options
        self.owned: _Owned | None = None
        self.opened = self.open()

    @abstractmethod
    def open(self) -> Any:
        """What runs the network.

        Raises:
            DataError: The file is none of this runtime.
        """

    @abstractmethod
    def run(self, pixels: Any) -> Any:
        """Logits of normalised images, both arrays of numpy."""

    @property
    @abstractmethod
    def shapes(self) -> tuple[list[list[int | None]], list[int | None]]:
        """Shapes of all inputs and of the first output; None where a size is free."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images, on their device."""
        logits = self.run(images.detach().cpu().contiguous().numpy())
        return torch.from_numpy(logits).to(images.device)

    @property
    def input_shape(self) -> list[int]:
        """Channels, height, width."""
        inputs = self.shapes[0]
        sizes = inputs[0][1:] if len(inputs) == 1 and len(inputs[0]) == 4 else [None]
        if None in sizes:
            raise IncompatibleModel(
                f"{self.path}: expected one input [batch, channels, height, width] with fixed "
                f"channels and size, got {inputs}"
            )
        return cast(list[int], sizes)

    @property
    def width(self) -> int:
        """Number of logits."""
        shape = self.shapes[1]
        if len(shape) != 2 or shape[1] is None:
            raise IncompatibleModel(
                f"{self.path}: expected logits [batch, classes] as first output, got {shape}"
            )
        return shape[1]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "opened"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.opened = self.open()


class DeployedClassifier(ClassifierModule):
    """A classifier out of files, with the normalisation inside or before the graph.

    It has no gradients and no parameters that torch could see; measurements that need them are not
    applicable.

    Args:
        session: The open network.
        preprocessing: How the graph wants its images, fields of `core.Preprocessing`. Left out:
            the size is that of the input, and images go in as they are, in [0, 1].
        counts: `params`, `nonzero_params` and `macs` of the network the files were made of, if
            known.
        dtype: Precision in which the runtime computes what is no integer.
    """

    def __init__(
        self,
        session: Session,
        *,
        preprocessing: Mapping[str, Any] | None,
        counts: Mapping[str, int] | None,
        dtype: str = "float32",
    ) -> None:
        self._counts = None if counts is None else dict(counts)
        channels, height, width = session.input_shape
        given = {key: _tuple(value) for key, value in (preprocessing or {}).items()}
        unchanged = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
        self._wanted = Preprocessing(**{"size": (height, width), **unchanged, **given})
        self._session = [session]  # in a list: torch makes an attribute that is a module a part
        super().__init__(num_classes=session.width, pretrained=False, dtype=dtype)

    def load_backbone(self) -> nn.Module:
        """The session as a module."""
        return self._session[0]

    def default_preprocessing(self) -> Preprocessing:
        """What the constructor was told, or what the graph's input says."""
        return self._wanted

    @property
    def session(self) -> Session:
        """The open network."""
        return cast(Session, self.backbone)

    @property
    def counts(self) -> Mapping[str, int] | None:
        """As the constructor was told."""
        return self._counts

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Not known: a graph has no layers to ask.

        Raises:
            NotApplicable: Always.
        """
        raise NotApplicable(f"a model run by {self.runtime} gives logits, not features")

    def fingerprint(self) -> str:
        """Digest of the files, of what is done before them, and of the runtime."""
        return digest(
            {
                "files": {name: file_digest(path) for name, path in self.files.items()},
                "preprocessing": self.preprocessing.as_dict(),
                self.runtime: version(self.runtime),
            }
        )

    def own(self, folder: Path) -> None:
        """Remove the folder of the files as soon as the last copy in this process is gone."""
        self.session.owned = _Owned(folder)


class _Owned:
    """A folder that lies as long as this does; copies share it, another process only reads it."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Owned":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _Owned, (None,)


def require_equal(model: ClassifierModule, deployed: ClassifierModule, images: Tensor) -> None:
    """Compare a file with the model it was made of.

    Raises:
        IncompatibleModel: The file gives other logits.
    """
    with torch.no_grad():
        expected, got = model(images), deployed(images)
    off = float((expected - got).abs().max())
    if not off <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise IncompatibleModel(
            f"the file for {deployed.runtime} gives other logits than the model, {off:.3g} away"
        )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
