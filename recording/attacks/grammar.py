"""The grammar of attack names."""

import re
from collections.abc import Mapping

from recording.attacks.attack import Attack
from recording.attacks.gradient import Fgsm, Pgd, PgdL2
from recording.attacks.square import Square

KINDS: Mapping[str, type[Attack]] = {kind.kind: kind for kind in (Fgsm, Pgd, PgdL2, Square)}
"""Attacks by the first word of their name."""

TRANSFER = "transfer_"
"""Before a name: the images are made against the baseline, whoever looks at them."""

FORM = re.compile(r"(?P<kind>[a-z0-9]+)_(?P<eps>0|[1-9][0-9]{0,3})(?P<options>(?:_[a-z][0-9]+)*)")
OPTION = re.compile(r"_([a-z])([0-9]+)")


def attack(name: str) -> Attack | None:
    """The attack of a name, with or without `transfer_`; None where it is no name of an attack.

    Raises:
        LookupError: It begins like one, but is none; the text has the grammar.

    Example:
        >>> attack("pgd_8").parameters()["eps"] == 8 / 255, attack("rotate_15")
        (True, None)
        >>> found = attack("transfer_pgdl2_50_k40_r2")
        >>> found.name, found.eps, found.steps, found.restarts
        ('pgdl2_50_k40_r2', 0.5, 40, 2)
    """
    own = name.removeprefix(TRANSFER)
    kind = KINDS.get(own.partition("_")[0])
    if kind is None and own == name:
        return None
    parsed = FORM.fullmatch(own)
    if kind is None or parsed is None:
        raise LookupError(_unknown(name))
    options = OPTION.findall(parsed["options"])
    values = {kind.options[letter]: int(n) for letter, n in options if letter in kind.options}
    eps = int(parsed["eps"]) / kind.units
    if len(values) < len(options) or 0 in values.values() or (eps > 1 and kind.norm == "linf"):
        raise LookupError(_unknown(name))
    return kind(name=own, eps=eps, **values)


def is_transfer(name: str) -> bool:
    """Whether the images of this attack are made against the baseline."""
    return name.startswith(TRANSFER)


def grammar() -> str:
    """How attacks are called, in one sentence."""
    forms = [
        f"{kind.kind}_<eps x {kind.units}>"
        + "".join(f"[_{letter}<{word}>]" for letter, word in kind.options.items())
        for kind in KINDS.values()
    ]
    return f"attacks are {', '.join(forms)}, each also as {TRANSFER}<attack>"


def _unknown(name: str) -> str:
    return f"unknown attack {name!r}; {grammar()}"
