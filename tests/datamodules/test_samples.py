from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from core.errors import DataError
from core.preprocessing import Preprocessing
from datamodules.decoding import DecodeError
from datamodules.samples import ArrayDataset, ArraySource, FittedDataset, collate

PIXELS = np.arange(2 * 1 * 2 * 3, dtype=np.uint8).reshape(2, 1, 2, 3)
LABELS = np.array([3, 1], dtype=np.int64)


def source(white: int = 255) -> ArraySource:
    return ArraySource(
        pixels=PIXELS, labels=LABELS, names=["a", "b"], white=white, groups={"g": ["x", "y"]}
    )


def test_one_sample_is_floats_in_the_unit_range_and_an_int() -> None:
    image, label = ArrayDataset(PIXELS, LABELS, white=10)[1]
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, torch.tensor([[[0.6, 0.7, 0.8], [0.9, 1.0, 1.1]]]))
    assert (label, type(label)) == (1, int)


def test_a_batch_holds_the_samples_in_the_order_asked_for() -> None:
    images, labels = ArrayDataset(PIXELS, LABELS).__getitems__([1, 0, 1])
    assert labels.tolist() == [1, 3, 1]
    assert labels.dtype == torch.int64
    torch.testing.assert_close(images[1], torch.from_numpy(PIXELS[0]) / 255, rtol=0, atol=0)


def test_changing_a_served_image_does_not_change_the_dataset() -> None:
    dataset = ArrayDataset(PIXELS.copy(), LABELS)
    dataset.__getitems__([0, 1])[0].zero_()
    assert dataset[1][0].sum() > 0


@pytest.mark.parametrize("i", [2, -3], ids=["beyond", "below"])
def test_a_position_outside_is_an_index_error(i: int) -> None:
    with pytest.raises(IndexError, match=r"0\.\.1"):
        ArrayDataset(PIXELS, LABELS)[i]


def test_plain_iteration_ends() -> None:
    dataset: Any = ArrayDataset(PIXELS, LABELS)
    assert [label for _, label in dataset] == [3, 1]


def test_pixels_and_labels_must_agree() -> None:
    with pytest.raises(DataError, match=r"got \[2, 1, 2, 3\] and \[1\]"):
        ArrayDataset(PIXELS, LABELS[:1])


def test_a_known_failure_is_raised_for_its_sample_alone() -> None:
    dataset = ArrayDataset(PIXELS, LABELS, failures={1: ("b.jpg", "half")})
    assert dataset[0][1] == 3
    with pytest.raises(DecodeError, match=r"b\.jpg: half"):
        dataset.__getitems__([0, 1])


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Subset(d, [1, 0])], ids=["all", "subset"])
def test_a_loader_gets_whole_batches(wrap: object) -> None:
    dataset = wrap(ArrayDataset(PIXELS, LABELS))  # type: ignore[operator]
    (images, labels), *rest = DataLoader(dataset, batch_size=2, collate_fn=collate)
    assert images.shape == (2, 1, 2, 3)
    assert labels.tolist() == [dataset[0][1], dataset[1][1]]
    assert not rest


def test_arrays_stand_ready_in_their_own_size_only() -> None:
    assert source().ready(None) is not None
    assert source().ready(Preprocessing(size=(2, 3), crop=0.5)) is not None
    assert source().ready(Preprocessing(size=(4, 6))) is None


def test_pixels_in_another_range_are_stretched_before_they_are_resized() -> None:
    # 11 of 16 is 175.3 of 255; an image of one value keeps it in every size
    flat = ArraySource(
        pixels=np.full((1, 1, 2, 2), 11, np.uint8), labels=LABELS[:1], names=["a"], white=16
    )
    images, _ = FittedDataset(flat, Preprocessing(size=(4, 4))).__getitems__([0])
    assert images.unique().tolist() == pytest.approx([175 / 255])


def test_taking_rows_keeps_pixels_labels_names_and_groups_together() -> None:
    taken = source(white=16).take(np.array([1]))
    assert (taken.labels.tolist(), taken.name(0), taken.groups) == ([1], "b", {"g": ["y"]})
    assert np.array_equal(taken.pixels, PIXELS[1:])
    assert taken.white == 16


def test_images_of_two_sizes_cannot_share_a_batch() -> None:
    class TwoSizes(ArraySource):
        def planes(self, i: int, preprocessing: Preprocessing | None) -> np.ndarray:
            return np.zeros((1, 2 + i, 3), np.uint8)

    two = TwoSizes(pixels=PIXELS, labels=LABELS, names=["a", "b"])
    with pytest.raises(DataError, match=r"one size in a batch, got .*preprocessing"):
        FittedDataset(two, None).__getitems__([0, 1])
