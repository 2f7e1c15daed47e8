import pytest
import torch
from scipy import ndimage
from torch import Tensor

from datamodules.views.filtering import (
    block_means,
    convolve,
    gaussian_blurred,
    line_kernels,
    normalised,
    picked,
    pixel_grid,
    sampled,
    zoomed,
)


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("size", [(8, 8), (7, 12)], ids=str)
@pytest.mark.parametrize("width", [1, 3, 5, 11], ids=str)  # 11 reaches beyond the image
def test_convolution_is_that_of_scipy(size: tuple[int, int], width: int) -> None:
    images, kernel = noise(2, 2, *size), noise(width, width)
    found = convolve(images, kernel[None])
    expected = ndimage.convolve(images.numpy(), kernel.numpy()[None, None], mode="nearest")
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=2e-5)


def test_each_sample_may_have_its_own_kernel() -> None:
    images, kernels = noise(3, 2, 6, 5), noise(3, 3, 3)
    found = convolve(images, kernels)
    for i in range(3):
        alone = convolve(images[i : i + 1], kernels[i : i + 1])
        torch.testing.assert_close(found[i : i + 1], alone, rtol=0, atol=1e-6)


def test_a_gaussian_blur_is_that_of_scipy() -> None:
    images = noise(1, 1, 20, 17)
    expected = ndimage.gaussian_filter(images.numpy(), (0, 0, 1.0, 1.0), mode="nearest", radius=3)
    found = gaussian_blurred(images, 1.0)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_a_line_of_no_length_changes_nothing() -> None:
    kernels = line_kernels(0.0, torch.tensor([0.0, 0.7]))
    images = noise(2, 3, 5, 5)
    torch.testing.assert_close(convolve(images, kernels), images, rtol=0, atol=1e-6)


def test_a_horizontal_line_of_length_two_covers_three_pixels() -> None:
    (kernel,) = line_kernels(2.0, torch.tensor([0.0]))
    assert kernel.shape == (5, 5)
    expected = torch.zeros(5, 5)
    expected[2, 1:4] = 1 / 3
    torch.testing.assert_close(kernel, expected)


def test_a_line_turns_with_its_angle() -> None:
    flat, upright = line_kernels(3.0, torch.tensor([0.0, torch.pi / 2]))
    torch.testing.assert_close(flat.T, upright, rtol=0, atol=1e-6)
    (falling,) = line_kernels(3.0, torch.tensor([torch.pi / 4]))
    assert falling.diagonal().sum() > 2 * falling.flip(1).diagonal().sum()


def test_kernels_sum_to_one() -> None:
    kernels = normalised(noise(4, 3, 3))
    torch.testing.assert_close(kernels.sum(dim=(1, 2)), torch.ones(4))


def test_sampling_at_the_pixels_changes_nothing() -> None:
    images = noise(2, 3, 4, 5)
    assert torch.equal(sampled(images, *pixel_grid(images)), images)


def test_sampling_half_way_is_the_mean_and_beyond_the_edge_repeats_it() -> None:
    images = torch.tensor([[[[0.0, 1.0, 5.0]]]])
    rows, columns = pixel_grid(images)
    assert sampled(images, rows, columns + 0.5).tolist() == [[[[0.5, 3.0, 5.0]]]]
    assert sampled(images, rows + 9, columns - 1.25).tolist() == [[[[0.0, 0.0, 0.75]]]]


def test_sampling_is_that_of_scipy_with_a_map_for_each_sample() -> None:
    images = noise(2, 1, 6, 9)
    rows, columns = (noise(2, 6, 9).double() * 10 - 2, noise(6, 9).double() * 12 - 2)
    found = sampled(images, rows, columns)
    for i in range(2):
        expected = ndimage.map_coordinates(
            images[i, 0].numpy(), [rows[i].numpy(), columns.numpy()], order=1, mode="nearest"
        )
        torch.testing.assert_close(found[i, 0], torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_whole_places_are_picked_for_all_or_for_each() -> None:
    images = noise(2, 3, 4, 5)
    rows = torch.arange(4).flip(0)[:, None].expand(4, 5)
    columns = torch.arange(5)[None].expand(4, 5)
    assert torch.equal(picked(images, rows, columns), images.flip(2))
    both = (rows.expand(2, 4, 5), columns.expand(2, 4, 5))
    assert torch.equal(picked(images, *both), images.flip(2))


def test_a_zoom_by_one_changes_nothing() -> None:
    images = noise(2, 3, 5, 6)
    assert torch.equal(zoomed(images, 1.0), images)


def test_a_zoom_by_two_shows_the_middle_half() -> None:
    images = torch.tensor([[[[0.0, 4.0, 8.0, 12.0, 16.0]]]])
    assert zoomed(images, 2.0).tolist() == [[[[4.0, 6.0, 8.0, 10.0, 12.0]]]]
    assert zoomed(images, 0.5).tolist() == [[[[0.0, 0.0, 8.0, 16.0, 16.0]]]]


def test_a_zoom_is_the_sampling_of_its_places() -> None:
    images = noise(2, 3, 6, 9)
    rows, columns = pixel_grid(images)
    expected = sampled(images, 2.5 + (rows - 2.5) / 1.3, 4 + (columns - 4) / 1.3)
    torch.testing.assert_close(zoomed(images, 1.3), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (5, [1.0, 2.0, 3.0, 4.0, 10.0]),
        (2, [2.0, 2.0, 2.0, 7.0, 7.0]),  # floor(i 2 / 5): 0 0 0 1 1
        (3, [1.5, 1.5, 3.5, 3.5, 10.0]),  # 0 0 1 1 2
        (1, [4.0] * 5),
    ],
    ids=str,
)
def test_cells_are_cut_evenly(cells: int, expected: list[float]) -> None:
    row = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0])
    found = block_means(row.view(1, 1, 1, 5), cells, 3)
    assert found.flatten().tolist() == pytest.approx(expected)
    found = block_means(row.view(1, 1, 5, 1), cells, 2)
    assert found.flatten().tolist() == pytest.approx(expected)
