"""Every compression checks itself: what comes out works, is what was asked for, and is stored well.

Seven checks: the logits keep their width; forward, backward and export work; the removed model is
the masked model; the cost before and after is recorded; something changed; the artifact reloads to
the same logits; the input model is as it was.
"""

import copy
import hashlib
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from compressors.cost import cost_of, latency_ratio
from core.digest import digest
from core.errors import IncompatibleModel
from models.artifacts import Program, load_artifact, program_of, read_artifact, save_artifact
from models.edits import Edits, mask
from models.exported import export_bytes, load_program

TOLERANCE = 1e-5
"""Largest difference of a logit that counts as the same function, in float32."""


ROUNDED = 2 * torch.finfo(torch.float32).eps
"""The same relative to the largest logit: a classifier of ours ends in float32 whatever it is."""


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
    program: Program | None = None


def state_digest(model: nn.Module) -> str:
    """Digest of all that a caller can see: tensors, gradients wanted, modes, names."""
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors |= dict(model.named_buffers(remove_duplicate=False))
    content = {
        name: [str(t.dtype), list(t.shape), t.requires_grad, _bytes_digest(t)]
        for name, t in tensors.items()
    }
    return digest({"tensors": content, "training": [m.training for m in model.modules()]})


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: p.shape for name, p in model.named_parameters()}


def verify(
    before: nn.Module, after: nn.Module, edits: Edits | None, inputs: Tensor, *, untouched: str
) -> Checked:
    """Run the seven checks.

    A model of another runtime has no backward and no export; its width, its change, its cost and
    its reload are checked.

    Args:
        before: The model that was compressed.
        after: What came out; left as it is.
        edits: What lies between them; None where whoever edited it has compared the removed with
            the masked model.
        inputs: One batch on their device, shape [N, K, H, W].
        untouched: `state_digest` of `before` from before the compression.

    Raises:
        SelfCheckError: A promise is broken.
        IncompatibleModel: The model came out as it went in.
    """
    old, new = (copy.deepcopy(model).eval() for model in (before, after))
    if _shapes(new) == _shapes(old) and state_digest(new) == state_digest(old):
        raise IncompatibleModel("nothing changed: every weight that was chosen is zero already")
    reference, logits = _logits(old, inputs), _logits(new, inputs)
    if logits.shape != reference.shape:
        raise SelfCheckError(
            f"expected logits {list(reference.shape)}, got {list(logits.shape)}: "
            "channels of the classifier head were removed"
        )
    comparison = Comparison() if edits is None else same_function(old, new, edits, inputs)
    if comparison.fault:
        raise SelfCheckError(comparison.fault)
    notes = [comparison.note]
    in_torch = getattr(new, "runtime", "torch") == "torch"
    notes.append(_check_backward(new, inputs) if in_torch else "")
    stored = check_reload(new, inputs)
    notes.append(_why_no_program(stored, old, inputs) if in_torch else stored.no_class)
    achieved = _achieved(old, new, inputs)
    if state_digest(before) != untouched:
        raise SelfCheckError("the input model was changed: a compressor works on its copy")
    kept = [note for note in notes if note]
    return Checked(achieved=achieved, notes=kept, program=stored.program)


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
    masked = copy.deepcopy(old)
    mask(masked, edits)
    got, expected = _logits(new, inputs), _logits(masked, inputs)
    if got.shape != expected.shape:
        return Comparison(
            fault=f"the logits would be {got.shape[-1]} instead of {expected.shape[-1]}"
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


def _check_backward(new: nn.Module, inputs: Tensor) -> str:
    """Check that finite gradients reach what wants them; returns a sentence where nothing does."""
    if not any(p.requires_grad for p in new.parameters()):
        return "every parameter is frozen, so backward was not checked"
    with torch.enable_grad():
        new(inputs).square().sum().backward()
    gradients = [p.grad for p in new.parameters() if p.grad is not None]
    if not gradients or not all(bool(g.isfinite().all()) for g in gradients):
        raise SelfCheckError("backward gives no finite gradients: the model cannot be fine-tuned")
    new.zero_grad()
    return ""


def _why_no_program(stored: "Stored", old: nn.Module, inputs: Tensor) -> str:
    """A sentence where a form of the model is missing that was missing before as well."""
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
    program: Program | None = None


def check_reload(model: nn.Module, inputs: Tensor) -> Stored:
    """Store a model, load it in every form it has, compare the logits.

    Args:
        model: In eval mode; left as it is.
        inputs: One batch.

    Raises:
        SelfCheckError: Other logits came back.
        IncompatibleModel: The model cannot be stored.
    """
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


def _achieved(old: nn.Module, new: nn.Module, inputs: Tensor) -> dict[str, Any]:
    before, after = cost_of(old, inputs).as_dict(), cost_of(new, inputs).as_dict()
    achieved: dict[str, Any] = {f"{name}_before": count for name, count in before.items()}
    achieved |= {f"{name}_after": count for name, count in after.items()}
    achieved["removed"] = 1 - after["params"] / before["params"]
    achieved["sparsity"] = 1 - after["nonzero_params"] / before["params"]
    achieved["latency_ratio"] = latency_ratio(old, new, inputs, warm=True)
    return achieved


def _bytes_digest(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.blake2b(flat.view(torch.uint8).numpy().data).hexdigest()
