import pytest

from reporting.numbers import scale_of


@pytest.mark.parametrize(
    ("unit", "values", "shown", "shown_unit"),
    [
        ("fraction", [0.9722], "97.22", "%"),
        ("fraction", [1.0], "100.00", "%"),
        ("bytes", [999], "999", "B"),
        ("bytes", [1000], "1", "kB"),
        ("bytes", [1_080_000], "1.08", "MB"),
        ("bytes", [97_800_000], "97.8", "MB"),
        ("parameters", [269_722], "269,722", ""),
        ("parameters", [11_689_512], "11.69", "M"),
        ("MACs", [4_089_184_256], "4.089", "G MACs"),
        ("nats", [0.213412], "0.2134", "nats"),
        ("ms", [12.3456], "12.35", "ms"),
        ("p", [0.038574], "0.03857", "p"),
        ("", [0.0], "0", ""),
        ("images/s", [9_999.4], "9999", "images/s"),
        ("images/s", [37_069.5], "37,070", "images/s"),
        ("nats", [-0.5], "-0.5", "nats"),
    ],
)
def test_a_number_is_shown_with_few_digits_and_a_fitting_unit(
    unit: str, values: list[float], shown: str, shown_unit: str
) -> None:
    scale = scale_of(unit, values)
    assert (scale.show(values[0]), scale.unit) == (shown, shown_unit)


def test_the_numbers_of_a_row_share_one_scale() -> None:
    scale = scale_of("bytes", [1_080_000, 9_000])
    assert [scale.show(value) for value in (1_080_000, 9_000)] == ["1.08", "0.009"]


def test_one_number_that_is_not_whole_gives_both_their_decimals() -> None:
    scale = scale_of("ms", [2.0, 1.5])
    assert [scale.show(value) for value in (2.0, 1.5)] == ["2", "1.5"]


def test_a_difference_of_fractions_is_in_points_with_its_sign() -> None:
    scale = scale_of("fraction", [0.9])
    assert (scale.show_change(0.0), scale.show_change(-0.0056), scale.step) == (
        "+0.00",
        "-0.56",
        "pt",
    )
    assert scale.show_interval(-0.01, 0.02, change=True) == "[-1.00, +2.00]"
    assert scale.show_interval(0.01, 0.02) == "[1.00, 2.00]"
