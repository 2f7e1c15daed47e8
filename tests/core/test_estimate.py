import copy
import json
import pickle

import pytest

from core.estimate import Estimate

FIELDS = {
    "n": 10,
    "low": 0.5,
    "high": 0.9,
    "unit": "fraction",
    "better": "higher",
    "view": "rotate_15",
}


def estimate() -> Estimate:
    return Estimate(
        0.75, n=10, low=0.5, high=0.9, unit="fraction", better="higher", view="rotate_15"
    )


def test_an_estimate_is_its_number() -> None:
    assert estimate() == 0.75
    assert estimate() * 2 == 1.5


def test_arithmetic_gives_a_plain_float() -> None:
    assert type(estimate() + 0.25) is float


def test_json_sees_the_number_alone() -> None:
    assert json.dumps({"a": estimate()}) == '{"a": 0.75}'


def test_the_fields_have_defaults() -> None:
    fields = Estimate(1.0).fields()
    expected = {"n": None, "low": None, "high": None, "unit": "", "better": "", "view": "clean"}
    assert fields == expected


@pytest.mark.parametrize(
    "through",
    [lambda value: pickle.loads(pickle.dumps(value)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_the_fields_survive(through) -> None:  # type: ignore[no-untyped-def]
    again = through(estimate())
    assert again == 0.75
    assert again.fields() == FIELDS


def test_no_field_can_be_added() -> None:
    with pytest.raises(AttributeError):
        estimate().colour = "red"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "text"),
    [(estimate(), "0.75 [0.5, 0.9]"), (Estimate(0.75, low=0.5), "0.75")],
    ids=["interval", "half an interval"],
)
def test_the_interval_is_shown_where_there_is_one(value: Estimate, text: str) -> None:
    assert repr(value) == text
