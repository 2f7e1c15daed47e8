import pytest
import torch
from torch import Tensor

from datamodules.digits import Digits
from datamodules.views.seeding import Draws
from datamodules.views.weather import power_law_field


def natural(count: int, channels: int, side: int) -> Tensor:
    """Images with the spectrum of photographs: grey hills, the colours off by a little."""
    blank = torch.zeros(count, 1, side, side)
    draws = [Draws.of(torch.arange(count), f"channel {i}") for i in range(channels + 1)]
    common, *own = (power_law_field(one, blank, 1.2) for one in draws)
    return 0.7 * common + 0.3 * torch.cat(own, dim=1)


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """Grey, [48, 1, 8, 8]."""
    return Digits().dataset("test").__getitems__(range(48))[0]


@pytest.fixture(scope="session")
def small() -> Tensor:
    """Colour, [48, 3, 32, 32]."""
    return natural(48, 3, 32)


@pytest.fixture(scope="session")
def large() -> Tensor:
    """Colour, [2, 3, 224, 224]."""
    return natural(2, 3, 224)


@pytest.fixture(scope="session")
def images(digits: Tensor, small: Tensor, large: Tensor) -> dict[str, Tensor]:
    """All of them by name."""
    return {"digits": digits, "small": small, "large": large}
