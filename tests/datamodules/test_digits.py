import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from core.preprocessing import Preprocessing
from datamodules.digits import DigitPairs, Digits, _partners


def test_the_splits_have_the_published_sizes_and_every_class() -> None:
    digits = Digits()
    assert {split: digits.count(split) for split in digits.splits} == {
        "train": 1079,
        "val": 359,
        "test": 359,
    }
    assert min(np.bincount(digits.labels("test"))) == 35  # 20 % of the rarest digit, 174 times 8


def test_the_splits_share_no_image_and_miss_none() -> None:
    digits = Digits()
    names = [digits.sample_path(s, i) for s in digits.splits for i in range(digits.count(s))]
    assert sorted(names, key=lambda name: int(name[7:])) == [f"digits#{i}" for i in range(1797)]


def test_a_sample_is_the_one_its_name_says_on_the_unit_scale() -> None:
    digits = Digits()
    image, label = digits.dataset("test")[5]
    position = int(digits.sample_path("test", 5).removeprefix("digits#"))
    original = load_digits()
    expected = torch.from_numpy(original.images[position] / 16).float()[None]
    torch.testing.assert_close(image, expected, rtol=0, atol=0)
    assert label == original.target[position]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", "a5b869b40edc832ef23398e901d97382"),
        ("val", "5eb199177b1bceef8456b8176c3f4748"),
        ("test", "c79384abd63d5de75487db4f07983ce8"),
    ],
)
def test_the_split_never_changes(split: str, expected: str) -> None:
    # trained weights and stored records belong to exactly these samples
    assert Digits().manifest(split) == expected  # type: ignore[arg-type]


def test_the_seed_of_the_shuffling_is_not_in_the_split() -> None:
    assert Digits(seed=1).manifest("train") == Digits(seed=2).manifest("train")


def test_digits_in_another_size_keep_their_range() -> None:
    digits = Digits()
    digits.preprocessing = Preprocessing(size=(32, 32), interpolation="nearest")
    images, _ = digits.dataset("test").__getitems__([0, 1])
    assert images.shape == (2, 1, 32, 32)
    assert (images.min().item(), images.max().item()) == (0.0, 1.0)


def test_the_classes_are_the_ten_digits() -> None:
    assert Digits().classes == list("0123456789")


def test_a_pair_is_two_different_digits_one_on_top_of_the_other() -> None:
    digits, pairs = Digits().source("test"), DigitPairs().source("test")
    names = [f"digits#{name}" for name in pairs.name(3).replace("digits#", "").split("+")]
    first, second = (digits.names.index(name) for name in names)
    assert digits.labels[first] != digits.labels[second]
    assert np.array_equal(pairs.pixels[3], np.maximum(digits.pixels[first], digits.pixels[second]))
    assert pairs.labels.tolist() == digits.labels.tolist()
    assert DigitPairs().manifest("test") != Digits().manifest("test")


def test_the_partner_is_the_next_one_of_another_class_in_a_circle() -> None:
    assert _partners(np.array([1, 1, 2, 1])).tolist() == [2, 2, 3, 2]
