import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from measurements.functional.sparsity import zeros_share


def test_large_tensors_weigh_more_than_small_ones() -> None:
    found = zeros_share({"small": torch.zeros(2), "large": torch.ones(3, 2, 1, 1)})
    assert (found.zeros, found.total, found.share) == (2, 8, 0.25)
    assert found.per_tensor == {"small": 1.0, "large": 0.0}


def test_negative_zero_is_zero_and_tiny_or_nan_is_not() -> None:
    weights = torch.tensor([-0.0, 0.0, 1e-45, math.nan])
    assert zeros_share({"w": weights}).share == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.bool])
def test_zeros_of_any_type_count(dtype: torch.dtype) -> None:
    assert zeros_share({"w": torch.tensor([0, 1, 0, 1, 1]).to(dtype)}).share == 0.4


@given(st.integers(1, 200), st.floats(0, 1), st.integers(0, 2**31))
def test_exactly_the_masked_entries_count(n: int, sparsity: float, seed: int) -> None:
    removed = int(sparsity * n)
    weights = torch.rand(n, generator=torch.Generator().manual_seed(seed)) + 1
    weights[torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:removed]] = 0
    assert zeros_share({"w": weights}).zeros == removed


def test_an_empty_tensor_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"got \['b'\]"):
        zeros_share({"a": torch.ones(1), "b": torch.ones(0)})


def test_no_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        zeros_share({})
