"""Stored models: architecture, edits, weights, recipe, and a program that needs no class.

A folder is written beside its place and renamed, its name is the digest of its content, and
`recipe.json` is its last file: without it a folder is unfinished. Loading builds the constructor's
model, applies the edits with the code that made them, and fills in the weights. Where the class is
gone or computes something else by now, `model.pt2` is loaded instead, with a warning.
"""

import copy
import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from core.digest import digest, file_digest
from core.errors import ConfigError, DataError, IncompatibleModel
from core.files import private_name, remove_leftovers, write_atomically, write_json
from core.preprocessing import Preprocessing
from core.targets import resolve
from models.base_model import ClassifierModule
from models.edits import Edits, history, perform
from models.exported import ExportedClassifier, export_bytes, load_program
from models.reconstruction import Undrawn, arguments_of, class_digest, constructor_of

FORMAT = 2
LAST_FILE = "recipe.json"
PROGRAM = "model.pt2"
PROBE_TOLERANCE = 1e-3
"""Relative to the largest logit: another machine rounds differently, another class is far off."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What is known about a stored model without building it.

    Args:
        folder: Where it lies; its name is the digest.
        architecture: Constructor, input shape, width, preprocessing, probe.
        steps: Edits in the order they were made.
        recipe: What was asked for.
        lineage: `base_id` and `operation {name, parameters}`; empty for an original.
        achieved: What came out, as the compressor recorded it.
        probe: Logits [2, C] of two fixed noise images when it was stored.
        program_missing: Why there is no `model.pt2`; empty where there is one.
        digests: Of its files, by name.
    """

    folder: Path
    architecture: dict[str, Any]
    steps: tuple[Edits, ...]
    recipe: dict[str, Any]
    lineage: dict[str, Any]
    achieved: dict[str, Any]
    probe: Tensor
    program_missing: str
    digests: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Program:
    """What came of exporting a model and comparing what was read back: once is enough.

    Args:
        of: Digest of the other files of the artifact it was made for.
        content: The file; empty where there is none.
        missing: Why there is none.
    """

    of: str
    content: bytes = field(repr=False)
    missing: str


def save_artifact(
    root: Path,
    model: nn.Module,
    *,
    example_inputs: Tensor,
    recipe: Mapping[str, Any] | None = None,
    lineage: Mapping[str, Any] | None = None,
    achieved: Mapping[str, Any] | None = None,
    program: Program | None = None,
) -> Path:
    """Store `model` under `root`, in a folder named by the digest of its content.

    Args:
        root: Folder of all artifacts.
        model: Any network; only a ClassifierModule can come back as its own class.
        example_inputs: One batch, shape [N, K, H, W]; gives the input shape.
        recipe: JSON.
        lineage: JSON, `{"base_id", "operation": {"name", "parameters"}}`.
        achieved: JSON; no part of the digest.
        program: Of an artifact of the same model; that of another one is left aside.

    Warns where `torch.export` cannot follow the model: its artifact needs its class.

    What killed processes of this host have left half-written under `root` is removed.

    Raises:
        IncompatibleModel: So it is, and there is no constructor to come back by either.
        OSError: The disk is full or not writable; nothing is left behind.
    """
    twin = copy.deepcopy(model).cpu().eval()
    weights = save({name: t.contiguous().clone() for name, t in twin.state_dict().items()})
    probe = _probe(twin, example_inputs.shape[1:])
    contents = {
        "architecture.json": _describe(twin, example_inputs, num_classes=probe.shape[1]),
        "edits.json": {"steps": [edits.to_json() for edits in history(twin)]},
    }
    story = {"recipe": dict(recipe or {}), "lineage": dict(lineage or {})}
    files = _files(twin)
    kept = {name: file_digest(path) for name, path in files.items()}
    identity = digest({**contents, **story, "weights": _bytes_digest(weights), "files": kept})
    folder = root / identity
    if is_finished(folder):
        return folder
    remove_leftovers(root)
    partial = private_name(folder)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        for name, value in contents.items():
            write_json(partial / name, value)
        write_atomically(partial / "weights.safetensors", weights)
        for name, path in files.items():
            shutil.copyfile(path, partial / name)
        digests = {path.name: file_digest(path) for path in sorted(partial.iterdir())}
        path = partial / PROGRAM
        if program is not None and program.of == digest(digests):
            obstacle = _put_program(path, program)
        else:
            obstacle = _write_program(path, twin, example_inputs, probe)
        if path.is_file():
            digests[PROGRAM] = file_digest(path)
        if obstacle and contents["architecture.json"]["constructor"] is None:
            raise IncompatibleModel(obstacle)
        if obstacle and not files:
            warnings.warn(f"{folder} has no {PROGRAM}: {obstacle}", stacklevel=2)
        last = {
            **story,
            "program_missing": obstacle,
            "achieved": dict(achieved or {}),
            "probe": probe.tolist(),
            "files": digests,
        }
        write_json(partial / LAST_FILE, last)
        _put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _describe(model: nn.Module, example_inputs: Tensor, *, num_classes: int) -> dict[str, Any]:
    """The architecture as JSON: how to construct it, and what to expect of it."""
    ours = isinstance(model, ClassifierModule)
    constructor, reason = constructor_of(model)
    files = {name: _file_name(path) for name, path in getattr(model, "files", {}).items()}
    if constructor is not None:
        constructor |= files
    return {
        "format": FORMAT,
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "class_digest": class_digest(type(model)),
        "constructor": constructor,
        "constructor_missing": reason,
        "files": files,
        "input_shape": list(example_inputs.shape[1:]),
        "num_classes": num_classes,
        "preprocessing": cast(ClassifierModule, model).preprocessing.as_dict() if ours else None,
    }


