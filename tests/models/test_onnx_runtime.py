"""Models run by ONNX Runtime."""

import copy
import pickle
from pathlib import Path

import pytest
import torch

from core.errors import DataError, NotApplicable
from models.examples import example_images
from models.onnx_runtime import OnnxClassifier, export_onnx
from models.small.digits import DigitsCNN

pytestmark = pytest.mark.filterwarnings("ignore")  # of the exporter


@pytest.fixture(scope="module")
def digits() -> DigitsCNN:
    return DigitsCNN().eval()


@pytest.fixture(scope="module")
def file(digits: DigitsCNN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(digits, tmp_path_factory.mktemp("onnx") / "digits.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5], ids=str)
def test_an_export_gives_the_logits_of_its_model(digits: DigitsCNN, file: Path, count: int) -> None:
    images = example_images(digits, count)
    deployed = OnnxClassifier(str(file))
    torch.testing.assert_close(deployed(images), digits(images).detach(), atol=1e-4, rtol=1e-4)
    assert (deployed.num_classes, deployed.preprocessing.size) == (10, (8, 8))
    assert deployed.runtime == deployed.numerics()["runtime"] == "onnxruntime"


@pytest.mark.slow
def test_it_can_be_copied_and_sent_to_another_process(file: Path) -> None:
    deployed = OnnxClassifier(str(file))
    images = example_images(deployed, 2)
    for twin in (copy.deepcopy(deployed), pickle.loads(pickle.dumps(deployed))):
        assert torch.equal(twin(images), deployed(images))
        assert twin.fingerprint() == deployed.fingerprint()


@pytest.mark.slow
def test_another_preprocessing_is_another_model(file: Path) -> None:
    other = OnnxClassifier(str(file), preprocessing={"mean": [0.5], "std": [0.5]})
    assert other.fingerprint() != OnnxClassifier(str(file)).fingerprint()


@pytest.mark.slow
def test_it_has_no_features(file: Path) -> None:
    deployed = OnnxClassifier(str(file))
    with pytest.raises(NotApplicable, match="onnxruntime"):
        deployed.forward_features(example_images(deployed))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.onnx"):
        OnnxClassifier(str(tmp_path / "absent.onnx"))


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(DataError, match=r"text\.onnx is no ONNX file"):
        OnnxClassifier(str(tmp_path / "text.onnx"))
