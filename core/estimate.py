"""A measured number that remembers its interval."""

from typing import Any, Literal

Better = Literal["higher", "lower", ""]


class Estimate(float):
    """A float with the sample size, 95 % interval, unit and direction it was measured with.

    Arithmetic, JSON and wandb see the float alone; the store writes the fields explicitly.
    Never put one into an OmegaConf.

    Args:
        value: The measured number.
        n: Number of samples behind it.
        low: Lower end of the 95 % interval, None where there is none.
        high: Upper end.
        unit: `fraction`, `nats`, `ms`, ...; empty for a plain number.
        better: Which direction is an improvement; empty for neither.
        view: How the data was looked at, `clean` or a view's name.

    Example:
        >>> accuracy = Estimate(0.8, n=10, low=0.49, high=0.94, unit="fraction", better="higher")
        >>> accuracy + 0.1 > 0.85, accuracy.n
        (True, 10)
    """

    __slots__ = ("better", "high", "low", "n", "unit", "view")

    n: int | None
    low: float | None
    high: float | None
    unit: str
    better: Better
    view: str

    def __new__(
        cls,
        value: float,
        *,
        n: int | None = None,
        low: float | None = None,
        high: float | None = None,
        unit: str = "",
        better: Better = "",
        view: str = "clean",
    ) -> "Estimate":
        """Build the float and attach its fields."""
        self = super().__new__(cls, value)
        self.n, self.low, self.high = n, low, high
        self.unit, self.better, self.view = unit, better, view
        return self

    def fields(self) -> dict[str, Any]:
        """Everything but the value, by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __getnewargs_ex__(self) -> tuple[tuple[float], dict[str, Any]]:
        """Let pickle and copy rebuild the fields."""
        return (float(self),), self.fields()

    def __repr__(self) -> str:
        if self.low is None or self.high is None:
            return f"{float(self):.6g}"
        return f"{float(self):.6g} [{self.low:.6g}, {self.high:.6g}]"
