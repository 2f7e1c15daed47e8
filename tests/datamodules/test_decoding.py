import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.decoding import DecodeError, decode, decoder_version


def _save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def _palette(transparency: object) -> Image.Image:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.info["transparency"] = transparency
    return image


SIXTEEN = np.array([[0, 257], [65535, 1000]], dtype=np.uint16)  # 1000 / 257 = 3.9


@pytest.mark.parametrize(
    ("name", "image", "pixel"),
    [
        pytest.param("a.png", Image.new("RGB", (2, 2), (1, 2, 3)), (1, 2, 3), id="rgb"),
        pytest.param("a.png", Image.new("L", (2, 2), 9), (9, 9, 9), id="grey"),
        pytest.param("a.png", Image.new("1", (2, 2), 1), (255, 255, 255), id="one-bit"),
        pytest.param("a.png", Image.new("RGBA", (2, 2), (1, 2, 3, 0)), (1, 2, 3), id="alpha"),
        pytest.param("a.png", Image.new("LA", (2, 2), (7, 0)), (7, 7, 7), id="grey-alpha"),
        pytest.param("a.tif", Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0), id="cmyk"),
        pytest.param("a.png", _palette(b"\xff\x80"), (10, 20, 30), id="palette-with-transparency"),
        pytest.param("a.bmp", Image.new("RGB", (2, 2), (1, 2, 3)), (1, 2, 3), id="bmp"),
    ],
)
def test_every_kind_of_image_becomes_8_bit_rgb(
    tmp_path: Path, name: str, image: Image.Image, pixel: tuple[int, ...]
) -> None:
    decoded = decode(_save(tmp_path / name, image))
    assert decoded.mode == "RGB"
    assert decoded.getpixel((1, 1)) == pixel


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_is_scaled_and_not_cut_to_white(tmp_path: Path, name: str) -> None:
    decoded = decode(_save(tmp_path / name, Image.fromarray(SIXTEEN)))
    assert np.asarray(decoded)[..., 0].tolist() == [[0, 1], [255, 4]]


def test_the_border_is_cut_off(tmp_path: Path) -> None:
    pixels = np.full((7, 8, 3), 50, np.uint8)
    pixels[2:-2, 2:-2] = 90
    decoded = decode(_save(tmp_path / "a.png", Image.fromarray(pixels)), border=2)
    assert decoded.size == (4, 3)
    assert set(np.asarray(decoded).ravel().tolist()) == {90}


def test_a_rotation_in_the_exif_data_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    path = _save(tmp_path / "a.jpg", Image.new("RGB", (8, 4)), exif=exif)
    assert decode(path).size == (8, 4)


def _jpeg(noise: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: whole[: len(whole) // 2], id="half-a-jpeg"),
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: b"<html>not found</html>", id="a-web-page"),
        pytest.param(lambda whole: b"\x89PNG\r\n\x1a\n" + b"\0" * 30, id="png-head-only"),
    ],
)
def test_damaged_bytes_name_the_file(tmp_path: Path, noise: np.ndarray, damage: object) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(damage(_jpeg(noise)))  # type: ignore[operator]
    with pytest.raises(DecodeError, match=r"cannot decode .*a\.jpg: ") as caught:
        decode(path)
    assert caught.value.path == str(path)


def test_float_pixels_have_no_white(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.tif", Image.fromarray(np.zeros((2, 2), np.float32)))
    with pytest.raises(DecodeError, match="got floats"):
        decode(path)


def test_an_image_all_border_is_damaged(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", Image.new("RGB", (4, 9)))
    with pytest.raises(DecodeError, match="more than 4 pixels a side, got 9 x 4"):
        decode(path, border=2)


def test_a_file_that_is_gone_is_the_fault_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "gone.png")


def test_the_error_travels_between_processes() -> None:
    again = pickle.loads(pickle.dumps(DecodeError("x.jpg", "half")))
    assert (again.path, again.reason, str(again)) == ("x.jpg", "half", "cannot decode x.jpg: half")


def test_the_decoder_has_a_version() -> None:
    assert decoder_version()["pillow"] == Image.__version__  # type: ignore[attr-defined]
