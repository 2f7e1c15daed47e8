"""Columns of the records, against hand-worked rows and plain softmax."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recording.columns import record_columns, shifted_logits

SCALARS = ["confidence", "margin_logit", "log_p_label", "logsumexp", "max_logit", "sum_p2"]
sizes = st.tuples(st.integers(1, 40), st.integers(2, 12), st.integers(0, 2**31))
nan, inf = math.nan, math.inf


def random_rows(size: tuple[int, int, int], spread: float = 4.0) -> tuple[Tensor, Tensor]:
    """Logits and labels from (rows, classes, seed)."""
    rows, classes, seed = size
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator) * spread
    return logits, torch.randint(classes, (rows,), generator=generator)


def tied_rows(size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Logits of few distinct values, both zeros among them."""
    logits, labels = random_rows(size)
    return logits.sign() * (logits.abs() > 3), labels


def row(logits: list[float], label: int = 0) -> dict[str, Tensor]:
    """Columns of one sample."""
    columns = record_columns(torch.tensor([logits]), torch.tensor([label]))
    return {name: column[0] for name, column in columns.items()}


def test_a_row_worked_by_hand_has_these_columns() -> None:
    # p = (1/7, 2/7, 4/7); true class 1, so one class stands before it
    columns = row([0.0, math.log(2), math.log(4)], label=1)
    assert columns["predicted"] == 2
    assert columns["rank"] == 1
    assert columns["confidence"].item() == pytest.approx(4 / 7, abs=1e-7)
    assert columns["margin_logit"].item() == pytest.approx(math.log(4 / 3), abs=1e-7)
    assert columns["log_p_label"].item() == pytest.approx(math.log(2 / 7), abs=1e-7)
    assert columns["logsumexp"].item() == pytest.approx(math.log(7), abs=1e-7)
    assert columns["max_logit"].item() == pytest.approx(math.log(4), abs=1e-7)
    assert columns["sum_p2"].item() == pytest.approx(21 / 49, abs=1e-7)
    entropy = (math.log(7) + 2 * math.log(7 / 2) + 4 * math.log(7 / 4)) / 7
    assert columns["entropy"].item() == pytest.approx(entropy, abs=1e-6)
    assert columns["finite"]


def test_the_columns_have_the_promised_types() -> None:
    columns = record_columns(*random_rows((3, 10, 0)))
    types = {name: (column.dtype, tuple(column.shape)) for name, column in columns.items()}
    assert types == {
        "predicted": (torch.int64, (3,)),
        "rank": (torch.int64, (3,)),
        "margin_logit": (torch.float64, (3,)),
        "confidence": (torch.float32, (3,)),
        "log_p_label": (torch.float32, (3,)),
        "logsumexp": (torch.float32, (3,)),
        "max_logit": (torch.float32, (3,)),
        "sum_p2": (torch.float32, (3,)),
        "entropy": (torch.float32, (3,)),
        "finite": (torch.bool, (3,)),
        "topk_ids": (torch.int64, (3, 5)),
        "topk_logits": (torch.float32, (3, 5)),
    }


@pytest.mark.parametrize(
    ("logits", "label", "rank"),
    [
        ([1.0, 1.0, 1.0], 0, 0),
        ([1.0, 1.0, 1.0], 1, 1),
        ([1.0, 1.0, 1.0], 2, 2),
        ([0.0, 5.0, 5.0, 9.0], 2, 2),
        ([0.0, 5.0, 5.0, 9.0], 1, 1),
        ([-0.0, 0.0], 1, 1),
        ([0.0, -0.0], 0, 0),
        ([0.0, -0.0], 1, 1),
        ([-2.0, -1.0, -3.0], 1, 0),
        ([-2.0, -1.0, -3.0], 2, 2),
        ([-1e-45, 1e-45, 0.0], 2, 1),
    ],
)
def test_rank_counts_larger_logits_and_equal_ones_of_lower_classes(
    logits: list[float], label: int, rank: int
) -> None:
    assert row(logits, label)["rank"] == rank


def test_constant_logits_hit_one_class_in_ten_at_one_and_half_at_five() -> None:
    rank = record_columns(torch.zeros(10, 10), torch.arange(10))["rank"]
    assert (rank < 1).double().mean() == 0.1
    assert (rank < 5).double().mean() == 0.5


def test_equal_logits_list_the_lower_class_first() -> None:
    columns = row([1.0, 3.0, 3.0, 1.0, 1.0, 1.0, 2.0])
    assert columns["topk_ids"].tolist() == [1, 2, 6, 0, 3]
    assert columns["topk_logits"].tolist() == [3.0, 3.0, 2.0, 1.0, 1.0]


