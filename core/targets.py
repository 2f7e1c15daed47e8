"""The one place where a configuration's `_target_` becomes code.

A configuration that comes with a downloaded result must not run anything, so a name is checked
against the allowed packages before anything is imported, and what it names must be a class that
subclasses what its place expects.
"""

import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from core.errors import ConfigError, DataError, IncompatibleModel, unknown

Base = TypeVar("Base")

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

OUR_PACKAGES = ("models", "datamodules", "compressors", "measurements")

_extra_prefixes: set[str] = set()


def allow_targets(prefixes: Iterable[str]) -> None:
    """Allow further packages; only the command line may ask for it, never a stored config."""
    _extra_prefixes.update(prefixes)


def resolve(target: object, *, expects: type[Base]) -> type[Base]:
    """Class that a `_target_` names.

    Raises:
        ConfigError: The name is outside the allowed packages, does not exist, is no class, or is
            not a subclass of `expects`.
    """
    allowed = sorted({*OUR_PACKAGES, *_extra_prefixes})
    if not isinstance(target, str) or target.count(".") < 1:
        raise ConfigError([f"_target_ is <package>.<module>.<class>, got {target!r}"])
    if not any(target.startswith(f"{prefix}.") for prefix in allowed):
        raise ConfigError(
            [
                f"_target_ {target!r} is outside the allowed packages ({', '.join(allowed)}); "
                f"to trust it: allowed_targets=[{target.split('.')[0]}] on the command line"
            ]
        )
    module_name, _, class_name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists; something it imports does not
        raise ConfigError([f"_target_ {target!r}: there is no module {error.name!r}"]) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, expects):
        what = "does not exist" if found is None else f"is not a {expects.__name__}"
        raise ConfigError([f"_target_ {target!r} {what}"])
    return found


def build(node: Mapping[str, Any], *, expects: type[Base], **blanks: Any) -> Base:
    """Instantiate a configuration node; `blanks` fill the keys it leaves empty.

    Nothing below the node is instantiated: an entry of a library may name other entries.

    Raises:
        ConfigError: The class is refused, does not take these arguments, or refuses a value.
    """
    found = resolve(node.get("_target_"), expects=expects)
    arguments = {**{key: value for key, value in node.items() if key != "_target_"}, **blanks}
    faults = _argument_faults(found, arguments)
    if faults:
        raise ConfigError(faults)
    try:
        return found(**arguments)
    except (ConfigError, DataError, IncompatibleModel):
        raise
    except ValueError as error:
        raise ConfigError([f"{found.__name__}: {error}"]) from error


def _argument_faults(found: type, arguments: Mapping[str, Any]) -> list[str]:
    known, takes_any = _known_arguments(found)
    surplus = () if takes_any else [name for name in arguments if name not in known]
    missing = [
        parameter.name
        for parameter in inspect.signature(found).parameters.values()
        if parameter.kind in NAMED and parameter.default is parameter.empty
        if parameter.name not in arguments
    ]
    name = found.__name__
    return [
        *(unknown(f"argument of {name}", argument, known) for argument in surplus),
        *(f"{name} needs {argument!r}, and the configuration has none" for argument in missing),
    ]


def _known_arguments(found: type) -> tuple[set[str], bool]:
    """Names a class takes, those its `**options` hand on to its bases included.

    Returns:
        The names, and whether it takes any other as well.
    """
    known: set[str] = set()
    constructors = [vars(owner)["__init__"] for owner in found.__mro__ if "__init__" in vars(owner)]
    for constructor in constructors[:-1]:  # the last is that of `object`
        parameters = list(inspect.signature(constructor).parameters.values())[1:]  # without `self`
        known |= {parameter.name for parameter in parameters if parameter.kind in NAMED}
        if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters):
            return known, False
    return known, len(constructors) > 1
