"""Models run by OpenVINO; what needs it is skipped without the extra."""

import copy
import importlib.util
import pickle
from pathlib import Path

import pytest
import torch

from core.errors import ConfigError, DataError, MissingDependency, NotApplicable
from models.artifacts import load_artifact, save_artifact
from models.examples import example_images
from models.openvino_runtime import OpenVinoClassifier, export_openvino
from models.small.digits import DigitsCNN

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra openvino is missing"
)
exporting = pytest.mark.filterwarnings("ignore")  # of the exporter


@pytest.fixture(scope="module")
def digits() -> DigitsCNN:
    return DigitsCNN().eval()


@pytest.fixture(scope="module")
def file(digits: DigitsCNN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_openvino(digits, tmp_path_factory.mktemp("openvino") / "digits.xml")


@pytest.mark.slow
@needs_openvino
@exporting
def test_an_export_gives_the_logits_of_its_model(digits: DigitsCNN, file: Path) -> None:
    images = example_images(digits, 5)
    deployed = OpenVinoClassifier(str(file))
    torch.testing.assert_close(deployed(images), digits(images).detach(), atol=1e-4, rtol=1e-4)
    assert (deployed.num_classes, deployed.preprocessing.size) == (10, (8, 8))
    assert deployed.runtime == deployed.numerics()["runtime"] == "openvino"
    assert sorted(p.name for p in file.parent.iterdir()) == ["digits.bin", "digits.xml"]
    with pytest.raises(NotApplicable, match="openvino gives logits, not features"):
        deployed.forward_features(images)


@pytest.mark.slow
@needs_openvino
@exporting
def test_copies_pickles_and_artifacts_are_the_same_model(file: Path, tmp_path: Path) -> None:
    deployed = OpenVinoClassifier(str(file)).eval()
    images = example_images(deployed, 2)
    stored = save_artifact(tmp_path, deployed, example_inputs=images)
    assert {"model.xml", "model.bin"} <= {path.name for path in stored.iterdir()}
    twins = copy.deepcopy(deployed), pickle.loads(pickle.dumps(deployed)), load_artifact(stored)
    for twin in twins:
        assert torch.equal(twin(images), deployed(images))
        assert twin.fingerprint() == deployed.fingerprint()


@pytest.mark.slow
@needs_openvino
@exporting
def test_bfloat16_is_only_what_was_asked_for(file: Path) -> None:
    exact, rounded = (OpenVinoClassifier(str(file), dtype=d) for d in ("float32", "bfloat16"))
    hint = "INFERENCE_PRECISION_HINT"
    assert str(exact.session.opened.get_property(hint)).endswith("float32'>")
    assert rounded.numerics()["dtype"] == "bfloat16"
    assert exact.numerics()["dtype"] == "float32"


@pytest.mark.slow
@needs_openvino
def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    for name in ("text.xml", "text.bin"):
        (tmp_path / name).write_text("no graph")
    with pytest.raises(DataError, match=r"text\.xml is no network that openvino"):
        OpenVinoClassifier(str(tmp_path / "text.xml"))


def test_its_absence_tells_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("core.optional.importlib.import_module", refuse)
    with pytest.raises(MissingDependency, match=r"pip install -e '\.\[openvino\]'"):
        OpenVinoClassifier(str(tmp_path / "any.xml"))


def test_a_precision_it_does_not_have_is_told() -> None:
    with pytest.raises(ConfigError, match=r"model\.dtype is one of float32, bfloat16"):
        OpenVinoClassifier("any.xml", dtype="float16")