def test_a_model_of_two_classes_has_padded_top_columns() -> None:
    columns = row([1.0, 2.0])
    assert columns["topk_ids"].tolist() == [1, 0, -1, -1, -1]
    assert columns["topk_logits"].tolist()[:2] == [2.0, 1.0]
    assert columns["topk_logits"][2:].isnan().all()


@pytest.mark.parametrize("broken", [nan, inf, -inf], ids=["nan", "inf", "minus_inf"])
def test_a_broken_row_is_a_wrong_answer_of_a_model_that_knows_nothing(broken: float) -> None:
    columns = row([9.0, broken, 1.0, 2.0], label=0)
    assert columns["predicted"] == -1
    assert columns["rank"] == 4
    assert not columns["finite"]
    assert columns["confidence"] == 0.25
    assert columns["sum_p2"] == 0.25
    assert columns["log_p_label"].item() == pytest.approx(-math.log(4), rel=1e-7)
    assert columns["entropy"].item() == pytest.approx(math.log(4), rel=1e-7)
    assert columns["margin_logit"].item() == pytest.approx(-math.log(3), rel=1e-15)
    assert columns["logsumexp"].item() == pytest.approx(math.log(4), rel=1e-7)
    assert columns["max_logit"] == 0
    assert columns["topk_ids"].tolist() == [-1] * 5
    assert columns["topk_logits"].isnan().all()


def test_opposite_infinities_do_not_cancel_into_a_sound_row() -> None:
    assert not row([inf, -inf, 0.0])["finite"]


def test_a_broken_row_leaves_the_others_as_they_are() -> None:
    logits, labels = random_rows((6, 10, 3))
    sound = record_columns(logits, labels)
    logits[2, 4] = nan
    kept = torch.tensor([0, 1, 3, 4, 5])
    spoiled = record_columns(logits, labels)
    for name, column in sound.items():
        torch.testing.assert_close(spoiled[name][kept], column[kept], rtol=0, atol=0)


def test_largest_finite_logits_are_a_sound_row_with_finite_columns() -> None:
    largest = torch.finfo(torch.float32).max
    columns = row([-largest, largest, largest], label=0)
    assert columns["finite"]
    assert columns["confidence"] == 0.5
    assert all(columns[name].isfinite() for name in [*SCALARS, "entropy"])


