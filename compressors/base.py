"""What every compressor is: a recipe that decides edits, and a template that performs them."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from compressors.resources import Need, Resources
from compressors.selection import (
    Amounts,
    Catalogue,
    Selection,
    check_form,
    entries_of,
    select,
    sparsity_faults,
)
from compressors.selfcheck import State, verify
from compressors.tracing import Look, look_at, prefix_of
from core.errors import ConfigError, IncompatibleModel
from models.edits import Edits, history, perform

if TYPE_CHECKING:
    from models.artifacts import Program


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was asked for and what came out, JSON throughout.

    Args:
        requested: The recipe: class, entries and own options.
        achieved: `<quantity>_before` and `<quantity>_after` of the model's cost; `sparsity`, the
            fraction of the parameters that is gone or zero; `removed`, the fraction that is gone;
            `latency_ratio`, a first impression.
        notes: What a reader would not expect, as sentences.
    """

    requested: dict[str, Any]
    achieved: dict[str, Any]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A compressed model, the edits that made it, and the report about it.

    Args:
        model: What came out.
        edits: What makes it of what went in; empty where weights or statistics changed as well, or
            in several steps: see `models.edits.history`.
        report: About it.
        before: What went in, bit-identical.
        program: What the checks exported: `models.artifacts.save_artifact` need not do it again.
    """

    model: nn.Module
    edits: Edits
    report: Report
    before: nn.Module | None = None
    program: "Program | None" = field(default=None, repr=False)

    def export_model(
        self,
        model_path: str,
        mask_path: str | None = None,
        folder_name: str = ".",
        speedup: bool = False,
        dummy_input: Tensor | None = None,
    ) -> list[Path]:
        """Write weights and masks; `compressors.export.export_model` says how."""
        from compressors.export import export_model  # it builds on this module

        return export_model(self, model_path, mask_path, folder_name, speedup, dummy_input)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to come out of a model that was not touched yet, with sentences about it.

    Args:
        edits: What is done to the model as it is.
        model: What came out already, where edits do not tell it all: it was trained, edited in
            several steps (`models.edits.history` knows them), or is run by another runtime.
        notes: What a reader would not expect.
        achieved: Further numbers for the report, such as how many candidates were scored.
        edited: What the edits make of the task's model, compared with what they would mask; in
            eval mode.
    """

    edits: Edits = field(default_factory=Edits)
    model: nn.Module | None = None
    notes: list[str] = field(default_factory=list)
    achieved: dict[str, Any] = field(default_factory=dict)
    edited: nn.Module | None = None

    @property
    def changes_nothing(self) -> bool:
        """Whether the model would come out as it went in."""
        return self.model is None and self.edits.is_empty


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a compressor decides upon.

    Args:
        model: A private copy in eval mode.
        example_inputs: One batch on its device, shape [N, K, H, W].
        selection: Layers by their short names.
        prefix: What makes a short name a full one: `backbone.` in a classifier of ours.
        heads: Short names of the layers that make the logits.
        look: At the model.
        resources: Data, score and training; there where the compressor `needs` any of them.
    """

    model: nn.Module
    example_inputs: Tensor
    selection: Selection
    prefix: str
    heads: tuple[str, ...]
    look: Look
    resources: Resources | None = None

    @property
    def given(self) -> Resources:
        """The resources of a compressor that needs some."""
        assert self.resources is not None, "declare `needs`"
        return self.resources

    def layer(self, name: str) -> nn.Module:
        """Module by its short name."""
        return self.model.get_submodule(self.prefix + name)


class Compressor(ABC):
    """Decides edits; the input model stays bit-identical, the result has passed every check.

    Args:
        name: Name of the recipe in configurations and results.
        op_types: Class names; `default` stands for the compressor's own.
        op_names: Module names or globs; overrides `op_types`.
        exclude: Module names or globs to leave alone.
        config_list: Entries with these keys (`exclude` is then true or false); a later entry
            overrides an earlier one for the same layer.
        **amounts: Those that the class declares in `amounts`, as `sparsity`: the fraction to
            remove, in [0, 1). With the layers above it is the short form of one entry.

    Raises:
        ConfigError: All that is wrong without looking at a model.
    """

    treatable: ClassVar[tuple[str, ...]]
    default_types: ClassVar[tuple[str, ...]]
    needs: ClassVar[frozenset[Need]] = frozenset()
    amounts: ClassVar[Amounts] = {"sparsity": sparsity_faults}
    spares_heads: ClassVar[bool] = True
    computed: ClassVar[Literal["", "simulated", "in_floats"]] = ""
    """What tables add where fewer bits are computed with as floats: `simulated`, or `in_floats`
    where they are stored as integers at least."""
    runtime: str = "torch"
    """What runs the result; some recipes let an option say it."""

    def __init__(
        self,
        *,
        name: str = "",
        op_types: list[str] | None = None,
        op_names: list[str] | None = None,
        exclude: list[str] | None = None,
        config_list: list[dict[str, Any]] | None = None,
        **amounts: Any,
    ) -> None:
        self.name = name or type(self).__name__
        self.entries = entries_of(
            config_list, op_types=op_types, op_names=op_names, exclude=exclude, **amounts
        )
        check_form(self.entries, self.amounts)

    @classmethod
    def computes(cls, step: Mapping[str, Any]) -> str:
        """What tables add to the name of a step of a recipe: see `computed`."""
        return cls.computed

    @abstractmethod
    def decide(self, task: Task) -> Decision:
        """Choose what goes; may use up `task.model`."""

    def options(self) -> dict[str, Any]:
        """The compressor's own options, for the report."""
        return {}

    def compress(
        self, model: nn.Module, example_inputs: Tensor, resources: Resources | None = None
    ) -> Compressed:
        """Compress a copy of `model` and check the result.

        Args:
            model: A classifier; stays bit-identical.
            example_inputs: One batch it accepts, shape [N, K, H, W].
            resources: Data, score and training, for a compressor that `needs` them.

        Raises:
            ConfigError: The recipe does not fit the model; all faults at once.
            IncompatibleModel: Nothing of the model can be treated this way; the text says why.
        """
        with _eagerly(model):
            return self._compress(model, example_inputs, resources)

    def _compress(
        self, model: nn.Module, example_inputs: Tensor, resources: Resources | None
    ) -> Compressed:
        from models.base_model import ClassifierModule  # Lightning: seconds, not for a refusal

        untouched = State.kept(model)
        task = self._prepared(model, example_inputs, resources)
        decision = self._decision_on(model, task)
        after = decision.model or _in_modes_of(model, decision.edited)
        if after is None:
            after = copy.deepcopy(model)
            perform(after, decision.edits)
        if isinstance(after, ClassifierModule) and isinstance(model, ClassifierModule):
            after.baseline = model.baseline or model
        checked = verify(
            model,
            after,
            decision.edits if decision.model is None else None,
            task.example_inputs,
            compared=decision.edited is not None,
            look=task.look,
            untouched=untouched,
        )
        requested = {
            "compressor": self.name,
            "entries": _plain(list(self.entries.values())),
            **self.options(),
        }
        report = Report(
            requested=requested,
            achieved={**checked.achieved, **decision.achieved},
            notes=[*decision.notes, *checked.notes],
        )
        return Compressed(
            model=after,
            edits=decision.edits,
            report=report,
            before=model,
            program=checked.program,
        )

    def plan(
        self, model: nn.Module, example_inputs: Tensor, resources: Resources | None = None
    ) -> Decision:
        """What `compress` would do, without doing it; arguments and errors are the same."""
        with _eagerly(model):
            return self._decision_on(model, self._prepared(model, example_inputs, resources))

    def refuse(self, model: nn.Module) -> None:
        """Raise IncompatibleModel where nothing of a model can be treated, whatever is selected."""
        runtime = getattr(model, "runtime", "torch")
        if runtime != "torch":
            raise IncompatibleModel(
                f"a model run by {runtime} has no layers that could be treated; compress the model "
                "it was made of, and deploy it in the slot `then`"
            )
        if prune.is_pruned(model) or any(map(parametrize.is_parametrized, model.modules())):
            raise IncompatibleModel(
                "a weight of this model is computed from others by a mask or a parametrization; "
                "make it permanent first (prune.remove or parametrize.remove_parametrizations)"
            )

    def _prepared(
        self, model: nn.Module, example_inputs: Tensor, resources: Resources | None
    ) -> Task:
        if self.needs and resources is None:
            raise ConfigError([f"{self.name} needs {' and '.join(sorted(self.needs))}: give data"])
        self.refuse(model)
        return self._task(model, example_inputs.to(_device(model)), resources)

    def _decision_on(self, model: nn.Module, task: Task) -> Decision:
        """A decision that changes something."""
        decision = self.decide(task)
        only_trained = "train" in self.needs and _same_steps(model, decision.model)
        if decision.changes_nothing or only_trained:
            raise IncompatibleModel(f"{self.name} changes nothing. {'; '.join(decision.notes)}")
        return replace(decision, notes=[*_head_notes(task), *decision.notes])

    def layers(self, model: nn.Module, example_inputs: Tensor) -> list[str]:
        """Short names of the layers that it treats, in the model's order; errors as in `plan`."""
        with _eagerly(model):
            return self._task(model, example_inputs.to(_device(model)), None).selection.layers

    def _task(self, model: nn.Module, inputs: Tensor, resources: Resources | None) -> Task:
        work = copy.deepcopy(model).eval()
        prefix = prefix_of(model)
        look = look_at(work, inputs)
        heads = tuple(n.removeprefix(prefix) for n in look.heads) if self.spares_heads else ()
        layers = {
            name.removeprefix(prefix): module
            for name, module in work.named_modules()
            if name.startswith(prefix)
        }
        catalogue = Catalogue(
            layers=layers, treatable=self.treatable, default_types=self.default_types, heads=heads
        )
        selection = select(self.entries, catalogue)
        if not selection.layers:
            why = "the only layers it would treat make the logits" if selection.spared_heads else ""
            raise ConfigError([f"{self.name}: no layer is left to treat" + (why and f": {why}")])
        return Task(
            model=work,
            example_inputs=inputs,
            selection=selection,
            prefix=prefix,
            heads=heads,
            look=look,
            resources=resources,
        )


def _in_modes_of(model: nn.Module, edited: nn.Module | None) -> nn.Module | None:
    """What was made of a copy of a model, each part in the mode that it has there."""
    modes = {name: part.training for name, part in model.named_modules()}
    for name, part in edited.named_modules() if edited is not None else ():
        part.training = modes[name]
    return edited


def _same_steps(before: nn.Module, after: nn.Module | None) -> bool:
    """Whether other weights are all that came out: nothing was added to the model's history."""
    if after is None or getattr(after, "runtime", "torch") != "torch":
        return False
    return all(step.is_empty for step in history(after)[len(history(before)) :])


def _head_notes(task: Task) -> list[str]:
    names = ", ".join(task.selection.spared_heads)
    return [f"the classifier head ({names}) stays as it is; name it to treat it"] if names else []


def _eagerly(model: nn.Module) -> AbstractContextManager[Any]:
    """A model that is to be compiled is compressed as it is: its layers are looked at."""
    compiled = getattr(model, "compiled", False)
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _plain(value: Any) -> Any:
    """JSON form of entries that may come from a configuration."""
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) or type(value).__name__ == "ListConfig":
        return [_plain(item) for item in value]
    return value
