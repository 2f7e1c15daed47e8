"""What can be measured: the entries of the library, told by their classes."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from core.app import CONFIG
from core.configuration import plain
from core.errors import pick
from core.outline import outline
from core.overrides import VERSION_BASE
from core.targets import resolve

KINDS = ("benefit", "property", "paired")

NO_PARAMETERS = {"_target_", "datamodule_names", "model", "experiment_config"}


@dataclass(frozen=True, kw_only=True)
class Described:
    """One entry of the library."""

    name: str
    entry: Mapping[str, Any]
    groups: list[str]  # measurement groups that contain it

    @property
    def type(self) -> type[Any]:
        """What its class says of itself."""
        return outline(self.entry["_target_"])

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
        kind = resolve(self.entry["_target_"], expects=object)
        own = [vars(kind).get(name) for name in ("per_sample", "statistic", "measure")]
        return next((inspect.getdoc(one) or "" for one in own if one), "")

    @property
    def parameters(self) -> dict[str, Any]:
        """Its parameters with the values that the entry or else the class gives them."""
        kind = resolve(self.entry["_target_"], expects=object)
        taken = inspect.signature(kind).parameters.values()
        defaults = {one.name: one.default for one in taken if one.default is not one.empty}
        own = {key: value for key, value in self.entry.items() if key not in NO_PARAMETERS}
        return {**defaults, **own}

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
    alone = composed("+datasets=[digits]", name="measurement_library/all")  # in half the time
    library, members = plain(alone)["measurement_library"], groups()
    found = [
        Described(
            name=name,
            entry=entry,
            groups=[group for group, names in members.items() if name in names],
        )
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


def with_parts(name: str) -> list[str]:
    """Measurements to ask for so that `name` has something to do: `delta` needs another."""
    return ["accuracy", name] if name == "delta" else [name]


def composed(*overrides: str, name: str = "evaluate_defaults") -> DictConfig:
    """Configuration of an evaluation, or another one."""
    with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(CONFIG)):
        return compose(name, overrides=list(overrides))


def sections(text: str) -> dict[str, str]:
    """Parts of a docstring by heading; what stands before the first is at ``""``."""
    first, *rest = re.split(r"^(\w+):\n", text, flags=re.MULTILINE)
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return {"": first.strip(), **{heading: dedent(part).strip() for heading, part in pairs}}
