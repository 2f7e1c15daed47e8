import itertools

import numpy as np
import pytest
import torch
from torch import nn

from compressors.cost import count_macs
from compressors.factorization.ranks import (
    Call,
    Thick,
    energy_tail,
    splits_at,
    thick,
    total_macs,
    watched,
    within_budget,
)
from models.factorized import Factorized, Method

METHODS: tuple[Method, ...] = ("svd", "tucker2", "spatial")
ONCE = [Call(8, 8, 8, 8)]


def diagonal(*values: float) -> nn.Linear:
    layer = nn.Linear(len(values), len(values))
    layer.weight.data = torch.diag(torch.tensor(values, dtype=torch.float32))
    return layer


def convolution(inputs: int, outputs: int, kernel: int, seed: int, **options: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, **options)
    generator = torch.Generator().manual_seed(seed)
    falling = torch.logspace(0, -2, outputs)[:, None, None, None]
    layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * falling
    return layer


def test_energy_of_a_diagonal_matrix() -> None:
    # squares 16, 9, 4, 1 of 30 and zeros: rank 1 keeps 0.533, 2 keeps 0.833, 3 keeps 0.967
    own = thick(diagonal(3, 1, 4, 2, 0, 0, 0, 0, 0), ["svd"], [Call(1, 1, 1, 1)])
    wanted = {0.0: 1, 0.53: 1, 0.54: 2, 0.83: 2, 0.84: 3, 0.96: 3, 0.97: 4, 1.0: 4}
    got = {energy: own.at_energy(energy) for energy in wanted}
    assert {energy: split and split.ranks for energy, split in got.items()} == {
        energy: (rank,) for energy, rank in wanted.items()
    }


def test_what_may_just_be_left_out_is() -> None:
    half = Thick(
        shape=(9, 9, 1, 1), calls=(Call(1, 1, 1, 1),), tails={"svd": [np.array([1, 0.5, 0])]}
    )
    split = half.at_energy(0.5)
    assert split is not None
    assert split.ranks == (1,)


def test_each_side_of_tucker_leaves_out_half() -> None:
    weight = torch.zeros(8, 8, 3, 3)
    for i, size in enumerate((3.0, 2.0, 1.0)):  # squares 9, 4, 1: rank 1 leaves 5/14, 2 leaves 1/14
        weight[i, i, 1, 1] = size
    layer = nn.Conv2d(8, 8, 3)
    layer.weight.data = weight
    own = thick(layer, ["tucker2"], ONCE)
    energies = [4 / 14 - 0.01, 4 / 14 + 0.01, 12 / 14 - 0.01, 12 / 14 + 0.01]
    ranks = [split and split.ranks for split in map(own.at_energy, energies)]
    assert ranks == [(1, 1), (2, 2), (2, 2), (3, 3)]


def test_a_split_saves_or_is_none() -> None:
    # 4 x 4: two factors of rank r have 8 r of 16 entries; rank 2 is as many
    spectrum = diagonal(2, 1, 1, 1)
    own = thick(spectrum, ["svd"], [Call(1, 1, 1, 1)])
    assert own.at_energy(0.57) is not None  # squares 4, 1, 1, 1: rank 1 keeps 4 / 7
    assert own.at_energy(0.58) is None
    assert own.at_ratio(0.5) is None
    rank_1 = own.at_ratio(0.25)
    assert rank_1 is not None
    assert (rank_1.ranks, rank_1.macs, rank_1.weights, own.macs) == ((1,), 8, 8, 16)


def test_before_a_stride_tucker_multiplies_more() -> None:
    # 8 -> 8, 3 x 3, ranks (4, 4): 32 weights before, 16 x 9 + 32 behind, of 576
    layer = convolution(8, 8, 3, seed=0)
    wide, narrow = Call(8, 8, 8, 8), Call(32, 32, 8, 8)
    cheap, dear = (thick(layer, ["tucker2"], [call]).at_ratio(0.5) for call in (wide, narrow))
    assert cheap is not None
    assert (cheap.macs, cheap.weights) == (64 * (32 + 144 + 32), 208)
    assert dear is None  # 1024 x 32 + 64 x 176 of 64 x 576
    equal = thick(layer, ["tucker2"], [Call(20, 40, 8, 8)])  # 800 x 32 is 64 x 400
    assert equal.at_ratio(0.5) is None


