from typing import Any

import pytest
from omegaconf import OmegaConf

from core.configuration import KEYS_OF_AN_EVALUATION, RULES, check_types, plain
from core.errors import ConfigError

SOUND: dict[str, Any] = {
    "seed": 0,
    "name": None,
    "results_dir": "results",
    "datasets": ["digits"],
    "measurements": ["accuracy"],
    "measurement_group_name": "base",
    "model_name": "digits_cnn",
    "model": {"_target_": "models.small.digits.DigitsCNN"},
    "baseline": None,
    "compressor": {},
    "then": {},
    "finetune": {},
    "trainer": {},
    "wandb": {"mode": "offline", "tags": []},
    "tuning": {"dataset": "digits", "samples": None, "score_share": 0.2},
    "mode": "local",
    "dry_run": False,
    "limit_samples": None,
    "verify_data": False,
    "batch_size": 128,
    "threads": None,
    "allowed_targets": [],
    "dataset_library": {"digits": {}, "cifar10": {}},
    "measurement_library": {"accuracy": {"datamodule_names": ["digits"]}, "ece": {}},
}


def faults_with(**changes: Any) -> list[str]:
    return check_types({**SOUND, **changes}, required=KEYS_OF_AN_EVALUATION)


def test_a_sound_configuration_has_no_fault() -> None:
    assert faults_with() == []


def test_every_key_of_an_evaluation_has_a_rule() -> None:
    assert set(RULES) == set(KEYS_OF_AN_EVALUATION)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", 2**32),
        ("seed", 1.0),
        ("seed", True),
        ("seed", None),
        ("name", 3),
        ("results_dir", ""),
        ("results_dir", None),
        ("datasets", "digits"),
        ("datasets", None),
        ("datasets", [1]),
        ("datasets", [""]),
        ("measurements", "accuracy"),
        ("measurements", {"accuracy": 1}),
        ("model", "resnet18"),
        ("compressor", "l1_filter"),
        ("trainer", None),
        ("wandb", False),
        ("dry_run", 1),
        ("dry_run", "yes"),
        ("limit_samples", 0),
        ("limit_samples", "all"),
        ("batch_size", 0),
        ("batch_size", None),
        ("batch_size", True),
        ("threads", 0),
        ("allowed_targets", "torch"),
    ],
)
def test_a_value_of_a_wrong_type_is_told(key: str, value: object) -> None:
    (fault,) = faults_with(**{key: value})
    assert fault.startswith(f"{key} is ")
    assert f", got {value!r}" in fault


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 2**32 - 1), ("limit_samples", 1), ("batch_size", 1), ("threads", 1), ("name", "a")],
)
def test_a_value_on_the_edge_of_its_range_is_fine(key: str, value: object) -> None:
    assert faults_with(**{key: value}) == []


def test_a_string_is_not_taken_for_the_list_of_its_letters() -> None:
    assert faults_with(measurements="ece") == [
        "measurements is a list of names, got 'ece'; write measurements=[ece]"
    ]


def test_all_faults_are_told() -> None:
    config = {key: value for key, value in SOUND.items() if key != "name"}
    faults = check_types({**config, "seed": "a", "datasets": ["digit"]}, required=["name"])
    assert faults == [
        "name is missing from the configuration",
        "seed is a whole number in [0, 2**32), got 'a'",
        "unknown dataset 'digit', did you mean 'digits'? Known: cifar10, digits",
    ]


def test_an_unknown_measurement_is_told_with_the_nearest() -> None:
    (fault,) = faults_with(measurements=["acuracy"])
    assert fault == "unknown measurement 'acuracy', did you mean 'accuracy'? Known: accuracy, ece"


def test_a_name_that_stands_twice_is_told() -> None:
    assert faults_with(datasets=["digits", "digits"]) == ["datasets has 'digits' twice"]


def test_a_dataset_that_a_chosen_measurement_names_has_to_exist() -> None:
    library = {"accuracy": {"datamodule_names": ["digit"]}, "ece": {"datamodule_names": ["x"]}}
    (fault,) = faults_with(measurement_library=library)
    assert fault.startswith("unknown dataset 'digit', did you mean 'digits'?")


def test_datasets_of_a_measurement_are_a_list_too() -> None:
    library = {"accuracy": {"datamodule_names": "digits"}}
    (fault,) = faults_with(measurement_library=library)
    assert fault.startswith("measurement_library.accuracy.datamodule_names is a list of names")


def test_an_unknown_mode_of_wandb_is_told() -> None:
    assert faults_with(wandb={"mode": "on"}) == [
        "wandb.mode is one of online, offline, disabled, got 'on'"
    ]


def test_tags_are_a_list() -> None:
    (fault,) = faults_with(wandb={"tags": "paper"})
    assert fault == "wandb.tags is a list of names, got 'paper'; write wandb.tags=[paper]"


def test_a_composed_configuration_is_checked_like_a_dict() -> None:
    library = {"accuracy": {"datamodule_names": "${datasets}"}}
    config = OmegaConf.create({**SOUND, "measurement_library": library, "seed": -1})
    assert check_types(config) == ["seed is a whole number in [0, 2**32), got -1"]


def test_an_interpolation_that_leads_nowhere_is_told() -> None:
    (fault,) = check_types(OmegaConf.create({"seed": "${sed}"}))
    assert "Interpolation key 'sed' not found" in fault


def test_values_that_are_still_to_be_given_are_told_by_their_path() -> None:
    with pytest.raises(ConfigError) as raised:
        plain(OmegaConf.create({"model": {"checkpoint": "???"}, "seed": "???"}))
    assert raised.value.faults == [
        "model.checkpoint has no value yet; give it as model.checkpoint=...",
        "seed has no value yet; give it as seed=...",
    ]


def test_what_is_wrong_about_the_tuning_data_is_told_at_once() -> None:
    wrong = {"dataset": "digit", "samples": 0, "score_share": 1.0}
    library = {"digits": {}}
    assert faults_with(tuning=wrong, dataset_library=library, datasets=["digits"]) == [
        "tuning.samples is null or a whole number, at least 1, got 0",
        "tuning.score_share is a share above 0 and below 1, got 1.0",
        "unknown dataset 'digit', did you mean 'digits'? Known: digits",
    ]
