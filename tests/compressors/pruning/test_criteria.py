from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from compressors.pruning.coupling import filter_norms
from compressors.pruning.criteria import RandomFilter, distances, euclidean_norms
from compressors.resources import Resources
from core.errors import ConfigError


def layer(*filters: list[float]) -> nn.Module:
    made = nn.Conv2d(1, len(filters), (1, len(filters[0])))
    made.weight.data = torch.tensor(filters).view_as(made.weight)
    return made


def test_euclid_ranks_otherwise_than_magnitudes() -> None:
    one = layer([3.0, 0.0], [2.0, -2.0], [-4.0, 3.0])
    assert euclidean_norms(one).tolist() == pytest.approx([3, 8**0.5, 5])
    assert filter_norms(one).tolist() == [3, 4, 7]


def test_distances_are_those_of_signed_filters() -> None:
    assert distances(layer([-2.0], [2.0], [1.0])).tolist() == [7, 5, 4]  # unsigned: 1, 1, 2
    assert distances(layer([0.0, 0.0], [3.0, 4.0], [3.0, 0.0])).tolist() == [8, 9, 7]


def test_equal_filters_have_no_distance() -> None:
    assert distances(layer(*[[0.1, 0.7]] * 30)).tolist() == [0] * 30


def test_filters_of_a_transposed_convolution_are_its_outputs() -> None:
    one = nn.ConvTranspose2d(2, 3, 1)
    one.weight.data = torch.tensor([[3.0, 0.0, 1.0], [4.0, 2.0, 1.0]]).view(2, 3, 1, 1)
    assert euclidean_norms(one).tolist() == pytest.approx([5, 2, 2**0.5])
    near, far = 2**0.5, 13**0.5
    assert distances(one).tolist() == pytest.approx([far + far, far + near, far + near])


def removed(seed: int, **options: Any) -> dict[str, list[int]]:
    torch.manual_seed(0)
    layers = OrderedDict(
        a=nn.Conv2d(1, 16, 3), b=nn.Conv2d(16, 16, 3), f=nn.Flatten(), h=nn.Linear(64, 3)
    )
    given = Resources(batches=lambda _: [], score=lambda _: 0.0, train=_refuse, seed=seed)
    decision = RandomFilter(sparsity=0.5, **options).plan(
        nn.Sequential(layers), torch.rand(1, 1, 6, 6), given
    )
    return {name: decision.edits.removed[name]["out"] for name in ("a", "b")}


def _refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("nothing is trained here")


def test_chance_is_the_seeds() -> None:
    first, again, other = removed(0), removed(0), removed(1)
    assert first == again
    assert first != other
    assert first["a"] != first["b"]
    assert len(first["a"]) == 8


def test_without_a_seed_there_is_no_chance() -> None:
    with pytest.raises(ConfigError, match="RandomFilter needs seed"):
        RandomFilter(sparsity=0.5).plan(layer([1.0]), torch.rand(1, 1, 6, 6))
