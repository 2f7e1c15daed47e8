"""Robust accuracy, its worst case, and what makes it doubtful."""

from typing import Any

import pytest
import torch

from core.errors import ConfigError
from measurements.attacked import Attacks
from measurements.benefits.adversarial import Adversarial, BlackBox, GradientMasking
from measurements.paired.adversarial import AdversarialDelta, Transfer

TEN = torch.zeros(10, dtype=torch.int64)


def hits(*right: int) -> list[int]:
    """Predictions of class 0, the label, for the samples in `right` alone."""
    return [0 if i in right else 1 for i in range(10)]


def answers(votes: Any, **views: list[int]) -> dict[str, torch.Tensor]:
    names = {view: "toy" if view == "clean" else f"toy/{view}" for view in views}
    return {names[view]: votes(predicted) for view, predicted in views.items()}


def test_the_worst_case_is_right_under_every_attack_and_none(toy: Any, votes: Any) -> None:
    results = toy(
        Adversarial,
        labels={"toy": TEN},
        now=answers(votes, clean=hits(*range(8)), fgsm_8=hits(0, 1, 2, 3), pgd_8=hits(2, 3, 4, 9)),
        attacks=["fgsm_8", "pgd_8"],
    ).measure()
    assert {name: float(value) for name, value in results.items()} == pytest.approx(
        {
            "toy_test_adversarial_loss": 0.6,
            "toy_test_robust_accuracy": 0.2,
            "toy_test_robust_accuracy_fgsm_8": 0.4,
            "toy_test_robust_accuracy_pgd_8": 0.4,
        }
    )
    worst = results["toy_test_robust_accuracy"]
    assert (worst.n, worst.better, worst.view) == (10, "higher", "clean")
    assert (worst.low, worst.high) == pytest.approx((0.05668, 0.50984), abs=1e-5)  # Wilson
    assert results["toy_test_robust_accuracy_pgd_8"].view == "pgd_8"


def test_only_some_are_attacked_and_all_are_looked_at_clean(toy: Any, votes: Any) -> None:
    measurement = toy(
        BlackBox,
        labels={"toy": TEN},
        now=answers(votes, clean=hits(), square_8_q5=hits()),
        attacks=["square_8_q5"],
        samples=4,
    )
    asked = [(one.view, one.samples) for one in measurement.requests()]
    assert asked == [("clean", None), ("square_8_q5", 4)]
    assert "gradients" not in BlackBox.needs
    clean, seen = (measurement.records("toy"), measurement.records("toy", view="square_8_q5"))
    ids = torch.tensor([1, 4, 9])
    measurement.records_of = lambda model, name, view="clean", **_: (
        clean if view == "clean" else seen.take(ids)
    )
    found = measurement.attacks.seen(measurement, measurement.model, "toy")
    assert [records.sample_id.tolist() for records in found.values()] == [[1, 4, 9]] * 2
    clean = clean.take(torch.tensor([0, 1, 9]))
    with pytest.raises(ValueError, match="same samples"):
        measurement.attacks.seen(measurement, measurement.model, "toy")


