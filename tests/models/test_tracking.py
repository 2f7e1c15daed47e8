import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import wandb

from models.tracking import IMAGES, ValidationImages, tracked

SETTINGS = {
    "project": "interplay",
    "name": None,
    "group": None,
    "tags": ["mine"],
    "notes": None,
    "mode": "offline",
}


class Run:
    """What wandb.init gives, as far as it is used here."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.exit_code: int | None = None

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    started = Run()

    def init(**options: Any) -> Run:
        started.options = options
        return started

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr("pytorch_lightning.loggers.WandbLogger", lambda experiment: experiment)
    return started


def track(folder: Path, **changes: Any) -> Any:
    settings = {**SETTINGS, **changes}
    return tracked(settings, name="a-1", folder=folder, tags=["digits"], config={"seed": 0})


def test_a_run_is_started_with_what_it_is_about(run: Run, tmp_path: Path) -> None:
    with track(tmp_path / "new") as logger:
        assert logger is run
        assert run.exit_code is None
    assert (tmp_path / "new").is_dir()
    assert run.options["mode"] == "offline"
    assert run.options["name"] == "a-1"
    assert run.options["tags"] == ["mine", "digits"]
    assert run.options["config"] == {"seed": 0}
    assert run.options["reinit"] == "create_new"
    assert run.exit_code == 0


def test_a_name_of_ones_own_is_kept(run: Run, tmp_path: Path) -> None:
    with track(tmp_path, name="b", tags=None):
        pass
    assert (run.options["name"], run.options["tags"]) == ("b", ["digits"])


def test_a_failed_training_is_marked_failed(run: Run, tmp_path: Path) -> None:
    def fail() -> None:
        with track(tmp_path):
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert run.exit_code == 1


def test_disabled_starts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(wandb, "init")
    with track(tmp_path / "new", mode="disabled") as logger:
        assert logger is None
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "NODE_RANK"])
def test_only_the_first_rank_reports(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(wandb, "init")
    monkeypatch.setenv(variable, "1")
    with track(tmp_path) as logger:
        assert logger is None


@pytest.mark.parametrize("error", [wandb.Error("no account"), OSError("disk full")])
def test_a_wandb_that_does_not_start_is_told_and_done_without(
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    def broken(**options: Any) -> None:
        raise error

    monkeypatch.setattr(wandb, "init", broken)
    with caplog.at_level(logging.WARNING), track(tmp_path) as logger:
        assert logger is None
    assert f"wandb does not start ({error}); training goes on" in caplog.text


class Logger:
    """Remembers the images it is given."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []

    def log_image(self, **what: Any) -> None:
        self.given.append(what)


class FakeTrainer:
    def __init__(self, logger: object) -> None:
        self.logger = logger


def says_one_more(images: torch.Tensor) -> torch.Tensor:
    """Logits that name the class after the true one: pixels hold a tenth of it."""
    return torch.eye(10)[((images[:, 0, 0, 0] * 10).round().long() + 1) % 10]


def show(logger: object, *, batch_idx: int = 0) -> None:
    labels = torch.arange(IMAGES + 3) % 10
    images = (labels / 10).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    callback = ValidationImages([f"digit {i}" for i in range(10)])
    trainer: Any = FakeTrainer(logger)
    module: Any = says_one_more
    callback.on_validation_batch_end(trainer, module, None, (images, labels), batch_idx)


def test_the_first_validation_images_are_shown_with_what_is_said_of_them() -> None:
    logger = Logger()
    show(logger)
    (given,) = logger.given
    assert given["key"] == "validation_images"
    assert [image.shape for image in given["images"]] == [(8, 8, 1)] * IMAGES
    assert all(image.dtype == np.uint8 for image in given["images"])
    assert given["images"][4].max() == 102  # 0.4 of 255
    expected = [f"digit {i}, predicted digit {i + 1}" for i in range(IMAGES)]
    assert given["caption"] == expected


def test_later_batches_are_not_shown() -> None:
    logger = Logger()
    show(logger, batch_idx=1)
    assert logger.given == []


def test_a_logger_without_images_is_left_alone() -> None:
    show(pl.loggers.CSVLogger)


@pytest.mark.slow
def test_wandb_itself_keeps_a_run_on_disk(tmp_path: Path) -> None:
    with track(tmp_path) as logger:
        images = [np.zeros((8, 8, 1), dtype=np.float32)]
        logger.log_image(key="validation_images", images=images, caption=["3, predicted 5"])
        logger.log_metrics({"train_loss": 0.5}, step=1)
    files = [path.name for path in (tmp_path / "wandb").rglob("*") if path.is_file()]
    assert any(name.endswith(".wandb") for name in files)
    assert any(name.startswith("validation_images") for name in files)
