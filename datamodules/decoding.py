"""From the bytes of an image file to 8-bit RGB, or a DecodeError that names the file."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, features
from PIL import __version__ as pillow_version

from core.errors import DataError

DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for bytes that are no image, half an image, or a bomb."""

SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class DecodeError(DataError):
    """One image of a dataset cannot be decoded.

    Args:
        path: The file.
        reason: What the decoder said.
    """

    def __init__(self, path: str | Path, reason: str = "") -> None:
        self.path, self.reason = str(path), reason
        super().__init__(self.path, reason)

    def __str__(self) -> str:
        return f"cannot decode {self.path}" + (f": {self.reason}" if self.reason else "")


def decoder_version() -> dict[str, str]:
    """What decides the decoded pixels of a file: two libjpegs may differ in the last bit."""
    names = ("jpg", "libjpeg_turbo", "zlib", "webp", "libtiff")
    return {"pillow": pillow_version, **{name: str(features.version(name)) for name in names}}


def decode(path: Path, *, border: int = 0) -> Image.Image:
    """Read an image file as 8-bit RGB.

    Grey becomes three equal channels, CMYK is converted, an alpha channel is dropped and 16-bit
    grey is scaled to 8 bits. A rotation noted in the file's EXIF data is not applied: the published
    numbers of the common test sets were measured without it.

    Args:
        path: Any format Pillow reads.
        border: Pixels to cut off on each of the four sides.

    Raises:
        DecodeError: The bytes are no complete image.
        OSError: The file cannot be read at all: the machine is at fault, not the image.
    """
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as image:
            rgb = _to_rgb(image)
    except DAMAGED as error:
        raise DecodeError(path, f"{type(error).__name__}: {error}") from error
    if not border:
        return rgb
    if min(rgb.size) <= 2 * border:
        raise DecodeError(
            path, f"expected more than {2 * border} pixels a side, got {rgb.height} x {rgb.width}"
        )
    return rgb.crop((border, border, rgb.width - border, rgb.height - border))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BIT:
        return Image.fromarray(_eight_bit(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        raise ValueError("expected integer pixels, got floats, which have no fixed white")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns about the transparency
    return image.convert("RGB")


def _eight_bit(grey: np.ndarray) -> np.ndarray:
    """65535 becomes 255; Pillow's own conversion would cut everything above 255 to white."""
    if grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"expected 16-bit grey in 0..65535, got {grey.min()}..{grey.max()}")
    return np.rint(grey / 257).astype(np.uint8)
