"""How a number of bits is written in a recipe: one for all, or one a type."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any


def bits_faults(types: Sequence[str], *, fewest: int, most: int) -> Callable[[Any], Iterator[str]]:
    """What is wrong with `quant_bits`, as a check of `Compressor.amounts`.

    Args:
        types: What has bits, such as `weight` and `input`.
        fewest: That can be asked for.
        most: That can be asked for.

    Example:
        >>> check = bits_faults(["weight"], fewest=2, most=8)
        >>> list(check(4)), list(check({"weight": 9}))
        ([], ['quant_bits is an int from 2 to 8, got 9'])
    """

    def faults(bits: Any) -> Iterator[str]:
        if isinstance(bits, Mapping) and set(bits) != set(types):
            form = ", ".join(f"{each}: number" for each in types)
            yield f"quant_bits is a number or {{{form}}}, got {dict(bits)}"
            return
        for number in bits.values() if isinstance(bits, Mapping) else [bits]:
            if type(number) is not int or not fewest <= number <= most:
                yield f"quant_bits is an int from {fewest} to {most}, got {number!r}"

    return faults
