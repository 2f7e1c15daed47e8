"""What is wrong with an option that several recipes have, as sentences."""

from typing import Literal, get_args

from core.errors import unknown

Effort = Literal["quick", "paper"]

QUICK_EPOCHS = 10
"""Epochs of training altogether, at most, of effort=quick."""


def effort_faults(effort: object) -> list[str]:
    """What is wrong with how hard a recipe of many trainings is to try."""
    known = get_args(Effort)
    return [] if effort in known else [unknown("compressor.effort", effort, known)]


def whole(value: object, key: str, *, least: int = 1, or_null: bool = False) -> list[str]:
    """What is wrong with a number of things.

    Args:
        value: As it was given.
        key: Of the option, below `compressor`.
        least: That makes sense.
        or_null: Whether it may be None, which stands for a default.

    Example:
        >>> whole(1.5, "epochs"), whole(None, "epochs", or_null=True), whole(0, "epochs", least=0)
        (['compressor.epochs is a whole number, at least 1, got 1.5'], [], [])
    """
    if (or_null and value is None) or (type(value) is int and value >= least):
        return []
    return [f"compressor.{key} is a whole number, at least {least}{_null(or_null)}, got {value!r}"]


def positive(
    value: object, key: str, *, below: float = float("inf"), or_null: bool = False
) -> list[str]:
    """What is wrong with a number above 0 and below a limit; arguments as in `whole`.

    Example:
        >>> positive(1, "rate"), positive(1, "rate", below=1)
        ([], ['compressor.rate is above 0 and below 1, got 1'])
    """
    if or_null and value is None:
        return []
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < below:
        return []
    limit = "" if below == float("inf") else f" and below {below:g}"
    return [f"compressor.{key} is above 0{limit}{_null(or_null)}, got {value!r}"]


def _null(or_null: bool) -> str:
    return ", or null" * or_null
