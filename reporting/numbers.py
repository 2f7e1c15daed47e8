"""How numbers are shown: one scale for all numbers of a row, its unit beside them."""

from collections.abc import Iterable
from dataclasses import dataclass

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

THINGS = {"parameters", "samples", "class"}
"""What is counted is in the name of the number already."""

COUNTED = 1e7
"""From here on a count is shown in millions or more."""

WHOLE = 1e4
"""From here on the decimals of a number are not shown; four digits would make it an exponent."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a number is multiplied with, how many digits are shown, and the unit it then has."""

    factor: float
    digits: str  # format specification without its sign
    unit: str
    step: str  # unit of a difference

    def show(self, value: float) -> str:
        """A value, without its unit."""
        return format(value * self.factor, self.digits)

    def show_change(self, value: float) -> str:
        """A difference, with its sign and without its unit."""
        return format(value * self.factor, f"+{self.digits}")

    def show_interval(self, low: float, high: float, *, change: bool = False) -> str:
        """Both ends, in the form of a value or of a difference."""
        show = self.show_change if change else self.show
        return f"[{show(low)}, {show(high)}]"


def scale_of(unit: str, values: Iterable[float]) -> Scale:
    """Scale that suits all of `values`, which have the stored unit `unit`.

    Fractions become percent and their differences percentage points; bytes and large counts get a
    decimal prefix; whole numbers have no decimals; anything else has four significant digits.

    Example:
        >>> percent = scale_of("fraction", [0.9722, 0.9667])
        >>> percent.show(0.9722), percent.unit, percent.show_change(-0.0055), percent.step
        ('97.22', '%', '-0.55', 'pt')
        >>> size = scale_of("bytes", [1_080_000, 270_000])
        >>> size.show(1_080_000), size.show(270_000), size.unit
        ('1.08', '0.27', 'MB')
    """
    numbers = [abs(value) for value in values]
    unit = "" if unit in THINGS else unit
    largest = max(numbers, default=0.0)
    if unit == "fraction":
        return Scale(factor=100, digits=".2f", unit="%", step="pt")
    if unit == "bytes":
        return _prefixed(largest, "B", digits=".4g")
    if all(float(number).is_integer() for number in numbers):
        if largest >= COUNTED:
            return _prefixed(largest, f" {unit}", digits=".4g")
        return Scale(factor=1, digits=",.0f", unit=unit, step=unit)
    digits = ",.0f" if largest >= WHOLE else ".4g"
    return Scale(factor=1, digits=digits, unit=unit, step=unit)


def _prefixed(largest: float, unit: str, *, digits: str) -> Scale:
    size, prefix = next(((size, name) for size, name in PREFIXES if largest >= size), (1.0, ""))
    text = f"{prefix}{unit}".strip()
    return Scale(factor=1 / size, digits=digits, unit=text, step=text)
