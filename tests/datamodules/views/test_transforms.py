import pytest
import torch
from scipy import ndimage
from torch import Tensor

from datamodules.views.registry import view
from datamodules.views.transforms import FAMILIES

IDS = torch.arange(2)


def seen(name: str, images: Tensor) -> Tensor:
    return view(name)(images, torch.arange(len(images)))


@pytest.fixture
def square() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def grid(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)[None, None] / 16


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)], ids=str)
def test_a_square_turns_by_right_angles_exactly(degrees: int, turns: int, square: Tensor) -> None:
    expected = square.rot90(turns, dims=(2, 3))
    torch.testing.assert_close(seen(f"rotate_{degrees}", square), expected, rtol=0, atol=1e-6)


def test_a_rotation_is_that_of_scipy(square: Tensor) -> None:
    found = seen("rotate_15", square)
    expected = ndimage.rotate(
        square.numpy(), 15, axes=(2, 3), reshape=False, order=1, mode="nearest"
    )
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_a_turn_and_the_turn_back_is_nearly_the_image() -> None:
    hill = torch.exp(-((torch.arange(33.0) - 16) ** 2) / 60)
    image = (hill[:, None].roll(5, 0) * hill[None])[None, None]
    turned = seen("rotate_20", image)
    lost = (seen("rotate_340", turned) - image)[..., 6:-6, 6:-6]  # away from the corners
    assert lost.abs().max() < 0.03
    assert (turned - image).abs().max() > 0.1


def test_a_shift_goes_down_and_right_and_repeats_the_edge() -> None:
    image = grid([1, 2, 3], [4, 5, 6], [7, 8, 9])
    assert torch.equal(seen("shift_1", image), grid([1, 1, 2], [1, 1, 2], [4, 4, 5]))


def test_a_roll_goes_round() -> None:
    image = grid([1, 2, 3], [4, 5, 6], [7, 8, 9])
    assert torch.equal(seen("roll_1", image), grid([9, 7, 8], [3, 1, 2], [6, 4, 5]))


@pytest.mark.parametrize("name", ["shift_8", "roll_9"])
def test_a_shift_out_of_the_image_is_refused(name: str, square: Tensor) -> None:
    with pytest.raises(ValueError, match=r"below the shorter side of 8 x 8 pixels, got [89]"):
        seen(name, square)


def test_a_flip_swaps_left_and_right(square: Tensor) -> None:
    assert torch.equal(seen("flip", grid([1, 2, 3])), grid([3, 2, 1]))
    assert torch.equal(seen("flip", seen("flip", square)), square)


def test_a_scale_is_in_percent() -> None:
    row = torch.tensor([[[[0.0, 0.25, 0.5, 0.75, 1.0]]]])
    assert seen("scale_200", row).tolist() == [[[[0.25, 0.375, 0.5, 0.625, 0.75]]]]
    assert seen("scale_50", row).tolist() == [[[[0.0, 0.0, 0.5, 1.0, 1.0]]]]


@pytest.mark.parametrize("name", ["scale_100", "brightness_by_100", "contrast_by_100"])
def test_a_hundred_percent_changes_nothing(name: str, square: Tensor) -> None:
    torch.testing.assert_close(seen(name, square), square)


def test_brightness_and_contrast_are_factors() -> None:
    image = torch.tensor([[[[0.2, 0.6]]]])
    assert seen("brightness_by_120", image).flatten().tolist() == pytest.approx([0.24, 0.72])
    assert seen("brightness_by_200", image).flatten().tolist() == pytest.approx([0.4, 1.0])
    assert seen("contrast_by_50", image).flatten().tolist() == pytest.approx([0.3, 0.5])
    assert seen("contrast_by_400", image).flatten().tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_example_keeps_shape_and_range_and_changes_something(family, square: Tensor) -> None:  # type: ignore[no-untyped-def]
    for images in (square, square[:, :1], square[:, :, :5]):
        found = seen(family.example_name, images)
        assert found.shape == images.shape
        assert 0 <= found.min() <= found.max() <= 1
        assert (found - images).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_samples_are_treated_alike(family, square: Tensor) -> None:  # type: ignore[no-untyped-def]
    made = view(family.example_name)
    alone = made(square[1:], torch.tensor([77]))
    torch.testing.assert_close(made(square, IDS)[1:], alone, rtol=0, atol=1e-6)
