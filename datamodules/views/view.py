"""What a view is: a name, a version, parameters, and a function from images to images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from core.names import CLEAN
from datamodules.views.seeding import GENERATOR, Draws

SEVERITIES = (1, 2, 3, 4, 5)

SMALL_SIDE, LARGE_SIDE = 32, 224
"""Sides that the two columns of constants were chosen at: CIFAR's and ImageNet's."""

LEAST_SIDE = 20
"""Images with fewer pixels a side get the lengths of this one: shorter lengths would vanish
between two pixels."""

FIRST_LARGE = 128
"""Shorter side, in pixels, from which the constants of large images hold."""


class View(ABC):
    """A deterministic way to look at a batch; can be sent to another process.

    Attributes:
        name: As it stands in result keys, `gaussian_noise_3`.
        version: Of the definition; another number is another view, and records are made anew.
    """

    name: str
    version: int

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Every constant that can change a pixel. JSON."""

    @abstractmethod
    def changed(self, images: Tensor, ids: Tensor) -> Tensor:
        """The images as they are seen; arguments are checked and on one device."""

    def describe(self) -> dict[str, Any]:
        """What identifies the view in the key of a record. JSON."""
        return {"name": self.name, "version": self.version, "parameters": self.parameters()}

    def __call__(self, images: Tensor, ids: Tensor) -> Tensor:
        """Look at a batch.

        Args:
            images: Float in [0, 1], shape [B, C, H, W].
            ids: Sample ids, int64, shape [B].

        Returns:
            Float in [0, 1], shape [B, C, H, W], on the device of `images`.
        """
        if images.ndim != 4 or ids.shape != images.shape[:1] or not images.is_floating_point():
            raise ValueError(
                f"view {self.name!r} expected float images [B, C, H, W] and ids [B], "
                f"got {images.dtype} {list(images.shape)} and {list(ids.shape)}"
            )
        return self.changed(images, ids.to(images.device))


@dataclass(frozen=True, kw_only=True)
class Unchanged(View):
    """Images as they are: `clean`, and a view whose images lie on disk ready-made.

    Args:
        name: Of the view.
        family: Where the images come from, where they are not the clean ones.
    """

    name: str = CLEAN
    family: str = ""
    version: int = 1

    def parameters(self) -> dict[str, Any]:
        """Where the images come from."""
        return {"family": self.family}

    def describe(self) -> dict[str, Any]:
        """`clean` is its name alone."""
        return {"name": CLEAN} if self.name == CLEAN else super().describe()

    def changed(self, images: Tensor, ids: Tensor) -> Tensor:
        """The same tensor."""
        return images


@dataclass(frozen=True, kw_only=True)
class Transform(View):
    """A transformation of fixed size, the same for every sample.

    Args:
        name: With its magnitude, `rotate_15`.
        apply: Function (images, magnitude) -> images.
        magnitude: In the unit that the kind's name implies.
    """

    family: ClassVar[str] = "transform"
    name: str
    apply: Callable[[Tensor, int], Tensor]
    magnitude: int
    version: int = 1

    def parameters(self) -> dict[str, Any]:
        """The magnitude."""
        return {"family": self.family, "magnitude": self.magnitude}

    def changed(self, images: Tensor, ids: Tensor) -> Tensor:
        """Transform, and keep to [0, 1]."""
        return self.apply(images, self.magnitude).clamp(0, 1)


Strengths = Mapping[str, tuple[Any, ...]]
"""Constant -> its value at severity 1, 2, 3, 4, 5. Lengths are called `..._px`."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of corruption and how strong its severities are.

    Args:
        name: `gaussian_noise`.
        apply: Function (images, draws, **constants) -> images, which need not keep to [0, 1].
        small: Constants for images of a shorter side below 128; lengths in pixels of an image of
            32, scaled with the side, from 20 on.
        large: Constants from 128 on; lengths in pixels of an image of 224, scaled with the side.
        source: Where the constants come from.
        seeded: Whether random numbers are drawn.
        outside: What beyond constants decides pixels, asked when a view is described.
        version: Of the definition.
    """

    name: str
    apply: Callable[..., Tensor]
    small: Strengths
    large: Strengths
    source: str
    seeded: bool = True
    outside: Callable[[], dict[str, str]] | None = None
    version: int = 1

    def constants(self, severity: int, side: int) -> dict[str, Any]:
        """Arguments of `apply` for images whose shorter side is `side` pixels."""
        if side < FIRST_LARGE:
            strengths, scale = self.small, max(side, LEAST_SIDE) / SMALL_SIDE
        else:
            strengths, scale = self.large, side / LARGE_SIDE
        chosen = {name: values[severity - 1] for name, values in strengths.items()}
        return {
            name: value * scale if name.endswith("_px") else value for name, value in chosen.items()
        }


@dataclass(frozen=True, kw_only=True)
class Corruption(View):
    """A kind of corruption at one severity, drawn anew for each sample.

    Args:
        kind: Which.
        severity: 1 to 5; 0 leaves the images as they are.
    """

    family: ClassVar[str] = "lite"
    kind: Kind
    severity: int

    @property
    def name(self) -> str:  # type: ignore[override]
        """Kind and severity."""
        return f"{self.kind.name}_{self.severity}"

    @property
    def version(self) -> int:  # type: ignore[override]
        """Of the kind."""
        return self.kind.version

    def parameters(self) -> dict[str, Any]:
        """Constants of small and of large images, and the generator."""
        if self.severity == 0:
            return {"family": self.family}
        values: dict[str, Any] = {"family": self.family, "source": self.kind.source}
        values["small"] = self.kind.constants(self.severity, SMALL_SIDE)
        values["large"] = self.kind.constants(self.severity, LARGE_SIDE)
        values["sides"] = [LEAST_SIDE, SMALL_SIDE, FIRST_LARGE, LARGE_SIDE]
        if self.kind.seeded:
            values["generator"] = GENERATOR
        if self.kind.outside is not None:
            values["outside"] = self.kind.outside()
        return values

    def changed(self, images: Tensor, ids: Tensor) -> Tensor:
        """Corrupt, and keep to [0, 1]."""
        if self.severity == 0:
            return images
        constants = self.kind.constants(self.severity, min(images.shape[-2:]))
        draws = Draws.of(ids, self.name)
        seen = self.kind.apply(images.to(torch.float32), draws, **constants)
        return seen.clamp(0, 1).to(images.dtype)
