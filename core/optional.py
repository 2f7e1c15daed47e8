"""Optional dependencies: imported where used, their absence tells the command to run."""

import importlib
from types import ModuleType

from core.errors import MissingDependency


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        MissingDependency: It is not installed; the text is the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:  # the module is there, something inside it is not
            raise
        raise MissingDependency(
            f"{module} is not installed; run: pip install -e '.[{extra}]'", name=module
        ) from error
