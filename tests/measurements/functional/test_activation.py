import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from measurements.functional.activation import UnitActivity


def counted(*batches: Tensor, **options: float) -> UnitActivity:
    found = UnitActivity(**options)
    for batch in batches:
        found.add(batch)
    return found


def test_a_relu_that_never_fires_is_dead() -> None:
    x = torch.randn(10, 7, generator=torch.Generator().manual_seed(0))
    found = counted((-x.abs()).relu())
    assert (found.dead_share, found.sparsity, found.always_active_share) == (1.0, 1.0, 0.0)


def test_units_worked_by_hand() -> None:
    # unit 0 never, unit 1 once, unit 2 always
    found = counted(torch.tensor([[0.0, 0, 1], [0, 0, 1]]), torch.tensor([[0.0, 2, 5]]))
    assert found.dead.tolist() == [True, False, False]
    assert (found.dead_share, found.always_active_share) == (1 / 3, 1 / 3)
    assert found.sparsity == 5 / 9
    assert found.inputs == 3


def test_a_unit_that_wakes_up_in_a_later_batch_is_not_dead() -> None:
    assert counted(torch.zeros(4, 2)).dead_share == 1.0
    assert counted(torch.zeros(4, 2), torch.tensor([[0.0, 1.0]])).dead_share == 0.5


def test_a_channel_is_alive_if_it_is_somewhere() -> None:
    maps = torch.zeros(2, 3, 4, 4)
    maps[1, 2, 3, 0] = 0.5
    found = counted(maps)
    assert found.dead.tolist() == [True, True, False]
    assert found.sparsity == 95 / 96


def test_units_of_tokens_are_in_the_last_dimension() -> None:
    tokens = torch.ones(2, 5, 3)
    tokens[..., 1] = 0.0
    found = counted(tokens, unit_dim=-1)
    assert found.dead.tolist() == [False, True, False]


def test_a_unit_at_the_ceiling_everywhere_is_saturated() -> None:
    found = counted(torch.tensor([[6.0, 6.0, 0.0], [6.0, 5.0, 0.0]]), ceiling=6.0)
    assert found.saturated_share == 1 / 3


def test_negative_activations_are_no_zeros() -> None:
    assert counted(torch.tensor([[-1e-9, -0.0]])).sparsity == 0.5


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 30), st.integers(0, 2**31))
def test_the_batch_size_does_not_matter(n: int, units: int, size: int, seed: int) -> None:
    x = torch.randn(n, units, generator=torch.Generator().manual_seed(seed)).relu()
    whole, found = counted(x, ceiling=1.0), counted(*x.split(size), ceiling=1.0)
    assert found.dead.tolist() == whole.dead.tolist()
    assert (found.sparsity, found.saturated_share) == (whole.sparsity, whole.saturated_share)
    assert found.sparsity == pytest.approx((x == 0).double().mean().item())


@pytest.mark.parametrize(
    ("activations", "unit_dim"),
    [
        (torch.ones(3), 1),
        (torch.ones(3, 2), 0),
        (torch.ones(3, 2), -2),
        (torch.ones(3, 2), 2),
        (torch.ones(0, 2), 1),
    ],
    ids=["vector", "batch", "batch_from_behind", "too_far", "empty"],
)
def test_what_has_no_units_is_refused(activations: Tensor, unit_dim: int) -> None:
    with pytest.raises(ValueError, match="expected activations with a batch and units"):
        counted(activations, unit_dim=unit_dim)


def test_another_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 units as before, got 1"):
        counted(torch.ones(2, 3), torch.ones(2, 1))


def test_nothing_was_counted_or_nothing_is_a_ceiling() -> None:
    with pytest.raises(ValueError, match="no activations were added"):
        _ = UnitActivity().dead_share
    with pytest.raises(ValueError, match="expected a ceiling"):
        _ = counted(torch.ones(2, 3)).saturated_share
