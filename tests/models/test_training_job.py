import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compressors.pruning.level import Level
from datamodules.digits import Digits
from datamodules.dummy import Dummy
from models.small.digits import DigitsCNN
from models.training_job import folder_of, train

CONFIG: dict[str, Any] = {
    "seed": 0,
    "model_name": "digits_cnn",
    "datasets": ["digits"],
    "augmentation": {"shift": 1, "flip": False},
    "trainer": {
        "max_epochs": 3,
        "limit_train_batches": 2,
        "accelerator": "cpu",
        "enable_progress_bar": False,
    },
    "wandb": {"mode": "disabled"},
}


def configured(**trainer: Any) -> dict[str, Any]:
    return {**CONFIG, "trainer": {**CONFIG["trainer"], **trainer}}


def job(folder: Path, **trainer: Any) -> Path:
    torch.manual_seed(0)
    model = DigitsCNN(pretrained=False, learning_rate=0.01)
    return train(model, Digits(batch_size=32), folder=folder, config=configured(**trainer))


def test_the_weights_are_exported_and_load_as_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DigitsCNN(pretrained=False)
    weights = train(model, Digits(), folder=tmp_path, config=configured(max_epochs=1))
    assert weights == tmp_path / "weights.safetensors"
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(DigitsCNN(checkpoint=str(weights)).eval()(images), model(images))


def test_what_was_asked_for_lies_beside_the_weights(tmp_path: Path) -> None:
    job(tmp_path, max_epochs=1)
    assert json.loads((tmp_path / "config.json").read_text()) == configured(max_epochs=1)


def test_the_best_and_the_last_epoch_are_kept(tmp_path: Path) -> None:
    job(tmp_path)
    last, best = (
        torch.load(tmp_path / f"{name}.ckpt", weights_only=True) for name in ("last", "best")
    )
    assert last["epoch"] == 2
    best_paths = [state.get("best_model_path") for state in last["callbacks"].values()]
    assert best["epoch"] <= last["epoch"]
    assert str(tmp_path / "best.ckpt") in best_paths
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]


def test_the_last_epoch_is_kept_where_validations_are_rarer(tmp_path: Path) -> None:
    job(tmp_path, check_val_every_n_epoch=2)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 2
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 1


def test_a_lightning_checkpoint_of_the_training_loads(tmp_path: Path) -> None:
    weights = load_file(job(tmp_path))
    loaded = DigitsCNN(checkpoint=str(tmp_path / "last.ckpt"))
    torch.testing.assert_close(dict(loaded.backbone.state_dict()), weights, rtol=0, atol=0)


def test_zeros_of_a_compressed_model_stay_zero(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pruned = Level(sparsity=0.5).compress(DigitsCNN(pretrained=False), torch.rand(2, 1, 8, 8))
    zeros = {name: tensor == 0 for name, tensor in pruned.model.named_parameters()}
    train(pruned.model, Digits(), folder=tmp_path, config=configured(max_epochs=1))
    after = dict(pruned.model.named_parameters())
    held = [name for name, tensor in zeros.items() if tensor.ndim > 1]
    assert held
    assert all(torch.equal(after[name] == 0, zeros[name]) for name in held)


class Killed(BaseException):
    """As abrupt as it gets inside a process."""


class Watched(DigitsCNN):
    """Counts its steps, and dies in an epoch if it is told to."""

    def __init__(self, dies_in: int = -1, **options: Any) -> None:
        super().__init__(**options)
        self.dies_in, self.steps = dies_in, 0

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.steps += 1
        if self.current_epoch == self.dies_in:
            raise Killed


def watched_job(
    folder: Path, *, dies_in: int = -1, learning_rate: float = 0.01
) -> tuple[bytes, int]:
    """Bytes of the weights, and the number of steps it took to get them."""
    torch.manual_seed(0)
    model = Watched(dies_in, pretrained=False, learning_rate=learning_rate)
    weights = train(model, Digits(batch_size=32), folder=folder, config=CONFIG)
    return weights.read_bytes(), model.steps


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_training_ends_with_the_weights_of_one_that_ran_through(
    epoch: int, tmp_path: Path
) -> None:
    whole, steps = watched_job(tmp_path / "whole")
    with pytest.raises(Killed):
        watched_job(tmp_path / "killed", dies_in=epoch)
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    resumed, steps_left = watched_job(tmp_path / "killed")
    assert resumed == whole
    assert (steps, steps_left) == (3 * 2, (3 - epoch) * 2)


@pytest.mark.parametrize("learning_rate", [0.01, 1e-12], ids=["improving", "standing still"])
def test_a_finished_training_is_not_repeated(learning_rate: float, tmp_path: Path) -> None:
    first, _ = watched_job(tmp_path, learning_rate=learning_rate)
    assert watched_job(tmp_path, learning_rate=learning_rate) == (first, 0)


def test_data_without_a_validation_split_is_trained_on_too(tmp_path: Path) -> None:
    class TrainOnly(Dummy):
        splits: Any = ("train",)

    data = TrainOnly(samples=8, size=(8, 8), channels=1, num_classes=10)
    model = DigitsCNN(pretrained=False)
    train(model, data, folder=tmp_path, config=configured(max_epochs=1))
    assert (tmp_path / "last.ckpt").exists()


ENTRY = {"_target_": "datamodules.digits.Digits", "batch_size": 64}


def name_of(config: dict[str, Any], entry: dict[str, Any] = ENTRY) -> str:
    return folder_of("results", "Digits CNN", config, entry).name


def test_a_folder_has_a_readable_name() -> None:
    folder = folder_of("results", "Digits CNN", CONFIG, ENTRY)
    assert folder.parent == Path("results/training")
    assert folder.name.startswith("digits_cnn-")
    assert len(folder.name) == len("digits_cnn-") + 10


@pytest.mark.parametrize(
    "key", ["mode", "wandb", "results_dir", "allowed_targets", "dataset_library"]
)
def test_where_and_how_it_is_shown_does_not_change_the_folder(key: str) -> None:
    assert name_of({**CONFIG, key: "other"}) == name_of(CONFIG)


def test_what_is_learned_from_changes_the_folder() -> None:
    others = [
        name_of({**CONFIG, "seed": 1}),
        name_of(configured(max_epochs=4)),
        name_of(CONFIG, {**ENTRY, "batch_size": 32}),
    ]
    assert len({name_of(CONFIG), *others}) == 4
