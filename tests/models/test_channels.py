import pytest
import torch
from torch import nn

from models.channels import cut, kept_channels, kept_of


def test_cutting_keeps_the_order_of_what_is_left() -> None:
    tensor = torch.arange(12).view(3, 2, 2)
    kept = torch.zeros(3, 2, 2, dtype=torch.bool)
    kept[0, 1] = kept[2, 1] = True
    assert cut(tensor, kept).tolist() == [[[2, 3]], [[10, 11]]]


def test_cutting_the_last_of_many_dimensions() -> None:
    tensor = torch.arange(12).view(1, 2, 1, 6)
    kept = torch.tensor([1, 0, 0, 0, 0, 1]).bool().expand(1, 2, 1, 6)
    assert cut(tensor, kept).tolist() == [[[[0, 5]], [[6, 11]]]]


def test_a_whole_group_may_go_with_its_inputs() -> None:
    layer = nn.Conv2d(6, 9, 1, groups=3)
    kept = kept_of(layer, inputs=[2, 3], outputs=[3, 4, 5])
    assert kept.attributes == {"in_channels": 4, "out_channels": 6, "groups": 2}
    assert (
        kept.entries["weight"].flatten(1).all(dim=1).tolist()
        == [True] * 3 + [False] * 3 + [True] * 3
    )


def test_what_a_layer_was_built_without_is_not_asked_for() -> None:
    assert set(kept_of(nn.Linear(2, 2, bias=False), inputs=[], outputs=[0]).entries) == {"weight"}
    assert (
        kept_of(
            nn.BatchNorm2d(2, affine=False, track_running_stats=False), inputs=[], outputs=[0]
        ).entries
        == {}
    )


@pytest.mark.parametrize("removed", [[3], [-1]])
def test_channels_outside_the_layer_are_refused(removed: list[int]) -> None:
    with pytest.raises(ValueError, match=r"expected channels in \[0, 3\)"):
        kept_channels(3, removed)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(6, 4, 3), nn.Conv2d(6, 4, (1, 2), groups=2), nn.ConvTranspose2d(6, 4, 3, groups=2)],
    ids=["plain", "groups", "transposed"],
)
def test_cutting_a_layer_keeps_what_its_mask_keeps(layer: nn.Conv2d) -> None:
    kept = kept_of(layer, inputs=[0, 5], outputs=[1, 2]).entries["weight"]
    left = cut(layer.weight.detach(), kept)
    assert left.flatten().equal(layer.weight[kept])
    assert left.shape[2:] == layer.kernel_size
    assert left.shape[0] == kept.flatten(1).any(1).sum()
