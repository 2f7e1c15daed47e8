"""What a measurement is, as data: any change of it makes its cells anew."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from core.digest import file_digest
from measurements.measurement import Measurement, Request
from models.fingerprint import source_of

BLANKS = {"model", "experiment_config"}
"""Arguments of an entry that are filled at run time."""

DECIDING = ("measurements.", "recording.layers")
"""Modules whose functions make numbers; what a record is has a version in its own key."""


def definition_of(measurement: Measurement, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides a value beside the model and the machine; JSON.

    The source of the class and of the functions it calls is in it: who is still writing a
    measurement sees the new number without having to raise its version.
    """
    kind = type(measurement)
    named = [Request(datamodule=n, split=measurement.split) for n in measurement.datamodule_names]
    looked_at = {_place(request): request for request in [*named, *measurement.requests()]}
    return {
        "entry": {key: value for key, value in entry.items() if key not in BLANKS},
        "definition": measurement.definition(),
        "source": sorted({*map(source_of, _own_classes(kind)), *_files(kind)}),
        "data": {place: _seen(measurement, looked_at[place]) for place in sorted(looked_at)},
    }


def _place(request: Request) -> str:
    """Which samples of which view are looked at."""
    place = f"{request.datamodule} {request.split} {request.view}"
    return place if request.samples is None else f"{place} {request.samples}"


def _seen(measurement: Measurement, request: Request) -> list[Any]:
    """What is on disk, how it is looked at, and how many samples of it.

    The model that an attack is made against is left out: it follows from the run, and the cells of
    two models are compared where their definitions are equal.
    """
    wanted = measurement.recorder.describe(
        measurement.model,
        request.datamodule,
        request.split,
        request.view,
        samples=request.samples,
        classes_of=request.classes_of,
    )
    how = {key: part for key, part in wanted.view.items() if key != "source"}
    return [wanted.manifest, how, wanted.limit_samples]


def _own_classes(kind: type) -> Iterator[type]:
    """The class and its bases up to `Measurement`, which only fetches and names."""
    return (base for base in kind.__mro__ if issubclass(base, Measurement))


def _files(kind: type) -> list[str]:
    """Digests of the modules of this project whose functions a class may call."""
    found: dict[str, ModuleType] = {}
    waiting = [sys.modules[base.__module__] for base in _own_classes(kind)]
    while waiting:
        module = waiting.pop()
        if module.__name__ in found:
            continue
        found[module.__name__] = module
        waiting += [used for used in _used(module) if used.__name__.startswith(DECIDING)]
    paths = (getattr(module, "__file__", None) for module in found.values())
    return [file_digest(Path(path)) for path in paths if path and Path(path).is_file()]


def _used(module: ModuleType) -> Iterator[ModuleType]:
    """Modules that the names of a module come from."""
    for value in vars(module).values():
        if inspect.ismodule(value):
            yield value
        elif getattr(value, "__module__", None) in sys.modules:
            yield sys.modules[value.__module__]
