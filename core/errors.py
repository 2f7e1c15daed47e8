"""Errors a caller treats specially, and look-ups that say what was probably meant."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

Value = TypeVar("Value")


class ConfigError(ValueError):
    """Every fault of a configuration, each once, told together.

    Example:
        >>> print(ConfigError(["seed must be an int, got 'x'", "datasets is empty"]))
        2 faults in the configuration:
          - seed must be an int, got 'x'
          - datasets is empty
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(dict.fromkeys(faults))
        super().__init__(self.faults)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        return f"{len(self.faults)} faults in the configuration:{lines}"


class DataError(ValueError):
    """Data on disk is damaged or is not what its format promises."""


class IncompatibleModel(ValueError):  # noqa: N818 - says what is the matter
    """A compressor or a measurement cannot treat this model."""


class MissingDependency(ModuleNotFoundError):  # noqa: N818 - says what is the matter
    """An optional package is not installed; its text is the command that installs it."""


class NotApplicable(Exception):  # noqa: N818 - a state of a cell, not a fault
    """A measurement has no meaning for this model; its text is the reason shown in the table."""


SHOWN = 40
"""Names that a sentence lists; of more, only the nearest."""

NEAREST = 5


def unknown(kind: str, name: object, options: Iterable[str]) -> str:
    """Sentence for a name that does not exist, with the nearest one that does.

    Example:
        >>> unknown("datamodule", "imagnet", ["imagenet", "v2"])
        "unknown datamodule 'imagnet', did you mean 'imagenet'? Known: imagenet, v2"
    """
    known = sorted(options)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else "."
    if len(known) > SHOWN:
        nearest = difflib.get_close_matches(str(name), known, n=NEAREST, cutoff=0.0)
        more = f" and {len(known) - len(nearest)} more"
        return f"unknown {kind} {name!r}{hint} Known: {', '.join(nearest)}{more}"
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(known) or 'none'}"


def pick(kind: str, name: str, options: Mapping[str, Value]) -> Value:
    """Return `options[name]`.

    Raises:
        LookupError: `name` is not there; the text names the nearest one and all that exist.
    """
    if name in options:
        return options[name]
    raise LookupError(unknown(kind, name, options))
