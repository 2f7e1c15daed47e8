"""Every compression checks itself: what comes out works, is what was asked for, and is stored well.

Seven checks: the logits keep their width; forward, backward and export work; the removed model is
the masked model; the cost before and after is recorded; something changed; the artifact reloads to
the same logits; the input model is as it was.
"""

import copy
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from compressors.cost import Cost, cost_of, latency_ratio, watched
from compressors.tracing import Look
from core.errors import IncompatibleModel
from models.edits import Edits, mask, sketch

if TYPE_CHECKING:
    from models.artifacts import Program

TOLERANCE = 1e-5
"""Largest difference of a logit that counts as the same function, in float32."""


ROUNDED = 2 * torch.finfo(torch.float32).eps
"""The same relative to the largest logit: a classifier of ours ends in float32 whatever it is."""


INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an entry -> type that shows its bits."""


class SelfCheckError(RuntimeError):
    """A compressed model does not keep what every compression promises."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the checks found out; they raise where they find a fault.

    Args:
        achieved: Costs before and after.
        notes: What a reader would not expect.
        program: For whoever stores the model.
    """

    achieved: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    program: "Program | None" = None


class State:
    """All that a caller can see of a model: names, tensors, gradients wanted, modes."""

    def __init__(self, model: nn.Module) -> None:
        self._tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        self._tensors |= dict(model.named_buffers(remove_duplicate=False))
        self._wanting = {name: tensor.requires_grad for name, tensor in self._tensors.items()}
        self._training = [part.training for part in model.modules()]

    @classmethod
    def kept(cls, model: nn.Module) -> "State":
        """As it is now, whatever happens to the model."""
        state = cls(model)
        state._tensors = {name: t.detach().clone() for name, t in state._tensors.items()}
        return state

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, State)
            and (self._wanting, self._training) == (other._wanting, other._training)
            and all(_same_bits(t, other._tensors[name]) for name, t in self._tensors.items())
        )

    __hash__ = None  # type: ignore[assignment]  # tensors change


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal to the sign of a zero; what is no number equals itself."""
    kind = INTEGERS.get(one.itemsize, torch.uint8)
    return one.dtype == other.dtype and torch.equal(one.view(kind), other.view(kind))


def verify(
    before: nn.Module,
    after: nn.Module,
    edits: Edits | None,
    inputs: Tensor,
    *,
    look: Look,
    untouched: State,
    compared: bool = False,
) -> Checked:
    """Run the seven checks.

    A model of another runtime has no backward and no export; its width, its change, its cost and
    its reload are checked.

    Args:
        before: The model that was compressed.
        after: What came out; left as it is.
        edits: What lies between them; None where that is more than edits.
        inputs: One batch on their device, shape [N, K, H, W].
        look: At `before`.
        untouched: The state of `before` from before the compression.
        compared: Whether whoever edited it has compared the removed with the masked model.

    Raises:
        SelfCheckError: A promise is broken.
        IncompatibleModel: The model came out as it went in.
    """
    old, new = (sketch(model).eval() for model in (before, after))
    if State(new) == State(old):
        raise IncompatibleModel("nothing changed: every weight that was chosen is zero already")
    comparison = Comparison()
    if edits is not None and not compared:
        comparison = same_function(old, new, edits, inputs)
    if comparison.fault:
        raise SelfCheckError(comparison.fault)
    stored = check_reload(new, inputs)
    in_torch = _runtime(new) == "torch"
    no_form = _why_no_program(stored, old, inputs) if in_torch else stored.no_class
    run = _run(new, inputs)  # last: a network may keep what it computes, with its graph
    if run.logits != look.logits:
        raise SelfCheckError(f"expected logits of shape {look.logits}, got {run.logits}")
    costs = cost_of(old, inputs, macs=look.macs), cost_of(new, inputs, macs=run.macs)
    achieved = _achieved(*costs)
    # a comparison has run both on all inputs
    achieved["latency_ratio"] = latency_ratio(old, new, inputs, warm=edits is not None)
    if State(before) != untouched:
        raise SelfCheckError("the input model was changed: a compressor works on its copy")
    notes = [note for note in (comparison.note, run.note, no_form) if note]
    return Checked(achieved=achieved, notes=notes, program=stored.program)