@pytest.mark.parametrize(
    ("names", "samples", "fault"),
    [
        ([], 1, "at least one attack"),
        (["fog_3"], 1, "'fog_3' is no attack"),
        (["transfer_pgd_8"], 1, "is no attack"),
        (["pgd_8_x1"], 1, "unknown attack"),
        (["pgd_8"], 0, "at least 1"),
    ],
)
def test_mistakes_are_told_before_anything_runs(names: list[str], samples: int, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        Attacks(names=names, samples=samples)


def masking(toy: Any, votes: Any, blind: list[bool], **views: list[int]) -> dict[str, Any]:
    measurement = toy(
        GradientMasking,
        labels={"toy": TEN},
        now=answers(votes, clean=hits(*range(8)), **views),
        single="fgsm_8",
        multi="pgd_8",
        black_box="square_8_q5",
        huge="pgd_255",
    )
    given = measurement.recorder.records

    def with_column(*place: Any, **named: Any) -> Any:
        records = given(*place, **named)
        records._columns["zero_gradient"] = torch.tensor(blind)
        return records

    measurement.recorder.records = with_column
    prefix = "toy_test_masking_"
    return {name.removeprefix(prefix): value for name, value in measurement.measure().items()}


def test_honest_gradients_give_no_warning(toy: Any, votes: Any) -> None:
    values = masking(
        toy,
        votes,
        [False] * 8 + [True, True],  # of what is wrong anyway
        fgsm_8=hits(0, 1, 2, 3),
        pgd_8=hits(0, 1),
        square_8_q5=hits(0, 1, 2),
        pgd_255=hits(),
    )
    assert {name: float(value) for name, value in values.items()} == pytest.approx(
        {
            "zero_gradient": 0,
            "one_step_beats_many": -0.2,
            "asking_beats_gradient": -0.1,
            "far_is_weaker_than_near": -0.2,
            "right_at_any_distance": 0,
            "warnings": 0,
        }
    )
    assert values["zero_gradient"].n == 8


def test_each_sign_of_hidden_gradients_is_a_warning(toy: Any, votes: Any) -> None:
    values = masking(
        toy,
        votes,
        [True] * 10,
        fgsm_8=hits(0),
        pgd_8=hits(0, 1, 2, 3, 4, 5),
        square_8_q5=hits(0),
        pgd_255=hits(*range(10)),
    )
    assert {name: float(value) for name, value in values.items()} == pytest.approx(
        {
            "zero_gradient": 1,
            "one_step_beats_many": 0.5,
            "asking_beats_gradient": 0.5,
            "far_is_weaker_than_near": 0.4,
            "right_at_any_distance": 1,
            "warnings": 5,
        }
    )
    # .5 -+ 1.959964 sqrt(.25 / 10)
    assert values["one_step_beats_many"].low == pytest.approx(0.5 - 1.959964 * 0.025**0.5)


def test_two_models_are_paired_under_each_attack_and_the_worst(toy: Any, votes: Any) -> None:
    results = toy(
        AdversarialDelta,
        labels={"toy": TEN},
        now=answers(votes, clean=hits(*range(9)), fgsm_8=hits(0, 1), pgd_8=hits(1, 2, 3)),
        before=answers(votes, clean=hits(*range(10)), fgsm_8=hits(0, 1, 2), pgd_8=hits(0, 1)),
        attacks=["fgsm_8", "pgd_8"],
    ).measure()
    assert {name.removeprefix("toy_test_"): float(x) for name, x in results.items()} == (
        pytest.approx(
            {
                "delta_robust_accuracy": -0.1,  # {1} against {0, 1}
                "robust_negative_flip_rate": 0.1,
                "delta_robust_accuracy_fgsm_8": -0.1,
                "robust_negative_flip_rate_fgsm_8": 0.1,
                "delta_robust_accuracy_pgd_8": 0.1,
                "robust_negative_flip_rate_pgd_8": 0.1,
            }
        )
    )


def test_transfer_counts_what_fools_both(toy: Any, votes: Any) -> None:
    measurement = toy(
        Transfer,
        labels={"toy": TEN},
        now=answers(votes, clean=hits(*range(9)), transfer_pgd_8=hits(0, 1, 2, 4, 5, 6)),
        before=answers(votes, clean=hits(*range(1, 10)), transfer_pgd_8=hits(0, 1, 2, 3)),
        attacks=["pgd_8"],
    )
    assert [one.view for one in measurement.requests()] == ["clean", "transfer_pgd_8"]
    results = measurement.measure()
    # right on both, clean: 1..8; of these the baseline is fooled on 4..8, the model on 7 and 8
    assert {name.removeprefix("toy_test_"): float(x) for name, x in results.items()} == (
        pytest.approx(
            {
                "transfer_accuracy_pgd_8": 0.6,
                "delta_transfer_accuracy_pgd_8": 0.2,
                "transfer_rate_pgd_8": 0.4,
            }
        )
    )
    assert results["toy_test_transfer_rate_pgd_8"].n == 5
