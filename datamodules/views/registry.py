"""The grammar of view names."""

import difflib
import re

from core.names import CLEAN
from datamodules.views import blur, digital, noise, weather
from datamodules.views.transforms import FAMILIES
from datamodules.views.view import SEVERITIES, Corruption, Kind, Transform, Unchanged, View

CORRUPTIONS: dict[str, Kind] = {
    kind.name: kind for kind in (*noise.KINDS, *blur.KINDS, *weather.KINDS, *digital.KINDS)
}
"""Kinds of corruption by name."""

TRANSFORMS = {family.name: family for family in FAMILIES}
"""Kinds of transformation by name."""

STRENGTH = re.compile(r"(?P<kind>[a-z_]+?)(?:_(?P<number>0|[1-9][0-9]{0,2}))?")


def view(name: str) -> View:
    """The view of a name: `clean`, a corruption with its severity, or a transformation.

    Severity 0 leaves the images as they are.

    Raises:
        LookupError: There is no such view; the text has the nearest name and the grammar.

    Example:
        >>> view("gaussian_noise_3").describe()["parameters"]["small"]
        {'sd': 0.08}
        >>> view("rotate_15").describe()["parameters"]
        {'family': 'transform', 'magnitude': 15}
    """
    if name == CLEAN:
        return Unchanged()
    parsed = STRENGTH.fullmatch(name)
    if parsed:
        kind, number = parsed["kind"], parsed["number"]
        made = _corruption(kind, number) or _transform(name, kind, number)
        if made is not None:
            return made
    raise LookupError(_unknown(name))


def _corruption(kind: str, number: str | None) -> Corruption | None:
    if kind not in CORRUPTIONS or number is None or int(number) not in (0, *SEVERITIES):
        return None
    return Corruption(kind=CORRUPTIONS[kind], severity=int(number))


def _transform(name: str, kind: str, number: str | None) -> Transform | None:
    family = TRANSFORMS.get(kind)
    if family is None or (number is None) != (not family.unit):
        return None
    magnitude = int(number or family.low)
    if not family.low <= magnitude <= family.high:
        return None
    return Transform(name=name, apply=family.apply, magnitude=magnitude)


def corruption_names(severity: int | None = None) -> list[str]:
    """Names of every corruption at one severity, or at all of them, kind by kind.

    Example:
        >>> corruption_names(3)[:2], len(corruption_names())
        (['gaussian_noise_3', 'shot_noise_3'], 90)
    """
    severities = SEVERITIES if severity is None else (severity,)
    return [f"{kind}_{number}" for kind in CORRUPTIONS for number in severities]


def grammar() -> str:
    """How views are called, in one sentence."""
    families = ", ".join(family.grammar for family in FAMILIES)
    return (
        f"views are {CLEAN}, {families}, and <corruption>_<severity 1..5> with the corruptions "
        f"{', '.join(CORRUPTIONS)}"
    )


def _unknown(name: str) -> str:
    examples = [family.example_name for family in FAMILIES]
    close = difflib.get_close_matches(name, [CLEAN, *examples, *corruption_names()], n=1)
    hint = f", did you mean {close[0]!r}?" if close else "."
    return f"unknown view {name!r}{hint} {grammar()}"
