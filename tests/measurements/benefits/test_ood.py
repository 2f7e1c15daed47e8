"""Detection of foreign sets by records, and its change."""

from typing import Any

import pytest
import torch

from core.errors import ConfigError, NotApplicable
from measurements.benefits.ood import SCORES, OutOfDistribution
from measurements.foreign import place
from measurements.functional.ood import detection
from measurements.paired.ood import OutOfDistributionDelta

LABELS = torch.arange(60) % 3
GENERATOR = torch.Generator().manual_seed(0)
OWN = 3 * torch.eye(3)[LABELS] + torch.randn(60, 3, generator=GENERATOR)
FAR, NEAR = torch.zeros(60, 3), torch.randn(60, 3, generator=GENERATOR)
ALL = {"toy": LABELS, "noise": LABELS, "kin": LABELS}
ANSWERS = {"toy": OWN, "noise": FAR, "kin": NEAR, "toy/flip": NEAR}

KNOWN: dict[str, Any] = {"near": None, "far": None, "known": {"toy": {"near": ["kin"]}}}


def made(toy: Any, kind: type = OutOfDistribution, **options: Any) -> Any:
    options = {"near": ["kin"], "far": ["noise"], "draws": 40, "now": ANSWERS, **options}
    return toy(kind, labels=ALL, **options)


def test_each_score_and_set_has_four_numbers_and_each_kind_a_mean(toy: Any) -> None:
    results = made(toy).measure()
    assert len(results) == 4 * 4 * 4  # scores, quantities, kin + noise + near + far
    assert results["toy_test_ood_auroc_msp_near"] == results["toy_test_ood_auroc_msp_kin"]


def test_the_mean_is_over_the_sets_of_a_kind(toy: Any) -> None:
    results = made(toy, far=["noise", "kin"], near=[]).measure()
    one, other = (results[f"toy_test_ood_auroc_energy_{name}"] for name in ("noise", "kin"))
    assert results["toy_test_ood_auroc_energy_far"] == pytest.approx((one + other) / 2)


@pytest.mark.parametrize("score", SCORES)
def test_a_score_is_higher_for_the_own_samples(toy: Any, score: str) -> None:
    assert made(toy).measure()[f"toy_test_ood_auroc_{score}_noise"] > 0.9


def test_the_values_are_those_of_the_columns(toy: Any) -> None:
    results = made(toy).measure()
    own, kin = (logits.double().softmax(dim=1).amax(dim=1) for logits in (OWN, NEAR))
    expected = detection(own, kin)
    assert results["toy_test_ood_auroc_msp_kin"] == pytest.approx(expected.auroc)
    assert results["toy_test_ood_fpr95_msp_kin"] == pytest.approx(expected.fpr95)
    energy = detection(OWN.logsumexp(dim=1), NEAR.logsumexp(dim=1))
    assert results["toy_test_ood_aupr_out_energy_kin"] == pytest.approx(energy.aupr_out)


def test_samples_are_ranked_where_the_softmax_has_saturated(toy: Any) -> None:
    surest = 40 * torch.eye(3)[LABELS]
    results = made(toy, now={**ANSWERS, "toy": 2 * surest, "noise": surest}).measure()
    assert results["toy_test_ood_auroc_msp_noise"] == 1


def test_the_interval_holds_the_value_and_says_which_way_is_better(toy: Any) -> None:
    results = made(toy).measure()
    value = results["toy_test_ood_auroc_msp_kin"]
    assert value.low <= value <= value.high
    assert value.better == "higher"
    assert results["toy_test_ood_fpr95_msp_kin"].better == "lower"


def test_n_counts_own_and_foreign_samples(toy: Any) -> None:
    results = made(toy, far=["noise", "kin"], near=["kin"]).measure()
    counts = {name: results[f"toy_test_ood_auroc_msp_{name}"].n for name in ("kin", "near", "far")}
    assert counts == {"kin": 60 + 60, "near": 60 + 60, "far": 60 + 60 + 60}


def test_a_view_can_be_a_foreign_set(toy: Any) -> None:
    measurement = made(toy, near=["toy/flip"], far=[])
    assert "toy_test_ood_auroc_msp_toy_flip" in measurement.measure()
    wanted = {(request.datamodule, request.view) for request in measurement.requests()}
    assert wanted == {("toy", "clean"), ("toy", "flip")}
    assert place("toy/flip") == ("toy", "flip")


def test_without_foreign_sets_there_is_nothing_to_tell_apart(toy: Any) -> None:
    measurement = made(toy, near=[], far=[])
    assert measurement.requests() == []
    with pytest.raises(NotApplicable, match="set near, far or known"):
        measurement.measure()


