from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compressors.forms import FORMS, export_forms, form_faults
from core.errors import ConfigError, IncompatibleModel
from models.edits import Edits, perform
from models.onnx_runtime import OnnxClassifier
from models.small.digits import DigitsCNN


@pytest.fixture
def before() -> DigitsCNN:
    return DigitsCNN().eval()


@pytest.fixture
def narrow() -> DigitsCNN:
    model = DigitsCNN().eval()
    one = {"out": [0]}
    sides = {"backbone.block1.conv1": one, "backbone.block1.bn1": one}
    perform(model, Edits(removed={**sides, "backbone.block1.conv2": {"in": [0]}}))
    return model


@pytest.mark.parametrize(
    ("forms", "told"),
    [("onnx", "write export=[onnx]"), (None, "got None"), (["onx"], "did you mean 'onnx'")],
    ids=["text", "nothing", "unknown"],
)
def test_what_is_no_list_of_forms_is_told(forms: object, told: str) -> None:
    (fault,) = form_faults(forms)
    assert told in fault
    assert form_faults([*FORMS]) == []


def test_masks_are_written_beside(before: DigitsCNN, narrow: DigitsCNN, tmp_path: Path) -> None:
    (path,) = export_forms(narrow, before, tmp_path / "artifact", ["masks"])
    masks = load_file(path)
    assert path.name == "masks.safetensors"
    assert masks["block1.conv1.weight"].flatten(1).all(1).tolist() == [True] + [False] * 15


def test_every_form_that_is_not_there_is_told(before: DigitsCNN, tmp_path: Path) -> None:
    twin = DigitsCNN().eval()
    twin.runtime = "openvino"
    with pytest.raises(IncompatibleModel) as told:
        export_forms(twin, before, tmp_path, ["onnx", "masks"])
    assert "onnx: a model run by openvino" in str(told.value)
    assert "masks: " in str(told.value)
    with pytest.raises(ConfigError, match="pickle"):
        export_forms(twin, before, tmp_path, ["pickle"])  # type: ignore[list-item]


@pytest.mark.slow
def test_files_give_the_models_logits_and_are_made_anew_where_damaged(
    before: DigitsCNN, narrow: DigitsCNN, tmp_path: Path
) -> None:
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    program, graph = export_forms(narrow, before, tmp_path, ["exported", "onnx"])
    with torch.no_grad():
        expected, got = narrow(images), OnnxClassifier(str(graph))(images)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)  # another runtime's rounding
    content = graph.read_bytes()
    program.write_bytes(b"no program")
    made = program.stat().st_ino, graph.stat().st_ino
    assert export_forms(narrow, before, tmp_path, ["exported", "onnx"]) == [program, graph]
    assert (program.stat().st_ino == made[0], graph.stat().st_ino == made[1]) == (False, True)
    assert graph.read_bytes() == content


@pytest.mark.slow
def test_openvino_is_written_with_its_numbers(
    before: DigitsCNN, narrow: DigitsCNN, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    (path,) = export_forms(narrow, before, tmp_path, ["openvino"])
    assert path.suffix == ".xml"
    assert path.with_suffix(".bin").is_file()
    assert export_forms(narrow, before, tmp_path, ["openvino"]) == [path]