def read_artifact(folder: Path) -> Artifact:
    """Read what is known about a stored model; every file is compared with its digest.

    Raises:
        FileNotFoundError: There is no such folder.
        DataError: The folder is unfinished, damaged, or of another format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no artifact at {folder}")
    if not is_finished(folder):
        raise DataError(f"{folder} is unfinished: it has no {LAST_FILE}; make it again")
    last = _read_json(folder / LAST_FILE)
    for name, expected in last["files"].items():
        if not (folder / name).is_file() or file_digest(folder / name) != expected:
            raise DataError(f"{folder / name} is damaged or missing; make the artifact again")
    architecture = _read_json(folder / "architecture.json")
    if architecture["format"] != FORMAT:
        raise DataError(
            f"{folder} has format {architecture['format']}, this version reads {FORMAT}"
        )
    steps = _read_json(folder / "edits.json")["steps"]
    return Artifact(
        folder=folder,
        architecture=architecture,
        steps=tuple(map(Edits.from_json, steps)),
        recipe=last["recipe"],
        lineage=last["lineage"],
        achieved=last["achieved"],
        probe=torch.tensor(last["probe"]),
        program_missing=last["program_missing"],
        digests=last["files"],
    )


def load_artifact(folder: Path) -> ClassifierModule:
    """Build the stored model, in eval mode, on the CPU.

    Warns where the model's own class could not be used; it is for inference only then.

    Raises:
        FileNotFoundError: There is no such folder.
        DataError: The artifact is damaged, or neither form of it can be loaded.
    """
    artifact = read_artifact(Path(folder))
    model, reason = _rebuild(artifact)
    if model is None:
        model = _program_of(artifact, reason)
    model.achieved = artifact.achieved
    return model


def _program_of(artifact: Artifact, reason: str) -> ClassifierModule:
    """The stored program, which needs no class."""
    folder = artifact.folder
    if artifact.program_missing:
        raise DataError(f"{folder} cannot be loaded: {reason}; and {artifact.program_missing}")
    warnings.warn(f"{folder} is loaded for inference only: {reason}", stacklevel=3)
    return ExportedClassifier(
        str(folder / PROGRAM),
        num_classes=artifact.architecture["num_classes"],
        preprocessing=_preprocessing(artifact),
    ).eval()


def rebuild_artifact(folder: Path) -> ClassifierModule:
    """Build the stored model as its own class, in eval mode; `model.pt2` is never loaded.

    Raises:
        DataError: The artifact is damaged, or its class is gone or computes something else by now.
    """
    model, reason = _rebuild(read_artifact(Path(folder)))
    if model is None:
        remedy = "make the artifact again, or use the code that made it"
        raise DataError(f"{folder} is no checkpoint here: {reason}; {remedy}")
    return model


def is_finished(folder: Path) -> bool:
    """Whether an artifact was written to its end."""
    return (folder / LAST_FILE).is_file()


def _rebuild(artifact: Artifact) -> tuple[ClassifierModule | None, str]:
    """The model as its own class, or the reason why not."""
    node = artifact.architecture["constructor"]
    if node is None:
        return None, artifact.architecture["constructor_missing"]
    try:
        kind = resolve(node["_target_"], expects=ClassifierModule)
        files = artifact.architecture["files"]
        paths = {argument: str(artifact.folder / name) for argument, name in files.items()}
        with Undrawn():
            model = kind(**{**arguments_of(kind, node), **paths})
        for edits in artifact.steps:
            perform(model, edits)
        model.preprocessing = _preprocessing(artifact)
        model.load_state_dict(load_file(artifact.folder / "weights.safetensors"))
    except (ConfigError, ImportError, TypeError, ValueError, LookupError, RuntimeError) as error:
        text = (str(error).splitlines() or [""])[0]
        return None, f"its class cannot be used ({type(error).__name__}: {text})"
    model.eval()
    if _agree(_probe(model, artifact.architecture["input_shape"]), artifact.probe):
        return model, ""
    changed = artifact.architecture["class_digest"] != class_digest(kind)
    why = "its source changed" if changed else "what it builds on changed"
    return None, f"{node['_target_']} computes other logits by now: {why}"


def _probe(model: nn.Module, shape: Sequence[int]) -> Tensor:
    """Logits [2, C] of two fixed noise images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((2, *shape), generator=generator)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.no_grad():
        return cast(Tensor, model(images.to(device))).float().cpu()


