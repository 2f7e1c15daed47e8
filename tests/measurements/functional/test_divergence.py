"""Divergences of the predicted probabilities, by hand and against scipy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from torch import Tensor

from measurements.functional import divergence
from measurements.functional.divergence import js_divergence, kl_divergence, total_variation
from recording.columns import shifted_logits

sizes = st.tuples(st.integers(1, 30), st.integers(2, 12), st.integers(0, 2**31))
DIVERGENCES = pytest.mark.parametrize(
    "diverge", [kl_divergence, js_divergence, total_variation], ids=["kl", "js", "tv"]
)
Diverge = Callable[..., Tensor]


def logits(*probabilities: float) -> Tensor:
    """Logits of one row with these probabilities."""
    return torch.tensor([probabilities], dtype=torch.float64).log()


def stored(size: tuple[int, int, int], spread: float = 4.0) -> tuple[Tensor, Tensor]:
    """Stored logits of two models from (samples, classes, seed)."""
    n, classes, seed = size
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, n, classes, generator=generator) * spread
    return shifted_logits(one), shifted_logits(other)


def test_two_rows_worked_by_hand() -> None:
    base, model = logits(1 / 2, 1 / 2), logits(1 / 4, 3 / 4)
    # 1/2 ln 2 + 1/2 ln 2/3; the other way 1/4 ln 1/2 + 3/4 ln 3/2
    assert kl_divergence(model, baseline=base).item() == pytest.approx(math.log(4 / 3) / 2)
    assert kl_divergence(base, baseline=model).item() == pytest.approx(
        -math.log(2) / 4 + 3 * math.log(3 / 2) / 4
    )
    assert total_variation(model, baseline=base).item() == pytest.approx(1 / 4)
    # the mean is (3/8, 5/8)
    to_mean = (math.log(4 / 3) + math.log(4 / 5)) / 2
    back = math.log(2 / 3) / 4 + 3 * math.log(6 / 5) / 4
    assert js_divergence(model, baseline=base).item() == pytest.approx((to_mean + back) / 2)


def test_rows_are_not_averaged() -> None:
    base = torch.cat([logits(0.5, 0.5), logits(0.2, 0.8)])
    model = torch.cat([logits(0.5, 0.5), logits(0.8, 0.2)])
    assert kl_divergence(model, baseline=base).tolist() == pytest.approx([0, 0.6 * math.log(4)])


@given(sizes)
def test_divergences_agree_with_scipy(size: tuple[int, int, int]) -> None:
    model, base = stored(size)
    p1, p0 = model.double().softmax(dim=1).numpy(), base.double().softmax(dim=1).numpy()
    # scipy works with probabilities, where small ones have lost digits
    np.testing.assert_allclose(kl_divergence(model, baseline=base), entropy(p0, p1, axis=1), 1e-6)
    np.testing.assert_allclose(
        js_divergence(model, baseline=base), jensenshannon(p0, p1, axis=1) ** 2, 1e-6, 1e-12
    )
    np.testing.assert_allclose(
        total_variation(model, baseline=base), np.abs(p0 - p1).sum(axis=1) / 2, 1e-9, 1e-15
    )


@DIVERGENCES
@given(size=sizes)
def test_a_model_does_not_diverge_from_itself_at_all(
    diverge: Diverge, size: tuple[int, int, int]
) -> None:
    model, _ = stored(size)
    assert diverge(model, baseline=model).tolist() == [0.0] * size[0]


@pytest.mark.parametrize("diverge", [js_divergence, total_variation], ids=["js", "tv"])
@given(size=sizes)
def test_js_and_tv_are_symmetric(diverge: Diverge, size: tuple[int, int, int]) -> None:
    model, base = stored(size)
    torch.testing.assert_close(
        diverge(model, baseline=base), diverge(base, baseline=model), rtol=1e-9, atol=1e-15
    )


@given(sizes)
def test_divergences_are_in_range_and_pinskers_inequality_holds(
    size: tuple[int, int, int],
) -> None:
    model, base = stored(size, spread=20.0)
    kl, js = kl_divergence(model, baseline=base), js_divergence(model, baseline=base)
    tv = total_variation(model, baseline=base)
    assert min(kl.min(), js.min(), tv.min()) >= 0
    assert js.max() <= math.log(2) + 1e-12
    assert tv.max() <= 1 + 1e-12
    assert (tv <= (kl / 2).sqrt() + 1e-9).all()


@DIVERGENCES
def test_rounding_makes_no_divergence_negative(diverge: Diverge) -> None:
    generator = torch.Generator().manual_seed(0)
    base, noise = torch.randn(2, 500, 10, generator=generator, dtype=torch.float64)
    assert diverge(base + 1e-10 * noise, baseline=base).min() >= 0


@DIVERGENCES
@given(size=sizes)
def test_the_level_of_the_logits_does_not_matter(
    diverge: Diverge, size: tuple[int, int, int]
) -> None:
    model, base = (x.double() for x in stored(size))
    raised = diverge(model + 7, baseline=base - 3)
    torch.testing.assert_close(raised, diverge(model, baseline=base), rtol=1e-9, atol=1e-12)


def test_clamped_logits_give_finite_divergences() -> None:
    one = torch.tensor([[0.0, -65504.0, -65504.0]], dtype=torch.float16)
    other = torch.tensor([[-65504.0, 0.0, -65504.0]], dtype=torch.float16)
    assert kl_divergence(one, baseline=other).item() == 65504.0
    assert js_divergence(one, baseline=other).item() == pytest.approx(math.log(2), rel=1e-15)
    assert total_variation(one, baseline=other).item() == 1.0
    assert kl_divergence(one, baseline=one).item() == 0.0


def test_a_broken_row_counts_as_a_uniform_prediction() -> None:
    model = torch.tensor([[-5.0, torch.nan], [0.0, -1.0]], dtype=torch.float16)
    base = torch.tensor([[0.0, -65504.0], [0.0, -1.0]], dtype=torch.float16)
    assert kl_divergence(model, baseline=base).tolist() == pytest.approx([math.log(2), 0.0])
    assert total_variation(model, baseline=base).tolist() == [0.5, 0.0]
    assert kl_divergence(model, baseline=model).tolist() == [0.0, 0.0]


def test_half_precision_of_the_stored_logits_costs_almost_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 200, 10, generator=generator) * 4
    exact = kl_divergence(one, baseline=other).mean()
    halved = kl_divergence(shifted_logits(one), baseline=shifted_logits(other)).mean()
    assert halved.item() == pytest.approx(exact.item(), rel=1e-3)


@DIVERGENCES
@pytest.mark.parametrize("values", [1, 12, 35, 10_000])
def test_blocks_of_rows_give_what_all_rows_give(
    diverge: Diverge, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, base = stored((10, 6, 0))
    whole = diverge(model, baseline=base)
    monkeypatch.setattr(divergence, "VALUES_AT_ONCE", values)
    torch.testing.assert_close(diverge(model, baseline=base), whole, rtol=1e-12, atol=0)


@DIVERGENCES
@pytest.mark.parametrize(
    ("model", "base"),
    [((3, 4), (3, 5)), ((3, 4), (1, 4)), ((4,), (4,)), ((0, 4), (0, 4))],
    ids=["classes", "broadcastable", "vector", "empty"],
)
def test_other_shapes_are_refused(
    diverge: Diverge, model: tuple[int, ...], base: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        diverge(torch.zeros(model), baseline=torch.zeros(base))
