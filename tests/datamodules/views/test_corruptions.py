"""What every corruption keeps to, on 8 x 8 grey, 32 x 32 colour and 224 x 224 colour images."""

import pickle

import pytest
import torch
from torch import Tensor

from datamodules.views.registry import CORRUPTIONS, corruption_names, view

SIZES = ["digits", "small", "large"]
STRONGEST = corruption_names(5)
WITHOUT_COLOUR = {"saturate"}  # a grey image has no saturation
NOT_MONOTONE = {"saturate"}  # weaker and stronger colours, as published


def change(name: str, images: Tensor) -> float:
    """Mean distance of an image from itself, in root mean square pixels."""
    moved = view(name)(images, torch.arange(len(images))) - images
    return moved.square().mean(dim=(1, 2, 3)).sqrt().mean().item()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", STRONGEST)
def test_shape_range_and_type_are_kept(name: str, size: str, images: dict[str, Tensor]) -> None:
    before = images[size].clone()
    seen = view(name)(images[size], torch.arange(len(images[size])))
    assert seen.shape == before.shape
    assert seen.dtype == torch.float32
    assert 0 <= seen.min() <= seen.max() <= 1
    assert seen.isfinite().all()
    assert torch.equal(images[size], before)  # the argument is not written to


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_severity_0_is_the_image_itself(kind: str, small: Tensor) -> None:
    seen = view(f"{kind}_0")(small, torch.arange(len(small)))
    assert torch.equal(seen, small)


@pytest.mark.parametrize("size", ["digits", "small"])
@pytest.mark.parametrize("kind", sorted(set(CORRUPTIONS) - NOT_MONOTONE))
def test_a_higher_severity_changes_more(kind: str, size: str, images: dict[str, Tensor]) -> None:
    changes = [change(f"{kind}_{severity}", images[size]) for severity in range(1, 6)]
    assert changes[0] > 1e-4  # a blur of a quarter of a pixel is not nothing
    assert changes == sorted(set(changes))


@pytest.mark.parametrize("kind", sorted(set(CORRUPTIONS) - NOT_MONOTONE))
def test_the_highest_severity_changes_large_images_most(kind: str, large: Tensor) -> None:
    mildest, strongest = change(f"{kind}_1", large), change(f"{kind}_5", large)
    assert 1e-3 < mildest < strongest / 1.2


@pytest.mark.parametrize("kind", sorted(set(CORRUPTIONS) - NOT_MONOTONE))
def test_no_severity_leaves_nothing_of_an_image(kind: str, small: Tensor) -> None:
    seen = view(f"{kind}_5")(small, torch.arange(len(small)))
    pairs = torch.stack([small.flatten(1), seen.flatten(1)])
    centred = pairs - pairs.mean(dim=2, keepdim=True)
    correlation = torch.cosine_similarity(centred[0], centred[1], dim=1)
    assert correlation.mean() > 0.3


@pytest.mark.parametrize("name", STRONGEST)
def test_an_image_does_not_depend_on_its_batch(name: str, small: Tensor) -> None:
    ids = torch.arange(100, 148)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(0))
    whole = view(name)(small, ids)
    shuffled = view(name)(small[order], ids[order])
    torch.testing.assert_close(shuffled, whole[order], rtol=0, atol=1e-6)
    alone = view(name)(small[7:8], ids[7:8])
    torch.testing.assert_close(alone, whole[7:8], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [name for name, kind in CORRUPTIONS.items() if kind.seeded])
def test_samples_and_severities_draw_their_own_numbers(kind: str, small: Tensor) -> None:
    same = small[:1].expand(3, -1, -1, -1)
    seen = view(f"{kind}_3")(same, torch.tensor([1, 2, 1]))
    torch.testing.assert_close(seen[0], seen[2], rtol=0, atol=1e-6)
    assert (seen[0] - seen[1]).abs().max() > 0.02


def test_severities_draw_numbers_of_their_own() -> None:
    grey = torch.full((1, 3, 32, 32), 0.5)
    mild, strong = (view(f"gaussian_noise_{s}")(grey, torch.arange(1)) - 0.5 for s in (1, 5))
    both = torch.stack([mild.flatten(), strong.flatten()])
    assert torch.corrcoef(both)[0, 1].abs() < 0.1


@pytest.mark.parametrize("kind", [name for name, kind in CORRUPTIONS.items() if not kind.seeded])
def test_without_random_numbers_the_id_does_not_matter(kind: str, small: Tensor) -> None:
    same = small[:1].expand(2, -1, -1, -1)
    seen = view(f"{kind}_3")(same, torch.tensor([1, 2]))
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", STRONGEST)
def test_a_grey_image_is_seen_like_the_three_equal_channels(name: str, small: Tensor) -> None:
    grey = small[:4].mean(dim=1, keepdim=True)
    ids = torch.arange(4)
    seen = view(name)(grey, ids)
    assert seen.shape == (4, 1, 32, 32)
    if not name.startswith(tuple(WITHOUT_COLOUR)):
        assert (seen - grey).abs().mean() > 1e-3
    if "noise" in name or name.startswith("spatter"):
        return  # noise of its own in every channel, drops with a colour
    three = view(name)(grey.expand(-1, 3, -1, -1).contiguous(), ids)
    # JPEG rounds brightness and colour on its own ways
    tolerance = 0.02 if name.startswith("jpeg") else 1e-5
    torch.testing.assert_close(seen, three[:, :1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", STRONGEST)
@pytest.mark.parametrize("shape", [(2, 3, 9, 14), (1, 1, 5, 3), (1, 4, 8, 8)], ids=str)
def test_any_shape_is_seen(name: str, shape: tuple[int, ...]) -> None:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    assert view(name)(images, torch.arange(shape[0])).shape == shape


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["black", "white"])
@pytest.mark.parametrize("name", STRONGEST)
def test_a_blank_image_gives_no_nan(name: str, value: float) -> None:
    seen = view(name)(torch.full((2, 3, 8, 8), value), torch.arange(2))
    assert seen.isfinite().all()


@pytest.mark.parametrize("name", STRONGEST)
def test_a_view_can_be_sent_to_another_process(name: str, digits: Tensor) -> None:
    ids = torch.arange(len(digits))
    copy = pickle.loads(pickle.dumps(view(name)))
    assert torch.equal(copy(digits, ids), view(name)(digits, ids))


def test_the_number_of_threads_does_not_matter(small: Tensor) -> None:
    ids = torch.arange(4)
    before = torch.get_num_threads()
    seen = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            seen.append(view("elastic_transform_5")(small[:4], ids))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", corruption_names())
def test_a_gpu_sees_the_same(name: str, small: Tensor) -> None:
    ids = torch.arange(len(small))
    seen = view(name)(small.cuda(), ids.cuda()).cpu()
    torch.testing.assert_close(seen, view(name)(small, ids), rtol=0, atol=1e-6)
