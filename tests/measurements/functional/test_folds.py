"""Hashes of ids: even, independent of order, fixed for ever."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from measurements.functional.folds import hashed_uniforms, second_half


def test_the_halves_never_change() -> None:
    assert second_half(torch.arange(12)).int().tolist() == [0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0]


def splitmix(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) % 2**64
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


def test_the_mixing_is_that_of_splitmix() -> None:
    assert splitmix(0) == 0xE220A8397B1DCDAF  # first output of the published generator, seed 0
    expected = splitmix(7 ^ splitmix(3)) / 2**64
    assert hashed_uniforms(torch.tensor([7]), salt=3).item() == pytest.approx(expected, abs=2e-16)


def test_the_numbers_are_even() -> None:
    found = hashed_uniforms(torch.arange(100_000), salt=5)
    counts = torch.histc(found, bins=10, min=0, max=1)
    assert ((counts - 10_000).abs() < 4 * 95).all()  # sd sqrt(1e5 x .1 x .9) = 95


def test_other_salts_give_independent_numbers() -> None:
    pair = torch.stack([hashed_uniforms(torch.arange(100_000), salt=salt) for salt in (1, 2)])
    assert abs(torch.corrcoef(pair)[0, 1].item()) < 4 / 100_000**0.5


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=20), st.randoms())
def test_a_sample_keeps_its_number_in_any_resample(ids: list[int], random: object) -> None:
    found = dict(zip(ids, hashed_uniforms(torch.tensor(ids), salt=1).tolist(), strict=True))
    shuffled = ids[::-1] + ids
    again = hashed_uniforms(torch.tensor(shuffled), salt=1).tolist()
    assert again == [found[i] for i in shuffled]
    assert all(0 <= value < 1 for value in again)
