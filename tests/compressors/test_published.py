"""Facts about published weights on real data, reproduced."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from compressors.base import Compressor
from compressors.deploy.openvino import OpenVino
from compressors.deploy.ort import Ort
from compressors.pruning.filters import L1Filter
from compressors.pruning.level import Level
from compressors.quantization.int8 import Int8Static
from compressors.quantization.naive import Naive
from compressors.resources import Resources
from compressors.selfcheck import same_function
from models.artifacts import load_artifact, save_artifact
from models.deployed import DeployedClassifier
from models.small.resnet_cifar import CifarResNet

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Cifar:
    """CIFAR-10's test batch: images in [0, 1] and labels."""

    images: Tensor
    labels: Tensor
    tuning: Resources

    def predictions(self, model: torch.nn.Module) -> Tensor:
        model.eval()
        with torch.inference_mode():
            return torch.cat([model(batch).argmax(1) for batch in self.images.split(500)])

    def accuracy(self, predictions: Tensor) -> float:
        return round(float((predictions == self.labels).double().mean()), 4)


@pytest.fixture(scope="module")
def cifar(data_dir: Path) -> Cifar:
    images, labels = read(data_dir / "cifar10" / "test_batch.bin")
    tuning = read(data_dir / "cifar10" / "data_batch_1.bin")

    def batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(*(part[:count].split(64) for part in tuning), strict=True)

    given = Resources(batches=batches, score=unused, train=unused)
    return Cifar(images, labels, given)


def read(path: Path) -> tuple[Tensor, Tensor]:
    rows = np.fromfile(path, dtype=np.uint8).reshape(-1, 3073)
    images = torch.from_numpy(rows[:, 1:]).view(-1, 3, 32, 32).float() / 255
    return images, torch.from_numpy(rows[:, 0].astype(np.int64))


def unused(*_: object, **__: object) -> float:
    raise AssertionError("neither scored nor trained")


@pytest.fixture(scope="module")
def resnet20(data_dir: Path) -> CifarResNet:
    return CifarResNet(20, checkpoint=str(data_dir / "weights" / "resnet20-12fca82f.th"))


def test_half_of_all_weights_of_a_resnet20(cifar: Cifar, resnet20: CifarResNet) -> None:
    level = Level(sparsity=0.5, scope="global", op_types=["Conv2d"])
    after = level.compress(resnet20, cifar.images[:2]).model
    old, new = cifar.predictions(resnet20), cifar.predictions(after)
    assert (cifar.accuracy(old), cifar.accuracy(new)) == (0.9173, 0.9018)
    assert int((old != new).sum()) == 559
    right = [old == cifar.labels, new == cifar.labels]
    assert int((right[0] & ~right[1]).sum()) == 310
    assert int((right[1] & ~right[0]).sum()) == 155


def test_a_third_of_the_inner_filters_of_a_resnet20(
    cifar: Cifar, resnet20: CifarResNet, tmp_path: Path
) -> None:
    l1_filter = L1Filter(sparsity=0.3, op_names=["layer*.*.conv1"])
    result = l1_filter.compress(resnet20, cifar.images[:2])
    assert cifar.accuracy(cifar.predictions(result.model)) == 0.6391
    assert result.report.achieved["params_after"] == 191_626
    comparison = same_function(
        resnet20.eval(), result.model.eval(), result.edits, cifar.images[:64]
    )
    assert comparison.fault == ""
    stored = save_artifact(tmp_path, result.model, example_inputs=cifar.images[:2])
    with torch.no_grad():
        assert torch.equal(
            load_artifact(stored)(cifar.images[:64]), result.model(cifar.images[:64])
        )


def test_one_recipe_after_the_other(cifar: Cifar, resnet20: CifarResNet, tmp_path: Path) -> None:
    images = cifar.images[:2]
    first = L1Filter(sparsity=0.3, op_names=["layer*.*.conv1"]).compress(resnet20, images)
    second = Level(sparsity=0.3).compress(first.model, images)
    assert second.model.baseline is resnet20
    stored = load_artifact(save_artifact(tmp_path, second.model, example_inputs=images))
    with torch.no_grad():
        assert torch.equal(stored(images), second.model.eval()(images))
    again = L1Filter(sparsity=0.3).compress(stored, images)
    assert again.report.achieved["params_after"] < second.report.achieved["params_after"]


@pytest.mark.parametrize(("bits", "accuracy"), [(8, 0.9177), (4, 0.9011)])
def test_simulated_bits_of_a_resnet20(
    cifar: Cifar, resnet20: CifarResNet, bits: int, accuracy: float
) -> None:
    after = Naive(quant_bits=bits).compress(resnet20, cifar.images[:2]).model
    assert cifar.accuracy(cifar.predictions(after)) == accuracy


def deploy(recipe: Compressor, cifar: Cifar, model: CifarResNet) -> DeployedClassifier:
    deployed = recipe.compress(model, cifar.images[:2], cifar.tuning).model
    assert isinstance(deployed, DeployedClassifier)
    return deployed


@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_integers_of_a_resnet20_in_onnx_runtime(cifar: Cifar, resnet20: CifarResNet) -> None:
    floats, integers = (deploy(r, cifar, resnet20) for r in (Ort(), Int8Static()))
    assert cifar.accuracy(cifar.predictions(floats)) == 0.9173
    assert abs(cifar.accuracy(cifar.predictions(integers)) - 0.9173) <= 0.003
    sizes = [model.session.path.stat().st_size for model in (floats, integers)]
    assert sizes[1] <= 0.30 * sizes[0]


@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_integers_of_a_resnet20_in_openvino(cifar: Cifar, resnet20: CifarResNet) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    recipes = (OpenVino(), Int8Static(backend="openvino"))
    floats, integers = (deploy(recipe, cifar, resnet20) for recipe in recipes)
    assert cifar.accuracy(cifar.predictions(floats)) == 0.9173
    assert abs(cifar.accuracy(cifar.predictions(integers)) - 0.9173) <= 0.003
    sizes = [model.files["weights"].stat().st_size for model in (floats, integers)]
    assert sizes[1] <= 0.26 * sizes[0]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050", "resnext26ts", "densenet121"])
def test_families_of_timm_are_removed_not_masked(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    result = L1Filter(sparsity=0.5).compress(model, torch.rand(2, 3, 64, 64))
    assert not result.edits.masked
    assert result.report.achieved["removed"] > 0.6
