"""Record measurements on records small enough to check by head."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from measurements.benefits.generalization import (
    ClassCollapse,
    ClassificationAccuracyEvaluation,
    MacroAccuracy,
    Nonfinite,
    PerClassAccuracy,
    WorstClassAccuracy,
)
from measurements.measurement import RecordMeasurement
from measurements.paired.divergence import Divergence
from measurements.paired.flips import Flips, McNemar, WorstClassDelta
from measurements.properties.calibration import (
    BrierScore,
    CalibrationError,
    ConfidenceGap,
    DebiasedCalibrationError,
    NegativeLogLikelihood,
)
from measurements.properties.selective import RiskAtCoverage, SelectivePrediction
from recording.columns import record_columns, shifted_logits
from recording.records import Records

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
BEFORE = torch.tensor([0, 0, 1, 1, 1, 2])  # 5 of 6
AFTER = torch.tensor([0, 1, 0, 1, 2, 2])  # 4 of 6: two broken, one mended

RECORD_MEASUREMENTS = [
    ClassificationAccuracyEvaluation,
    PerClassAccuracy,
    WorstClassAccuracy,
    MacroAccuracy,
    Nonfinite,
    ClassCollapse,
    NegativeLogLikelihood,
    BrierScore,
    ConfidenceGap,
    CalibrationError,
    DebiasedCalibrationError,
    SelectivePrediction,
    RiskAtCoverage,
]


def records(predicted: Tensor, *, classes: int = 3, sure: float = 4.0) -> Records:
    """Records of a model that gives its prediction a logit of `sure` and all others 0."""
    logits = torch.zeros(len(predicted), classes)
    logits[torch.arange(len(predicted)), predicted] = sure
    columns = record_columns(logits, LABELS)
    ids = {"sample_id": torch.arange(len(predicted)), "label": LABELS}
    parts = {"logits": lambda: shifted_logits(logits)}
    return Records({**ids, **columns}, classes=classes, parts=parts)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resample less: how often is not what is tested here."""
    monkeypatch.setattr(RecordMeasurement, "draws", 40)


class Given:
    """Stands where a recorder does; knows the records of two models."""

    def __init__(self, now: Records, before: Records, model: object) -> None:
        self.now, self.before, self.model = now, before, model

    def records(self, model: object, *_: object, **__: object) -> Records:
        return self.now if model is self.model else self.before


class Model:
    """As much of a classifier as a measurement of records looks at."""

    runtime = "torch"

    def __init__(self, baseline: "Model | None") -> None:
        self.baseline = baseline


def made(kind: type, now: Tensor = AFTER, before: Tensor = BEFORE) -> object:
    model = Model(Model(None))
    measurement = kind(["toy"], model, None)
    measurement.recorder = Given(records(now), records(before), model)
    return measurement


def test_accuracy_is_named_and_has_its_wilson_interval() -> None:
    results = made(ClassificationAccuracyEvaluation).measure()
    value = results["toy_test_accuracy"]
    assert list(results) == ["toy_test_accuracy"]  # three classes: top-5 says nothing
    assert value == pytest.approx(4 / 6)
    assert (value.n, value.unit, value.better) == (6, "fraction", "higher")
    # Wilson, z = 1.959964: centre (2/3 + z^2/12) / (1 + z^2/6), half width by the same formula
    assert (value.low, value.high) == pytest.approx((0.29999, 0.90323), abs=1e-5)


def test_top_five_is_given_for_more_than_five_classes() -> None:
    found = ClassificationAccuracyEvaluation([], None, None).statistic(records(AFTER, classes=6))
    assert found["top5_accuracy"] == 1.0


def test_each_class_has_its_own_recall_and_count() -> None:
    results = made(PerClassAccuracy).measure()
    assert [float(value) for value in results.values()] == pytest.approx([2 / 3, 1 / 2, 1])
    assert [value.n for value in results.values()] == [3, 2, 1]


def test_the_change_of_a_class_is_paired_within_it() -> None:
    found = made(PerClassAccuracy).difference(records(AFTER), records(BEFORE))
    assert found["accuracy_class_0"] == 0  # one broken, one mended
    assert found["accuracy_class_1"] == -0.5
    assert found["accuracy_class_1"].n == 2


