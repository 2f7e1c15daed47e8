import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from core.errors import NotApplicable
from measurements.functional.error_consistency import error_consistency


def right(n: int, hits: int) -> Tensor:
    return torch.arange(n) < hits


def test_accuracies_of_8_and_7_tenths_agree_by_chance_on_62_hundredths() -> None:
    found = error_consistency(right(10, 8), baseline=right(10, 7))
    assert found.expected == pytest.approx(0.62)  # .8 x .7 + .2 x .3
    assert found.observed == 0.9
    assert found.kappa == pytest.approx(0.28 / 0.38)


def test_equal_errors_have_kappa_1_and_opposite_ones_minus_1() -> None:
    one = right(10, 5)
    assert error_consistency(one, baseline=one).kappa == 1.0
    assert error_consistency(one, baseline=~one).kappa == -1.0


@given(st.integers(2, 40), st.integers(0, 2**31))
def test_kappa_is_that_of_sklearn(n: int, seed: int) -> None:
    one, other = torch.rand(2, n, generator=torch.Generator().manual_seed(seed)) < 0.6
    one[0], one[1] = True, False
    expected = cohen_kappa_score(one.numpy(), other.numpy())
    assert error_consistency(one, baseline=other).kappa == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("hits", [0, 10], ids=["all_wrong", "all_right"])
def test_models_without_a_choice_have_no_kappa(hits: int) -> None:
    found = error_consistency(right(10, hits), baseline=right(10, hits))
    assert found.observed == 1.0
    with pytest.raises(NotApplicable, match="all right or all wrong"):
        _ = found.kappa


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"correct \[3\], baseline \[4\]"):
        error_consistency(right(3, 1), baseline=right(4, 1))
