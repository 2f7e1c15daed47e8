import pytest

from core.errors import ConfigError, pick, unknown


def test_one_fault_is_told_without_a_heading() -> None:
    assert str(ConfigError(["seed is missing"])) == "seed is missing"


def test_several_faults_are_told_as_a_list() -> None:
    assert str(ConfigError(["a", "b"])) == "2 faults in the configuration:\n  - a\n  - b"


def test_a_fault_that_is_met_twice_is_told_once() -> None:
    assert str(ConfigError(["a", "a"])) == "a"


def test_the_nearest_name_is_suggested() -> None:
    assert "did you mean 'accuracy'?" in unknown("measurement", "acuracy", ["accuracy", "ece"])


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert unknown("measurement", "zzz", ["ece"]) == "unknown measurement 'zzz'. Known: ece"


def test_of_many_names_the_nearest_are_listed() -> None:
    sentence = unknown("measurement", "m7x", [f"m{number}" for number in range(100)])
    assert "did you mean 'm7'?" in sentence
    assert sentence.endswith(" and 95 more")
    assert sentence.count(", ") == 5


def test_an_empty_library_says_none() -> None:
    assert unknown("dataset", "x", []).endswith("Known: none")


def test_picking_gives_the_value() -> None:
    assert pick("dataset", "digits", {"digits": 1}) == 1


def test_picking_a_name_that_does_not_exist_raises_the_plain_sentence() -> None:
    with pytest.raises(LookupError) as raised:
        pick("dataset", "digit", {"digits": 1})
    assert str(raised.value) == "unknown dataset 'digit', did you mean 'digits'? Known: digits"