def _agree(logits: Tensor, expected: Tensor) -> bool:
    off = (logits - expected).abs().max()
    return bool(off <= PROBE_TOLERANCE * expected.abs().max().clamp(min=1))


def _files(model: nn.Module) -> dict[str, Path]:
    """Name in the artifact -> file that the model is run from."""
    return {_file_name(path): path for path in getattr(model, "files", {}).values()}


def _file_name(path: Path) -> str:
    return f"model{path.suffix}"


def program_of(artifact: Artifact) -> Program:
    """What `save_artifact` need not do again for the same model."""
    path = artifact.folder / PROGRAM
    return Program(
        of=digest({name: value for name, value in artifact.digests.items() if name != PROGRAM}),
        content=path.read_bytes() if path.is_file() else b"",
        missing=artifact.program_missing,
    )


def _put_program(path: Path, program: Program) -> str:
    """Write what was compared before; returns why there is nothing to write."""
    if program.content:
        write_atomically(path, program.content)
    return program.missing


def _write_program(path: Path, model: nn.Module, example_inputs: Tensor, probe: Tensor) -> str:
    """Export, and keep the file only if it computes what the model computes; else say why not."""
    runtime = getattr(model, "runtime", "torch")
    if runtime != "torch":
        return f"a model run by {runtime} is no program of torch"
    try:
        write_atomically(path, export_bytes(model, example_inputs))
    except IncompatibleModel as error:
        return str(error)
    program = load_program(path).module()
    if _agree(_probe(program, example_inputs.shape[1:]), probe):
        return ""
    path.unlink()
    return f"torch.export gives other logits than {type(model).__name__}"


def _put_in_place(partial: Path, folder: Path) -> None:
    """Rename; what lies there already is an equal artifact, or unfinished and moved aside."""
    if folder.is_dir() and not is_finished(folder):
        folder.rename(private_name(folder).with_suffix(".unfinished"))
    try:
        partial.rename(folder)
    except OSError:
        if not is_finished(folder):  # another process was faster with an equal one
            raise


def _preprocessing(artifact: Artifact) -> Preprocessing:
    """As stored; a network that was no classifier of ours takes its images as they are."""
    stored = artifact.architecture["preprocessing"]
    if stored is None:
        channels = artifact.architecture["input_shape"][0]
        return Preprocessing(mean=(0.0,) * channels, std=(1.0,) * channels)
    tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return Preprocessing(**tuples)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged or missing ({type(error).__name__})") from error


def _bytes_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
