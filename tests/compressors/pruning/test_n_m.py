from typing import Any

import pytest
import torch
from torch import nn

from compressors.pruning.n_m import NM, but_largest
from core.errors import ConfigError, IncompatibleModel

IMAGES = torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6, 8), nn.Linear(8, 2))


def test_each_output_and_position_keeps_n_of_each_block_of_inputs() -> None:
    weight = torch.randn(3, 8, 2, 5, generator=torch.Generator().manual_seed(0))
    mask = but_largest(weight, n=1, m=4)
    blocks = mask.view(3, 2, 4, 2, 5)
    assert (blocks.sum(dim=2) == 3).all()
    kept = (~blocks).int().argmax(dim=2)
    assert torch.equal(kept, weight.abs().view(3, 2, 4, 2, 5).argmax(dim=2))


def test_of_equals_the_earlier_goes() -> None:
    mask = but_largest(torch.ones(1, 4), n=3, m=4)
    assert mask.tolist() == [[True, False, False, False]]


def test_a_layer_that_m_does_not_divide_is_named_and_left() -> None:
    decision = NM().plan(network(), IMAGES)
    assert {name: float(m.double().mean()) for name, m in decision.edits.masked.items()} == {
        "0.weight": 0.5
    }
    assert decision.notes[1] == "2 (6): left whole, 4 does not divide the number of inputs"
    assert "no CPU kernel" in decision.notes[2]


def test_a_grouped_layer_counts_the_inputs_of_a_group() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(IncompatibleModel, match=r"changes nothing\..* 0 \(2\): left whole"):
        NM().plan(model, IMAGES)
    assert set(NM(n=1, m=2).plan(model, IMAGES).edits.masked) == {"0.weight"}


@pytest.mark.parametrize("wrong", [{"n": 4}, {"n": 0}, {"m": 2.5}, {"n": True}], ids=str)
def test_n_is_less_than_m(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="0 < n < m"):
        NM(**wrong)


def test_the_sparsity_is_what_is_not_kept() -> None:
    assert NM(n=1, m=4, sparsity=0.75).entries["compressor"]["sparsity"] == 0.75
    with pytest.raises(ConfigError, match=r"1 of 4 kept is 0\.75"):
        NM(n=1, m=4, sparsity=0.25)


@pytest.mark.parametrize(
    "given", [{"sparsity": 0.3}, {"config_list": [{"sparsity": 0.3, "op_names": ["0"]}]}], ids=str
)
def test_another_sparsity_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="leave it out"):
        NM(**given)
