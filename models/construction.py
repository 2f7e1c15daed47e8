"""Remembering how an object was constructed, so that it can be constructed again."""

import inspect
from typing import Any

from torch import nn


class Constructed:
    """Keeps the arguments of its constructor, also those that were left at their defaults.

    Attributes:
        arguments: By name. Networks among them are left out: they are in the object.
        constructor: The same as a node of a configuration, with its `_target_`.

    Example:
        >>> class Box(Constructed):
        ...     def __init__(self, width: int, depth: int = 2) -> None: ...
        >>> Box(3).arguments
        {'width': 3, 'depth': 2}
    """

    arguments: dict[str, Any]
    constructor: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Constructed":
        """Note the arguments; unpickling and copying pass none and restore the note."""
        self = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        bound = signature.bind_partial(self, *args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                given |= given.pop(name, {})
        del given[next(iter(signature.parameters))]  # self
        given = {name: value for name, value in given.items() if not isinstance(value, nn.Module)}
        target = f"{cls.__module__}.{cls.__qualname__}"
        self.__dict__["arguments"] = given
        self.__dict__["constructor"] = {"_target_": target, **given}
        return self