def _runtime(model: nn.Module) -> str:
    return getattr(model, "runtime", "torch")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One sample, forward and where torch runs it backward.

    Args:
        logits: Their shape.
        macs: Multiply-accumulates; None where another runtime does them.
        note: What a reader would not expect.
    """

    logits: tuple[int, ...]
    macs: int | None = None
    note: str = ""


def _run(new: nn.Module, inputs: Tensor) -> Run:
    """Run a model, and check that finite gradients reach what wants them."""
    if _runtime(new) != "torch":
        return Run(logits=(1, *_logits(new, inputs).shape[1:]))
    with torch.inference_mode(False), torch.enable_grad():
        with watched() as seen:
            logits = new(inputs[:1])
        shape = tuple(logits.shape)
        wanting = [p for p in new.parameters() if p.requires_grad]
        if not wanting:
            note = "every parameter is frozen, so backward was not checked"
            return Run(logits=shape, macs=seen.macs, note=note)
        if logits.requires_grad:
            logits.square().sum().backward()
    gradients = [parameter.grad for parameter in wanting if parameter.grad is not None]
    if not gradients or not all(bool(g.isfinite().all()) for g in gradients):
        raise SelfCheckError("backward gives no finite gradients: the model cannot be fine-tuned")
    return Run(logits=shape, macs=seen.macs)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whether removal is masking: a fault, or a sentence about rounding, or neither."""

    fault: str = ""
    note: str = ""


def same_function(old: nn.Module, new: nn.Module, edits: Edits, inputs: Tensor) -> Comparison:
    """Compare a removed model with the masked one, in float64 where float32 leaves a doubt.

    Args:
        old: Before the edits, in eval mode; left as it is.
        new: After the edits, in eval mode; left as it is.
        edits: What lies between them.
        inputs: One batch, shape [N, K, H, W].
    """
    masked = sketch(old)
    mask(masked, edits)
    got, expected = _logits(new, inputs), _logits(masked, inputs)
    if got.shape != expected.shape:
        return Comparison(
            fault=f"the logits would be {got.shape[-1]} instead of {expected.shape[-1]}: channels "
            "of the classifier head would go"
        )
    off = float((expected - got).abs().max())
    if off <= TOLERANCE:
        return Comparison()
    exact, largest = _distance(masked.double(), copy.deepcopy(new).double(), inputs.double())
    if exact <= max(TOLERANCE, ROUNDED * largest):
        return Comparison(
            note=f"float32 rounds the removed and the masked model {off:.1g} apart, "
            f"in float64 they are equal within {exact:.1g}"
        )
    return Comparison(
        fault=f"the removed and the masked model differ by {exact:.3g}, expected at most "
        f"{TOLERANCE:g}: an operation mixes channels, or one was taken from the wrong place"
    )


def _distance(one: nn.Module, other: nn.Module, inputs: Tensor) -> tuple[float, float]:
    """Largest difference of a logit, and the largest logit."""
    expected, got = _logits(one, inputs), _logits(other, inputs)
    return float((expected - got).abs().max()), float(expected.abs().max())


def _why_no_program(stored: "Stored", old: nn.Module, inputs: Tensor) -> str:
    """A sentence where a form of the model is missing that was missing before as well."""
    from models.exported import export_bytes  # Lightning: seconds, not for a refusal

    if not stored.no_program:
        return stored.no_class
    try:
        export_bytes(copy.deepcopy(old).cpu(), inputs)
    except IncompatibleModel:
        return f"{stored.no_program}, so a stored model needs its class"
    raise SelfCheckError(f"{stored.no_program}; before the compression it could")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Why a stored model comes back without a form; empty where it has it."""

    no_program: str = ""
    no_class: str = ""
    program: "Program | None" = None


def check_reload(model: nn.Module, inputs: Tensor) -> Stored:
    """Store a model, load it in every form it has, compare the logits.

    Args:
        model: In eval mode; left as it is.
        inputs: One batch.

    Raises:
        SelfCheckError: Other logits came back.
        IncompatibleModel: The model cannot be stored.
    """
    # Lightning: seconds, not for a refusal
    from models.artifacts import load_artifact, program_of, read_artifact, save_artifact
    from models.exported import load_program

    twin, images = copy.deepcopy(model).cpu(), inputs.cpu()
    forms: list[nn.Module] = []
    with tempfile.TemporaryDirectory() as root, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        folder = save_artifact(Path(root), twin, example_inputs=images)
        stored = read_artifact(folder)
        program = program_of(stored)
        told.clear()
        if stored.architecture["constructor"] is not None:
            forms.append(load_artifact(folder))
        else:  # beside a constructor, the program was compared when it was written
            forms.append(load_program(folder / "model.pt2").module())
    expected = _logits(twin, images)
    off = max(float((_logits(form, images) - expected).abs().max()) for form in forms)
    if not off <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise SelfCheckError(f"the stored model reloads to other logits, {off:.3g} away")
    no_class = str(told[0].message).partition(" is ")[2] if told else ""
    return Stored(
        no_program=stored.program_missing,
        no_class=no_class and f"the stored model is {no_class}",
        program=program,
    )


def _logits(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return cast(Tensor, model(inputs)).detach()


def _achieved(old: Cost, new: Cost) -> dict[str, Any]:
    before, after = old.as_dict(), new.as_dict()
    achieved: dict[str, Any] = {f"{name}_before": count for name, count in before.items()}
    achieved |= {f"{name}_after": count for name, count in after.items()}
    achieved["removed"] = 1 - after["params"] / before["params"]
    achieved["sparsity"] = 1 - after["nonzero_params"] / before["params"]
    return achieved