def test_worst_and_mean_recall() -> None:
    worst = made(WorstClassAccuracy).measure()["toy_test_worst_class_accuracy"]
    assert (worst, worst.n, worst.low) == (0.5, 2, None)
    found = MacroAccuracy([], None, None).statistic(records(AFTER))
    assert found["macro_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_nll_of_equal_logits_is_the_log_of_the_number_of_classes() -> None:
    found = NegativeLogLikelihood([], None, None).statistic(records(AFTER, sure=0.0))
    assert found["nll"] == pytest.approx(1.098612, abs=1e-6)


def test_brier_of_equal_logits_is_one_minus_the_chance() -> None:
    found = BrierScore([], None, None).statistic(records(AFTER, sure=0.0))
    assert found["brier"] == pytest.approx(2 / 3, abs=1e-6)


def test_the_confidence_gap_is_positive_for_a_sure_and_wrong_model() -> None:
    found = ConfidenceGap([], None, None).statistic(records(AFTER, sure=50.0))
    assert found["confidence_gap"] == pytest.approx(1 - 4 / 6)


def test_ece_has_no_interval() -> None:
    results = made(CalibrationError).measure()
    assert results["toy_test_ece"].low is None
    assert made(CalibrationError).difference(records(AFTER), records(BEFORE))["ece"].low is None


def test_flips_count_what_broke_and_what_was_mended() -> None:
    results = {key: float(value) for key, value in made(Flips).measure().items()}
    assert results == pytest.approx(
        {
            "toy_test_churn": 3 / 6,
            "toy_test_agreement": 3 / 6,
            "toy_test_negative_flip_rate": 2 / 6,
            "toy_test_positive_flip_rate": 1 / 6,
            "toy_test_nfr_relative": 2 / 5,
            "toy_test_unnecessary_churn": 3 / 6 - 1 / 6,
        }
    )


def test_mcnemar_tosses_a_coin_for_every_discordant_sample() -> None:
    results = made(McNemar).measure()
    assert results["toy_test_mcnemar_p"] == 1.0  # 2 against 1: twice the tail is 2 x 4/8
    assert (results["toy_test_newly_wrong"], results["toy_test_newly_right"]) == (2, 1)


def test_the_class_that_lost_most_is_named() -> None:
    results = made(WorstClassDelta).measure()
    assert results["toy_test_worst_class_delta"] == -0.5
    assert results["toy_test_worst_class_delta_class"] == 1


def test_divergence_is_the_mean_over_samples() -> None:
    results = made(Divergence).measure()
    # 3 of 6 samples swap the logit 4 between two of three classes:
    # p = (e^4, 1, 1) / (e^4 + 2), KL = (p_0 - p_1) x 4
    p0, p1 = 54.59815 / 56.59815, 1 / 56.59815
    assert results["toy_test_kl"] == pytest.approx(0.5 * 4 * (p0 - p1), abs=1e-6)
    assert results["toy_test_total_variation"] == pytest.approx(0.5 * (p0 - p1), abs=1e-6)


@pytest.mark.parametrize("kind", RECORD_MEASUREMENTS, ids=lambda kind: kind.__name__)
def test_a_model_against_itself_differs_by_exactly_nothing(kind: type[RecordMeasurement]) -> None:
    for name, value in kind([], None, None).difference(records(AFTER), records(AFTER)).items():
        assert value == 0, name
        assert value.low in (0, None), name
        assert value.high in (0, None), name


@pytest.mark.parametrize("kind", [Flips, McNemar, Divergence, WorstClassDelta])
def test_a_paired_measurement_of_equal_models_is_perfect(kind: type) -> None:
    perfect = {"agreement": 1, "mcnemar_p": 1}
    for key, value in made(kind, now=BEFORE).measure().items():
        assert value == perfect.get(key.removeprefix("toy_test_"), 0), key


@pytest.mark.parametrize("kind", RECORD_MEASUREMENTS, ids=lambda kind: kind.__name__)
def test_the_order_of_the_samples_does_not_matter(kind: type[RecordMeasurement]) -> None:
    measurement, some = kind([], None, None), records(AFTER)
    shuffled = some.take(torch.tensor([3, 1, 5, 0, 2, 4]))
    assert measurement.statistic(shuffled) == pytest.approx(measurement.statistic(some))


def test_records_of_other_samples_are_not_paired() -> None:
    some = records(AFTER)
    with pytest.raises(ValueError, match="same samples"):
        made(BrierScore).difference(some, some.take(torch.tensor([1, 0, 2, 3, 4, 5])))


def test_without_a_baseline_a_pair_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="no baseline"):
        Flips([], Model(None), None).baseline_records("toy")


def test_the_interval_of_a_difference_is_tighter_than_that_of_two_samples() -> None:
    difference = made(ClassificationAccuracyEvaluation).difference(records(AFTER), records(BEFORE))
    value = difference["accuracy"]
    # d = (0, -1, 1, 0, -1, 0): mean -1/6, variance 3/6 - 1/36, half width z sqrt(var / 6)
    assert (value.low, value.high) == pytest.approx((-0.71652, 0.38319), abs=1e-5)


def test_an_estimate_says_what_it_is(tmp_path: Path) -> None:
    value = made(NegativeLogLikelihood).measure()["toy_test_nll"]
    assert isinstance(value, Estimate)
    assert value.unit == "nats"
    assert value.low < value < value.high


def test_a_change_of_a_fraction_stays_within_minus_one_and_one() -> None:
    now, before = torch.tensor([1, 1, 1, 0, 1, 2]), torch.tensor([0, 0, 1, 1, 1, 2])
    found = made(PerClassAccuracy).difference(records(now), records(before))
    # class 0: d = (-1, -1, 0), mean -2/3, half width z sqrt(2/27) = .533, so -1.2 without a bound
    assert found["accuracy_class_0"].low == -1
    assert found["accuracy_class_0"].high == pytest.approx(-0.13323, abs=1e-5)


def test_the_largest_of_several_shares_has_no_interval() -> None:
    assert made(ClassCollapse).measure()["toy_test_class_collapse"].low is None