def test_fewer_multiplications_with_more_weights_save_nothing() -> None:
    # a padded 1 x 1 kernel makes more outputs than it has inputs
    own = thick(convolution(4, 4, 1, seed=0), ["tucker2"], [Call(1, 1, 9, 9)])
    assert own.at_ratio(0.75) is None  # 12 + 9 + 12 weights of 16
    assert own.at_ratio(0.25) is not None
    tails = [np.array([1, 0.5, 0, 0, 0, 0, 0]), np.array([1, 0.6, 0.3, 0, 0, 0, 0])]
    as_many = Thick(shape=(6, 6, 1, 1), calls=(Call(1, 1, 9, 9),), tails={"tucker2": tails})
    assert as_many.at_energy(1.0) is None  # ranks (2, 3): 12 + 6 + 18 weights of 36


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stride", [1, 2])
def test_costs_are_those_of_the_factors(method: Method, stride: int) -> None:
    layer = convolution(6, 8, 3, seed=0, stride=stride, padding=1)
    model, images = nn.Sequential(layer).eval(), torch.zeros(2, 6, 10, 7)
    own = thick(layer, [method], watched(model, ["0"], images)["0"])
    assert own.macs == count_macs(model, images[:1])
    split = own.at_ratio(0.4)
    assert split is not None
    factors = Factorized.of(layer, method=method, ranks=split.ranks)
    assert split.macs == count_macs(factors, images[:1])
    assert split.weights == sum(p.numel() for p in factors.parameters()) - 8


class Windows(nn.Module):
    """Uses a layer twice, once on parts of the image that it puts into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.cat(self.conv(x).tensor_split(2, dim=-1))
        tokens = self.conv(parts).flatten(2).transpose(1, 2).flatten(0, 1)
        return self.head(tokens).view(len(x), -1, 4).mean(1)


def test_every_use_on_one_sample_is_counted() -> None:
    model, images = Windows().eval(), torch.zeros(3, 4, 6, 6)
    calls = watched(model, ["conv", "head"], images)
    assert calls["conv"] == [Call(6, 6, 6, 6), Call(12, 3, 12, 3)]
    assert calls["head"] == [Call(36, 1, 36, 1)]
    macs = sum(thick(model.get_submodule(n), ["svd"], c).macs for n, c in calls.items())
    assert macs == count_macs(model, images[:1])
    assert not any(module._forward_hooks for module in model.modules())


def layers() -> dict[str, Thick]:
    shapes = [(3, 8, 3), (8, 8, 1), (8, 12, 3)]
    made = [convolution(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    return {str(i): thick(layer, METHODS, ONCE) for i, layer in enumerate(made)}


def test_no_energy_comes_closer_to_a_budget() -> None:
    own = layers()
    steps = {
        1 - t * len(tails) + shift
        for layer in own.values()
        for tails in layer.tails.values()
        for t, shift in itertools.product(np.concatenate(tails), (-1e-9, 1e-9))
        if 0 <= 1 - t * len(tails) + shift <= 1
    }
    totals = [total_macs(own, splits_at(own, energy)) for energy in steps]
    met = sorted(totals)[len(totals) // 2]
    for budget in (*(int(total_macs(own, {}) * share) for share in (0.2, 0.5, 0.8)), met):
        splits = within_budget(own, budget)
        assert splits is not None
        assert total_macs(own, splits) == max(total for total in totals if total <= budget)


def test_a_budget_below_rank_1_is_none() -> None:
    own = layers()
    least = total_macs(own, splits_at(own, 0.0))
    assert within_budget(own, least - 1) is None
    at_least = within_budget(own, least)
    assert at_least is not None
    assert total_macs(own, at_least) == least


def test_what_is_left_out_against_numpy() -> None:
    matrix = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    squares = np.linalg.svd(matrix.numpy(), compute_uv=False) ** 2
    expected = [squares[rank:].sum() / squares.sum() for rank in range(6)]
    np.testing.assert_allclose(energy_tail(matrix), expected, atol=1e-12)
