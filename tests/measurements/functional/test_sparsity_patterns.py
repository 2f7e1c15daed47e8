import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.errors import NotApplicable
from measurements.functional.sparsity_patterns import (
    PatternShare,
    channel_sparsity,
    pattern_share,
    zeros_per_channel,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_filters_and_the_channels_they_read_are_counted_apart() -> None:
    conv = torch.ones(4, 3, 2, 2)
    conv[1], conv[:, 2], conv[3, 0, 0, 0] = 0, 0, 0
    layers = {"conv": conv, "fc": torch.zeros(2, 5)}
    out, read = channel_sparsity(layers), channel_sparsity(layers, side="in")
    assert (out.zeros, out.total, out.per_tensor) == (3, 6, {"conv": 0.25, "fc": 1.0})
    assert (read.zeros, read.total) == (6, 8)
    assert read.per_tensor["conv"] == pytest.approx(1 / 3)


def test_zeros_of_each_channel() -> None:
    conv = torch.ones(2, 3, 1, 2)
    conv[0, :, 0, 0] = 0
    conv[1, 2] = -0.0
    assert zeros_per_channel(conv).tolist() == pytest.approx([1 / 2, 1 / 3])
    assert zeros_per_channel(conv, side="in").tolist() == [0.25, 0.25, 0.75]


def test_groups_are_consecutive_inputs() -> None:
    # 1 1 0 0 | 0 1 1 1: the second has three; shifted by one it would be other groups
    weight = torch.tensor([[1.0, 1, 0, 0, 0, 1, 1, 1]])
    assert pattern_share({"fc": weight}) == PatternShare(fitting=1, groups=2)


def test_groups_of_a_convolution_are_input_channels_at_one_place() -> None:
    conv = torch.ones(1, 4, 1, 2)
    conv[0, :2, 0, 0] = 0
    assert pattern_share({"conv": conv}) == PatternShare(fitting=1, groups=2)


def test_inputs_after_the_last_whole_group_do_not_count() -> None:
    weight = torch.tensor([[1.0, 0, 0, 1, 1, 1, 1]])
    assert pattern_share({"fc": weight}) == PatternShare(fitting=1, groups=1)


def test_layers_add_up_and_narrow_ones_have_no_group() -> None:
    layers = {"rgb": torch.ones(8, 3, 3, 3), "a": torch.ones(2, 4), "b": torch.zeros(1, 8)}
    found = pattern_share(layers)
    assert (found.fitting, found.groups, found.share) == (2, 4, 0.5)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31))
def test_a_tensor_pruned_to_a_pattern_fits_it_everywhere(n: int, more: int, seed: int) -> None:
    m = n + more
    groups = torch.rand(5, 3, m, generator=seeded(seed)) + 1
    removed = torch.rand(5, 3, m, generator=seeded(seed + 1)).argsort(dim=2)[..., : m - n]
    weight = groups.scatter(2, removed, 0.0).flatten(start_dim=1)
    assert pattern_share({"fc": weight}, n=n, m=m).share == 1.0
    if n > 1:
        assert pattern_share({"fc": weight}, n=n - 1, m=m).share == 0.0


def test_random_zeros_fit_by_chance() -> None:
    weight = (torch.rand(1000, 400, generator=seeded()) < 0.5).float()
    assert pattern_share({"fc": weight}).share == pytest.approx(11 / 16, abs=0.006)  # 4 sd


def test_no_whole_group_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="enough inputs"):
        _ = pattern_share({"rgb": torch.ones(8, 3, 3, 3)}).share


def test_what_is_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got \{'bias': \[3\]\}"):
        channel_sparsity({"bias": torch.ones(3)})
    with pytest.raises(ValueError, match="got none"):
        pattern_share({})
    with pytest.raises(ValueError, match="'in' or 'out', got 'both'"):
        zeros_per_channel(torch.ones(2, 2), side="both")
    with pytest.raises(ValueError, match="1 <= n < m, got 4:4"):
        pattern_share({"fc": torch.ones(2, 4)}, n=4, m=4)
