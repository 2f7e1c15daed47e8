"""Records of views: what identifies them, and which images they are of."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.preprocessing import Preprocessing
from datamodules.views.noise import KINDS
from models.base_model import ClassifierModule
from recording.recorder import Recorder, RecordingOptions

CLASSES = 10


class Mean(ClassifierModule):
    """Logits that tell how bright an image is."""

    def load_backbone(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, CLASSES))

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    """Nine noise images, and CIFAR-10-C with the fog of two."""
    (tmp_path / "clean").mkdir()
    (tmp_path / "fog").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    batch = [np.r_[label, images[label].transpose(2, 0, 1).ravel()] for label in (0, 1)]
    content = np.stack(batch).astype(np.uint8).tobytes()
    (tmp_path / "clean/test_batch.bin").write_bytes(content)
    np.save(tmp_path / "fog/fog.npy", images[2:])
    np.save(tmp_path / "fog/labels.npy", np.tile([0, 1], 5))
    library = {
        "dummy": {"_target_": "datamodules.dummy.Dummy", "samples": 9, "num_classes": CLASSES},
        "cifar10c": {
            "_target_": "datamodules.cifar_relatives.CIFAR10C",
            "root": str(tmp_path / "fog"),
            "cifar10_root": str(tmp_path / "clean"),
        },
        "cifar10": {"_target_": "datamodules.cifar.CIFAR10", "root": str(tmp_path / "clean")},
    }
    return Recorder(RecordingOptions(root=tmp_path / "store", batch_size=4), library)


@pytest.fixture
def model() -> Mean:
    return Mean(num_classes=CLASSES)


def lse(recorder: Recorder, model: Mean, name: str, view: str) -> Tensor:
    return recorder.records(model, name, view=view).column("logsumexp")


def test_a_key_has_name_version_and_parameters_of_a_view(recorder: Recorder, model: Mean) -> None:
    view = recorder.describe(model, "dummy", "test", "gaussian_noise_3").view
    assert set(view) == {"name", "version", "parameters"}
    assert view["parameters"]["small"] == {"sd": 0.08}
    assert recorder.describe(model, "dummy", "test").view == {"name": "clean"}


def test_another_version_or_constant_is_another_record(
    recorder: Recorder, model: Mean, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key() -> str:
        return recorder.describe(model, "dummy", "test", "gaussian_noise_3").key

    before = key()
    monkeypatch.setitem(vars(KINDS[0]), "version", 2)
    newer = key()
    monkeypatch.setitem(vars(KINDS[0]), "small", {"sd": (0.1,) * 5})
    assert len({before, newer, key()}) == 3


def test_an_unknown_view_is_told_before_a_pass(recorder: Recorder, model: Mean) -> None:
    with pytest.raises(LookupError, match="unknown view 'fog_9'"):
        recorder.records(model, "dummy", view="fog_9")
    assert recorder.passes == 0


def test_records_are_of_the_corrupted_images(recorder: Recorder, model: Mean) -> None:
    datamodule = recorder.datamodule("dummy", model)
    images, _ = datamodule.dataset("test").__getitems__(range(9))
    with torch.inference_mode():
        seen = datamodule.view("brightness_5")(images, torch.arange(9))
        expected = model.eval()(seen).logsumexp(dim=1)
    found = lse(recorder, model, "dummy", "brightness_5")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found - lse(recorder, model, "dummy", "clean")).abs().min() > 1e-4


def test_the_batch_size_does_not_change_what_is_seen(
    recorder: Recorder, model: Mean, tmp_path: Path
) -> None:
    options = RecordingOptions(root=tmp_path / "other", batch_size=9)
    whole = Recorder(options, recorder._library)
    found = [lse(one, model, "dummy", "gaussian_noise_5") for one in (recorder, whole)]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)


def test_clean_records_of_the_corrupted_set_are_those_of_cifar10(
    recorder: Recorder, model: Mean
) -> None:
    recorder.records(model, "cifar10")
    recorder.records(model, "cifar10c")
    assert recorder.passes == 1


def test_published_corruptions_are_read_and_identified_by_their_file(
    recorder: Recorder, model: Mean, tmp_path: Path
) -> None:
    found = lse(recorder, model, "cifar10c", "fog_2")
    images = np.load(tmp_path / "fog/fog.npy")[2:4]
    with torch.inference_mode():
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2) / 255).float()
        expected = model.eval()(pixels).logsumexp(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    clean, fog, other = (
        recorder.describe(model, "cifar10c", "test", view) for view in ("clean", "fog_2", "fog_3")
    )
    assert len({clean.manifest, fog.manifest, other.manifest}) == 3
    assert fog.view["parameters"] == {"family": "published"}


def test_other_views_of_the_corrupted_set_are_of_its_clean_images(
    recorder: Recorder, model: Mean
) -> None:
    found = lse(recorder, model, "cifar10c", "flip")
    torch.testing.assert_close(found, lse(recorder, model, "cifar10", "flip"))
    assert recorder.passes == 1
