import math

import pytest
import torch
from torch import Tensor, nn

from measurements.functional.spectral import conv_spectral_norm, linear_spectral_norm


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def largest_by_matrix(conv: nn.Module, shape: tuple[int, ...]) -> float:
    """Largest singular value of the whole operator, written out as a matrix."""
    size = math.prod(shape)
    with torch.no_grad():
        rows = conv(torch.eye(size, dtype=torch.float64).view(size, *shape)).flatten(1)
        rows = rows - conv(torch.zeros(1, *shape, dtype=torch.float64)).flatten(1)
    return torch.linalg.matrix_norm(rows, ord=2).item()


def make(kind: type[nn.Module], *arguments: int, **options: object) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*arguments, **options).double()


CASES = {
    "padded": {"padding": 1},
    "valid": {},
    "strided": {"stride": 2, "padding": 1},
    "dilated": {"dilation": 2, "padding": 2},
    "grouped": {"groups": 2, "padding": 1},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "reflected": {"padding": 1, "padding_mode": "reflect"},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())
def test_the_norm_is_that_of_the_operator_written_out(options: dict[str, object]) -> None:
    conv = make(nn.Conv2d, 2, 4, 3, **options)
    found = conv_spectral_norm(conv, (6, 5), generator=seeded(), tolerance=1e-5)
    assert found.value == pytest.approx(largest_by_matrix(conv, (2, 6, 5)), rel=1e-6)
    assert found.iterations < 1000


@pytest.mark.parametrize(
    ("kind", "size"), [(nn.Conv1d, (9,)), (nn.Conv3d, (3, 4, 3))], ids=["1d", "3d"]
)
def test_other_dimensions_have_their_norms(kind: type[nn.Module], size: tuple[int, ...]) -> None:
    conv = make(kind, 2, 3, 3, padding=1)
    found = conv_spectral_norm(conv, size, generator=seeded(), tolerance=1e-5)
    assert found.value == pytest.approx(largest_by_matrix(conv, (2, *size)), rel=1e-6)


def test_a_circular_convolution_has_the_norm_of_its_fourier_transform() -> None:
    conv = make(nn.Conv2d, 3, 4, 3, padding=1, padding_mode="circular", bias=False)
    symbols = torch.fft.fft2(conv.weight.detach(), s=(8, 8)).permute(2, 3, 0, 1)
    expected = torch.linalg.matrix_norm(symbols, ord=2).max().item()
    found = conv_spectral_norm(conv, (8, 8), generator=seeded(), tolerance=1e-5)
    assert found.value == pytest.approx(expected, rel=1e-6)


def test_the_input_size_counts() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(conv.weight)
    # on one place nine ones are one; a path of 2 has eigenvalue 1 + 1, squared for two dimensions
    found = [conv_spectral_norm(conv, (n, n), generator=seeded()).value for n in (1, 2)]
    assert found == pytest.approx([1.0, 4.0], rel=1e-6)


def test_the_layer_is_left_as_it_was_also_inside_inference_mode() -> None:
    conv = nn.Conv2d(2, 3, 3)
    before = [(name, value.dtype, value.tolist()) for name, value in conv.state_dict().items()]
    with torch.inference_mode():
        conv_spectral_norm(conv, (5, 5), generator=seeded())
    after = [(name, value.dtype, value.tolist()) for name, value in conv.state_dict().items()]
    assert after == before
    assert conv.weight.requires_grad
    assert conv.weight.grad is None


def test_a_search_that_ended_early_shows_its_residual() -> None:
    conv = make(nn.Conv2d, 2, 4, 3, padding=1)
    found = conv_spectral_norm(conv, (6, 6), generator=seeded(), iterations=2)
    assert found.iterations == 2
    assert found.residual > 1e-3 * found.value**2


@pytest.mark.parametrize(
    ("weight", "expected"),
    [([[3.0, 0.0], [0.0, -4.0]], 4.0), ([[1.0, 1.0]], math.sqrt(2)), ([[0.0]], 0.0)],
    ids=["diagonal", "row", "zero"],
)
def test_a_linear_layer_has_its_largest_singular_value(
    weight: list[list[float]], expected: float
) -> None:
    assert linear_spectral_norm(torch.tensor(weight)) == pytest.approx(expected, rel=1e-12)


def test_a_zero_convolution_stretches_nothing() -> None:
    conv = nn.Conv2d(1, 1, 3)
    nn.init.zeros_(conv.weight)
    assert conv_spectral_norm(conv, (5, 5), generator=seeded()).value == 0.0


def test_what_has_no_norm_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a convolution, got Linear"):
        conv_spectral_norm(nn.Linear(2, 2), (5, 5), generator=seeded())
    with pytest.raises(ValueError, match=r"input_size of 2 numbers, got \[5\]"):
        conv_spectral_norm(nn.Conv2d(1, 1, 3), (5,), generator=seeded())
    weight: Tensor = torch.zeros(2, 2, 3, 3)
    with pytest.raises(ValueError, match=r"got \[2, 2, 3, 3\]"):
        linear_spectral_norm(weight)
