"""Cost of models whose numbers can be counted by hand."""

import gzip
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import safetensors.torch
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.utils import prune

from core.errors import NotApplicable
from core.preprocessing import Preprocessing
from measurements.benefits import cost, deployment
from measurements.benefits.cost import (
    BestThroughput,
    Macs,
    NonzeroParameters,
    Parameters,
    WeightBits,
    WeightBytes,
    ZippedBytes,
)
from measurements.benefits.deployment import BatchDependence, CompressionCost, Energy, StartUp
from measurements.benefits.operations import BitOperations, EffectiveMacs
from measurements.functional.timing import Session
from measurements.measurement import Measurement
from models.base_model import ClassifierModule
from models.edits import Edits, perform
from recording.loop import Batch

INTEGERS = "models.quantized.IntegerLinear"


class Pixels(ClassifierModule):
    """A linear layer over the four pixels of images [B, 1, 2, 2] that go in as they are."""

    def load_backbone(self) -> nn.Module:
        layer = nn.Linear(4, 2, bias=False)
        nn.init.ones_(layer.weight)
        return nn.Sequential(nn.Flatten(), layer)

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(size=(2, 2), mean=(0.0,), std=(1.0,))

    @property
    def layer(self) -> nn.Linear:
        layer = self.get_submodule("backbone.1")
        assert isinstance(layer, nn.Linear)
        return layer


def pruned() -> Pixels:
    """With three of its eight weights under a mask."""
    model = Pixels()
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    prune.custom_from_mask(model.layer, "weight", mask)
    return model


def measured(kind: type[Measurement], model: ClassifierModule, **options: Any) -> dict[str, Any]:
    return {
        key.removeprefix("model_test_"): value
        for key, value in kind([], model, OmegaConf.create({}), **options).measure().items()
    }


def test_counts_of_a_masked_layer() -> None:
    assert measured(Macs, pruned()) == {"macs": 8}
    assert measured(EffectiveMacs, pruned()) == {"effective_macs": 5}
    assert measured(BitOperations, pruned()) == {"bit_operations": 8 * 32 * 32}


def test_zeros_under_a_mask_are_no_parameters_of_worth() -> None:
    found = measured(NonzeroParameters, pruned())
    assert found == {"nonzero_params": 5}
    assert found["nonzero_params"].n == 8  # of the eight that stay in the file


def test_bits_are_those_of_the_types_without_masks_and_buffers() -> None:
    model = pruned()
    model.layer.register_buffer("seen", torch.zeros(9, dtype=torch.int64))
    assert measured(WeightBits, model) == {"weight_bits": 256, "weight_bits_float32": 256}
    model.layer.register_parameter("scale", nn.Parameter(torch.ones(3, dtype=torch.float16)))
    found = measured(WeightBits, model)
    assert found == {"weight_bits": 304, "weight_bits_float16": 48, "weight_bits_float32": 256}


def test_integers_are_the_parameters_they_stand_for() -> None:
    model = Pixels()
    with torch.no_grad():
        model.layer.weight[0, 0] = 0
    perform(model, Edits(replaced={"backbone.1": {"_target_": INTEGERS, "bits": 4}}))
    assert measured(Parameters, model) == {"params": 8}
    assert measured(NonzeroParameters, model) == {"nonzero_params": 7}
    assert measured(Macs, model) == {"macs": 8}
    # four bytes of integers and a step for each of the two rows
    assert measured(WeightBits, model)["weight_bits"] == 8 * (4 + 2 * 4)


def test_half_precision_takes_a_quarter_of_the_bit_operations() -> None:
    model = Pixels(dtype="bfloat16")
    assert measured(BitOperations, model) == {"bit_operations": 8 * 16 * 16}


def test_a_mask_is_baked_before_bytes_are_counted() -> None:
    model = Pixels()
    plain = {"backbone.1.weight": model.layer.weight.detach() * torch.tensor([0.0, 1, 1, 1])}
    prune.custom_from_mask(model.layer, "weight", torch.tensor([[0, 1, 1, 1]] * 2))
    file = safetensors.torch.save(plain)
    assert measured(WeightBytes, model) == {"weight_bytes": len(file)}
    zipped = len(gzip.compress(file, compresslevel=6, mtime=0))
    assert measured(ZippedBytes, model) == {"file_bytes_gzip": zipped}
    assert "weight_orig" in dict(model.layer.named_parameters())


class Ticking(Pixels):
    """Needs 4 ms a call and 1 ms an image up to eight of them, 3 ms for each beyond."""

    slow = 1.0
    now: ClassVar[list[float]] = [0.0]

    def forward(self, images: Tensor) -> Tensor:
        n = len(images)
        self.now[0] += self.slow * (4 + n + 2 * max(0, n - 8)) / 1000
        return super().forward(images)


