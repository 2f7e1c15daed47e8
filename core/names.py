"""The grammar of every name the project writes: result keys and run ids."""

import re
from typing import Literal, get_args

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

RESULT_KEY = re.compile(rf"\w+_({'|'.join(SPLITS)})_\w+")

MODEL = "model"
"""Datamodule name of what needs no data: `model_test_params`."""

CLEAN = "clean"
"""The view that changes nothing; it is left out of result keys."""


def metric_key(datamodule: str, split: Split, measured: str, view: str = CLEAN) -> str:
    """Result key in the project's one form, `<datamodule>_<split>_<measured>[_<view>]`.

    Example:
        >>> metric_key("cifar10", "test", "accuracy", view="gaussian_noise_3")
        'cifar10_test_accuracy_gaussian_noise_3'
    """
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, got {split!r}")
    key = f"{datamodule}_{split}_{measured}" + ("" if view == CLEAN else f"_{view}")
    require_key(key)
    return key


def require_key(key: str) -> None:
    """Refuse a result key that is not of the form `metric_key` gives.

    Example:
        >>> require_key("Accuracy")
        Traceback (most recent call last):
        ...
        ValueError: result keys are <datamodule>_<split>_<name> in lower case, got 'Accuracy'
    """
    if key != key.lower() or not key.isidentifier() or not RESULT_KEY.fullmatch(key):
        raise ValueError(f"result keys are <datamodule>_<split>_<name> in lower case, got {key!r}")


def measured_in(key: str, view: str = CLEAN) -> tuple[str, str]:
    """Datamodule and measured name of a result key, the inverse of `metric_key`.

    Example:
        >>> measured_in("cifar10_test_accuracy_gaussian_noise_3", view="gaussian_noise_3")
        ('cifar10', 'accuracy')
    """
    require_key(key)
    datamodule, _, measured = re.split(f"_({'|'.join(SPLITS)})_", key, maxsplit=1)
    return datamodule, measured if view == CLEAN else measured.removesuffix(f"_{view}")


def slug(text: str) -> str:
    """Lower-case file-name part of any text: letters, digits, dots and underscores.

    Example:
        >>> slug("timm/ViT-B 16")
        'timm_vit_b_16'
    """
    return re.sub(r"[^a-z0-9.]+", "_", text.lower()).strip("_.") or "unnamed"


def run_id(model: str, compressor: str, digest: str) -> str:
    """Readable and deterministic id of a run, `<model>-<compressor>-<digest>`.

    Example:
        >>> run_id("resnet18", "l1_filter", "0123456789abcdef")
        'resnet18-l1_filter-0123456789'
    """
    return f"{slug(model)}-{slug(compressor)}-{digest[:10]}"
