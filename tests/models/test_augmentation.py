import pytest
import torch
from torch import Tensor

from models.augmentation import Augmentation


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dots(count: int, *, size: int = 5) -> Tensor:
    """Black images with a white pixel in the middle."""
    images = torch.zeros(count, 1, size, size)
    images[:, :, size // 2, size // 2] = 1
    return images


def test_a_shift_moves_by_every_offset_up_to_its_size_in_both_directions() -> None:
    shifted = Augmentation(shift=1, generator=seeded())(dots(500))
    places = {tuple(place[2:].tolist()) for place in shifted.nonzero()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    assert shifted.sum((1, 2, 3)).tolist() == [1.0] * 500


def test_what_comes_in_from_outside_is_black() -> None:
    white = torch.ones(100, 2, 3, 4)
    shifted = Augmentation(shift=3, generator=seeded())(white)
    assert shifted.shape == white.shape
    assert set(shifted.unique().tolist()) == {0.0, 1.0}


def test_channels_move_together() -> None:
    images = dots(50).repeat(1, 3, 1, 1) * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    shifted = Augmentation(shift=2, generator=seeded())(images)
    assert torch.equal(shifted[:, 1], 2 * shifted[:, 0])
    assert torch.equal(shifted[:, 2], 3 * shifted[:, 0])


def test_half_of_the_images_are_mirrored_left_to_right() -> None:
    images = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1000, 1, 2, 2)
    flipped = Augmentation(flip=True, generator=seeded())(images)
    mirrored = (flipped == torch.tensor([[2.0, 1.0], [4.0, 3.0]])).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored | kept).all()
    assert 400 < int(mirrored.sum()) < 600  # six standard deviations of 16


def test_the_generator_decides_and_the_stream_of_the_process_does_not() -> None:
    images = torch.rand(8, 1, 8, 8)
    state = torch.get_rng_state()
    first, second, third = (
        Augmentation(shift=2, flip=True, generator=seeded(seed))(images) for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="in pixels, 0 or more, got -1"):
        Augmentation(shift=-1, generator=seeded())
