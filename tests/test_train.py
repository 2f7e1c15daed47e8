import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

import train as entry_file
from core.app import CONFIG
from core.errors import ConfigError
from core.overrides import VERSION_BASE
from datamodules.digits import Digits
from models.small.digits import DigitsCNN

ROOT = CONFIG.parent

QUICK = ("mode=local_test", "wandb.mode=disabled", "trainer.accelerator=cpu")

Run = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the task of train.py in this process; returns the path that it prints."""

    def with_overrides(*overrides: str) -> Path:
        with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(CONFIG)):
            line = [*QUICK, f"results_dir={tmp_path}", *overrides]
            config = compose("train_defaults", overrides=line)
        task: Any = entry_file.train
        task.__wrapped__(config)
        return Path(capsys.readouterr().out.splitlines()[-1])

    return with_overrides


def steps_of(weights: Path) -> int:
    """Optimizer steps behind exported weights."""
    return int(torch.load(weights.with_name("last.ckpt"), weights_only=True)["global_step"])


def test_a_local_test_trains_on_three_batches_and_prints_where_its_weights_are(
    run: Run, tmp_path: Path
) -> None:
    weights = run()
    assert weights.parent.parent == tmp_path / "training"
    assert weights.parent.name.startswith("digits_cnn_digits-")
    assert steps_of(weights) == 3
    assert not torch.equal(
        DigitsCNN(checkpoint=str(weights)).backbone.conv.weight, DigitsCNN().backbone.conv.weight
    )


def test_a_name_of_ones_own_names_the_folder(run: Run) -> None:
    assert run("name=mine").parent.name.startswith("mine-")


def test_another_command_has_another_folder(run: Run) -> None:
    assert run("model.learning_rate=0.1").parent != run("model.learning_rate=0.2").parent


def test_the_seed_decides_the_weights(run: Run) -> None:
    start = ("model.pretrained=false",)
    first, again, other = (
        run(*start, *more).read_bytes() for more in (["name=a"], ["name=b"], ["seed=1"])
    )
    assert first == again != other


def test_one_dataset_is_trained_on(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"the one to train on, got \['digits', 'dummy'\]"):
        run("datasets=[digits,dummy]")


def test_an_unknown_dataset_names_the_nearest(run: Run) -> None:
    with pytest.raises(LookupError, match="unknown dataset 'digit', did you mean 'digits'"):
        run("datasets=[digit]")


def test_data_that_is_missing_is_told_before_a_model_is_built(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        run(
            "datasets=[cifar10]", f"dataset_library.cifar10.root={tmp_path}/nowhere",
            "model=cifar_resnet20",
        )  # fmt: skip


def command(*overrides: str) -> list[str]:
    return [sys.executable, "train.py", *overrides]


def in_a_process(*overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*overrides), cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_documented_trial_works(tmp_path: Path) -> None:
    done = in_a_process("-m", "mode=local_test", f"results_dir={tmp_path}", "seed=0,1")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "training").glob("*/weights.safetensors"))) == 2
    assert len(list((tmp_path / "training").glob("*/wandb/offline-run-*"))) == 2
    pictures = list((tmp_path / "training").rglob("validation_images*.png"))
    assert len(pictures) == 2 * 8


@pytest.mark.slow
def test_the_command_of_the_shipped_weights_gives_such_weights(tmp_path: Path) -> None:
    header = (CONFIG / "models" / "digits_cnn.yaml").read_text()
    assert "#   python train.py model.pretrained=false threads=1\n" in header
    done = in_a_process(
        "model.pretrained=false", "threads=1", "wandb.mode=disabled", f"results_dir={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    model = DigitsCNN(checkpoint=done.stdout.splitlines()[-1]).eval()
    images, labels = Digits().dataset("test").__getitems__(list(range(359)))
    with torch.inference_mode():
        right = (model(images).argmax(1) == labels).sum().item()
    assert right >= 350  # 356 where it was made; another processor rounds otherwise


@pytest.mark.slow
def test_the_same_command_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    line = ["model.pretrained=false", "threads=1", "wandb.mode=disabled", "trainer.max_epochs=12"]
    whole = in_a_process(*line, f"results_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command(*line, f"results_dir={killed}"), cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(killed.rglob("last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before it could be killed"
    resumed = in_a_process(*line, f"results_dir={killed}")
    first, second = (Path(done.stdout.splitlines()[-1]) for done in (whole, resumed))
    assert first.read_bytes() == second.read_bytes()
    assert steps_of(first) == steps_of(second)


@pytest.mark.slow
def test_a_missing_checkpoint_is_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    done = in_a_process("model.checkpoint=/nowhere.pt", f"results_dir={tmp_path}")
    assert (done.returncode, done.stderr) == (2, "there is no checkpoint at /nowhere.pt\n")
