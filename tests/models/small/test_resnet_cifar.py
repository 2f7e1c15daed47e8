from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.errors import ConfigError
from core.preprocessing import Preprocessing
from models.small.resnet_cifar import CifarResNet, OptionA


@pytest.mark.parametrize(
    ("depth", "params"),
    # table 6 of He et al. (2016): 0.27M, 0.46M, 0.66M, 0.85M, 1.7M
    [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)],
)
def test_a_network_has_the_parameters_of_the_paper(depth: int, params: int) -> None:
    model = CifarResNet(depth)
    assert sum(p.numel() for p in model.parameters()) == params


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(ConfigError, match=f"is 6 n \\+ 2 .*, got {depth}"):
        CifarResNet(depth)


def test_depth_counts_weighted_layers() -> None:
    model = CifarResNet(32)
    weighted = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == 32


def test_images_keep_their_size_and_imagenets_scale() -> None:
    assert CifarResNet(8).preprocessing == Preprocessing(
        size=(32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )


def test_no_weights_ship_with_it() -> None:
    with pytest.raises(ConfigError, match=r"pass model.checkpoint=PATH \(published at https"):
        CifarResNet(20, pretrained=True)


def test_features_are_as_wide_as_the_last_stage() -> None:
    model = CifarResNet(8, num_classes=100).eval()
    logits, features = model.logits_and_features(torch.rand(2, 3, 32, 32))
    assert (logits.shape, features.shape, model.embedding_dim) == ((2, 100), (2, 64), 64)


def images(channels: int) -> Tensor:
    """[1, channels, 4, 4]; pixel (r, c) of channel k is 100 k + 10 r + c."""
    grid = 10 * torch.arange(4.0).view(4, 1) + torch.arange(4.0)
    return (100 * torch.arange(channels).view(channels, 1, 1) + grid)[None]


def test_the_shortcut_takes_every_second_pixel_between_zero_channels() -> None:
    out = OptionA(2, 4)(images(2))
    zeros = [[0.0, 0.0], [0.0, 0.0]]
    assert out[0].tolist() == [zeros, [[0, 2], [20, 22]], [[100, 102], [120, 122]], zeros]


def test_the_shortcut_rounds_an_odd_size_up() -> None:
    assert OptionA(2, 4)(torch.rand(1, 2, 5, 7)).shape == (1, 4, 3, 4)


@pytest.mark.parametrize("sizes", [(16, 32), (32, 64), (3, 8)], ids=str)
def test_the_shortcut_is_padding_on_both_sides(sizes: tuple[int, int]) -> None:
    inputs, outputs = sizes
    x = torch.rand(2, inputs, 6, 6)
    before = (outputs - inputs) // 2
    padding = (0, 0, 0, 0, before, outputs - inputs - before)
    expected = torch.nn.functional.pad(x[:, :, ::2, ::2], padding)
    assert torch.equal(OptionA(inputs, outputs)(x), expected)


def test_the_shortcut_is_no_part_of_the_state_dict() -> None:
    assert OptionA(2, 4).state_dict() == {}


@pytest.mark.parametrize(
    ("inputs", "outputs", "source"),
    [
        (None, None, [-1, 0, 1, 2, 3, -1]),
        (None, [1, 4, 5], [0, 3, -1]),
        ([0, 2], None, [-1, 0, -1, 1, -1, -1]),
        ([1, 3], [0, 1, 2, 4], [-1, -1, 0, 1]),
        ([], None, [-1] * 6),
    ],
    ids=["all", "outputs", "inputs", "both", "no input"],
)
def test_channels_are_kept_on_either_side(
    inputs: list[int] | None, outputs: list[int] | None, source: list[int]
) -> None:
    shortcut, x = OptionA(4, 6), images(4)
    whole = shortcut(x)
    kept_in, kept_out = (
        None if kept is None else torch.tensor(kept, dtype=torch.int64)
        for kept in (inputs, outputs)
    )
    shortcut.keep_channels(kept_in, kept_out)
    assert shortcut.source.tolist() == source
    given = x if kept_in is None else x[:, kept_in]
    zeroed = torch.zeros_like(x)
    zeroed[:, slice(None) if kept_in is None else kept_in] = given
    expected = OptionA(4, 6)(zeroed) if kept_in is not None else whole
    expected = expected if kept_out is None else expected[:, kept_out]
    assert torch.equal(shortcut(given), expected)


def test_channels_can_be_taken_twice() -> None:
    shortcut = OptionA(4, 6)
    shortcut.keep_channels(torch.tensor([0, 2, 3]), torch.tensor([1, 3, 4]))  # 0, 2, 3
    shortcut.keep_channels(torch.tensor([1, 2]), torch.tensor([0, 2]))  # of these 2, 3
    assert shortcut.source.tolist() == [-1, 1]
    assert repr(shortcut) == "OptionA(2, 2)"


@pytest.fixture(scope="module")
def accuracy_of(data_dir: Path) -> Callable[[int], float]:
    """Accuracy of the published ResNet-20 on the first n test images."""
    model = CifarResNet(20, checkpoint=str(data_dir / "weights" / "resnet20-12fca82f.th")).eval()
    records = np.fromfile(data_dir / "cifar10" / "test_batch.bin", dtype=np.uint8)
    records = records.reshape(-1, 1 + 3072)

    def accuracy(count: int) -> float:
        hits = 0
        for start in range(0, count, 500):
            part = torch.from_numpy(records[start : start + 500])
            pixels = part[:, 1:].reshape(-1, 3, 32, 32).float() / 255
            with torch.inference_mode():
                hits += int((model(pixels).argmax(1) == part[:, 0]).sum())
        return hits / count

    return accuracy


@pytest.mark.slow  # a second and a half
def test_the_published_weights_see_a_thousand_images(accuracy_of: Callable[[int], float]) -> None:
    assert accuracy_of(1000) > 0.9


@pytest.mark.slow
def test_the_published_weights_reproduce_their_error(accuracy_of: Callable[[int], float]) -> None:
    assert accuracy_of(10_000) == pytest.approx(0.9173, abs=1e-4)  # one image: other rounding
