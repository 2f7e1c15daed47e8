"""A model as `torch.export` stores it: runs without the class that made it, and cannot be trained.

Loading such a file is where a stranger's code could run: torch falls back to unrestricted pickle
for some of its entries, evaluates the texts of symbolic shapes, and looks operators up by dotted
path. So every entry is read once and checked against a short list, and torch gets a new archive of
what was checked: its reader and Python's may find different entries in one file.
"""

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from core.digest import file_digest
from core.errors import DataError, IncompatibleModel, NotApplicable
from core.preprocessing import Preprocessing
from models.base_model import ClassifierModule

OPERATOR = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.wrap_with_(autocast|set_grad_enabled)"
    r"|torch\._?sym_\w+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_)"
)
EXPRESSION = re.compile(r"(?:[\w\s+*/(),<>=&|~%-]|(?<=\d)\.(?=\d))*")
PLAIN_SPEC = re.compile(
    r'(?:[\[\]{}\s,:\d]|null|"(?:type|context|children_spec|null|\[\]|builtins\.(?:tuple|list|dict))")*'
)
CALLS = re.compile(r"Symbol|Integer|Add|Mul|Pow|Max|Min|Mod|FloorDiv|CleanDiv|Eq|Ne")
PLAIN_ENTRY = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|\.format_version|\.storage_alignment"
    r"|data/serialization_id|models/model\.json"
    r"|data/(weights|constants)/model_(weights|constants)_config\.json"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+|data/sample_inputs/model\.pt",
    re.ASCII,
)
LOCAL_HEADER = 30
"""Bytes before the name of an entry in a zip archive."""


def export_bytes(model: nn.Module, example_inputs: Tensor) -> bytes:
    """The file of `torch.export` for any batch size, without the paths of this machine.

    Args:
        model: In eval mode, on the CPU.
        example_inputs: One batch, shape [N, K, H, W]; its shape counts.

    Raises:
        IncompatibleModel: `torch.export` cannot follow the model.
    """
    # Zeros, since they are stored with the program; two, since one would be taken for a constant.
    inputs = torch.zeros(2, *example_inputs.shape[1:], dtype=example_inputs.dtype)
    try:
        with torch.no_grad():
            program = torch.export.export(
                _Function(model), (inputs,), dynamic_shapes=({0: Dim("batch", min=1)},)
            )
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise IncompatibleModel(
            f"torch.export cannot follow {type(model).__name__}: {type(error).__name__}: {reason}"
        ) from error
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


class _Function(nn.Module):
    """A model as nothing but a function of images; Lightning's own attributes resist tracing."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, C]."""
        return self.model(images)


def load_program(path: Path) -> ExportedProgram:
    """Read a file of `export_bytes`, after checking that nothing in it can run code.

    Raises:
        DataError: The file is damaged, or holds more than tensors and known operators.
    """
    try:
        entries, faults = _read_once(path)
        faults = faults or list(_content_faults(entries))
    except Exception as error:  # damaged bytes raise anything, from BadZipFile on
        raise DataError(f"{path} is damaged: {error}") from error
    if faults:
        raise DataError(f"{path} is not loaded, it could run code: {'; '.join(faults[:3])}")
    try:
        return torch.export.load(_packed(entries))
    except Exception as error:  # torch does not say which
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{path} cannot be loaded by torch {torch.__version__}, it is damaged or of another "
            f"version ({type(error).__name__}: {reason})"
        ) from error


def _read_once(path: Path) -> tuple[dict[str, bytes], list[str]]:
    """Entries by name without the archive's folder, or why they are not read."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        faults = list(_layout_faults(infos))
        return {} if faults else {_entry(info): archive.read(info) for info in infos}, faults


def _packed(entries: Mapping[str, bytes]) -> io.BytesIO:
    """A new archive: what torch's own reader finds in it is what was checked, and nothing else."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for entry, content in entries.items():
            archive.writestr(f"archive/{entry}", content)
    buffer.seek(0)
    return buffer


def _entry(info: zipfile.ZipInfo) -> str:
    return info.filename.partition("/")[2]


