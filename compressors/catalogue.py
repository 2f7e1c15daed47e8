"""What can be done to a model: the files of config/compressor, told by their first lines."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from core.app import CONFIG
from core.outline import outline

if TYPE_CHECKING:
    from compressors.resources import Need

FAMILIES: Mapping[str, str] = {
    "pruning": "Pruning",
    "search": "Search under a budget",
    "quantization": "Quantization",
    "factorization": "Low rank",
    "deploy": "Other runtimes, same weights",
    "steps": "Several steps in one file",
}
"""Package of a compressor -> heading."""

NEEDS: "Mapping[Need, str]" = {"batches": "data", "score": "scores", "train": "training"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One file of the library.

    Args:
        name: Of the file.
        header: Its comment, as one text: what it does, a blank line, what to expect.
        keys: What follows, as it stands there: keys with their values and comments.
        selects: Whether layers can be chosen for it.
        type: What its class says of itself; None where it names several steps.
    """

    name: str
    header: str
    keys: str
    selects: bool
    type: type[Any] | None

    @property
    def family(self) -> str:
        """Key of `FAMILIES`."""
        return "steps" if self.type is None else self.type.__module__.split(".")[1]

    @property
    def needs(self) -> list[str]:
        """What it takes beside the weights, of `tuning`: data, scores, training."""
        asked = () if self.type is None else self.type.needs
        return [told for need, told in NEEDS.items() if need in asked]

    @property
    def meaning(self) -> str:
        """Its first sentence."""
        return re.split(r"(?<! al)\.(?= |$)", self.header.partition("\n")[0])[0] + "."

    @property
    def reference(self) -> str:
        """The paper its class follows."""
        text = "" if self.type is None else inspect.getdoc(self.type) or ""
        return " ".join(text.partition("Reference:")[2].split())


def catalogue() -> dict[str, Recipe]:
    """Every recipe but `none` by its name, in the order of the families."""
    found = [_read(path) for path in sorted((CONFIG / "compressor").glob("*.yaml"))]
    order = list(FAMILIES)
    ranked = sorted((one for one in found if one.name != "none"), key=lambda one: one.name)
    return {one.name: one for one in sorted(ranked, key=lambda one: order.index(one.family))}


def _read(path: Path) -> Recipe:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    told = [line.removeprefix("# ") for line in lines[:end]]
    words = " ".join(line for line in told if not line.startswith(" "))  # those are commands
    content: Any = OmegaConf.load(path)
    target = content.get("_target_")
    own = [line for line in lines[end:] if not re.match(r"defaults:|  - |_target_:|name:|$", line)]
    return Recipe(
        name=path.stem,
        header=words.replace(" Expect:", "\n\nExpect:"),
        keys="\n".join(own),
        selects="/selection@" in text,
        type=outline(target) if target else None,
    )