def test_logits_whose_sum_leaves_the_floats_are_sound() -> None:
    assert row([3e38, 3e38, 3e38, 3e38])["finite"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_logits_of_any_floating_type_are_read_as_float32(dtype: torch.dtype) -> None:
    logits, labels = random_rows((9, 7, 1))
    logits = logits.to(dtype)
    expected = record_columns(logits.float(), labels)
    for name, column in record_columns(logits, labels).items():
        torch.testing.assert_close(column, expected[name], rtol=0, atol=0)
    assert torch.equal(shifted_logits(logits), shifted_logits(logits.float()))


def test_the_margin_still_orders_samples_whose_confidence_has_rounded_to_one() -> None:
    columns = record_columns(torch.tensor([[40.0, 0.0], [41.0, 0.0]]), torch.tensor([0, 0]))
    assert columns["confidence"].tolist() == [1.0, 1.0]
    assert columns["margin_logit"].tolist() == [40.0, 41.0]


def test_a_nearly_certain_answer_keeps_the_digits_of_its_loss() -> None:
    assert row([30.0, 0.0])["log_p_label"].item() == pytest.approx(-math.exp(-30), rel=1e-6)


def test_the_inputs_are_left_as_they_were() -> None:
    logits = torch.tensor([[1.0, nan], [2.0, 3.0]])
    before = logits.clone()
    record_columns(logits, torch.tensor([0, 1]))
    shifted_logits(logits)
    torch.testing.assert_close(logits, before, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [((8,), (8,)), ((8, 3), (8, 1)), ((8, 3), (7,)), ((8, 1), (8,))],
    ids=["vector", "column_of_labels", "too_few_labels", "one_class"],
)
def test_shapes_that_would_broadcast_are_refused(
    logits: tuple[int, ...], labels: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"expected logits \[B, C\] with C >= 2 and labels \[B\]"):
        record_columns(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_names_no_class_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match=r"expected labels in \[0, 3\)"):
        row([1.0, 2.0, 3.0], label)


@given(sizes)
def test_columns_agree_with_softmax_in_double_precision(size: tuple[int, int, int]) -> None:
    logits, labels = random_rows(size)
    columns = record_columns(logits, labels)
    log_p = logits.double().log_softmax(dim=1)
    p = log_p.exp()
    expected = {
        "confidence": p.amax(dim=1),
        "log_p_label": log_p.gather(1, labels[:, None]).squeeze(1),
        "logsumexp": logits.double().logsumexp(dim=1),
        "sum_p2": p.square().sum(dim=1),
        "entropy": -(p * log_p).sum(dim=1),
        "max_logit": logits.double().amax(dim=1),
    }
    for name, column in expected.items():
        # float32 rounding of the stored value; 1e-12 for the oracle's own cancellation near 0
        torch.testing.assert_close(columns[name].double(), column, rtol=6e-8, atol=1e-12)


@given(sizes)
def test_the_margin_is_the_logit_of_the_confidence(size: tuple[int, int, int]) -> None:
    columns = record_columns(*random_rows(size, spread=1.0))
    torch.testing.assert_close(
        columns["margin_logit"].sigmoid().float(), columns["confidence"], rtol=2e-7, atol=0
    )


@given(sizes)
def test_order_and_rank_agree_with_a_stable_sort_also_among_ties(
    size: tuple[int, int, int],
) -> None:
    logits, labels = tied_rows(size)
    columns = record_columns(logits, labels)
    order = np.argsort(-logits.numpy(), axis=1, kind="stable")
    assert columns["predicted"].tolist() == order[:, 0].tolist()
    assert columns["predicted"].tolist() == logits.argmax(dim=1).tolist()
    width = min(5, logits.shape[1])
    assert columns["topk_ids"][:, :width].tolist() == order[:, :width].tolist()
    position = np.argwhere(order == labels.numpy()[:, None])[:, 1]
    assert columns["rank"].tolist() == position.tolist()


@given(sizes)
def test_a_hit_is_rank_zero(size: tuple[int, int, int]) -> None:
    logits, labels = tied_rows(size)
    columns = record_columns(logits, labels)
    assert torch.equal(columns["rank"] == 0, columns["predicted"] == labels)


@given(sizes)
def test_adding_a_constant_changes_nothing_but_the_level(size: tuple[int, int, int]) -> None:
    logits, labels = random_rows(size)
    logits = logits.round()  # so that adding 8 is exact
    columns, raised = record_columns(logits, labels), record_columns(logits + 8, labels)
    for name in ("confidence", "rank", "predicted", "log_p_label", "sum_p2", "entropy"):
        torch.testing.assert_close(raised[name], columns[name], rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(raised["logsumexp"], columns["logsumexp"] + 8)
    torch.testing.assert_close(raised["max_logit"], columns["max_logit"] + 8)


@given(sizes)
def test_a_row_does_not_depend_on_the_rows_around_it(size: tuple[int, int, int]) -> None:
    logits, labels = random_rows(size)
    whole, first = record_columns(logits, labels), record_columns(logits[:1], labels[:1])
    for name, column in first.items():
        torch.testing.assert_close(whole[name][:1], column, equal_nan=True, rtol=1e-6, atol=1e-12)


def test_shifted_logits_worked_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [-1e9, 0.0, -65505.0], [-7.0, -7.0, -8.0]])
    expected = torch.tensor([[0.0, -2.0, -0.5], [-65504.0, 0.0, -65504.0], [0.0, 0.0, -1.0]])
    torch.testing.assert_close(shifted_logits(logits), expected.half(), rtol=0, atol=0)


@pytest.mark.parametrize("broken", [nan, inf, -inf], ids=["nan", "inf", "minus_inf"])
def test_a_broken_row_of_shifted_logits_is_nan_throughout(broken: float) -> None:
    shifted = shifted_logits(torch.tensor([[1.0, broken], [2.0, 0.0]]))
    assert shifted[0].isnan().all()
    assert shifted[1].tolist() == [0.0, -2.0]


def test_shifting_keeps_decisions_that_plain_half_precision_changes() -> None:
    logits = torch.tensor([[30.001, 30.002]])
    assert logits.half().argmax(dim=1) == 0
    assert shifted_logits(logits).argmax(dim=1) == 1


@given(sizes)
def test_shifted_logits_give_the_same_probabilities(size: tuple[int, int, int]) -> None:
    logits, _ = random_rows(size)
    # half precision holds a distance of 16 to 32 within 2**-7, so p within a factor exp(2**-7)
    torch.testing.assert_close(
        shifted_logits(logits).double().softmax(dim=1),
        logits.double().softmax(dim=1),
        rtol=0.02,
        atol=0.0,
    )


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_columns_of_the_cpu() -> None:
    logits, labels = tied_rows((128, 1000, 0))
    here, there = record_columns(logits, labels), record_columns(logits.cuda(), labels.cuda())
    for name, column in here.items():
        torch.testing.assert_close(there[name].cpu(), column, equal_nan=True, rtol=1e-6, atol=1e-9)
