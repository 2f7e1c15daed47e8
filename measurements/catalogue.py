"""What can be measured: the entries of the library, told by their classes."""

import inspect
import re
import tempfile
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from core.app import CONFIG
from core.configuration import plain
from core.errors import NotApplicable, pick
from core.overrides import VERSION_BASE
from core.targets import build, resolve
from measurements.definition import BLANKS
from measurements.measurement import Measurement
from models.base_model import ClassifierModule
from recording.recorder import Recorder

KINDS = ("benefit", "property", "paired")

NO_PARAMETERS = {"_target_", "datamodule_names", *BLANKS}

SAMPLES = 60
"""Digits a rehearsal looks at: enough for every class to occur."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """One entry of the library."""

    name: str
    type: type[Measurement]
    parameters: Mapping[str, Any]  # with the values the entry or else the class gives them
    groups: list[str]  # measurement groups that contain it

    @property
    def summary(self) -> dict[str, Any]:
        """A row of the list."""
        return {
            "name": self.name,
            "kind": self.type.kind,
            "unit": self.type.unit,
            "better": self.type.better,
            "needs": sorted(self.type.needs),
            "meaning": " ".join(self.documents[""].partition("\n\n")[0].split()),
        }

    @property
    def documents(self) -> dict[str, str]:
        """Parts of the class's docstring by heading; what stands before the first is at ``""``."""
        return sections(inspect.getdoc(self.type) or "")

    @property
    def computed(self) -> str:
        """What the class says of its computation, where it says anything."""
        own = [vars(self.type).get(name) for name in ("per_sample", "statistic", "measure")]
        return next((inspect.getdoc(one) or "" for one in own if one), "")

    @property
    def parameter_documents(self) -> dict[str, str]:
        """What the class says of each of its parameters."""
        pairs = re.findall(
            r"^(\w+): (.*(?:\n +.*)*)", self.documents.get("Args", ""), flags=re.MULTILINE
        )
        return {name: " ".join(text.split()) for name, text in pairs}

    @property
    def command(self) -> str:
        """Shell line that measures it."""
        if self.type.kind != "paired":
            return f"python evaluate.py measurements=[{self.name}]"
        asked = ",".join(with_parts(self.name))
        return f"python evaluate.py measurements=[{asked}] compressor=l1_filter finetune=short"


def catalogue() -> dict[str, Described]:
    """Every entry of the measurement library by name, kinds together, else in its order."""
    library = plain(composed())["measurement_library"]
    members = groups()
    found = [
        _described(name, entry, [group for group, names in members.items() if name in names])
        for name, entry in library.items()
    ]
    return {one.name: one for one in sorted(found, key=lambda one: KINDS.index(one.type.kind))}


def groups() -> dict[str, list[str]]:
    """Names of the measurements of every measurement group."""
    files = sorted((CONFIG / "measurement_group").glob("*.yaml"))
    return {path.stem: list(OmegaConf.load(path).measurements) for path in files}


def chosen(
    entries: Mapping[str, Described], *, kind: str | None = None, group: str | None = None
) -> list[Described]:
    """Entries of a kind and of a measurement group.

    Raises:
        LookupError: There is no such group.
    """
    names = entries if group is None else pick("measurement group", group, groups())
    return [
        one
        for one in entries.values()
        if one.name in names and (kind is None or one.type.kind == kind)
    ]


def rehearse(name: str) -> dict[str, float]:
    """Measure some of the embedded digits with the embedded model, rounded to half precision.

    Raises:
        NotApplicable: The measurement has no meaning there.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = ",".join(with_parts(name))
        config = composed(
            f"measurements=[{names}]", f"limit_samples={SAMPLES}", f"results_dir={folder}"
        )
        model = _rounded(build(plain(config.model), expects=ClassifierModule).eval())
        model.model_name = config.model_name
        entry = plain(config.measurement_library)[name]
        brief = {"seconds": 0.1} if "seconds" in _parameters(entry) else {}
        kind = resolve(entry["_target_"], expects=Measurement)
        recorder, results = Recorder.from_config(config), dict[str, float]()
        for more in (kind.split_up(config) or {name: {}}).values():
            measurement = build(
                {**entry, **brief, **more},
                expects=Measurement,
                model=model,
                experiment_config=config,
            )
            measurement.recorder = recorder
            results |= measurement.measure()
        return results


def outcome(name: str) -> dict[str, float] | str:
    """What `rehearse` gives, or the reason why it gives nothing."""
    try:
        return rehearse(name)
    except NotApplicable as reason:
        return str(reason)


def with_parts(name: str) -> list[str]:
    """Measurements to ask for so that `name` has something to do: `delta` needs another."""
    return ["accuracy", name] if name == "delta" else [name]


def composed(*overrides: str) -> DictConfig:
    """Configuration of an evaluation."""
    with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(CONFIG)):
        return compose("evaluate_defaults", overrides=list(overrides))


def sections(text: str) -> dict[str, str]:
    """Parts of a docstring by heading; what stands before the first is at ``""``."""
    first, *rest = re.split(r"^(\w+):\n", text, flags=re.MULTILINE)
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return {"": first.strip(), **{heading: dedent(part).strip() for heading, part in pairs}}


def _described(name: str, entry: Mapping[str, Any], members: Iterable[str]) -> Described:
    return Described(
        name=name,
        type=resolve(entry["_target_"], expects=Measurement),
        parameters=_parameters(entry),
        groups=list(members),
    )


def _parameters(entry: Mapping[str, Any]) -> dict[str, Any]:
    taken = inspect.signature(resolve(entry["_target_"], expects=Measurement)).parameters.values()
    defaults = {one.name: one.default for one in taken if one.default is not one.empty}
    return {
        **defaults,
        **{key: value for key, value in entry.items() if key not in NO_PARAMETERS},
    }


def _rounded(model: ClassifierModule) -> ClassifierModule:
    """The model with weights of 8 significant bits, and itself as its baseline."""
    model.baseline = deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model
