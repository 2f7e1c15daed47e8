import math

import pytest
import torch
from torch import Tensor

from measurements.functional.layer_error import SignalToNoise, signal_to_noise


def rounded(x: Tensor, step: float) -> Tensor:
    return (x / step).round() * step


def test_ten_times_the_energy_is_ten_decibels() -> None:
    found = signal_to_noise(torch.tensor([3.0, 1.0]), approximation=torch.tensor([3.0, 0.0]))
    assert found.decibels == pytest.approx(10.0)


def test_uniform_values_in_256_equal_cells_have_48_165_decibels() -> None:
    x = (torch.arange(256 * 1000, dtype=torch.float64) + 0.5) / 128_000 - 1
    step = 2 / 256
    middle = (x / step).floor() * step + step / 2
    expected = 20 * math.log10(256)  # 48.165
    assert signal_to_noise(x, approximation=middle).decibels == pytest.approx(expected, abs=1e-3)
    assert expected == pytest.approx(48.165, abs=5e-4)


def test_uniform_values_in_255_symmetric_steps_have_48_10_decibels() -> None:
    x = (torch.arange(254_000, dtype=torch.float64) + 0.5) / 127_000 - 1
    found = signal_to_noise(x, approximation=rounded(x, 1 / 127)).decibels
    assert found == pytest.approx(48.10, abs=0.005)


def test_a_gaussian_scaled_by_its_largest_value_has_38_8_decibels() -> None:
    x = torch.randn(10**6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    largest = x.abs().max().item()
    found = signal_to_noise(x, approximation=rounded(x, largest / 127)).decibels
    assert found == pytest.approx(10 * math.log10(12 * 127**2 / largest**2), abs=0.02)
    assert found == pytest.approx(38.8, abs=0.5)  # the largest of a million varies


@pytest.mark.parametrize("bits", [4, 6, 10])
def test_a_bit_more_is_six_decibels_more(bits: int) -> None:
    x = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coarse, fine = (
        signal_to_noise(x, approximation=rounded(x, 2.0**-b)).decibels for b in (bits, bits + 1)
    )
    assert fine - coarse == pytest.approx(6.02, abs=0.05)


def test_identical_outputs_are_flagged_and_have_no_number() -> None:
    found = signal_to_noise(torch.zeros(3), approximation=torch.zeros(3))
    assert (found.identical, found.decibels) == (True, None)


def test_batches_add_energies() -> None:
    x, y = torch.rand(10, 3, generator=torch.Generator().manual_seed(0)), torch.full((10, 3), 0.5)
    found = SignalToNoise()
    for one, other in zip(x.split(4), y.split(4), strict=True):
        found.add(one, approximation=other)
    whole = signal_to_noise(x, approximation=y)
    assert found.decibels == pytest.approx(whole.decibels, rel=1e-12)
    assert found.count == whole.count == 30


def test_half_precision_does_not_overflow() -> None:
    x = torch.full((4,), 60_000.0, dtype=torch.float16)
    assert signal_to_noise(x, approximation=x / 2).decibels == pytest.approx(20 * math.log10(2))


def test_what_has_no_ratio_is_refused() -> None:
    with pytest.raises(ValueError, match="zeros everywhere"):
        _ = signal_to_noise(torch.zeros(2), approximation=torch.ones(2)).decibels
    with pytest.raises(ValueError, match="no output was added"):
        _ = SignalToNoise().decibels
    with pytest.raises(ValueError, match=r"of one shape, got \[3\] and \[1\]"):
        signal_to_noise(torch.zeros(3), approximation=torch.zeros(1))
    with pytest.raises(ValueError, match="finite outputs"):
        signal_to_noise(torch.ones(2), approximation=torch.tensor([1.0, math.nan]))
