import pytest
import torch
from torch import Tensor, nn

from core.errors import NotApplicable
from measurements.functional.equivariance import EquivarianceError, shift_error


def images(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def conv(padding_mode: str = "circular", stride: int = 1) -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Conv2d(3, 8, 3, padding=1, stride=stride, padding_mode=padding_mode)


@pytest.mark.parametrize("shift", [1, 5, -3, 16])
def test_a_circular_convolution_moves_exactly_with_the_image(shift: int) -> None:
    assert shift_error(conv(), images(), shift=shift) == 0.0


def test_a_convolution_of_stride_2_moves_exactly_by_whole_places() -> None:
    assert shift_error(conv(stride=2), images(), shift=2, stride=2) == 0.0


def test_a_convolution_of_stride_2_does_not_move_by_half_places() -> None:
    layer = conv(stride=2)

    def pooled(x: Tensor) -> Tensor:
        return layer(x).relu().mean(dim=(2, 3), keepdim=True)  # a pooled map should not change

    assert shift_error(pooled, images(), shift=1) > 0.1


def test_zero_padding_breaks_equivariance_at_the_border_alone() -> None:
    layer = conv("zeros")
    assert shift_error(layer, images(), shift=1) > 0.1
    assert shift_error(layer, images(), shift=1, border=2) == 0.0


def test_lengths_of_the_samples_are_averaged_worked_by_hand() -> None:
    moved = torch.tensor([3.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 5.0]).view(2, 2, 1, 2)  # 5 and 5
    of_moved = moved.clone()
    of_moved[0, 0, 0, 0] += 1.5
    found = EquivarianceError()
    found.add(of_moved, moved=moved)
    assert found.value == pytest.approx(1.5 / 10)


def test_batches_give_what_the_whole_gives() -> None:
    one, other = images(), images(1)
    whole, found = EquivarianceError(border=1), EquivarianceError(border=1)
    whole.add(one, moved=other)
    for i in range(2):
        found.add(one[i : i + 1], moved=other[i : i + 1])
    assert found.value == pytest.approx(whole.value, rel=1e-12)
    assert found.samples == whole.samples == 2


def test_a_border_counts_from_all_sides() -> None:
    moved = torch.ones(1, 1, 5, 5)
    of_moved = moved.clone()
    of_moved[:, :, 0], of_moved[:, :, -1] = 9.0, 9.0
    of_moved[..., 0], of_moved[..., -1] = 9.0, 9.0
    found = EquivarianceError(border=1)
    found.add(of_moved, moved=moved)
    assert found.value == 0.0


def test_features_that_are_zero_have_no_error() -> None:
    found = EquivarianceError()
    found.add(torch.ones(1, 1, 2, 2), moved=torch.zeros(1, 1, 2, 2))
    with pytest.raises(NotApplicable, match="zero for all samples"):
        _ = found.value


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of stride, got shift=1 and stride=2"):
        shift_error(conv(stride=2), images(), shift=1, stride=2)
    with pytest.raises(ValueError, match=r"border=8 leaves nothing of feature maps \[16, 16\]"):
        shift_error(conv(), images(), shift=1, border=8)
    with pytest.raises(ValueError, match=r"got \[2, 3\] and \[2, 3\]"):
        EquivarianceError().add(torch.zeros(2, 3), moved=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="no features were added"):
        _ = EquivarianceError().value


def test_features_are_asked_for_without_gradients() -> None:
    asked = []

    def features(x: Tensor) -> Tensor:
        asked.append(torch.is_grad_enabled())
        return x

    shift_error(features, images(), shift=1)
    assert asked == [False, False]
