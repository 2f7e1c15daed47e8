import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.views.seeding import Draws, mixed, text_word

ROOT = Path(__file__).parents[3]


def draws(count: int = 4, view: str = "fog_3") -> Draws:
    return Draws.of(torch.arange(count), view)


def test_words_are_those_of_splitmix64() -> None:
    # published outputs for the seed 1234567
    words = Draws(torch.tensor([1234567])).words(5)[0]
    assert [word & (2**64 - 1) for word in words.tolist()] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_text_is_the_start_of_its_sha256() -> None:
    assert text_word("fog_3") & (2**64 - 1) == int(hashlib.sha256(b"fog_3").hexdigest()[:16], 16)


def test_mixing_leaves_its_argument_alone() -> None:
    words = torch.tensor([1, 2])
    mixed(words)
    assert words.tolist() == [1, 2]


@pytest.mark.parametrize("count", [1, 2, 7, 64])
@pytest.mark.parametrize("kind", ["uniform", "integers", "words"])
def test_fewer_numbers_are_the_first_of_more(kind: str, count: int) -> None:
    fewer, more = (
        getattr(draws(), kind)(size if kind == "words" else (size,)) for size in (count, 100)
    )
    assert torch.equal(fewer, more[:, :count])


def test_a_sample_has_its_own_numbers_wherever_it_stands() -> None:
    whole = Draws.of(torch.tensor([5, 9, 70_000]), "fog_3").normal((3, 5))
    alone = Draws.of(torch.tensor([9]), "fog_3").normal((3, 5))
    assert torch.equal(whole[1:2], alone)


def test_numbers_differ_by_sample_view_and_purpose() -> None:
    found = [
        draws().uniform((50,)),
        draws(view="fog_4").uniform((50,)),
        draws().uniform((50,), "angle"),
        draws().uniform((50,), "field"),
    ]
    rows = torch.cat(found)
    assert len(torch.unique(rows, dim=0)) == len(rows) == 16
    correlation = np.corrcoef(rows.numpy())
    assert np.abs(correlation - np.eye(16)).max() < 0.6  # 50 numbers: 4 standard deviations


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    numbers = draws(100).uniform((1001,)).flatten()
    assert 0 <= numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1
    counts = torch.histc(numbers, bins=20, min=0, max=1)
    expected = len(numbers) / 20
    assert ((counts - expected).square() / expected).sum() < 45.3  # chi2 with 19: 1 in 1600


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    numbers = draws(100).normal((1001,)).flatten().double()  # 100,100 of them
    assert numbers.mean().item() == pytest.approx(0, abs=4 / 316)
    assert numbers.std().item() == pytest.approx(1, abs=4 * 0.00224)
    assert numbers.pow(4).mean().item() == pytest.approx(3, abs=4 * 0.031)
    assert (numbers.abs() > 1.959964).double().mean().item() == pytest.approx(0.05, abs=0.003)


def test_neighbouring_numbers_of_a_sample_are_unrelated() -> None:
    numbers = draws(1).normal((10_000,)).flatten()
    for shift in (1, 2, 5000):
        product = (numbers[shift:] * numbers[:-shift]).mean().item()
        assert abs(product) < 4 / (10_000 - shift) ** 0.5


def test_neighbouring_samples_are_unrelated() -> None:
    numbers = draws(2).normal((10_000,))
    assert abs((numbers[0] * numbers[1]).mean().item()) < 0.04


def test_drawing_touches_no_generator_of_the_process() -> None:
    before = torch.get_rng_state()
    draws().normal((9,))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_another_process_draws_the_same() -> None:
    code = (
        "import torch; from datamodules.views.seeding import Draws; "
        "print(Draws.of(torch.arange(3), 'fog_3').integers((4,)).tolist())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "5"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(draws(3).integers((4,)).tolist())
