import math

import pytest
import torch
from scipy.stats import t as student
from torch import Tensor

from measurements.functional.jackknife import (
    GROUPS,
    T95,
    Jackknife,
    delete_group_jackknife,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_groups_of_one_give_the_standard_error_of_a_mean() -> None:
    values = torch.randn(20, generator=seeded(), dtype=torch.float64)
    found = delete_group_jackknife(
        lambda ids: {"mean": values[ids].mean().item()}, 20, generator=seeded()
    )
    assert found["mean"].standard_error == pytest.approx(values.std().item() / math.sqrt(20))
    assert found["mean"].value == values.mean().item()


def test_the_critical_value_is_students() -> None:
    assert pytest.approx(student.ppf(0.975, GROUPS - 1), abs=1e-6) == T95


def test_the_interval_is_two_standard_errors_of_student_wide() -> None:
    low, high = Jackknife(value=1.0, standard_error=0.1).interval
    assert (low, high) == pytest.approx((1 - 0.2093024, 1 + 0.2093024))


def test_each_sample_is_left_out_exactly_once_and_none_is_repeated() -> None:
    calls: list[Tensor] = []

    def statistic(ids: Tensor) -> dict[str, float]:
        calls.append(ids)
        return {"n": float(len(ids))}

    delete_group_jackknife(statistic, 50, generator=seeded())
    assert calls[0].tolist() == list(range(50))
    assert all(ids.tolist() == sorted(set(ids.tolist())) for ids in calls)
    left_out = sorted(i for ids in calls[1:] for i in set(range(50)) - set(ids.tolist()))
    assert left_out == list(range(50))
    assert sorted(len(ids) for ids in calls[1:]) == [47] * 10 + [48] * 10


def test_the_groups_are_not_runs_of_the_sample_order() -> None:
    labels = torch.arange(200) // 10  # in a sorted dataset a run is a class

    def classes(ids: Tensor) -> dict[str, float]:
        return {"classes": float(len(labels[ids].unique()))}

    assert delete_group_jackknife(classes, 200, generator=seeded())["classes"].standard_error == 0


def test_the_generator_deals_the_samples_out() -> None:
    values = torch.randn(100, generator=seeded(3))
    one, other = (
        delete_group_jackknife(
            lambda ids: {"m": values[ids].mean().item()}, 100, generator=seeded(seed)
        )
        for seed in (0, 1)
    )
    assert one["m"].standard_error != other["m"].standard_error


def test_equal_seeds_give_equal_errors() -> None:
    values = torch.randn(100, generator=seeded(3))
    one, other = (
        delete_group_jackknife(
            lambda ids: {"m": values[ids].mean().item()}, 100, generator=seeded()
        )
        for _ in range(2)
    )
    assert one == other


def test_the_interval_of_a_mean_covers_in_95_of_100_runs() -> None:
    covered = 0
    for seed in range(200):
        values = torch.randn(100, generator=seeded(seed)).double()
        found = delete_group_jackknife(
            lambda ids, values=values: {"m": values[ids].mean().item()}, 100, generator=seeded(1)
        )
        low, high = found["m"].interval
        covered += low <= 0 <= high
    assert 178 <= covered <= 200  # 190 -+ 4 standard deviations


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 20 samples, one a group, got 19"):
        delete_group_jackknife(lambda ids: {}, 19, generator=seeded())