def test_the_best_batch_is_found_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    session = partial(Session, clock=lambda: Ticking.now[0])
    monkeypatch.setattr(cost, "Session", session)
    model = Ticking()
    model.baseline = Ticking()
    model.baseline.slow = 2.0
    found = measured(BestThroughput, model, seconds=0.0, batch_sizes=[2, 8, 16])
    assert found == {
        "best_throughput": pytest.approx(8000 / 12),  # 2000 / 6 and 16000 / 36 are less
        "best_batch_size": 8,
        "baseline_best_throughput": pytest.approx(4000 / 12),
        "baseline_best_batch_size": 8,
        "best_throughput_ratio": pytest.approx(2),
    }
    assert found["best_throughput"].n == 3


class Deployed(Pixels):
    """As a model of another runtime: a file, and notes on what it was made of."""

    def __init__(self, file: Path) -> None:
        self.file = file
        super().__init__()

    @property
    def files(self) -> dict[str, Path]:
        return {"path": self.file}

    @property
    def counts(self) -> dict[str, int]:
        return {"params": 7, "macs": 11}


def test_what_another_runtime_runs_is_counted_by_its_notes_and_its_file(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(bytes(5000))
    model = Deployed(file)
    assert measured(Parameters, model) == {"params": 7}
    assert measured(Macs, model) == {"macs": 11}
    assert measured(WeightBytes, model) == {"weight_bytes": 5000}
    assert 0 < measured(ZippedBytes, model)["file_bytes_gzip"] < 100


class Centred(Pixels):
    """As a quantization whose range is that of the batch: takes the mean over the batch off."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2] - images.flatten(1)[:, :2].mean(dim=0)


class First(Pixels):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2]


class Two:
    """Gives two images of which the first has logits (1, 0), the second (0, 3)."""

    def images(self, *_: Any, samples: int) -> Iterator[Batch]:
        images = torch.tensor([[1.0, 0, 0, 0], [0.0, 3, 0, 0]]).view(2, 1, 2, 2)
        yield Batch(images=images, labels=torch.tensor([0, 1]), ids=torch.arange(2))


class Shifted(Pixels):
    """Adds to the second logit what is beyond one image in the batch."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2] + torch.tensor([0.0, 1.5]) * (len(images) - 1)


def dependence(model: ClassifierModule) -> dict[str, Any]:
    measurement = BatchDependence(["toy"], model, OmegaConf.create({}), samples=2)
    measurement.recorder = Two()  # type: ignore[assignment]
    return dict(measurement.measure())


def test_dependence_on_the_batch_worked_by_hand() -> None:
    # together the second logit has 1.5 more: half of 3, and the first image changes its class
    found = dependence(Shifted())
    assert found == {"toy_test_batch_dependence": 0.5, "toy_test_batch_decisions": 0.5}
    assert found["toy_test_batch_dependence"].n == 2
    alone = dependence(First())
    assert set(map(float, alone.values())) == {0.0}


def test_a_model_that_says_nothing_alone_has_a_large_dependence() -> None:
    assert dependence(Centred())["toy_test_batch_dependence"] > 1e6


def test_start_up_gives_two_times_and_leaves_the_model_alone() -> None:
    model = Pixels().train()
    before = model.fingerprint()
    found = measured(StartUp, model, repeats=3)
    assert found.keys() == {"load_ms", "first_inference_ms"}
    assert all(value > 0 for value in found.values())
    assert model.training
    assert model.fingerprint() == before


def test_the_start_of_another_runtime_is_not_known() -> None:
    model = Pixels()
    model.runtime = "torch_export"
    with pytest.raises(NotApplicable, match="torch_export"):
        measured(StartUp, model)


class Hungry(Pixels):
    """Takes 3 J for each image, and nothing when idle; it is its own energy counter."""

    taken = 0.0

    def forward(self, images: Tensor) -> Tensor:
        self.taken += 3.0 * len(images)
        return super().forward(images)

    def joules(self) -> float:
        return self.taken


@pytest.mark.parametrize("batch_size", [1, 4])
def test_energy_is_for_1000_images(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Hungry()
    monkeypatch.setattr(deployment, "counter_of", lambda device: model)
    found = measured(Energy, model, seconds=0.002, idle_seconds=0.001, batch_size=batch_size)
    assert found == {"energy": 3000.0, "idle_power": 0.0}
    assert found["energy"].n == model.taken / 3 / batch_size - 1  # the first call does not count


def test_seconds_of_a_compression_add_up() -> None:
    model = Pixels()
    with pytest.raises(NotApplicable, match="not compressed here"):
        measured(CompressionCost, model)
    model.achieved = {"compressor": {}, "seconds": {"compressor": 1.5, "finetune": 2.0}}
    assert measured(CompressionCost, model) == {
        "compression_seconds": 3.5,
        "compression_seconds_compressor": 1.5,
        "compression_seconds_finetune": 2.0,
    }


def test_what_an_artifact_was_made_with_is_no_part_of_the_fingerprint() -> None:
    model = Pixels()
    before = model.fingerprint()
    model.achieved = {"seconds": {"compressor": 1.0}}
    assert model.fingerprint() == before
