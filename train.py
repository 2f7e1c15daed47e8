"""Train a model, or fine-tune one: python train.py model=cifar_resnet20 datasets=[cifar10]."""

import sys
from typing import Any

from core.app import main


@main("train_defaults")
def train(config: Any) -> None:
    """Build what the configuration names, train it, and say where its weights are."""
    import pytorch_lightning as pl
    import torch
    from omegaconf import OmegaConf

    from core.errors import ConfigError, pick
    from core.targets import build
    from datamodules.base import ImageDataModule
    from models import training_job
    from models.base_model import ClassifierModule
    from store.receipts import leave_receipt_of_files, states_before_files

    settings: Any = OmegaConf.to_container(config, resolve=True)
    before = states_before_files(settings)
    if len(settings["datasets"]) != 1:
        raise ConfigError([f"datasets names the one to train on, got {settings['datasets']}"])
    dataset = settings["datasets"][0]
    entry = pick("dataset", dataset, settings["dataset_library"])
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    pl.seed_everything(settings["seed"], workers=True, verbose=False)

    data = build(entry, expects=ImageDataModule, seed=settings["seed"])
    wanted = [split for split in data.splits if split != "test"]
    faults = [fault for split in wanted for fault in data.faults(split)]
    if faults:
        raise ConfigError(faults)
    model = build(settings["model"], expects=ClassifierModule)
    folder = training_job.folder_of(
        settings["results_dir"],
        settings["name"] or f"{settings['model_name']}-{dataset}",
        settings,
        entry,
    )
    weights = training_job.train(model, data, folder=folder, config=settings)
    sys.stdout.write(f"{weights}\n")
    leave_receipt_of_files(settings, before, [weights])


if __name__ == "__main__":
    train()
