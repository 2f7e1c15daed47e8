from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Writer = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("INTERPLAY_CACHE", str(folder))
    return folder


@pytest.fixture
def write_image() -> Writer:
    """Write a small image of one colour; the ending decides the format."""

    def write(path: Path, colour: object = (10, 20, 30), size: tuple[int, int] = (6, 4)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = "RGB" if isinstance(colour, tuple) else "L"
        Image.new(mode, size, colour).save(path)  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def noise() -> np.ndarray:
    """An RGB image [40, 60, 3] with detail in every pixel."""
    return np.random.default_rng(7).integers(0, 256, (40, 60, 3), dtype=np.uint8)
