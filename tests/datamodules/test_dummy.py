from typing import Any

import numpy as np
import pytest

from datamodules.dummy import Dummy


def test_it_has_the_shape_and_classes_asked_for() -> None:
    dummy = Dummy(samples=7, size=(3, 5), channels=2, num_classes=4)
    image, _ = dummy.dataset("val")[6]
    assert image.shape == (2, 3, 5)
    assert dummy.labels("val").tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert (dummy.num_classes, dummy.classes[3], dummy.count("val")) == (4, "class_3", 7)


def test_equal_arguments_give_equal_images_for_ever() -> None:
    pixels = Dummy(samples=1, size=(1, 4), channels=1).dataset("test")[0][0] * 255
    assert pixels.round().int().flatten().tolist() == [43, 29, 190, 250]


def test_splits_and_seeds_differ() -> None:
    images = [
        Dummy(samples=1, data_seed=seed).dataset(split)[0][0].numpy().tobytes()
        for seed in (0, 1)
        for split in ("train", "val", "test")
    ]
    assert len(set(images)) == 6


def test_all_values_occur() -> None:
    pixels = Dummy(samples=8).dataset("train").pixels  # type: ignore[attr-defined]
    assert np.unique(pixels).tolist() == list(range(256))


@pytest.mark.parametrize(
    "change",
    [{"samples": 9}, {"size": (4, 3)}, {"channels": 1}, {"num_classes": 3}, {"data_seed": 1}],
    ids=lambda change: next(iter(change)),
)
def test_every_argument_that_decides_images_is_in_the_digest(change: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"size": (3, 4)}
    assert Dummy(**{**plain, **change}).manifest("test") != Dummy(**plain).manifest("test")


def test_the_batch_size_is_not_in_the_digest() -> None:
    assert Dummy(batch_size=1).manifest("test") == Dummy(batch_size=2).manifest("test")


@pytest.mark.parametrize("key", ["samples", "channels", "num_classes"])
def test_counts_below_one_are_a_fault(key: str) -> None:
    (fault,) = Dummy(**{key: 0}).faults("test")  # type: ignore[arg-type]
    assert fault == f"expected dataset_library.dummy.{key} of at least 1, got 0"
    with pytest.raises(ValueError, match=key):
        Dummy(**{key: 0}).manifest("test")  # type: ignore[arg-type]
