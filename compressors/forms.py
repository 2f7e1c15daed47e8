"""A stored model in the forms that others load, each verified before it is kept."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from compressors.export import masks_of, require_torch, runtime_of, write_tensors
from core.errors import ConfigError, DataError, IncompatibleModel, unknown
from core.files import private_name
from models.base_model import ClassifierModule
from models.deployed import require_equal
from models.examples import example_images
from models.exported import ExportedClassifier, export_bytes

log = logging.getLogger(__name__)

Form = Literal["exported", "onnx", "openvino", "masks"]
FORMS: tuple[Form, ...] = get_args(Form)

FILES: Mapping[Form, str] = {
    "exported": "model.pt2",
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "masks": "masks.safetensors",
}
"""What a form is called beside the artifact."""


def form_faults(forms: object) -> list[str]:
    """Sentences about what is no list of forms.

    Example:
        >>> form_faults(["onnx"])
        []
    """
    if not isinstance(forms, list):
        hint = f"; write export=[{forms}]" if isinstance(forms, str) else ""
        return [f"export is a list of {', '.join(FORMS)}, got {forms!r}{hint}"]
    return [unknown("form of export", form, FORMS) for form in forms if form not in FORMS]


def export_forms(
    model: ClassifierModule, before: ClassifierModule, folder: Path, forms: Sequence[Form]
) -> list[Path]:
    """Write a model in other forms, each compared with its logits before it is kept.

    A file that is there and gives these logits stays.

    Args:
        model: In eval mode; left as it is.
        before: What it was compressed from.
        folder: Where the files go.
        forms: What to write.

    Returns:
        One file a form, in the order of `forms`.

    Raises:
        ConfigError: There is no such form.
        IncompatibleModel: Forms the model does not have; all of them, each with the reason.
    """
    unheard = form_faults(list(forms))
    if unheard:
        raise ConfigError(unheard)
    writers: dict[Form, Callable[[], Path]] = {
        "exported": lambda: _program(model, folder / FILES["exported"]),
        "onnx": lambda: _onnx(model, folder / FILES["onnx"]),
        "openvino": lambda: _openvino(model, folder / FILES["openvino"]),
        "masks": lambda: _masks(model, before, folder / FILES["masks"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written, faults = [], []
    for form in forms:
        try:
            written.append(writers[form]())
        except IncompatibleModel as error:
            faults.append(f"{form}: {error}")
    if faults:
        raise IncompatibleModel("; ".join(faults))
    return written


def _program(model: ClassifierModule, path: Path) -> Path:
    def load(file: Path) -> ClassifierModule:
        return ExportedClassifier(
            str(file), num_classes=model.num_classes, preprocessing=model.preprocessing
        ).eval()

    if runtime_of(model) == "torch_export" or _is_good(load, model, path):
        return path
    require_torch(model)
    twin = copy.deepcopy(model).cpu().eval()
    partial = private_name(path)
    try:
        partial.write_bytes(export_bytes(twin, example_images(twin, 2)))
        require_equal(twin, load(partial), example_images(twin, 3))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _onnx(model: ClassifierModule, path: Path) -> Path:
    from models.onnx_runtime import OnnxClassifier, export_onnx

    if runtime_of(model) == "onnxruntime":
        return cast(OnnxClassifier, model).files["path"]
    if _is_good(lambda file: OnnxClassifier(str(file)), model, path):
        return path
    require_torch(model)
    return export_onnx(model, path)


def _openvino(model: ClassifierModule, path: Path) -> Path:
    from models.openvino_runtime import OpenVinoClassifier, export_openvino

    if runtime_of(model) == "openvino":
        return cast(OpenVinoClassifier, model).files["path"]
    if _is_good(lambda file: OpenVinoClassifier(str(file)), model, path):
        return path
    require_torch(model)
    return export_openvino(model, path)


def _masks(model: ClassifierModule, before: ClassifierModule, path: Path) -> Path:
    write_tensors(path, masks_of(before, model))
    return path


def _is_good(load: Callable[[Path], ClassifierModule], model: ClassifierModule, path: Path) -> bool:
    """Whether a file is there and gives the model's logits."""
    if not path.is_file():
        return False
    twin = copy.deepcopy(model).cpu().eval()
    try:
        require_equal(twin, load(path), example_images(twin, 3))
    except (DataError, IncompatibleModel) as error:
        log.warning("%s is written anew: %s", path, error)
        return False
    return True
