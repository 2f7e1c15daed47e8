"""Equivariance of the layers of small networks for which it is known."""

from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from core.errors import NotApplicable
from measurements.properties.equivariance import Equivariance
from recording.loop import Batch

IMAGES = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Recorder:
    """Gives the images in two batches."""

    def images(self, *_: Any, samples: int) -> Iterator[Batch]:
        for images in IMAGES[:samples].split(12):
            ids = torch.arange(len(images))
            yield Batch(images=images, labels=ids, ids=ids)


def found(model: nn.Module, **options: Any) -> dict[str, float]:
    measurement = Equivariance(["toy"], model, None, **options)  # type: ignore[arg-type]
    measurement.recorder = Recorder()  # type: ignore[assignment]
    return {
        key.removeprefix("toy_test_equivariance_"): v for key, v in measurement.measure().items()
    }


def conv(
    inputs: int, outputs: int, *, stride: int = 1, mode: Literal["circular", "zeros"] = "circular"
) -> nn.Conv2d:
    torch.manual_seed(inputs)
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, padding_mode=mode)


def test_circular_convolutions_roll_with_the_image_at_any_stride() -> None:
    results = found(nn.Sequential(conv(1, 4), conv(4, 4, stride=2), conv(4, 2, stride=2)))
    assert [results[f"error_roll_{layer}"] for layer in range(3)] == pytest.approx(
        [0] * 3, abs=1e-6
    )
    assert min(results[f"error_flip_{layer}"] for layer in range(3)) > 0.1
    assert results["layers_left_out"] == 0


def test_zero_padding_shows_at_the_edge_and_not_within_the_border() -> None:
    model = nn.Sequential(conv(1, 4, mode="zeros"))
    assert found(model)["error_roll"] > 0.1
    # the roll carries the edge one place inward: two places hold it
    assert found(model, border=2)["error_roll"] == pytest.approx(0, abs=1e-6)


def test_a_mirror_symmetric_filter_flips_with_the_image() -> None:
    layer = conv(1, 3)
    with torch.no_grad():
        layer.weight.copy_(layer.weight + layer.weight.flip(3))
    results = found(nn.Sequential(layer))
    assert results["error_flip"] == pytest.approx(0, abs=1e-6)


def test_the_mean_is_over_the_layers_and_over_all_images() -> None:
    results = found(nn.Sequential(conv(1, 4, mode="zeros"), conv(4, 4, mode="zeros")))
    both = [results[f"error_roll_{layer}"] for layer in (0, 1)]
    assert both[0] != both[1]
    assert results["error_roll"] == pytest.approx(sum(both) / 2)
    assert results["error_roll"].n == 20  # type: ignore[attr-defined]
    assert found(nn.Sequential(conv(1, 4)), samples=7)["error_flip"].n == 7  # type: ignore[attr-defined]


class Odd(nn.Module):
    """Layers that cannot be compared, around one that can."""

    def __init__(self) -> None:
        super().__init__()
        self.good, self.valid, self.silent = conv(1, 2), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 1)
        self.small, self.unused = nn.Conv2d(2, 2, 8, stride=8), conv(2, 2)
        nn.init.zeros_(self.silent.weight)
        nn.init.zeros_(self.silent.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        maps = self.good(images)
        self.valid(maps)
        self.silent(maps)
        return self.small(maps)


def test_layers_that_cannot_be_compared_are_counted_and_not_measured() -> None:
    model = Odd()
    results = found(model)
    assert set(results) == {
        *(f"error_{kind}{layer}" for kind in ("roll", "flip") for layer in ("", "_good")),
        "layers_left_out",
    }
    assert results["layers_left_out"] == 4
    assert model.training
    assert not any(layer._forward_hooks for layer in model.modules())


@pytest.mark.parametrize("model", [nn.Linear(8, 8), nn.Conv2d(1, 1, 8)], ids=["no", "too small"])
def test_without_a_map_to_move_there_is_nothing_to_measure(model: nn.Module) -> None:
    with pytest.raises(NotApplicable, match="no convolution"):
        found(nn.Sequential(model))


class Spiked(nn.Conv2d):
    """NaN for an image whose right half is the brighter one."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.mean(dim=(1, 2)).split(4, dim=1)
        broken = left.mean(dim=1) < right.mean(dim=1)
        return super().forward(x).masked_fill(broken[:, None, None, None], torch.nan)


def test_a_movement_that_gives_nan_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    bright = torch.zeros(20, 1, 8, 8)
    bright[..., 1] = 1  # rolled by one place it stays on the left, mirrored it does not
    monkeypatch.setattr(f"{__name__}.IMAGES", bright)
    results = found(nn.Sequential(Spiked(1, 1, 3, padding=1, padding_mode="circular")))
    assert results["error_roll"] == pytest.approx(0, abs=1e-6)
    assert results["layers_left_out"] == 0
    assert "error_flip" not in results