def test_each_dataset_has_foreign_sets_of_its_own(toy: Any) -> None:
    measurement = made(toy, **KNOWN, datasets=["toy", "kin"])
    named = {key.removeprefix("toy_test_ood_auroc_msp_") for key in measurement.measure()}
    assert {name for name in named if "_" not in name} == {"kin", "near"}
    assert [(each.datamodule, each.classes_of) for each in measurement.requests()] == [
        ("toy", "toy"),
        ("kin", "toy"),
    ]


def test_foreign_images_are_answered_among_the_own_classes(toy: Any) -> None:
    measurement = made(toy, near=["kin"], far=["toy/flip"])
    given, read = measurement.recorder.records, set()

    def noted(model: Any, name: str, split: str, view: str, **asked: Any) -> Any:
        read.add((name, view, asked["classes_of"] or name))
        return given(model, name, split, view, **asked)

    measurement.recorder.records = noted
    measurement.measure()
    assert read == {(one.datamodule, one.view, one.classes_of) for one in measurement.requests()}
    assert ("kin", "clean", "toy") in read


def test_a_dataset_without_foreign_sets_is_not_applicable(toy: Any) -> None:
    measurement = made(toy, near=None, far=None, known={"kin": {"far": ["toy"]}})
    assert measurement.requests() == []
    with pytest.raises(NotApplicable, match="no foreign images for toy: no others are named"):
        measurement.measure()


def test_known_sets_that_are_not_there_are_left_out_and_told(
    toy: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = {"toy": {"near": ["kin"], "far": ["noise", "toy/flip"]}}
    measurement = made(toy, near=None, far=None, known=known)
    datamodule = measurement.recorder.datamodule("noise", measurement.model)
    monkeypatch.setattr(datamodule, "faults", lambda split: ["not downloaded"])
    with caplog.at_level("WARNING"):
        results = measurement.measure()
    sets = {key.rpartition("msp_")[2] for key in results if "auroc_msp" in key}
    assert sets == {"kin", "near", "toy_flip"}  # no mean of the far ones: one is missing
    assert "left out: noise" in caplog.text
    assert "noise" not in {request.datamodule for request in measurement.requests()}


def test_without_any_known_set_on_disk_it_is_not_applicable(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurement = made(toy, **KNOWN)
    datamodule = measurement.recorder.datamodule("kin", measurement.model)
    monkeypatch.setattr(datamodule, "faults", lambda split: ["not downloaded"])
    with pytest.raises(NotApplicable, match="kin are not on disk"):
        measurement.measure()


def test_a_stated_set_has_to_be_there(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = made(toy, far=["noise"], known={"toy": {"far": ["noise"]}})
    datamodule = measurement.recorder.datamodule("noise", measurement.model)
    monkeypatch.setattr(datamodule, "faults", lambda split: ["not downloaded"])
    assert "noise" in {request.datamodule for request in measurement.requests()}


def test_a_mapping_names_known_datasets_on_both_sides(toy: Any) -> None:
    with pytest.raises(ConfigError) as told:
        made(toy, near=None, far=[], known={"toi": {"near": ["kon"]}})
    assert len(told.value.faults) == 2
    with pytest.raises(ValueError, match="expected near and far in known, got fer"):
        made(toy, known={"toy": {"fer": ["kin"]}})


def test_what_is_stated_comes_before_what_is_known(toy: Any) -> None:
    measurement = made(toy, near=[], far=["kin"], known=KNOWN["known"])
    assert measurement.foreign.kinds("toy") == {"far": ["kin"]}


def test_an_unknown_set_is_told_with_the_nearest_name(toy: Any) -> None:
    with pytest.raises(ConfigError, match="unknown dataset 'nose', did you mean 'noise'"):
        made(toy, far=["nose"])


def test_the_change_is_exactly_nothing_for_equal_models(toy: Any) -> None:
    results = made(toy, OutOfDistributionDelta, before=ANSWERS).measure()
    assert "toy_test_delta_ood_auroc_msp_kin" in results
    for value in results.values():
        assert (value, value.low, value.high) == (0, 0, 0)


def test_the_change_is_compressed_minus_baseline(toy: Any) -> None:
    blunt = {**ANSWERS, "toy": torch.zeros(60, 3)}
    results = made(toy, OutOfDistributionDelta, now=blunt, before=ANSWERS).measure()
    value = results["toy_test_delta_ood_auroc_msp_noise"]
    before = made(toy).measure()["toy_test_ood_auroc_msp_noise"]
    assert value == pytest.approx(0.5 - before)  # equal scores everywhere: 0.5
    assert value.high < 0