def _layout_faults(infos: list[zipfile.ZipInfo]) -> Iterator[str]:
    """Everything by which two readers could disagree on what is in the archive."""
    folders = {info.filename.partition("/")[0] for info in infos}
    if len(folders) > 1:
        yield f"folders {', '.join(sorted(folders))}"
    counts = Counter(_entry(info).lower() for info in infos)  # torch ignores case
    yield from (f"more than one entry {entry}" for entry, count in counts.items() if count > 1)
    for info in infos:
        if not PLAIN_ENTRY.fullmatch(_entry(info)):
            yield f"entry {_entry(info)}"
        elif info.compress_type != zipfile.ZIP_STORED:
            yield f"compressed entry {_entry(info)}"
    ordered = sorted(infos, key=lambda info: info.header_offset)
    for one, after in pairwise(ordered):
        if one.header_offset + LOCAL_HEADER + one.compress_size > after.header_offset:
            yield f"entries {_entry(one)} and {_entry(after)} overlap"


def _content_faults(entries: Mapping[str, bytes]) -> Iterator[str]:
    """Everything in the entries that torch would do more with than read numbers."""
    for entry, content in entries.items():
        if entry.endswith("_config.json"):
            yield from _payload_faults(json.loads(content.decode()))
        elif entry.startswith("models/"):
            yield from _program_faults(json.loads(content.decode()))
        elif entry.endswith(".pt"):
            try:
                torch.load(io.BytesIO(content), weights_only=True)
            except Exception as error:  # noqa: BLE001 - any failure means: not plain tensors
                yield f"{entry} ({type(error).__name__})"


def _payload_faults(config: Mapping[str, Any]) -> Iterator[str]:
    for name, payload in config["config"].items():
        if payload["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", payload["path_name"]):
            yield f"{name} is pickled"


def _program_faults(value: Any, key: str = "") -> Iterator[str]:
    """Texts that would be evaluated, and operators that are none of arithmetic."""
    if isinstance(value, dict) and key != "expr_str":
        for inner, item in value.items():
            yield from _program_faults(item, inner)
    elif isinstance(value, list):
        for item in value:
            yield from _program_faults(item, key)
    elif key in ("target", "as_operator") and not OPERATOR.fullmatch(str(value)):
        yield f"operator {value}"
    elif key == "expr_str" and not _is_arithmetic(str(value)):
        yield f"expression {value}"
    elif key == "guards_code":
        yield f"guard {value}"
    elif key in ("in_spec", "out_spec") and not PLAIN_SPEC.fullmatch(str(value)):
        yield f"container {value}"


def _is_arithmetic(text: str) -> bool:
    """Whether a symbolic expression is nothing but numbers, symbols and known functions."""
    bare = re.sub(r"Symbol\('\w+'(, \w+=(True|False))*\)", "Symbol()", text)
    called = re.findall(r"(\w+)\s*\(", bare)
    return bool(EXPRESSION.fullmatch(bare)) and all(CALLS.fullmatch(name) for name in called)


class ExportedClassifier(ClassifierModule):
    """A classifier out of `model.pt2`: inference alone, normalisation included in the program.

    Args:
        program: File of `export_bytes`.
        num_classes: Width of the logits.
        preprocessing: How it wants its images.
    """

    runtime = "torch_export"
    _stored: tuple[Path, Preprocessing]

    def __init__(self, program: str, *, num_classes: int, preprocessing: Preprocessing) -> None:
        self._stored = (Path(program), preprocessing)
        super().__init__(num_classes=num_classes, pretrained=False)
        self.requires_grad_(False)

    def load_backbone(self) -> nn.Module:
        """The program as a module."""
        return load_program(self._stored[0]).module()

    def default_preprocessing(self) -> Preprocessing:
        """What was stored with the program."""
        return self._stored[1]

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C] of images [B, K, H, W] in [0, 1]; the program normalises."""
        self.normalise(images)  # for its checks
        channels = self.preprocessing.channels
        return self.backbone(images.expand(-1, channels, -1, -1)).float()

    def forward_features(self, images: Tensor) -> Tensor:
        """Not known: a program has no layers to ask.

        Raises:
            NotApplicable: Always.
        """
        raise NotApplicable("a model loaded from model.pt2 gives logits, not features")

    def train(self, mode: bool = True) -> "ExportedClassifier":
        """Note the mode; the program always computes as in eval mode."""
        self.training = mode
        return self

    def fingerprint(self) -> str:
        """Digest of the file: the program has no other identity."""
        return file_digest(self._stored[0])
