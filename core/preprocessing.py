"""How a model wants its images, as data."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Interpolation = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What happens to an image before a network sees it.

    Datamodules resize and crop and give floats in [0, 1]; the model normalises.

    Args:
        size: Height and width of the network's input in pixels; None keeps the native size.
        crop: Fraction of the resized image that the centre crop keeps, in (0, 1]: the short side
            is resized to `floor(size / crop)` first. Ignored where the image has `size` already.
        interpolation: Resampling filter.
        mean: Subtracted per channel, on the [0, 1] scale.
        std: Divided by per channel. Its length is the number of input channels, 1 or 3.

    Example:
        >>> Preprocessing(size=(224, 224), crop=0.875).resized
        (256, 256)
    """

    size: tuple[int, int] | None = None
    crop: float = 1.0
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is the fraction kept, in (0, 1], got {self.crop}")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ValueError(
                "mean and std have one value a channel, 1 or 3, "
                f"got {len(self.mean)} and {len(self.std)}"
            )

    @property
    def channels(self) -> int:
        """Input channels of the network, 1 or 3."""
        return len(self.mean)

    @property
    def resized(self) -> tuple[int, int] | None:
        """Height and width before the centre crop."""
        if self.size is None:
            return None
        return int(self.size[0] / self.crop), int(self.size[1] / self.crop)

    def as_dict(self) -> dict[str, Any]:
        """JSON form, part of a record's key."""
        return asdict(self)
